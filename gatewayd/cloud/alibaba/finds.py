"""Tells the cloud which children were found on the LAN and wait, so that its user may want them."""

from __future__ import annotations

import asyncio
import contextlib

from gatewayd.cloud.alibaba.topics import SubName
from gatewayd.cloud.batch import Batcher, BatchRefused, Stopped
from gatewayd.cloud.subdevices.coded import Denied
from gatewayd.cloud.subdevices.link import LinkError

LIMIT = 2000
"""Children that may be under way to the cloud; more are not told of."""


class Finds:
    """call: tells of one child (thing/list/found)."""

    def __init__(self, call: Batcher[SubName, None]) -> None:
        self._call = call
        self._under_way: dict[SubName, asyncio.Task[None]] = {}

    def tell(self, name: SubName) -> None:
        """Tell of a child, soon.  Where that fails nothing is lost: it is told when found again."""
        if name in self._under_way or len(self._under_way) >= LIMIT:
            return
        task = asyncio.get_running_loop().create_task(self._tell(name))
        self._under_way[name] = task
        task.add_done_callback(lambda _: self._under_way.pop(name, None))

    async def close(self) -> None:
        """End what is under way."""
        tasks = tuple(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _tell(self, name: SubName) -> None:
        with contextlib.suppress(Denied, BatchRefused, Stopped, LinkError):
            await self._call.submit(name)
