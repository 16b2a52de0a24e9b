"""Looks after the gateway's link: who waits for it is told when it is there again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

from gatewayd.cloud.alibaba.envelope import Downlink
from gatewayd.cloud.alibaba.uplink import Link, Uplink
from gatewayd.device.record import CloudName

PATIENCE = 5.0
"""Seconds for which a child waits for the link, before it is told that there is none."""
TOGETHER, PAUSE = 50, 0.5
"""So many children are called back at a time, and so many seconds apart: with the link all
children lose their sessions, and the cloud lets a gateway log in 200 a second."""


class Listener(Protocol):
    """Whoever is told what becomes of the link."""

    def link_up(self) -> None:
        """There is a link, and no child is online over it yet."""

    def link_lost(self) -> Iterable[CloudName]:
        """Return the children who were online."""

    def hear(self, downlink: Downlink) -> None:
        """Take what the cloud asks."""


class Watch:
    """call_back: called for each child that waited in vain, when the link is there again.
    most: children that are called back; others come by themselves."""

    def __init__(
        self, link: Link, listener: Listener, call_back: Callable[[CloudName], None], most: int
    ) -> None:
        self._link, self._listener, self._call_back = link, listener, call_back
        self._most = most
        self._uplink: Uplink | None = None
        self._waiting: set[CloudName] = set()
        self._calling: asyncio.Task[None] | None = None

    async def up(self, name: CloudName) -> Uplink | None:
        """Return the link, or None if there is none for some seconds: the child is called back."""
        uplink = await self._link.wait(PATIENCE)
        if uplink is None:
            self._wait((name,))
        else:
            self.look()
        return uplink

    def look(self) -> None:
        """Take notice of a new link."""
        uplink = self._link.current
        if uplink is None or uplink is self._uplink or uplink.closed.done():
            return
        if self._uplink is not None:
            self._lost(self._uplink)
        self._uplink = uplink
        uplink.closed.add_done_callback(lambda _: self._lost(uplink))
        self._listener.link_up()
        uplink.on_request = self._listener.hear
        self._calling = asyncio.create_task(self._call_all_back())

    async def close(self) -> None:
        """Call nobody back any more."""
        if (calling := self._stop_calling()) is not None:
            await asyncio.wait({calling})

    def _lost(self, uplink: Uplink) -> None:
        if self._uplink is uplink:
            self._uplink = None
            self._stop_calling()
            self._wait(self._listener.link_lost())

    def _wait(self, names: Iterable[CloudName]) -> None:
        for name in names:
            if len(self._waiting) < self._most:
                self._waiting.add(name)

    def _stop_calling(self) -> asyncio.Task[None] | None:
        calling, self._calling = self._calling, None
        if calling is not None:
            calling.cancel()
        return calling

    async def _call_all_back(self) -> None:
        while self._waiting:
            for _ in range(min(TOGETHER, len(self._waiting))):
                self._call_back(self._waiting.pop())
            await asyncio.sleep(PAUSE)
