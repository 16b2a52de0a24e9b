"""Kills a forked process with SIGKILL, at one of its calls or after so many acknowledgements."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType


def completes_before_kill(step: int, act: Callable[[], object]) -> bool:
    """Do something in a process of its own, killed at one of its calls; True if it completed.

    step: how many calls gatewayd makes before, of functions in Python or in C.
    """
    child = os.fork()
    if not child:
        _act(step, act)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "it failed by itself"
    return os.WIFEXITED(status)


def steps_that_write(act: Callable[[], object], directory: Path) -> list[int]:
    """Do something in a process of its own; return the steps at which a kill makes a difference.

    At each of them a directory is not as it was at the call before: a process that is killed
    between two leaves the same behind.  The last is one at which it has completed.
    """
    receive, send = multiprocessing.get_context("fork").Pipe(duplex=False)
    child = os.fork()
    if not child:
        found: list[int] = []
        seen = None

        def note(step: int) -> None:
            nonlocal seen
            if (now := _what_is_there(directory)) != seen:
                seen = now
                found.append(step)

        calls = _watched(note, act)
        send.send([*found, calls])
        os._exit(0)
    send.close()
    with receive:
        steps: list[int] = receive.recv()
    os.waitpid(child, 0)
    return steps


def _what_is_there(directory: Path) -> list[object]:
    """What is below a directory, and how often this process has written: times are too coarse."""
    found: list[object] = [Path("/proc/self/io").read_text().partition("syscw:")[2].split()[0]]
    for folder, _, files in os.walk(directory):
        for name in files:
            one = os.lstat(os.path.join(folder, name))  # noqa: PTH118  # at each of thousands of calls
            found.append((folder, name, one.st_ino, one.st_size, one.st_mtime_ns, one.st_mode))
    return found


def _watched(before: Callable[[int], None], act: Callable[[], object]) -> int:
    """Do something; return how many calls gatewayd made.  before: called with their number.

    The process ends here where it fails.
    """
    calls, completed = 0, False

    def count(frame: FrameType, event: str, _: object) -> None:
        nonlocal calls
        if event.endswith("call") and "/gatewayd/" in frame.f_code.co_filename:
            before(calls)
            calls += 1

    try:
        sys.setprofile(count)
        act()
        completed = True
    finally:
        sys.setprofile(None)
        if not completed:
            os._exit(1)
    return calls


def _act(step: int, act: Callable[[], object]) -> None:
    def kill(calls: int) -> None:
        if calls == step:
            os.kill(os.getpid(), signal.SIGKILL)

    _watched(kill, act)
    os._exit(0)


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
