"""Looks whether the children still are logged in, when the cloud says that one of them is not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gatewayd.cloud.alibaba.family import Family
from gatewayd.cloud.subdevices.errand import Errand

TOGETHER, PAUSE = 50, 1.0
"""So many children are looked at together, and so many seconds apart."""
PERIOD = 60.0
"""Seconds from one look at all to the next: a child may log in five times a minute."""


class Checkup(Errand):
    """now: seconds."""

    def __init__(self, family: Family, now: Callable[[], float]) -> None:
        super().__init__(self._look)
        self._family, self._now = family, now
        self._last = -PERIOD

    async def _look(self) -> None:
        await asyncio.sleep(max(0.0, self._last + PERIOD - self._now()))
        self._last = self._now()
        sessions = self._family.sessions()
        for first in range(0, len(sessions), TOGETHER):
            some = sessions[first : first + TOGETHER]
            await asyncio.gather(*(self._family.check(session) for session in some))
            await asyncio.sleep(PAUSE)
