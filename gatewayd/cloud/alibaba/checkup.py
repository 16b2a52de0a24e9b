"""Looks whether the children still are logged in, when the cloud says that one of them is not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from gatewayd.cloud.alibaba.family import Family
from gatewayd.cloud.subdevices.errand import Errand
from gatewayd.cloud.subdevices.session import ChildSession

TOGETHER, PAUSE = 50, 1.0
"""So many children are looked at together, and so many seconds apart."""
PERIOD = 60.0
"""Seconds from one look at all to the next: a child may log in five times a minute."""


class Checkup(Errand):
    """now: seconds."""

    def __init__(self, family: Family, now: Callable[[], float]) -> None:
        super().__init__(self._look_until_sure)
        self._family, self._now = family, now
        self._told, self._last = False, -PERIOD

    def begin(self) -> None:
        """Look at all children, and once more if a look is under way: some had their turn."""
        self._told = True
        super().begin()

    async def _look_until_sure(self) -> None:
        unsure: Sequence[ChildSession] = ()
        while self._told or unsure:
            await asyncio.sleep(max(0.0, self._last + PERIOD - self._now()))
            sessions = self._family.sessions() if self._told else unsure
            self._told, self._last = False, self._now()
            unsure = await self._look(sessions)

    async def _look(self, sessions: Sequence[ChildSession]) -> Sequence[ChildSession]:
        """Return those of which the cloud did not say whether it has them."""
        unsure: list[ChildSession] = []
        for first in range(0, len(sessions), TOGETHER):
            some = sessions[first : first + TOGETHER]
            sure = await asyncio.gather(*(self._family.check(session) for session in some))
            unsure += [session for session, one in zip(some, sure, strict=True) if not one]
            await asyncio.sleep(PAUSE)
        return unsure
