"""Looks for devices anew when somebody asks for it, for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence

from gatewayd.errors import InvalidArgs

EVERY = 15.0
"""Seconds from one look to the next."""

MAX_SECONDS = 900


class Scan:
    """Has discoverers look again, as long as somebody wants it.

    names: of the discoverers.  rescan: has one look again for all.
    now: the event loop's clock, seconds.
    """

    def __init__(
        self,
        names: Collection[str],
        rescan: Callable[[str], Awaitable[None]],
        now: Callable[[], float],
    ) -> None:
        self._names, self._rescan, self._now = names, rescan, now
        self._wanted: Sequence[str] = ()
        self._until = 0.0
        self._called = asyncio.Event()

    def begin(self, seconds: int, names: Sequence[str]) -> None:
        """Look now and again for so many seconds, instead of what was wanted before; 0 ends it.

        names: of the discoverers that are to look; none for all.  Raises InvalidArgs.
        """
        if seconds > MAX_SECONDS:
            raise InvalidArgs(f"Discovery looks for at most {MAX_SECONDS} s")
        if not set(names) <= set(self._names):
            raise InvalidArgs(f"A protocol is one of {', '.join(sorted(self._names)) or 'none'}")
        self._wanted = tuple(dict.fromkeys(names)) or tuple(self._names)
        self._until = self._now() + seconds
        self._called.set()

    async def run(self) -> None:
        """Look when it is wanted, until cancelled."""
        while True:
            await self._called.wait()
            self._called.clear()
            while (left := self._until - self._now()) > 0:
                for name in self._wanted:
                    await self._rescan(name)
                await self._pause(min(left, EVERY))

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._called.wait()
        except TimeoutError:
            return
        self._called.clear()
