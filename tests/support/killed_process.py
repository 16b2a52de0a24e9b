"""Kills a forked process with SIGKILL, at one of its calls or after so many acknowledgements."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType


def completes_before_kill(
    step: int, act: Callable[[], object], changing: Path | None = None
) -> bool:
    """Do something in a process of its own, killed at one of its calls; True if it completed.

    step: how many calls gatewayd makes before, of functions in Python or in C.
    changing: a directory; then, how often what is below it is not as it was at the call before: a
    process that is killed between two such calls leaves the same behind.
    What it has in temporary directories is removed.
    """
    with tempfile.TemporaryDirectory() as temporary:
        child = os.fork()
        if not child:
            tempfile.tempdir = temporary
            _act(step, act, changing)
        status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "it failed by itself"
    return os.WIFEXITED(status)


def _act(step: int, act: Callable[[], object], changing: Path | None) -> None:
    left = step
    before: list[object] = []

    def count(frame: FrameType, event: str, _: object) -> None:
        nonlocal left, before
        if not event.endswith("call") or "/gatewayd/" not in frame.f_code.co_filename:
            return
        if changing is not None:
            if (now := _what_is_below(changing)) == before:
                return
            before = now
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        sys.setprofile(count)
        act()
        sys.setprofile(None)
        os._exit(0)
    finally:
        os._exit(1)


def _what_is_below(directory: Path) -> list[object]:
    """The files, and how often this process has written: their times are too coarse."""
    found: list[object] = [Path("/proc/self/io").read_text().partition("syscw:")[2].split()[0]]
    for folder, _, files in os.walk(directory):
        for name in files:
            one = os.lstat(f"{folder}/{name}")
            found.append((folder, name, one.st_ino, one.st_size, one.st_mtime_ns, one.st_mode))
    return found


def acknowledged_before_kill(count: int, work: Callable[[Connection], object]) -> list[int]:
    """Work in a process of its own, killed after so many acknowledgements; return all of them.

    work: sends a number for each thing that is durable.
    """
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(send,))
    process.start()
    send.close()
    acknowledged = [receive.recv() for _ in range(count)]
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    with suppress(EOFError):  # what it had sent before it was killed
        while True:
            acknowledged.append(receive.recv())
    process.join()
    receive.close()
    assert process.exitcode == -signal.SIGKILL
    return acknowledged
