"""How messages leave: over a device's own session, or over the gateway's for many children.

The platform takes 50 messages and 1 MB a second of a connection, and discards the rest in silence
("Limitations", productdesc-iothub/iot_04_0010); so both limits are kept here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from gatewayd.cloud.huawei.reporting import uploads
from gatewayd.cloud.huawei.reporting.uploads import MAX_MESSAGE, ChildrenReport, ChildReport, Upload
from gatewayd.cloud.paho_socket import Acknowledgement, Gone
from gatewayd.cloud.provider import MessageDelayed, MessageRefused, Publication
from gatewayd.cloud.publisher import (
    ACCEPTED,
    TOO_MANY_WAIT,
    MappedMessage,
    MqttPublisher,
    OrderedPublications,
    PublicationLimit,
    PublishingConnection,
    unless_ended,
)
from gatewayd.cloud.sub_devices.link import NotSent
from gatewayd.cloud.sub_devices.result_codes import LINK_LOST
from gatewayd.device.message import Message
from gatewayd.device.reading import UnfitMessage
from gatewayd.runtime.rate_limiter import AcknowledgedWindow, Pacer, RateLimiter, TooManyWaiting

MESSAGES = 40
"""Messages of a connection that leave in a second, evenly; the platform takes 50."""
ARRIVING, KIBIBYTES, PERIOD = 48, 1000, 1.1
"""Messages and KiB of a connection that arrive in so many seconds, at most; the platform takes 50
and 1 MB in one."""
WAITERS = 1024
"""Messages of a connection that wait for its limits."""
UNDER_WAY = 100
"""What children said that is under way over one session, at most: so much is repeated after it."""
MAX_WAITING = 16_384
"""Messages of a gateway's children that wait to leave, at most."""
RETRY = 0.1
"""Seconds after which the limits are asked again where too many wait for them."""
NOT_LEFT = MessageDelayed(LINK_LOST, left=False)


class HuaweiLimit:
    """The limit of what one device publishes, in all its sessions.  Implements PublicationLimit.

    It holds at the platform: what a path that stood still lets arrive together is counted there.
    now: seconds of a steady clock.  limiter: for messages that count as the smallest do.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._messages = AcknowledgedWindow(ARRIVING, PERIOD)
        self._kibibytes = AcknowledgedWindow(KIBIBYTES, PERIOD)
        pace = RateLimiter(Pacer(MESSAGES), now, WAITERS)
        messages = RateLimiter(self._messages, now, WAITERS, pace)
        self.limiter = RateLimiter(self._kibibytes, now, WAITERS, messages)

    async def acquire(self, size: int, ended: asyncio.Future[Any]) -> None:
        """Return when a message of so many bytes may leave.  Raises TooManyWaiting."""
        await self.limiter.acquire(weight(size), ended)

    async def acquire_urgently(self, size: int, ended: asyncio.Future[Any]) -> None:
        """Return when an answer of so many bytes may leave.  Raises TooManyWaiting."""
        await self.limiter.acquire(weight(size), ended, urgent=True)

    def arrived(self, size: int = 0) -> None:
        """Note that a message has arrived, or will not any more."""
        now = self._now()
        self._messages.acknowledge(now)
        self._kibibytes.acknowledge(now, weight(size))


def weight(size: int) -> int:
    """Return what a message of so many bytes counts: KiB, up to all that is free at once."""
    return min(KIBIBYTES, 1 + size // 1024)


def device_publisher(
    connection: PublishingConnection, device_id: str, service: str, limit: PublicationLimit
) -> MqttPublisher:
    """Return the publisher of a device over a session of its own.

    service: of values that do not name theirs; "" for none.
    """

    def mapped(message: Message) -> MappedMessage:
        return _mapped(device_id, uploads.of_device(message, device_id, service))

    return MqttPublisher(connection, mapped, limit, MAX_MESSAGE)


def _mapped(device_id: str, upload: Upload) -> MappedMessage:
    return MappedMessage(f"$oc/devices/{device_id}/{upload.use}", upload.payload)


Posted: TypeAlias = asyncio.Future[Acknowledgement | None]
"""Ends with the acknowledgement, or with None as the connection has ended."""


class _Waiting(NamedTuple):
    part: ChildReport | Upload
    posted: Posted


class HuaweiReports:
    """What a gateway publishes for its children, over one session, in the order of the calls.

    What has come while one message waited for the limits of the connection leaves in the next, as
    one report of many children: the more there is to say, the fewer messages it takes, and a value
    that comes alone does not wait for others.

    own: device ID of the gateway.  closed: done when the session has ended.
    limit: of all that the gateway publishes.
    """

    def __init__(
        self,
        own: str,
        connection: PublishingConnection,
        closed: asyncio.Future[Any],
        limit: PublicationLimit,
    ) -> None:
        self._own, self._connection = own, connection
        self._closed, self._limit = closed, limit
        self._waiting: deque[_Waiting] = deque()
        self._under_way = 0
        self._acknowledged = asyncio.Event()
        self._sender: asyncio.Task[None] | None = None

    def post(self, part: ChildReport | Upload) -> Posted:
        """Publish at QoS 1.  The future may be ended before.  Raises TooManyWaiting."""
        if len(self._waiting) >= MAX_WAITING:
            raise TooManyWaiting
        posted: Posted = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(part, posted))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send())
        return posted

    async def _send(self) -> None:
        """Send until nothing waits; once the session has ended, nothing takes time."""
        try:
            while self._waiting:
                await self._wait_for_room()
                upload, posted = self._next()
                if posted:
                    await self._wait_turn(upload)
                    self._publish(upload, posted)
        finally:
            self._sender = None

    async def _wait_for_room(self) -> None:
        while self._under_way >= UNDER_WAY:
            self._acknowledged.clear()
            await self._acknowledged.wait()

    async def _wait_turn(self, upload: Upload) -> None:
        while True:
            try:
                await self._limit.acquire(len(upload.payload), self._closed)
            except TooManyWaiting:
                await asyncio.sleep(RETRY)
            else:
                return

    def _publish(self, upload: Upload, posted: Sequence[Posted]) -> None:
        mapped, counted = _mapped(self._own, upload), not self._closed.done()
        self._under_way += len(posted)

        def end(answer: Posted) -> None:
            self._under_way -= len(posted)
            self._acknowledged.set()
            if counted:
                self._limit.arrived(len(mapped.payload))
            _settle(posted, answer.result())

        self._connection.post(mapped.topic, mapped.payload).add_done_callback(end)

    def _next(self) -> tuple[Upload, Sequence[Posted]]:
        """Return the next message, with what ends with it: one that stands alone, or one report."""
        report, posted = ChildrenReport(), list[Posted]()
        while self._waiting and self._under_way + len(posted) < UNDER_WAY:
            part, future = self._waiting[0]
            if future.done():
                self._waiting.popleft()
            elif isinstance(part, Upload):
                if posted:
                    break
                self._waiting.popleft()
                return part, [future]
            elif report.add(part):
                self._waiting.popleft()
                posted.append(future)
            else:
                break
        return report.upload(), posted


def _settle(posted: Sequence[Posted], answer: Acknowledgement | None) -> None:
    for one in posted:
        if not one.done():
            one.set_result(answer)


class HuaweiSubDevicePublisher:
    """The publisher of a child over the gateway's newest session.  Implements MessagePublisher.

    current: the reports of that session; raises NotSent.  The messages of a child that are under
    way at a time leave over one session, so that one which is lost is not overtaken by the next.
    service: as for `device_publisher`.
    """

    max_payload = MAX_MESSAGE

    def __init__(self, device_id: str, service: str, current: Callable[[], HuaweiReports]) -> None:
        self._device_id, self._service, self._current = device_id, service, current
        self._order = OrderedPublications()
        self._reports: HuaweiReports | None = None

    async def publish(self, message: Message, ended: asyncio.Future[Any]) -> Publication:
        """Publish a message once.  Raises Gone."""
        try:
            part = uploads.of_sub_device(message, self._device_id, self._service)
        except UnfitMessage as unfit:
            return MessageRefused(unfit.reason)
        with self._order:
            return await self._publish(part, ended)

    async def _publish(self, part: ChildReport | Upload, ended: asyncio.Future[Any]) -> Publication:
        if self._order.delayed is not None:
            return self._order.delayed
        if ended.done():
            raise Gone(left=False)
        try:
            if self._order.alone or self._reports is None:
                self._reports = self._current()
            posted = self._reports.post(part)
        except NotSent:
            self._order.delayed = NOT_LEFT
        except TooManyWaiting:
            self._order.delayed = TOO_MANY_WAIT
        else:
            try:
                await unless_ended(posted, ended)
            except Gone:
                self._order.delayed = NOT_LEFT
                raise
            return ACCEPTED
        return self._order.delayed
