"""The downlink of a gateway: what Alibaba Cloud sends about its sub-devices, handled or passed on.

What was found on the LAN goes the other way, as a report of pending devices.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Container, Iterable

from gatewayd.cloud.alibaba import alink
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
from gatewayd.cloud.alibaba.requests import denial
from gatewayd.cloud.alibaba.sub_device_sessions import (
    AlibabaSubDeviceSessions,
    SessionCheck,
)
from gatewayd.cloud.batch import Batcher, BatcherClosed, BatchRefused
from gatewayd.cloud.provider import CloudRequestHandler
from gatewayd.cloud.sub_devices.link import LinkError
from gatewayd.cloud.sub_devices.result_codes import Denied
from gatewayd.device.record import CloudName
from gatewayd.runtime.tasks import cancel_and_wait

log = logging.getLogger(__name__)

DISABLED = 522
"""The code for a child that was disabled, in a login and in an error of the cloud."""
REPORTS = 2000
"""Children whose report to the cloud is under way, at most; more are not reported."""


class AlibabaDownlink:
    """The handler of what the cloud asks of a gateway.  Implements LinkListener.

    products: those that are configured.  most: children named by one message that are heeded.
    handler: decides on requests; may be set at any time.
    """

    def __init__(
        self,
        provider: str,
        sessions: AlibabaSubDeviceSessions,
        check: SessionCheck,
        products: Container[str],
        most: int,
    ) -> None:
        self._provider, self._sessions, self._check = provider, sessions, check
        self._products, self._most = products, most
        self.handler: CloudRequestHandler | None = None

    def link_up(self, uplink: AlibabaUplink) -> None:
        """Ask at once which children belong to the gateway."""
        uplink.on_request = self.handle
        self._sessions.topology.begin()

    def link_lost(self) -> Iterable[CloudName]:
        """End every session, and return the names of its children."""
        self._check.stop()
        return self._sessions.end_all()

    def retry(self, name: CloudName) -> None:
        """Pass on that what kept a child from logging in is gone."""
        if self.handler is not None:
            self.handler.retry(name)

    def handle(self, downlink: Downlink) -> None:
        """Handle what the cloud asks.  Never blocks, never raises."""
        match downlink:
            case AddRequested(children):
                self._add_requested(children[: self._most])
            case PermitJoin(seconds, product):
                self._permit(seconds, product)
            case TopologyChanged(change, children):
                self._topology_changed(change, children[: self._most])
            case SubDeviceOrder(order, child):
                self._ordered(order, child)
            case ForcedOff(code, None):
                log.warning(
                    "Cloud %r: a child is not online (code %d), not named.", self._provider, code
                )
                self._check.begin()
            case ForcedOff(code, SubName() as child):
                self._sessions.force_off(child, denial(code, alink.ERROR))

    def _add_requested(self, children: Iterable[SubName]) -> None:
        if self.handler is not None:
            for child in children:
                self.handler.approve(self._name(child))

    def _permit(self, seconds: int, product: str) -> None:
        """Pass on a permit, unless it is for a product whose children cannot join here."""
        if product and product not in self._products:
            log.warning(
                "Cloud %r permits children of product %s to join, which is not configured.",
                self._provider,
                product,
            )
        elif self.handler is not None:
            self.handler.permit_join(self._provider, seconds)

    def _topology_changed(self, change: TopologyChange, children: Iterable[SubName]) -> None:
        match change:
            case TopologyChange.UNKNOWN:
                self._sessions.topology.begin()
            case TopologyChange.CREATED:
                for child in children:
                    self._sessions.topology.add(child)
            case TopologyChange.DELETED:
                for child in children:
                    self._sessions.remove(child)
            case TopologyChange.ENABLED:
                for child in children:
                    self._enabled(child)
            case TopologyChange.DISABLED:
                for child in children:
                    self._disabled(child)

    def _ordered(self, order: str, child: SubName) -> None:
        if order == alink.DELETE:
            self._sessions.remove(child)
        elif order == alink.DISABLE:
            self._disabled(child)
        else:
            self._enabled(child)

    def _enabled(self, child: SubName) -> None:
        self._sessions.cooldown.end(child)
        self.retry(self._name(child))

    def _disabled(self, child: SubName) -> None:
        self._sessions.force_off(child, denial(DISABLED, alink.ERROR))

    def _name(self, child: SubName) -> CloudName:
        return CloudName(self._provider, child.product, child.device)


class FoundDeviceReporter:
    """Reports children that were found on the LAN and wait, so that the cloud's user may add them.

    request: reports one child (thing/list/found).
    """

    def __init__(self, request: Batcher[SubName, None]) -> None:
        self._request = request
        self._under_way: dict[SubName, asyncio.Task[None]] = {}

    def report(self, name: SubName) -> None:
        """Report a child, soon.  A report that fails is repeated when the child is found again."""
        if name in self._under_way or len(self._under_way) >= REPORTS:
            return
        task = asyncio.get_running_loop().create_task(self._report(name))
        self._under_way[name] = task
        task.add_done_callback(lambda _: self._under_way.pop(name, None))

    async def close(self) -> None:
        """End what is under way."""
        await cancel_and_wait(self._under_way.values())

    async def _report(self, name: SubName) -> None:
        with contextlib.suppress(Denied, BatchRefused, BatcherClosed, LinkError):
            await self._request.submit(name)
