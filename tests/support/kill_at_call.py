"""Kills a process of ours at any of its steps."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType


def completes_before_kill(step: int, act: Callable[[], object]) -> bool:
    """Do something in a process of its own, killed at one of its calls; True if it came through.

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
