"""Looks after the gateway's link: who waits for it is told when it is there again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from gatewayd.cloud.sub_devices.link import GatewayLink, LinkSession, UplinkT
from gatewayd.cloud.sub_devices.result_codes import gateway_offline
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName

PATIENCE = 5.0
"""Seconds for which a child waits for the link, before it is told that there is none."""
TOGETHER, PAUSE = 50, 0.5
"""So many children are called back at a time, and so many seconds apart: with the link all
children lose their sessions, and clouds let a gateway log in some 150 a second."""

Up_contra = TypeVar("Up_contra", bound=LinkSession, contravariant=True)


class LinkListener(Protocol[Up_contra]):
    """Whoever is told what becomes of the link."""

    def link_up(self, uplink: Up_contra) -> None:
        """There is a link.  Who is online still was handed over from the link before it."""

    def link_lost(self) -> Iterable[CloudName]:
        """Return the children who were online."""

    def call_back(self, name: CloudName) -> None:
        """What kept a child from logging in is gone."""


class LinkMonitor(Generic[UplinkT]):
    """provider: its name in the configuration.  most: children that are called back; others come
    by themselves.

    ails: why the gateway is not logged in; None where that is not known.
    """

    def __init__(
        self, provider: str, link: GatewayLink[UplinkT], listener: LinkListener[UplinkT], most: int
    ) -> None:
        self._device, self._link, self._listener = f"gateway-{provider}", link, listener
        self._most = most
        self._uplink: UplinkT | None = None
        self._waiting: set[CloudName] = set()
        self._calling: asyncio.Task[None] | None = None
        self._handovers = 0
        self.ails: Reason | None = None

    async def offline(self, name: CloudName) -> Reason | None:
        """Tell why the gateway is not online, after some seconds; None if it is.

        A child that was told so is called back.
        """
        if await self._link.wait(PATIENCE) is None:
            self._wait((name,))
            return gateway_offline(self._device, self.ails)
        self._look()
        return None

    def look(self) -> None:
        """Take notice of the gateway's new session."""
        self.ails = None
        self._look()

    @contextmanager
    def handover(self) -> Iterator[None]:
        """Meanwhile the gateway logs in, and the cloud may close the link that there is for that:
        the children go on over the new one, and have lost theirs only if none comes of it."""
        self._handovers += 1
        try:
            yield
        finally:
            self._handovers -= 1
            if self._uplink is not None and self._uplink.closed.done():
                self._ended(self._uplink)

    async def close(self) -> None:
        """Call nobody back any more."""
        if (calling := self._stop_calling()) is not None:
            await asyncio.wait({calling})

    def _look(self) -> None:
        uplink = self._link.current
        if uplink is None or uplink is self._uplink or uplink.closed.done():
            return
        if self._uplink is not None and not self._handovers:
            self._lost(self._uplink)
        self._stop_calling()
        self._uplink = uplink
        uplink.closed.add_done_callback(lambda _: self._ended(uplink))
        self._listener.link_up(uplink)
        self._calling = asyncio.create_task(self._call_all_back())

    def _ended(self, uplink: UplinkT) -> None:
        if not self._handovers:
            self._lost(uplink)

    def _lost(self, uplink: UplinkT) -> None:
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
                self._listener.call_back(self._waiting.pop())
            await asyncio.sleep(PAUSE)
