"""The downlink of a gateway: what the Huawei platform sends about its sub-devices.

Notices are handled, or passed on for a decision.  Stale sessions, children online at the platform
alone, are reported offline after a while, as the platform leaves a gateway's children as they were
when it goes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace

from gatewayd.cloud.huawei.connection import HuaweiUplink
from gatewayd.cloud.huawei.device_cache import DeviceCache, DeviceSync
from gatewayd.cloud.huawei.messages import Notice, SubDeviceInfo, SubDeviceStatus
from gatewayd.cloud.huawei.settings import default_device_id
from gatewayd.cloud.huawei.sub_device_sessions import HuaweiSubDeviceSessions
from gatewayd.cloud.provider import CloudRequestHandler
from gatewayd.cloud.sub_devices.sessions import OpenSessions
from gatewayd.device.record import CloudName
from gatewayd.runtime.tasks import BackgroundTask

GRACE = 120.0
"""Seconds from a new link in which all present children have come back."""
TOGETHER = 100
"""Children reported offline at a time."""


_NEW = (SubDeviceStatus.INACTIVE, SubDeviceStatus.UNKNOWN)


PATIENCE, LEAVE = 5.0, 20.0
"""Seconds for one response when the gateway leaves, and for all children together; children that
are not reported offline by then are when the gateway is back."""


class StaleSessions(BackgroundTask):
    """A task that reports children offline which are online at the platform alone.

    cache: the platform's children.  online: the sessions, by device ID.
    """

    def __init__(self, cache: DeviceCache, online: OpenSessions[str]) -> None:
        super().__init__(self._log_out)
        self._cache, self._online = cache, online

    async def _log_out(self) -> None:
        await asyncio.sleep(GRACE)
        stale = [one for one in self._cache.online() if not self._online.busy(one)]
        for first in range(0, len(stale), TOGETHER):
            batch = [one for one in stale[first : first + TOGETHER] if not self._online.busy(one)]
            await asyncio.gather(*(self._online.log_out(one) for one in batch))


class HuaweiDownlink:
    """The handler of the platform's notices on the link of one provider.

    products: those that children may have; none for any.
    requests: decides on what the platform requests; may be set at any time.
    """

    def __init__(
        self,
        provider: str,
        sessions: HuaweiSubDeviceSessions,
        cache: DeviceCache,
        sync: DeviceSync,
        products: Sequence[str],
    ) -> None:
        self._provider, self._products = provider, products
        self._sessions, self._cache, self._sync = sessions, cache, sync
        self._stale = StaleSessions(cache, sessions.online)
        self._own = ""
        self.requests: CloudRequestHandler | None = None

    def link_up(self, uplink: HuaweiUplink) -> None:
        """Request the gateway's children at once, and report those handed over again."""
        self._own, uplink.on_notice = uplink.own, self.handle_notice
        self._sync.begin()
        self._stale.begin()
        self._sessions.report_again()

    def link_lost(self) -> Iterable[CloudName]:
        """End every session; return the names of their children."""
        self._stale.stop()
        return self._sessions.end_all()

    def retry(self, name: CloudName) -> None:
        """Let a child log in again, as its obstacle is gone."""
        if self.requests is not None:
            self.requests.retry(name)

    def handle_notice(self, notice: Notice) -> None:
        """Handle a notice of the platform.  Never blocks, never raises."""
        if not self._sync.is_current(notice):
            return
        for info in notice.devices:
            if info.parent not in ("", self._own):
                continue  # a child of a child
            if notice.added:
                self._added(self._with_product(info))
            else:
                self._sessions.confirm_deletion(info.device_id)
        self._sync.notice_received()

    async def close(self) -> None:
        """Cancel what is under way."""
        await self._stale.close()

    def _added(self, info: SubDeviceInfo) -> None:
        """Keep a child; one that was not requested here, and never was online, was created at the
        platform in order to join."""
        new = self._cache.update(info) and info.status in _NEW
        allowed = info.product in (self._products or (info.product,))
        if new and info.product and info.node and allowed and self.requests is not None:
            self.requests.approve(CloudName(self._provider, info.product, info.node))

    def _with_product(self, info: SubDeviceInfo) -> SubDeviceInfo:
        """Complete a report without a product: the device ID may contain it."""
        if info.product or not info.node:
            return info
        for product in self._products:
            if default_device_id(product, info.node) == info.device_id:
                return replace(info, product=product)
        return info
