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
        self._pipe: asyncio.WriteTransport | None = None
        self._stop: Callable[[], None] = lambda: None
        self._began = 0.0
        self._left = self._lost = 0

    async def begin(self, seconds: int, most: int, version: str, request: RequestRecording) -> int:
        """Return a descriptor from which a recording can be read; the caller closes it.

        version: of gatewayd.  Raises Busy, InvalidArgs, OSError.
        """
        seconds, most = check_bounds(seconds, most)
        if self._pipe is not None:
            raise Busy("Another recording is under way, try again later")
        source, target = os.pipe()
        try:
            pipe, _ = await asyncio.get_running_loop().connect_write_pipe(
                lambda: _Reader(self._left_by), os.fdopen(target, "wb", 0)
            )
        except BaseException:
            os.close(source)
            raise
        self._pipe, self._stop = pipe, lambda: request(0, 0)
        self._began, self._left, self._lost = self._clock.now(), most, 0
        day = datetime.fromtimestamp(self._clock.timestamp(), UTC)
        about: EventData = {
            "version": VERSION, "gatewayd": version, "seconds": seconds, "bytes": most,
            "recorded": f"{day:%Y-%m-%dT%H:%M:%SZ}",
        }  # fmt: skip
        self._write("recording", 0.0, about)
        request(seconds, most)
        return source

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
        self._pipe = None
        pipe.write(line)
        pipe.close()  # once all of it is read
        asyncio.get_running_loop().call_later(LINGER, pipe.abort)

    def _write(self, kind: str, at: float, data: EventData) -> None:
        if self._pipe is None:
            return
        if self._pipe.get_write_buffer_size() > MAX_UNREAD:
            self._lost += 1
        else:
            self._pipe.write(encode_line(kind, max(at, 0.0), data))

    def _left_by(self, transport: asyncio.BaseTransport | None) -> None:
        """Stop the recording whose reader has gone."""
        if transport is not None and transport is self._pipe:
            self._pipe = None
            self._stop()


class _Reader(asyncio.BaseProtocol):
    """The reader of a pipe.  left: called with its transport when it has gone."""

    def __init__(self, left: Callable[[asyncio.BaseTransport | None], None]) -> None:
        self._left = left
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, _: Exception | None) -> None:
        self._left(self._transport)
