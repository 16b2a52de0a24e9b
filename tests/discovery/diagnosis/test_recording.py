"""A recording: what is recorded, within bounds, and what becomes of it in a pipe."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from typing import Any

import pytest

from gatewayd.discovery.diagnosis.recorder import (
    END,
    EVENT,
    MAX_BYTES,
    MAX_DATA,
    MAX_SECONDS,
    EventData,
    RecordedEvent,
    Recorder,
)
from gatewayd.discovery.diagnosis.recording import (
    LINGER,
    MAX_UNREAD,
    OVERDUE,
    RecordingPipe,
    check_bounds,
)
from gatewayd.discovery.discoverer import EventHook
from gatewayd.errors import Busy, InvalidArgs
from gatewayd.runtime.clock import Clock
from gatewayd.testing.waiting import until

DATAGRAM: EventData = {"interface": "lan0", "sender": "10.0.0.7", "port": 5353, "data": b"x" * 100}
LINK: EventData = {"interface": "lan0", "running": 1, "addresses": "10.0.0.1/8"}
WALL = 1_796_000_000_000_000


class Sent:
    """A recorder of a hook, and the events that it has sent."""

    def __init__(self) -> None:
        self.hook, self.events, self.full = EventHook(), list[RecordedEvent](), False
        now = asyncio.get_running_loop().time
        self.recorder = Recorder(self.hook, self.events.append, lambda: self.full, now)

    def come(self, data: EventData = DATAGRAM) -> None:
        if self.hook.observe is not None:
            self.hook.observe("datagram", asyncio.get_running_loop().time(), data)

    def show(self) -> None:
        assert self.hook.observe is not None
        self.hook.observe("interface", asyncio.get_running_loop().time(), LINK)

    @property
    def kinds(self) -> list[str]:
        return [one.kind for one in self.events if one.kind != "interface"]


@pytest.mark.jumping_clock
async def test_what_comes_is_recorded_for_a_while() -> None:
    sent = Sent()
    sent.come()
    sent.hook.states["mdns/lan0"] = sent.show
    sent.recorder.begin(10, 10_000)
    assert [one.data for one in sent.events] == [LINK]
    sent.come()
    await asyncio.sleep(9)
    sent.come()
    await asyncio.sleep(2)
    sent.come()
    assert sent.kinds == ["datagram", "datagram", END]
    assert sent.events[-1].data == {"reason": "time", "lost": 0}
    assert sent.hook.observe is None


@pytest.mark.jumping_clock
async def test_a_recording_ends_when_its_bytes_are_used() -> None:
    sent = Sent()
    sent.recorder.begin(10, 3 * (EVENT + 100 + len("lan010.0.0.7")))
    for _ in range(9):
        sent.come()
    assert sent.kinds == [*["datagram"] * 3, END]
    assert sent.events[-1].data["reason"] == "size"
    await asyncio.sleep(20)
    assert sent.kinds.count(END) == 1


@pytest.mark.jumping_clock
async def test_what_cannot_be_sent_is_counted() -> None:
    sent = Sent()
    sent.recorder.begin(10, 10_000)
    sent.full = True
    sent.come()
    sent.come()
    await asyncio.sleep(11)
    assert sent.events[-1].data == {"reason": "time", "lost": 2}


@pytest.mark.jumping_clock
async def test_a_recording_that_is_closed_says_nothing_more() -> None:
    sent = Sent()
    sent.recorder.begin(10, 10_000)
    sent.recorder.close()
    sent.come()
    await asyncio.sleep(20)
    assert sent.kinds == []


async def test_a_large_datagram_is_cut() -> None:
    sent = Sent()
    sent.recorder.begin(10, MAX_BYTES)
    sent.come({**DATAGRAM, "data": b"x" * (MAX_DATA + 7)})
    sent.recorder.close()
    data = sent.events[-1].data
    assert (data["data"], data["cut"]) == (b"x" * MAX_DATA, 7)


@pytest.mark.parametrize(
    ("seconds", "most"), [(0, 1), (MAX_SECONDS + 1, 1), (1, MAX_BYTES + 1), (1, -1)]
)
def test_bounds_that_are_too_large_are_refused(seconds: int, most: int) -> None:
    with pytest.raises(InvalidArgs):
        check_bounds(seconds, most)


class Piped:
    """A pipe with a recording, and what was requested of the helper."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.requests: list[tuple[int, int]] = []
        self.pipe = RecordingPipe(Clock(loop.time, lambda: WALL))

    async def begin(self, seconds: int = 10, most: int = 10_000) -> int:
        return await self.pipe.begin(
            seconds, most, "0.1.0", lambda *request: self.requests.append(request)
        )

    def add(self, kind: str = "datagram", data: EventData = DATAGRAM) -> None:
        self.pipe.add(RecordedEvent(kind, asyncio.get_running_loop().time(), data))


async def lines_of(source: int) -> list[dict[str, Any]]:
    def read() -> bytes:
        with os.fdopen(source, "rb") as file:
            return file.read()

    return [json.loads(line) for line in (await asyncio.to_thread(read)).splitlines()]


async def drained(source: int, *, whole: bool = True) -> list[dict[str, Any]]:
    """The lines of a recording, read on the loop, whose clock may jump.  whole: the last, too."""
    os.set_blocking(source, False)
    read = bytearray()
    with os.fdopen(source, "rb", 0) as file:
        while (part := file.read(1 << 20)) != b"":
            read += part or b""
            await asyncio.sleep(0)
    lines = bytes(read).splitlines(keepends=True)
    return [json.loads(one) for one in lines if whole or one.endswith(b"\n")]


async def test_a_recording_is_read_as_lines() -> None:
    piped = Piped()
    source = await piped.begin()
    piped.add()
    piped.add(END, {"reason": "time", "lost": 3})
    piped.add()
    header, event, end = await lines_of(source)
    assert piped.requests == [(10, 10_000)]
    assert (header["kind"], header["version"], header["recorded"]) == (
        "recording", 1, "2026-11-30T00:53:20Z",
    )  # fmt: skip
    assert (event["sender"], base64.b64decode(event["data"])) == ("10.0.0.7", b"x" * 100)
    assert 0 <= event["at"] <= end["at"]
    assert (end["reason"], end["lost"]) == ("time", 3)


async def test_one_recording_is_made_at_a_time() -> None:
    piped = Piped()
    source = await piped.begin()
    with pytest.raises(Busy):
        await piped.begin()
    piped.pipe.end("helper-ended")
    assert (await lines_of(source))[-1]["reason"] == "helper-ended"
    other = await piped.begin()
    piped.pipe.end("time")
    assert len(await lines_of(other)) == 2


async def test_of_two_recordings_that_begin_at_once_one_is_refused() -> None:
    piped = Piped()
    begun = await asyncio.gather(piped.begin(), piped.begin(), return_exceptions=True)
    (source,) = (one for one in begun if isinstance(one, int))
    assert [type(one) for one in begun if not isinstance(one, int)] == [Busy]
    piped.pipe.end("time")
    assert len(await lines_of(source)) == 2


@pytest.mark.jumping_clock
async def test_a_recording_ends_though_the_helper_does_not_end_it() -> None:
    piped = Piped()
    sources = [await piped.begin()]
    await asyncio.sleep(10 + OVERDUE + 1)
    sources.append(await piped.begin())
    piped.pipe.end("size")
    sources.append(await piped.begin())
    await asyncio.sleep(10)
    piped.pipe.end("helper-ended")
    ends = [(await drained(one))[-1] for one in sources]
    assert [(one["kind"], one["reason"]) for one in ends] == [
        (END, "time"), (END, "size"), (END, "helper-ended"),
    ]  # fmt: skip


@pytest.mark.jumping_clock
@pytest.mark.parametrize("is_read", [True, False])
async def test_a_pipe_is_closed_once_it_is_read_or_after_a_while(is_read: bool) -> None:
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: faults.append(about))
    piped = Piped()
    source = await piped.begin(most=MAX_BYTES)
    for _ in range(20):
        piped.add(data={**DATAGRAM, "data": b"x" * MAX_DATA})
    piped.pipe.end("time")
    lines = len(await drained(source)) if is_read else 0
    await asyncio.sleep(LINGER + 1)
    if not is_read:
        lines = len(await drained(source, whole=False))
    assert (lines == 22) is is_read
    assert faults == []


async def test_the_helper_cannot_send_more_than_was_asked_for() -> None:
    piped = Piped()
    source = await piped.begin(most=1000)
    for _ in range(50):
        piped.add()
    lines = await lines_of(source)
    assert (len(lines), lines[-1]["reason"]) == (6, "size")
    assert piped.requests[-1] == (0, 0)


async def test_a_reader_that_does_not_read_costs_no_memory() -> None:
    piped = Piped()
    source = await piped.begin(most=MAX_BYTES)
    for _ in range(1000):
        piped.add(data={**DATAGRAM, "data": b"x" * MAX_DATA})
    piped.pipe.end("time")
    lines = await lines_of(source)
    assert len(lines) * MAX_DATA < 2 * MAX_UNREAD
    assert lines[-1]["lost"] == 1000 - (len(lines) - 2)


async def test_a_recording_ends_with_its_reader() -> None:
    piped = Piped()
    os.close(await piped.begin())
    await until(lambda: piped.requests[-1] == (0, 0))
    piped.add()
    other = await piped.begin()
    piped.pipe.end("time")
    assert len(await lines_of(other)) == 2
