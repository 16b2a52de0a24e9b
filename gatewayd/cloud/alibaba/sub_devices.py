"""The gateway's side of its sub-devices: what their routes have in common, joined.

Does what the cloud asks of a gateway, or passes it on to whoever decides.

Tells the cloud which children were found on the LAN and wait, so that its user may want them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Container, Iterable

from gatewayd.cloud.alibaba import alink, requests
from gatewayd.cloud.alibaba.alink import (
    AddRequested,
    Downlink,
    ForcedOff,
    PermitJoin,
    SubDeviceOrder,
    SubName,
    TopologyChange,
    TopologyChanged,
)
from gatewayd.cloud.alibaba.connection import AlibabaUplink
from gatewayd.cloud.alibaba.payloads import sub_name
from gatewayd.cloud.alibaba.requests import AlibabaCalls
from gatewayd.cloud.alibaba.settings import AlibabaGateway, AlibabaSettings
from gatewayd.cloud.alibaba.sub_device_sessions import AlibabaSessions, SessionCheck, Signing
from gatewayd.cloud.batch import Batcher, BatcherClosed, BatchRefused
from gatewayd.cloud.provider import CloudRequestHandler
from gatewayd.cloud.sub_devices.link import GatewayLink, LinkError
from gatewayd.cloud.sub_devices.reconnect import LinkMonitor
from gatewayd.cloud.sub_devices.result_codes import Denied
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.runtime.clock import Clock
from gatewayd.runtime.tasks import cancel_and_wait

log = logging.getLogger(__name__)

DISABLED = 522
"""The code for a child that was disabled, in a login and in an error of the cloud."""


class AlibabaDownlinkHandler:
    """Listens to the link of one provider.

    products: those that are configured.  most: children named by one message that are heeded.
    requests: who decides; may be set at any time.
    """

    def __init__(
        self,
        provider: str,
        family: AlibabaSessions,
        checkup: SessionCheck,
        products: Container[str],
        most: int,
    ) -> None:
        self._provider, self._family, self._checkup = provider, family, checkup
        self._products, self._most = products, most
        self.requests: CloudRequestHandler | None = None

    def link_up(self, uplink: AlibabaUplink) -> None:
        """Learn at once who belongs to the gateway."""
        uplink.on_request = self.hear
        self._family.topology.begin()

    def link_lost(self) -> Iterable[CloudName]:
        """End every session, and return whose it was."""
        self._checkup.stop()
        return self._family.end_all()

    def hear(self, downlink: Downlink) -> None:
        """Take what the cloud asks.  Never blocks, never raises."""
        match downlink:
            case AddRequested(children):
                self._wanted(children[: self._most])
            case PermitJoin(seconds, product):
                self._permitted(seconds, product)
            case TopologyChanged(change, children):
                self._changed(change, children[: self._most])
            case SubDeviceOrder(order, child):
                self._ordered(order, child)
            case ForcedOff(code, None):
                log.warning("The cloud says that a child is not online (%d), not which.", code)
                self._checkup.begin()
            case ForcedOff(code, SubName() as child):
                self._family.force_off(child, requests.denial(code, alink.ERROR))

    def call_back(self, name: CloudName) -> None:
        """What kept a child from logging in is gone."""
        if self.requests is not None:
            self.requests.retry(name)

    def _wanted(self, children: Iterable[SubName]) -> None:
        if self.requests is not None:
            for child in children:
                self.requests.approve(self._name(child))

    def _permitted(self, seconds: int, product: str) -> None:
        """Pass on a permit, unless it is for a product whose children cannot join here."""
        if product and product not in self._products:
            log.warning("The cloud permits children of a product to join that is not configured.")
        elif self.requests is not None:
            self.requests.permit_join(self._provider, seconds)

    def _changed(self, change: TopologyChange, children: Iterable[SubName]) -> None:
        match change:
            case TopologyChange.UNKNOWN:
                self._family.topology.begin()
            case TopologyChange.CREATED:
                for child in children:
                    self._family.topology.add(child)
            case TopologyChange.DELETED:
                for child in children:
                    self._family.take(child)
            case TopologyChange.ENABLED:
                for child in children:
                    self._enabled(child)
            case TopologyChange.DISABLED:
                for child in children:
                    self._disabled(child)

    def _ordered(self, order: str, child: SubName) -> None:
        if order == alink.DELETE:
            self._family.take(child)
        elif order == alink.DISABLE:
            self._disabled(child)
        else:
            self._enabled(child)

    def _enabled(self, child: SubName) -> None:
        self._family.pauses.end(child)
        self.call_back(self._name(child))

    def _disabled(self, child: SubName) -> None:
        self._family.force_off(child, requests.denial(DISABLED, alink.ERROR))

    def _name(self, child: SubName) -> CloudName:
        return CloudName(self._provider, child.product, child.device)


LIMIT = 2000
"""Children that may be under way to the cloud; more are not told of."""


class FoundDeviceReporter:
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
        await cancel_and_wait(self._under_way.values())

    async def _tell(self, name: SubName) -> None:
        with contextlib.suppress(Denied, BatchRefused, BatcherClosed, LinkError):
            await self._call.submit(name)


class AlibabaSubDevices:
    """All children of one gateway.

    provider: its name in the configuration.  own: the gateway.
    """

    def __init__(
        self,
        provider: str,
        settings: AlibabaSettings,
        own: AlibabaGateway,
        link: GatewayLink[AlibabaUplink],
        time: Clock,
    ) -> None:
        self._tells = own.tell_found
        self.calls = AlibabaCalls(link, time.now)
        signing = Signing(settings.sign_method, time.timestamp)
        self.family = AlibabaSessions(self.calls, signing, own.children, time.now)
        self._finds = FoundDeviceReporter(self.calls.tell_found)
        self._checkup = SessionCheck(self.family, time.now)
        self._ears = AlibabaDownlinkHandler(
            provider, self.family, self._checkup, settings.products, own.children
        )
        self._watch = LinkMonitor(provider, link, self._ears, own.children)

    def set_requests(self, requests: CloudRequestHandler) -> None:
        """Tell somebody what the cloud asks for, from now on."""
        self._ears.requests = requests

    def look(self) -> None:
        """Take notice of the gateway's new session."""
        self._watch.look()

    def tell(self, ails: Reason | None) -> None:
        """Let the children say what ails the gateway; None where that is not known."""
        self._watch.ails = ails

    async def check_ready(self, name: CloudName) -> Reason | None:
        """Tell why the cloud cannot be asked for this child now, after a short wait."""
        if (pause := self.family.pauses.reason(sub_name(name))) is not None:
            return pause
        return await self.offline(name)

    async def offline(self, name: CloudName) -> Reason | None:
        """Tell why the gateway is not online, after a short wait; None if it is."""
        return await self._watch.offline(name)

    def on_pending(self, name: CloudName) -> None:
        """Tell the cloud of a child that waits, where the configuration says so."""
        if self._tells:
            self._finds.tell(sub_name(name))

    async def close(self) -> None:
        """End what is under way."""
        await self._finds.close()
        await self._watch.close()
        await self._checkup.close()
        await self.family.close()
