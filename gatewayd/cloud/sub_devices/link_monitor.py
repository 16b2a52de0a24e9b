"""The monitor of the gateway's link: children that wait for it log in when it is back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from gatewayd.cloud.sub_devices.link import GatewayLink, LinkSession, UplinkT
from gatewayd.cloud.sub_devices.result_codes import gateway_offline
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.runtime.tasks import BackgroundTask

PATIENCE = 5.0
"""Seconds for which a child waits for the link, before its attempt fails."""
BATCH, PAUSE = 50, 0.5
"""Children that retry together, and seconds until the next do: with the link all children lose
their sessions, and clouds let a gateway log in some 150 a second."""

Up_contra = TypeVar("Up_contra", bound=LinkSession, contravariant=True)


class LinkListener(Protocol[Up_contra]):
    """A listener for what becomes of the link."""

    def link_up(self, uplink: Up_contra) -> None:
        """Use a new link.  Children that are still online were handed over from the one before."""

    def link_lost(self) -> Iterable[CloudName]:
        """End all sessions; return the children that were online."""

    def retry(self, name: CloudName) -> None:
        """Let a child log in again: what kept it from that is gone."""


class LinkMonitor(Generic[UplinkT]):
    """A monitor of one gateway's link, with the children that wait for it.

    provider: its name in the configuration.  most: children that are remembered as waiting; others
    retry by themselves.
    offline_reason: why the gateway is not logged in; None where that is not known.
    """

    def __init__(
        self, provider: str, link: GatewayLink[UplinkT], listener: LinkListener[UplinkT], most: int
    ) -> None:
        self._device, self._link, self._listener = f"gateway-{provider}", link, listener
        self._most = most
        self._uplink: UplinkT | None = None
        self._waiting: set[CloudName] = set()
        self._retries = BackgroundTask(self._retry_all)
        self._handovers = 0
        self.offline_reason: Reason | None = None

    async def offline(self, name: CloudName) -> Reason | None:
        """Return why the gateway is not online, after some seconds; None if it is.

        The child retries when the gateway is back.
        """
        if await self._link.wait(PATIENCE) is None:
            self._wait((name,))
            return gateway_offline(self._device, self.offline_reason)
        self._use_newest()
        return None

    def update(self) -> None:
        """Use the gateway's new session from now on."""
        self.offline_reason = None
        self._use_newest()

    @contextmanager
    def handover(self) -> Iterator[None]:
        """Keep the sessions while the gateway logs in again, and the cloud may close the link.

        They go on over the new link, and end only if the login fails.
        """
        self._handovers += 1
        try:
            yield
        finally:
            self._handovers -= 1
            if self._uplink is not None and self._uplink.closed.done():
                self._ended(self._uplink)

    async def close(self) -> None:
        """Let no more children retry."""
        await self._retries.close()

    def _use_newest(self) -> None:
        uplink = self._link.current
        if uplink is None or uplink is self._uplink or uplink.closed.done():
            return
        if self._uplink is not None and not self._handovers:
            self._lost(self._uplink)
        self._retries.stop()
        self._uplink = uplink
        uplink.closed.add_done_callback(lambda _: self._ended(uplink))
        self._listener.link_up(uplink)
        self._retries.begin()

    def _ended(self, uplink: UplinkT) -> None:
        if not self._handovers:
            self._lost(uplink)

    def _lost(self, uplink: UplinkT) -> None:
        if self._uplink is uplink:
            self._uplink = None
            self._retries.stop()
            self._wait(self._listener.link_lost())

    def _wait(self, names: Iterable[CloudName]) -> None:
        for name in names:
            if len(self._waiting) < self._most:
                self._waiting.add(name)

    async def _retry_all(self) -> None:
        while self._waiting:
            for _ in range(min(BATCH, len(self._waiting))):
                self._listener.retry(self._waiting.pop())
            await asyncio.sleep(PAUSE)
