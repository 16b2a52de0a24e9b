"""Commands leave first, each while it is of use and once, and the broker is given their expiry."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import pytest

from gatewayd.messages.doors.outgoing import (
    LEAST,
    WINDOW,
    OutgoingCommand,
    OutgoingMessage,
    OutgoingMessages,
    Passage,
    expiry_of,
)
from gatewayd.messages.doors.packets import V5, V311, PublishProperties, publish
from gatewayd.messages.settings import ChildMessageSettings


@dataclass
class Leaving:
    """Commands that leave, and what became of each, by its topic."""

    outgoing: OutgoingMessages = field(default_factory=OutgoingMessages)
    passages: list[tuple[str, Passage]] = field(default_factory=list)

    def add(self, topic: str, deadline: float = 20.0) -> OutgoingCommand:
        message = OutgoingMessage(topic, b"", properties=PublishProperties(b"7", "r"))
        made = OutgoingCommand(message, deadline, lambda one: self.passages.append((topic, one)))
        self.outgoing.add_command(made)
        return made

    def next(self, now: float = 0.0) -> tuple[int, OutgoingMessage]:
        following = self.outgoing.next(WINDOW, now)
        assert following is not None
        return following


def test_commands_leave_before_receipts_and_statuses() -> None:
    one = Leaving()
    one.outgoing.set_status(OutgoingMessage("status", b"", retained=True))
    one.outgoing.add_receipt(OutgoingMessage("receipt", b""))
    one.add("first")
    one.add("second")
    assert [one.next()[1].topic for _ in range(4)] == ["first", "second", "receipt", "status"]


@pytest.mark.parametrize(
    ("left", "seconds"), [(19.0, 18), (18.5, 17), (3600, 3599), (2.9, 1), (LEAST, 1)]
)
def test_the_broker_gives_a_command_up_before_gatewayd_does(left: float, seconds: int) -> None:
    assert expiry_of(left) == seconds
    one = Leaving()
    one.add("c", deadline=100 + left)
    _, message = one.next(now=100.0)
    assert message.properties == PublishProperties(b"7", "r", seconds)


def test_what_is_too_late_does_not_leave() -> None:
    one = Leaving()
    for left in (-1.0, 0.0, 0.2, LEAST - 0.1):
        one.add("late", deadline=5.0 + left)  # a broker could deliver it two seconds from now
    one.add("in-time", deadline=5.0 + LEAST)
    assert one.next(now=5.0)[1].topic == "in-time"
    assert not one.passages, "it has ended by its own time"


def test_what_is_withdrawn_does_not_leave() -> None:
    one = Leaving()
    one.outgoing.withdraw(one.add("ended"))
    one.add("other")
    assert one.next()[1].topic == "other"


@pytest.mark.parametrize(
    ("code", "passage"),
    [
        (0x00, Passage.PASSED),
        (0x10, Passage.NO_LISTENER),  # no matching subscribers
        (0x80, Passage.NO_LISTENER),
        (0x87, Passage.NO_LISTENER),  # not authorized
        (0x97, Passage.NO_LISTENER),  # quota exceeded
    ],
)
def test_the_broker_says_whether_anything_listens(code: int, passage: Passage) -> None:
    one = Leaving()
    one.add("c")
    packet, _ = one.next()
    one.outgoing.acknowledged(packet, code)
    one.outgoing.acknowledged(packet, code)
    assert one.passages == [("c", passage)]


def test_a_command_is_not_sent_again_over_another_connection() -> None:
    one = Leaving()
    one.add("in-flight")
    packet, _ = one.next()
    one.add("waiting")
    one.outgoing.lost()
    assert one.passages == [("in-flight", Passage.UNKNOWN), ("waiting", Passage.NO_LISTENER)]
    assert one.outgoing.next(WINDOW, 0.0) is None
    one.outgoing.acknowledged(packet)
    assert len(one.passages) == 2


def test_only_mqtt_5_has_properties() -> None:
    properties = PublishProperties(b"7", "r", 18)
    assert publish(V5, 1, "t", b"x", properties=properties) == bytes.fromhex(
        "32 14 0001 74 0001 0d 02 00000012 08 0001 72 09 0001 37 78"
    )
    assert publish(V311, 1, "t", b"x", properties=properties) == bytes.fromhex(
        "32 06 0001740001 78"
    )


def test_a_message_leaves_with_the_shortest_time_that_can_be_configured() -> None:
    (shortest,) = (
        one.metadata["low"] for one in fields(ChildMessageSettings) if one.name == "down_keep"
    )
    one = Leaving()
    one.add("message", deadline=shortest)
    assert one.next(now=0.5)[1].properties.expiry == 1
