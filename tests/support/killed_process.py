"""Kills a forked process with SIGKILL, at one of its calls or after so many acknowledgements."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
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


def _act(step: int, act: Callable[[], object]) -> None:
    left = step

    def count(frame: FrameType, event: str, _: object) -> None:
        nonlocal left
        if event.endswith("call") and "/gatewayd/" in frame.f_code.co_filename:
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
