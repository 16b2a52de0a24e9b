"""The tap: what a reader gets, and that none of them delays or harms anything."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gatewayd.cloud.provider import MessageAccepted, MessageDelayed, MessageRefused
from gatewayd.device.identity import DeviceId
from gatewayd.device.message import DropReason, Message
from gatewayd.device.reason import Reason
from gatewayd.errors import Busy
from gatewayd.messages.intake import IncomingMessage, Settled
from gatewayd.messages.tap import LINE, MAX_FOLLOWERS, MessageTap, TappedIntake, line

CHILD, OTHER = DeviceId("child-1"), DeviceId("child-2")


class Reader:
    """A reader of a descriptor."""

    def __init__(self, source: int) -> None:
        os.set_blocking(source, False)
        self._file = open(source, "rb", buffering=0)  # noqa: SIM115  # closed by `close`

    def lines(self) -> list[dict[str, Any]]:
        """All that is there now."""
        found = b""
        while chunk := self._file.read(1 << 16):
            found += chunk
        return [json.loads(one) for one in found.splitlines()]

    def close(self) -> None:
        self._file.close()


@pytest.fixture
async def tap() -> AsyncIterator[MessageTap]:
    made = MessageTap(lambda: 1_700_000_000_000)
    yield made
    made.close()


@pytest.fixture
async def reader(tap: MessageTap) -> AsyncIterator[Reader]:
    made = Reader(tap.follow(CHILD))
    yield made
    made.close()


async def test_a_reader_gets_the_messages_of_its_child_alone(
    tap: MessageTap, reader: Reader
) -> None:
    tap.show(CHILD, "received", "properties", b'{"t": 21}', door="own", size=9)
    tap.show(OTHER, "received", "properties", b"secret")
    tap.show(CHILD, "sent", "properties")
    first, second = reader.lines()
    assert first == {
        "at": 1_700_000_000_000, "step": "received", "topic": "properties", "door": "own",
        "size": 9, "payload": '{"t": 21}',
    }  # fmt: skip
    assert second["step"] == "sent"
    assert "payload" not in second
    assert tap.follows(CHILD)
    assert not tap.follows(OTHER)


@pytest.mark.parametrize("seed", range(20))
def test_a_line_is_short_and_harmless_whatever_a_child_sends(seed: int) -> None:
    rng = random.Random(seed)
    payload = rng.choice(
        (rng.randbytes(5000), b"\x1b[2J" * 2000, "\N{PILE OF POO}".encode() * 2000, b"\n" * 4000,
         b"x" * 100_000, b"\xff" * 3000)
    )  # fmt: skip
    topic = rng.choice(("properties", "\N{PILE OF POO}" * 64 * 2))
    made = line({"at": 1, "step": "received", "topic": topic[:128]}, payload)
    assert len(made) <= LINE
    assert made.count(b"\n") == 1
    assert made.rstrip(b"\n").decode("ascii").isprintable()
    assert json.loads(made).get("cut", 0) < len(payload)


def test_a_payload_is_shown_as_it_is_where_that_is_safe() -> None:
    assert json.loads(line({}, "21 °C\n".encode()))["payload"] == "21 °C\n"
    assert json.loads(line({}, b"\xfe\x01"))["payload"] == "\\xfe\x01"
    assert "cut" not in json.loads(line({}, b"x" * 3000))
    assert json.loads(line({}, b"x" * 5000))["cut"] == 5000 - 2048


async def test_a_slow_reader_loses_lines_and_learns_how_many(
    tap: MessageTap, reader: Reader
) -> None:
    sent = 3000
    for number in range(sent):
        tap.show(CHILD, "received", "properties", b"x" * 100, number=number)
    shown = reader.lines()
    assert len(shown) < sent, "a pipe holds less"
    assert [one["number"] for one in shown] == list(range(len(shown)))
    tap.show(CHILD, "received", "properties", b"y")
    tap.show(CHILD, "received", "properties", b"z")
    after, last = reader.lines()
    assert after["lost"] == sent - len(shown)
    assert "lost" not in last


async def test_a_reader_that_goes_makes_room_without_a_message(tap: MessageTap) -> None:
    readers = [Reader(tap.follow(CHILD)) for _ in range(MAX_FOLLOWERS)]
    with pytest.raises(Busy):
        tap.follow(OTHER)
    for one in readers:
        one.close()
    async with asyncio.timeout(30):
        while tap.follows(CHILD):
            await asyncio.sleep(0)
    Reader(tap.follow(OTHER)).close()


async def test_a_reader_that_has_gone_is_dropped_by_the_next_message(tap: MessageTap) -> None:
    Reader(tap.follow(CHILD)).close()
    tap.show(CHILD, "received", "properties")
    assert not tap.follows(CHILD)


class Outbox:
    """An intake that settles when it is asked to."""

    blocked = gathers = False

    def __init__(self) -> None:
        self.offered: list[tuple[IncomingMessage, Settled]] = []

    def offer(self, message: IncomingMessage, settled: Settled) -> None:
        self.offered.append((message, settled))

    def session_begun(self, door: str) -> None:
        self.sessions = [door]

    def was_away(self, door: str, seconds: float) -> None:
        self.absences = [(door, seconds)]

    def on_ready(self, resume: Any) -> None:
        self.resume = resume

    def on_due(self, gather: Any) -> None:
        self.due = gather


async def test_what_arrives_is_shown_and_passed_on(tap: MessageTap, reader: Reader) -> None:
    outbox, ends = Outbox(), list[DropReason | None]()
    tapped = TappedIntake(outbox, tap)
    for number, child in enumerate((CHILD, CHILD, OTHER), start=1):
        tapped.offer(IncomingMessage("own", child, "properties", b"{}", number), ends.append)
    (_, first), (_, second), (_, third) = outbox.offered
    for settled, end in ((first, None), (second, DropReason.SHARE), (third, None)):
        settled(end)
    assert ends == [None, DropReason.SHARE, None]
    assert [one["step"] for one in reader.lines()] == ["received", "received", "stored", "dropped"]
    assert third == ends.append, "what is not followed costs nothing"


async def test_the_end_of_a_publication_is_shown(tap: MessageTap, reader: Reader) -> None:
    message, why = Message("properties", b"{}", 1_600_000_000_000), Reason("no-topic", "None.")
    for result in (MessageAccepted(), MessageRefused(why), MessageDelayed(why)):
        tap.published(CHILD, message, result)
        tap.published(OTHER, message, result)
    sent, refused, delayed = reader.lines()
    assert (sent["step"], sent["received"]) == ("sent", 1_600_000_000_000)
    assert (refused["step"], refused["reason"]) == ("refused", "no-topic")
    assert (delayed["step"], delayed["reason"]) == ("delayed", "no-topic")


async def test_the_rest_of_an_intake_is_that_of_the_other(tap: MessageTap) -> None:
    outbox = Outbox()
    tapped = TappedIntake(outbox, tap)
    assert not tapped.blocked
    outbox.blocked = True
    assert tapped.blocked
    tapped.on_ready(print)
    assert outbox.resume is print
    tapped.session_begun("site")
    assert outbox.sessions == ["site"]
    tapped.was_away("site", 2.0)
    assert outbox.absences == [("site", 2.0)]
