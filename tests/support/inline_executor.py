"""An executor whose works take no time, for tests on a clock that jumps."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

NAME = "inline-executor"


class InlineExecutor(ThreadPoolExecutor):
    """Does each work on its one thread, while the caller waits: the clock must not jump."""

    def __init__(self) -> None:
        super().__init__(1, NAME)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done = super().submit(fn, *args, **kwargs)
        while not done.done():
            os.sched_yield()
        return done

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait=False, cancel_futures=cancel_futures)
        while self._is_alive():
            os.sched_yield()

    def _is_alive(self) -> bool:
        return any(thread.name.startswith(NAME) for thread in threading.enumerate())
