"""File descriptors that others have passed: written to a receiver that may not read; and sockets.

systemd passes the sockets of a unit to its service, sd_listen_fds(3).
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Mapping

CHUNK = 4096
"""Bytes that a pipe takes at once where it takes any (pipe(7), PIPE_BUF)."""
FIRST = 3
"""The first descriptor that systemd passes (SD_LISTEN_FDS_START)."""
MOST = 64
"""Sockets that are accepted of systemd."""


def write_all(target: int, data: bytes, patience: float) -> None:
    """Write to a file or pipe of a caller.  Blocks, for `patience` seconds at most.

    Raises OSError; TimeoutError where it does not read.
    """
    ready, end, rest = select.poll(), time.monotonic() + patience, memoryview(data)
    ready.register(target, select.POLLOUT)
    while rest:
        left = end - time.monotonic()
        if left <= 0 or not ready.poll(left * 1000):
            raise TimeoutError(0, "the receiver does not read")
        rest = rest[os.write(target, rest[:CHUNK]) :]


def passed_sockets(environ: Mapping[str, str], pid: int) -> list[tuple[str, socket.socket]]:
    """Return the sockets that systemd has passed to this process, each with its name.

    environ, pid: of the process.  To be called once: the sockets are the caller's from then on.
    """
    number = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(pid) or not number.isdecimal():
        return []
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    passed = []
    for place in range(min(int(number), MOST)):
        one = socket.socket(fileno=FIRST + place)
        one.set_inheritable(False)
        passed.append((names[place] if place < len(names) else "", one))
    return passed
