"""A recording as it leaves gatewayd: lines of JSON in a pipe, one recording at a time.

gatewayd-recording(5) describes the lines.  What a slow reader has no room for is lost and counted.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from gatewayd.discovery.diagnosis.recorder import (
    END,
    MAX_BYTES,
    MAX_SECONDS,
    USUAL_BYTES,
    EventData,
    RecordedEvent,
)
from gatewayd.errors import Busy, InvalidArgs
from gatewayd.runtime.clock import Clock

VERSION: Final = 1
"""Of the format."""
MAX_UNREAD: Final = 1 << 20
"""Bytes that may wait for the reader."""
LINGER: Final = 30.0
"""Seconds that the reader has after the end."""
OVERDUE: Final = 5.0
"""Seconds after its time at which a recording ends that the helper has not ended."""

RequestRecording = Callable[[int, int], None]
"""Has the helper record for so many seconds and so many bytes; 0 ends it."""


def check_bounds(seconds: int, most: int) -> tuple[int, int]:
    """Return the bounds of a recording; 0 bytes for the usual number.  Raises InvalidArgs."""
    if not 0 < seconds <= MAX_SECONDS:
        raise InvalidArgs(f"A recording lasts 1 to {MAX_SECONDS} s")
    if not 0 <= most <= MAX_BYTES:
        raise InvalidArgs(f"A recording has at most {MAX_BYTES} bytes")
    return seconds, most or USUAL_BYTES


def encode_line(kind: str, at: float, data: EventData) -> bytes:
    """Return a line.  at: seconds since the beginning of the recording."""
    fields = {
        key: base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else value
        for key, value in data.items()
    }
    return json.dumps({"at": round(at, 6), "kind": kind, **fields}).encode("ascii") + b"\n"


class RecordingPipe:
    """The recording under way, if there is one.  Used on the event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pipe: _Reader | None = None
        self._stop: Callable[[], None] = lambda: None
        self._began = 0.0
        self._left = self._lost = 0
        self._is_opening = False
        self._timer: asyncio.TimerHandle | None = None

    async def begin(self, seconds: int, most: int, version: str, request: RequestRecording) -> int:
        """Return a descriptor from which a recording can be read; the caller closes it.

        version: of gatewayd.  Raises Busy, InvalidArgs, OSError.
        """
        seconds, most = check_bounds(seconds, most)
        if self._pipe is not None or self._is_opening:
            raise Busy("Another recording is under way, try again later")
        self._is_opening = True
        try:
            source, pipe = await self._opened()
        finally:
            self._is_opening = False
        self._pipe, self._stop = pipe, lambda: request(0, 0)
        self._timer = asyncio.get_running_loop().call_later(seconds + OVERDUE, self.end, "time")
        self._began, self._left, self._lost = self._clock.now(), most, 0
        day = datetime.fromtimestamp(self._clock.timestamp(), UTC)
        about: EventData = {
            "version": VERSION, "gatewayd": version, "seconds": seconds, "bytes": most,
            "recorded": f"{day:%Y-%m-%dT%H:%M:%SZ}",
        }  # fmt: skip
        self._write("recording", 0.0, about)
        request(seconds, most)
        return source

    async def _opened(self) -> tuple[int, _Reader]:
        """Return a descriptor to read from, and who is to read there.  Raises OSError."""
        source, target = os.pipe()
        try:
            _, reader = await asyncio.get_running_loop().connect_write_pipe(
                lambda: _Reader(self._left_by), os.fdopen(target, "wb", 0)
            )
        except BaseException:
            os.close(source)
            raise
        return source, reader

    def add(self, event: RecordedEvent) -> None:
        """Write an event, if a recording is under way; the last one ends it."""
        if event.kind == END:
            lost = event.data.get("lost", 0)
            self.end(str(event.data.get("reason", "")), lost if isinstance(lost, int) else 0)
        elif event.size > self._left:  # the helper keeps count, too
            self._stop()
            self.end("size")
        else:
            self._left -= event.size
            self._write(event.kind, event.at - self._began, event.data)

    def end(self, reason: str, lost: int = 0) -> None:
        """End the recording, if one is under way.  lost: events that were lost before."""
        if (pipe := self._pipe) is None:
            return
        about: EventData = {"reason": reason, "lost": lost + self._lost}
        line = encode_line(END, self._clock.now() - self._began, about)
        self._forget()
        pipe.transport.write(line)
        pipe.dismiss()

    def _write(self, kind: str, at: float, data: EventData) -> None:
        if self._pipe is None:
            return
        if self._pipe.transport.get_write_buffer_size() > MAX_UNREAD:
            self._lost += 1
        else:
            self._pipe.transport.write(encode_line(kind, max(at, 0.0), data))

    def _left_by(self, reader: _Reader) -> None:
        """Stop the recording whose reader has gone."""
        if reader is self._pipe:
            self._forget()
            self._stop()

    def _forget(self) -> None:
        self._pipe = None
        if self._timer is not None:
            self._timer.cancel()


class _Reader(asyncio.BaseProtocol):
    """The reader of a pipe.  left: called with it when it has gone."""

    transport: asyncio.WriteTransport

    def __init__(self, left: Callable[[_Reader], None]) -> None:
        self._left = left
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self.transport = transport

    def connection_lost(self, _: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._left(self)

    def dismiss(self) -> None:
        """Close the pipe once all of it is read, or after a while."""
        self.transport.close()
        self._timer = asyncio.get_running_loop().call_later(LINGER, self.transport.abort)
