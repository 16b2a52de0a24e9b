"""How messages leave: over a device's own session, or over the gateway's for its children."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

from gatewayd.cloud.alibaba.alink import MAX_MESSAGE, SubName
from gatewayd.cloud.alibaba.connection import AlibabaUplink
from gatewayd.cloud.alibaba.rate_limits import MessageLimit
from gatewayd.cloud.alibaba.reporting import reports
from gatewayd.cloud.alibaba.reporting.device_reports import DeviceReports
from gatewayd.cloud.alibaba.reporting.report_queue import BATCH, HISTORY, PACK, SINGLE, ReportQueue
from gatewayd.cloud.alibaba.reporting.reports import AlibabaReport, DeviceReport
from gatewayd.cloud.paho_socket import Acknowledgement, Gone
from gatewayd.cloud.provider import MessageDelayed, MessageRefused, Publication
from gatewayd.cloud.publisher import (
    ACCEPTED,
    TOO_MANY_WAIT,
    MappedMessage,
    OrderedPublications,
    unless_ended,
)
from gatewayd.cloud.sub_devices.link import GatewayLink, NotSent
from gatewayd.cloud.sub_devices.result_codes import Denied
from gatewayd.device.message import Message
from gatewayd.device.reading import UnfitMessage
from gatewayd.runtime.rate_limiter import TooManyWaiting

Way: TypeAlias = ReportQueue | DeviceReports
"""Where a message goes: among others, for a reply; or by itself, for its PUBACK."""


class _OneWay:
    """The way that the messages of a device take now: one for another way waits for those before.

    On each way they keep their order by themselves.
    """

    def __init__(self) -> None:
        self._way: Way | None = None
        self._on_it = self._waiting = 0
        self._turn = asyncio.Lock()
        self._free: asyncio.Future[None] | None = None

    async def enter(self, way: Way) -> None:
        """Return when a message may go this way; then call `leave`."""
        if self._waiting or (self._on_it and self._way is not way):
            await self._wait(way)
        self._way = way
        self._on_it += 1

    def leave(self) -> None:
        """Note that a message has gone so far that what comes after it cannot overtake it."""
        self._on_it -= 1
        if not self._on_it and self._free is not None and not self._free.done():
            self._free.set_result(None)

    async def _wait(self, way: Way) -> None:
        self._waiting += 1
        try:
            async with self._turn:
                while self._on_it and self._way is not way:
                    self._free = asyncio.get_running_loop().create_future()
                    await self._free
        finally:
            self._waiting -= 1


class AlibabaPublisher(ABC):
    """A publisher of one device's messages.  Implements MessagePublisher."""

    max_payload = MAX_MESSAGE

    def __init__(self, own: SubName, *, gateway: bool = False) -> None:
        self._own, self._gateway = own, gateway
        self._order, self._one_way = OrderedPublications(), _OneWay()

    async def publish(self, message: Message, ended: asyncio.Future[Any]) -> Publication:
        """Publish a message once.  Raises Gone."""
        try:
            said = reports.read(message, self._own, gateway=self._gateway)
        except UnfitMessage as unfit:
            return MessageRefused(unfit.reason)
        with self._order:
            outcome = await self._publish(self._way_of(said, message), said, ended)
            if isinstance(outcome, MessageDelayed):
                self._order.delayed = replace(outcome, left=False)
            return outcome

    @abstractmethod
    def _way_of(self, said: AlibabaReport | MappedMessage, message: Message) -> Way:
        """Return the way of a message.  Raises Gone."""

    def _not_online(self, denied: Denied) -> None:  # noqa: B027  # not for every subclass to fill
        """Note what the cloud says of a device that it does not let be online."""

    async def _publish(
        self, way: Way, said: AlibabaReport | MappedMessage, ended: asyncio.Future[Any]
    ) -> Publication:
        await self._one_way.enter(way)
        try:
            if self._order.delayed is not None:
                return self._order.delayed
            if isinstance(way, ReportQueue):
                assert isinstance(said, AlibabaReport), "what passes unchanged goes by itself"
                return await self._report(way, said, ended)
            answer = await self._post(way, said, ended)
        finally:
            self._one_way.leave()
        await unless_ended(answer, ended)
        return ACCEPTED

    async def _report(
        self, queue: ReportQueue, report: AlibabaReport, ended: asyncio.Future[Any]
    ) -> Publication:
        if ended.done():
            raise Gone(left=False)
        try:
            result = await unless_ended(queue.submit(DeviceReport(self._own, report)), ended)
        except TooManyWaiting:
            return TOO_MANY_WAIT
        if result.denied is not None:
            self._not_online(result.denied)
        return result.publication

    async def _post(
        self,
        way: DeviceReports,
        said: AlibabaReport | MappedMessage,
        ended: asyncio.Future[Any],
    ) -> asyncio.Future[Acknowledgement | None]:
        await way.wait_turn()
        if ended.done() or way.closed.done():
            way.give_back()
            raise Gone(left=False)
        if isinstance(said, MappedMessage):
            return way.post(said.topic, said.payload)
        return way.post_report(reports.single((DeviceReport(self._own, said),)))


class OwnPublisher(AlibabaPublisher):
    """A publisher for a device that has a session of its own, the gateway among them.

    device_reports: called when the device has something to say.
    """

    def __init__(
        self, own: SubName, device_reports: Callable[[], DeviceReports], *, gateway: bool = False
    ) -> None:
        super().__init__(own, gateway=gateway)
        self._find = device_reports
        self._found: DeviceReports | None = None

    def _way_of(self, said: AlibabaReport | MappedMessage, message: Message) -> Way:
        """Return the way: earlier values go as a history, so that the cloud knows them as such.

        What the cloud's limit does not let leave at once goes together.
        """
        if self._found is None:
            self._found = self._find()
        found = self._found
        if isinstance(said, MappedMessage):
            return found
        if said.time and message.late:
            return found.queue(HISTORY)
        if said.time and (message.confirmed or not found.has_turn):
            return found.queue(BATCH)
        return found.queue(SINGLE) if message.confirmed else found


class SubDevicePublisher(AlibabaPublisher):
    """A publisher for a child of the gateway: its reports go together with those of others.

    The cloud replies to each such request, as PUBACK would not say whose reports it refused.
    link: to the gateway's newest session.  limit_of: returns that of what a child publishes by
    itself.
    not_online: called with what the cloud says of a child that it does not let be online.
    """

    def __init__(
        self,
        own: SubName,
        link: GatewayLink[AlibabaUplink],
        limit_of: Callable[[SubName], MessageLimit],
        not_online: Callable[[Denied], None],
    ) -> None:
        super().__init__(own)
        self._link, self._limit_of, self._on_denied = link, limit_of, not_online
        self._uplink: AlibabaUplink | None = None
        self._by_itself: DeviceReports | None = None

    def _way_of(self, said: AlibabaReport | MappedMessage, message: Message) -> Way:
        """Return the way: only what passes unchanged goes by itself, on the child's own topics."""
        try:
            uplink = self._link.get()
        except NotSent:
            raise Gone(left=False) from None
        if isinstance(said, AlibabaReport) and said.made is None:
            return uplink.reports.queue(HISTORY if message.late and said.time else PACK)
        if self._by_itself is None or self._uplink is not uplink:
            self._uplink = uplink
            self._by_itself = uplink.reports_of(self._own, self._limit_of(self._own))
        return self._by_itself if isinstance(said, MappedMessage) else self._by_itself.queue(SINGLE)

    def _not_online(self, denied: Denied) -> None:
        self._on_denied(denied)
