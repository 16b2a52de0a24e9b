"""The gateway's side of its sub-devices: what its routes have in common, joined.

Does what the platform tells of a gateway's children, or passes it on to whoever decides.

Children that the platform has online, and that are not: reported offline after a while.

When a gateway goes, the platform leaves its children as they were.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from gatewayd.cloud import mqtt
from gatewayd.cloud.huawei.connection import HuaweiUplink
from gatewayd.cloud.huawei.device_cache import DeviceCache, DeviceSync
from gatewayd.cloud.huawei.messages import Notice, SubDeviceInfo, SubDeviceStatus, node_name
from gatewayd.cloud.huawei.requests import HuaweiRequests
from gatewayd.cloud.huawei.settings import HuaweiGateway, HuaweiSettings, default_device_id
from gatewayd.cloud.huawei.sub_device_sessions import HuaweiSubDeviceSessions
from gatewayd.cloud.provider import CloudRequestHandler
from gatewayd.cloud.sub_devices.link import GatewayLink
from gatewayd.cloud.sub_devices.reconnect import LinkMonitor
from gatewayd.cloud.sub_devices.requests import BackgroundTask
from gatewayd.cloud.sub_devices.sessions import OpenSessions
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.runtime.clock import SYSTEM_CLOCK, Clock

GRACE = 120.0
"""Seconds from a new link in which all children that are here have come back."""
TOGETHER = 100
"""So many are reported at a time."""


class StaleSessions(BackgroundTask):
    """roster: what the platform has.  online: who is here, by device ID."""

    def __init__(self, roster: DeviceCache, online: OpenSessions[str]) -> None:
        super().__init__(self._look)
        self._roster, self._online = roster, online

    async def _look(self) -> None:
        await asyncio.sleep(GRACE)
        strays = [one for one in self._roster.online() if not self._online.busy(one)]
        for first in range(0, len(strays), TOGETHER):
            some = [one for one in strays[first : first + TOGETHER] if not self._online.busy(one)]
            await asyncio.gather(*(self._online.log_out(one) for one in some))


_NEW = (SubDeviceStatus.INACTIVE, SubDeviceStatus.UNTOLD)


class HuaweiDownlink:
    """Listens to the link of one provider.

    products: those that children may have; none for any.
    requests: who decides; may be set at any time.
    """

    def __init__(
        self,
        provider: str,
        family: HuaweiSubDeviceSessions,
        roster: DeviceCache,
        sync: DeviceSync,
        products: Sequence[str],
    ) -> None:
        self._provider, self._products = provider, products
        self._family, self._roster, self._sync = family, roster, sync
        self._strays = StaleSessions(roster, family.online)
        self._own = ""
        self.requests: CloudRequestHandler | None = None

    def link_up(self, uplink: HuaweiUplink) -> None:
        """Learn at once who belongs to the gateway, and report anew who was handed over."""
        self._own, uplink.on_notice = uplink.own, self.hear
        self._sync.begin()
        self._strays.begin()
        self._family.report_again()

    def link_lost(self) -> Iterable[CloudName]:
        """End every session, and return whose it was."""
        self._strays.stop()
        return self._family.end_all()

    def call_back(self, name: CloudName) -> None:
        """What kept a child from logging in is gone."""
        if self.requests is not None:
            self.requests.retry(name)

    def hear(self, notice: Notice) -> None:
        """Take what the platform tells.  Never blocks, never raises."""
        if not self._sync.fresh(notice):
            return
        for told in notice.devices:
            if told.parent not in ("", self._own):
                continue  # a child of a child
            if notice.added:
                self._added(self._with_product(told))
            else:
                self._family.take(told.device_id)
        self._sync.heard()

    async def close(self) -> None:
        """End what is under way."""
        await self._strays.close()

    def _added(self, told: SubDeviceInfo) -> None:
        """Learn of a child; one that nobody here has asked for, and that never was online, was
        created by somebody at the platform who wants it to join."""
        new = self._roster.learn(told) and told.status in _NEW
        allowed = told.product in (self._products or (told.product,))
        if new and told.product and told.node and allowed and self.requests is not None:
            self.requests.approve(CloudName(self._provider, told.product, told.node))

    def _with_product(self, told: SubDeviceInfo) -> SubDeviceInfo:
        """Find the product of a child of which it is not told: its device ID may have it."""
        if told.product or not told.node:
            return told
        for product in self._products:
            if default_device_id(product, told.node) == told.device_id:
                return replace(told, product=product)
        return told


PATIENCE, LEAVE = 5.0, 20.0
"""Seconds that the platform has to answer when the gateway leaves, and for all children together;
those that are not reported offline by then are when the gateway is back."""


class HuaweiSubDevices:
    """All children of one gateway.

    provider: its name in the configuration.  own: the gateway.  host: of the instance.
    random: so many bytes nobody can guess.
    """

    def __init__(
        self,
        provider: str,
        settings: HuaweiSettings,
        own: HuaweiGateway,
        time: Clock = SYSTEM_CLOCK,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._settings, self._own, self._time, self._random = settings, own, time, random
        self.host = settings.host
        self._link = GatewayLink[HuaweiUplink]()
        self.roster = DeviceCache(own.children)
        sync = DeviceSync(self._link, self.roster, settings.reply_timeout, time.now)
        calls = HuaweiRequests(self._link, own.status_per_second, self.roster.report)
        self.family = HuaweiSubDeviceSessions(calls, self.roster, sync, time.now)
        self._ears = HuaweiDownlink(provider, self.family, self.roster, sync, settings.products)
        self._watch = LinkMonitor(provider, self._link, self._ears, own.children)

    def set_requests(self, requests: CloudRequestHandler) -> None:
        """Tell somebody what the platform asks for, from now on."""
        self._ears.requests = requests

    def uplink(self, connection: mqtt.MqttConnection, device_id: str) -> HuaweiUplink:
        """Return the link that a connection of the gateway makes.  device_id: the gateway's."""
        timeout, rate = self._settings.reply_timeout, self._own.status_per_second
        return HuaweiUplink(device_id, connection, timeout, rate, self._time, self._random)

    def serve_over(self, uplink: HuaweiUplink) -> None:
        """Serve the children over the gateway's new session from now on."""
        self._link.put(uplink)
        self._watch.look()

    def tell(self, ails: Reason | None) -> None:
        """Let the children say what ails the gateway; None where that is not known.

        It may be a second login that fails: nothing ails a gateway that is online.
        """
        self._watch.ails = None if self._link.current else ails

    def handover(self) -> AbstractContextManager[None]:
        """Meanwhile the gateway logs in, perhaps in place of a session that it has."""
        return self._watch.handover()

    async def leave(self, uplink: HuaweiUplink) -> None:
        """Report all children offline, before the gateway closes this session of it.

        The platform would leave them online.  They are, where a newer session serves them.
        """
        if self._link.current is uplink:
            await self.family.online.leave(PATIENCE, LEAVE)

    async def check_ready(self, name: CloudName) -> Reason | None:
        """Tell why the platform cannot be asked for this child now, after a short wait."""
        if (pause := self.family.pauses.reason(node_name(name))) is not None:
            return pause
        return await self.offline(name)

    async def offline(self, name: CloudName) -> Reason | None:
        """Tell why the gateway is not online, after a short wait; None if it is."""
        return await self._watch.offline(name)

    async def close(self) -> None:
        """End what is under way."""
        await self._watch.close()
        await self._ears.close()
        await self.family.close()
