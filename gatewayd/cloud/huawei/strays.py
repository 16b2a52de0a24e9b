"""Children that the platform has online, and that are not: reported offline after a while.

When a gateway goes, the platform leaves its children as they were.
"""

from __future__ import annotations

import asyncio

from gatewayd.cloud.huawei.roster import Roster
from gatewayd.cloud.subdevices.errand import Errand
from gatewayd.cloud.subdevices.online import Online

GRACE = 120.0
"""Seconds from a new link in which all children that are here have come back."""
TOGETHER = 100
"""So many are reported at a time."""


class Strays(Errand):
    """roster: what the platform has.  online: who is here, by device ID."""

    def __init__(self, roster: Roster, online: Online[str]) -> None:
        super().__init__(self._look)
        self._roster, self._online = roster, online

    async def _look(self) -> None:
        await asyncio.sleep(GRACE)
        strays = [one for one in self._roster.online() if not self._online.busy(one)]
        for first in range(0, len(strays), TOGETHER):
            some = [one for one in strays[first : first + TOGETHER] if not self._online.busy(one)]
            await asyncio.gather(*(self._online.log_out(one) for one in some))
