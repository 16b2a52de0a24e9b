"""The sub-devices of a gateway: the facade that its routes share, and the parts behind it.

The downlink handles the platform's notices, or passes them on for a decision.  Stale sessions,
children online at the platform alone, are reported offline after a while, as the platform leaves
a gateway's children as they were when it goes.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from gatewayd.cloud import mqtt
from gatewayd.cloud.huawei.connection import HuaweiRateLimits, HuaweiUplink
from gatewayd.cloud.huawei.device_cache import DeviceCache, DeviceSync
from gatewayd.cloud.huawei.messages import Notice, SubDeviceInfo, SubDeviceStatus, node_name
from gatewayd.cloud.huawei.requests import HuaweiRequests
from gatewayd.cloud.huawei.settings import HuaweiGateway, HuaweiSettings, default_device_id
from gatewayd.cloud.huawei.sub_device_sessions import HuaweiSubDeviceSessions
from gatewayd.cloud.provider import CloudRequestHandler
from gatewayd.cloud.sub_devices.link import GatewayLink
from gatewayd.cloud.sub_devices.link_monitor import LinkMonitor
from gatewayd.cloud.sub_devices.sessions import OpenSessions
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.runtime.clock import SYSTEM_CLOCK, Clock
from gatewayd.runtime.tasks import BackgroundTask

GRACE = 120.0
"""Seconds from a new link in which all present children have come back."""
TOGETHER = 100
"""Children reported offline at a time."""


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


_NEW = (SubDeviceStatus.INACTIVE, SubDeviceStatus.UNKNOWN)


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


PATIENCE, LEAVE = 5.0, 20.0
"""Seconds for one response when the gateway leaves, and for all children together; children that
are not reported offline by then are when the gateway is back."""


class HuaweiSubDevices:
    """The children of one gateway.

    provider: its name in the configuration.  own: the gateway.  host: of the instance.
    random: so many unguessable bytes.
    """

    def __init__(
        self,
        provider: str,
        settings: HuaweiSettings,
        own: HuaweiGateway,
        time: Clock = SYSTEM_CLOCK,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._settings, self._time, self._random = settings, time, random
        self.host = settings.host
        self._link = GatewayLink[HuaweiUplink]()
        self.cache = DeviceCache(own.children)
        sync = DeviceSync(self._link, self.cache, settings.reply_timeout, time.now)
        self._limits = HuaweiRateLimits(own.status_per_second, time.now)
        requests = HuaweiRequests(self._link, own.status_per_second, self.cache.set_status)
        self.sessions = HuaweiSubDeviceSessions(requests, self.cache, sync, time.now)
        self._downlink = HuaweiDownlink(
            provider, self.sessions, self.cache, sync, settings.products
        )
        self._monitor = LinkMonitor(provider, self._link, self._downlink, own.children)

    def set_requests(self, requests: CloudRequestHandler) -> None:
        """Pass on what the platform requests, from now on."""
        self._downlink.requests = requests

    def uplink(self, connection: mqtt.MqttConnection, device_id: str) -> HuaweiUplink:
        """Return the uplink over a connection of the gateway.  device_id: the gateway's."""
        timeout, limits = self._settings.reply_timeout, self._limits
        return HuaweiUplink(device_id, connection, timeout, limits, self._time, self._random)

    def serve_over(self, uplink: HuaweiUplink) -> None:
        """Serve the children over the gateway's new session from now on."""
        self._link.put(uplink)
        self._monitor.update()

    def set_gateway_reason(self, reason: Reason | None) -> None:
        """Set why the gateway is not logged in; None where that is not known.

        It is ignored while the gateway is online, as when a second login fails.
        """
        self._monitor.offline_reason = None if self._link.current else reason

    def handover(self) -> AbstractContextManager[None]:
        """Return a context in which the gateway logs in, perhaps in place of its session."""
        return self._monitor.handover()

    async def leave(self, uplink: HuaweiUplink) -> None:
        """Report all children offline before the gateway closes this session.

        The platform would leave them online.  Does nothing where a newer session serves them.
        """
        if self._link.current is uplink:
            await self.sessions.online.leave(PATIENCE, LEAVE)

    async def check_ready(self, name: CloudName) -> Reason | None:
        """Return why no request can be made for this child now, after a short wait."""
        if (pause := self.sessions.cooldown.reason(node_name(name))) is not None:
            return pause
        return await self.offline(name)

    async def offline(self, name: CloudName) -> Reason | None:
        """Return why the gateway is not online, after a short wait; None if it is."""
        return await self._monitor.offline(name)

    async def close(self) -> None:
        """Cancel what is under way."""
        await self._monitor.close()
        await self._downlink.close()
        await self.sessions.close()
