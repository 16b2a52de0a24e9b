"""Asks the platform which children it has for this gateway.

It does not answer that: it tells of the children in notices, and of nothing if there are none.
The version up to which it has told is kept in memory alone, so that the first session of a run
asks for all children: what is wrong here after a restart is put right by that.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from gatewayd.cloud.huawei.events import NodeName, Notice, Told
from gatewayd.cloud.huawei.roster import Roster
from gatewayd.cloud.huawei.uplink import Uplink
from gatewayd.cloud.subdevices.link import Link, LinkDown

QUIET = 2.0
"""Seconds after a notice in which another one would have come."""


class Sync:
    """patience: seconds in which the first notice comes, if any.  now: seconds of a steady clock.

    version: that which the platform has told last; 0 before that.  It grows; but a platform that
    has lost count, or created the gateway anew, begins again, so that an older one is an old
    notice only after a newer one of the same session, and not when all children are asked for.
    """

    def __init__(
        self, link: Link[Uplink], roster: Roster, patience: float, now: Callable[[], float]
    ) -> None:
        self._link, self._roster, self._patience, self._now = link, roster, patience, now
        self._tasks: set[asyncio.Task[None]] = set()
        self._asking: asyncio.Task[None] | None = None
        self._told = asyncio.Event()
        self._notices = 0
        self._newest = 0
        self.version = 0

    def begin(self) -> None:
        """Ask over a new link what has changed, or for all children if nothing is known.

        Nobody waits for it.
        """
        self._newest = 0
        self.wake()
        self._start(self.version)

    def fresh(self, notice: Notice) -> bool:
        """Whether a notice is to be heeded: it is not older than what is known.

        One of the same version is: the platform may need several to tell of all children.
        """
        if 0 < notice.version < self._newest:
            return False
        self._newest = max(self._newest, notice.version)
        self.version = self._newest or self.version
        return True

    def heard(self) -> None:
        """Go on where notices are waited for: the roster has one more."""
        self._notices += 1
        self.wake()

    def wake(self) -> None:
        """Look again where notices are waited for: the link may have ended."""
        self._told.set()
        self._told = asyncio.Event()

    async def find(self, name: NodeName) -> Told | None:
        """Ask for all children; return this one, or None if the platform does not tell of it.

        Raises NoAnswer, LinkDown.
        """
        uplink, before, end = self._link.get(), self._notices, self._now() + self._patience
        if self._asking is None or self._asking.done():
            self._newest = 0
            self._asking = self._start(0)
        await asyncio.shield(self._asking)
        while (told := self._roster.find(name)) is None:
            if self._link.get() is not uplink:
                raise LinkDown
            left = end - self._now()
            if not await self._next(min(left, QUIET) if self._notices > before else left):
                break
        return told

    async def close(self) -> None:
        """End what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, version: int) -> asyncio.Task[None]:
        task = asyncio.create_task(self._link.get().sync(version))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # the end of the link tells all

    async def _next(self, seconds: float) -> bool:
        """Return whether a notice comes within so many seconds."""
        told = self._told
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await told.wait()
        return told.is_set()
