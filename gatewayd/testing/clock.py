"""An event loop whose clock jumps: a test that waits an hour ends at once.

With pytest-asyncio 1.4 or later, a hook in conftest.py gives a test this loop:

def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, type[JumpingLoop]]:
    return {"jumping": JumpingLoop}
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import TypeVar

T = TypeVar("T")


class _JumpingSelector(selectors.DefaultSelector):
    """A selector that never sleeps: it moves the clock by the time it should have slept."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("the test waits for something that will never happen")
            self.now += timeout
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """An asyncio loop on the jumping clock.  Not for code with threads: they take real time."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Seconds since the loop was made, by the clock that jumps."""
        return self._jumping.now

    def stall(self, seconds: float) -> None:
        """Let time pass at once, as while a callback blocks: all that is due meanwhile is late."""
        self._jumping.now += seconds


def run(main: Coroutine[object, object, T]) -> T:
    """Run a coroutine under a clock that jumps."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(main)
