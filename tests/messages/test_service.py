"""What an operator sees of messages, and the right to follow them."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator

import pytest

from gatewayd.device.identity import DeviceId
from gatewayd.device.message import DropReason
from gatewayd.device.reason import NONE, Reason
from gatewayd.device.views import DoorView, MessageCounts, MessageStatistics, MessagesView
from gatewayd.errors import NoSuchDevice, NotSupported
from gatewayd.messages.condition import DROPPED
from gatewayd.messages.service import AWAY, MessageService
from gatewayd.messages.tap import MessageTap

CHILD = DeviceId("child-1")
COUNTS = MessageCounts(waiting=2, received=5, sent=3)


class Gateway:
    """A gateway with messages, of which a test sets what is counted."""

    def __init__(self) -> None:
        self.statistics = MessageStatistics("running", total=COUNTS, doors={"b": COUNTS})
        self.tap, self.now = MessageTap(lambda: 0), 7.0
        self.doors = {"a": ("connecting", "The broker is away.", {"no-value": 2})}
        self.service = MessageService(
            lambda: self.statistics,
            lambda: self.doors,
            {CHILD: "b"},
            self.tap,
            self.resolve,
            lambda: self.now,
        )

    def resolve(self, device: str) -> DeviceId:
        if not CHILD.startswith(device):
            raise NoSuchDevice("No such device")
        return CHILD


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    made = Gateway()
    yield made
    made.tap.close()


async def test_what_is_known_is_joined(gateway: Gateway) -> None:
    refusal = Reason("no-such-topic", "No.")
    gateway.statistics = MessageStatistics(
        "running", total=COUNTS, doors={"b": COUNTS}, children={CHILD: COUNTS},
        refusals={CHILD: refusal},
    )  # fmt: skip
    assert gateway.service.view() == MessagesView(
        state="ready",
        reason=NONE,
        total=COUNTS,
        doors=(
            DoorView(
                "a", "connecting", "The broker is away.", MessageCounts(dropped={"no-value": 2})
            ),
            DoorView("b", "", "", COUNTS),
        ),
        children={CHILD: COUNTS},
        refusals={CHILD: refusal},
        entrances={CHILD: "b"},
    )
    assert gateway.service.faults() == ()


async def test_what_a_door_does_not_hand_on_is_counted_with_what_was_dropped(
    gateway: Gateway,
) -> None:
    counts = MessageCounts(received=5, dropped={"unknown-child": 1, "rate": 2})
    gateway.statistics = MessageStatistics("running", doors={"a": counts})
    gateway.doors = {"a": ("connected", "", {"unknown-child": 3, "no-value": 4})}
    (door,) = gateway.service.view().doors
    assert door.counts.received == 5
    assert door.counts.dropped == {"unknown-child": 4, "rate": 2, "no-value": 4}
    assert gateway.service.view().state == "ready", "no child has lost anything"


@pytest.mark.parametrize(("why", "is_fault"), [
    (DropReason.RATE, False), (DropReason.REFUSED, False), (DropReason.CORRUPT, True),
    (DropReason.TOTAL, True),
])  # fmt: skip
async def test_what_one_child_loses_does_not_degrade_the_gateway(
    gateway: Gateway, why: DropReason, is_fault: bool
) -> None:
    gateway.statistics = MessageStatistics("running", total=MessageCounts(dropped={why: 4}))
    assert gateway.service.view().reason is DROPPED[why]
    assert bool(gateway.service.faults()) is is_fault


@pytest.mark.parametrize("state", ["full", "blocked"])
async def test_an_outbox_that_cannot_store_degrades_the_gateway(
    gateway: Gateway, state: str
) -> None:
    gateway.statistics = MessageStatistics(state)
    assert gateway.service.view().state == state
    (fault,) = gateway.service.faults()
    assert not fault.endswith("."), "it is put into one line with others"


async def test_a_broker_that_stays_away_degrades_the_gateway(gateway: Gateway) -> None:
    gateway.service.view()
    gateway.now += AWAY - 1
    gateway.service.view()
    assert gateway.service.faults() == ()
    gateway.now += 1
    gateway.service.view()
    (fault,) = gateway.service.faults()
    assert "door a" in fault
    assert "away" in fault

    gateway.doors = {"a": ("connected", "", {})}
    gateway.service.view()
    assert gateway.service.faults() == ()
    gateway.doors = {"a": ("connecting", "The broker is away.", {"no-value": 2})}
    gateway.service.view()
    assert gateway.service.faults() == (), "it counts from the beginning"


async def test_a_follower_is_on_record(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gatewayd")
    os.close(await gateway.service.follow("child", "uid 1000"))
    assert CHILD in caplog.text
    assert "uid 1000" in caplog.text
    with pytest.raises(NoSuchDevice):
        await gateway.service.follow("other", "uid 1000")


async def test_nothing_is_followed_where_messages_are_not_enabled(gateway: Gateway) -> None:
    gateway.statistics = MessageStatistics()
    assert gateway.service.view().state == "disabled"
    with pytest.raises(NotSupported):
        await gateway.service.follow("child", "uid 1000")
