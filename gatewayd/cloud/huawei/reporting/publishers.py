"""How messages leave: over a device's own session, or over the gateway's for many children.

The platform takes 50 messages and 1 MB a second of a connection, and discards the rest in silence
("Limitations", productdesc-iothub/iot_04_0010); so both limits are kept here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
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
    PublishingConnection,
    unless_ended,
)
from gatewayd.cloud.sub_devices.link import NotSent
from gatewayd.cloud.sub_devices.result_codes import LINK_LOST
from gatewayd.device.message import Message
from gatewayd.device.reading import UnfitMessage
from gatewayd.runtime.rate_limiter import Pacer, RateLimiter, SlidingWindow, TooManyWaiting

MESSAGES = 40
"""Messages of a connection in a second; the platform takes 50."""
KIBIBYTES, PERIOD = 1000, 1.25
"""KiB of a connection in so many seconds, so that even what arrives faster than it left stays below
1 MB in one."""
WAITERS = 1024
"""Messages of a connection that wait for its limits."""
MAX_WAITING = 16_384
"""Messages of a gateway's children that wait to leave, at most."""
RETRY = 0.1
"""Seconds after which the limits are asked again where too many wait for them."""


def message_limiter(now: Callable[[], float], waiters: int = WAITERS) -> RateLimiter:
    """Return the limiter of all that one device publishes, for its size; see `weight`.

    now: seconds of a steady clock.
    """
    pace = RateLimiter(Pacer(MESSAGES), now, waiters)
    return RateLimiter(SlidingWindow(KIBIBYTES, PERIOD), now, waiters, pace)


def weight(payload: bytes) -> int:
    """Return how much a message counts: KiB, up to all that is free at once."""
    return min(KIBIBYTES, 1 + len(payload) // 1024)


def device_publisher(
    connection: PublishingConnection, device_id: str, service: str, limiter: RateLimiter
) -> MqttPublisher:
    """Return the publisher of a device over a session of its own.

    service: of values that do not name theirs; "" for none.
    """

    def mapped(message: Message) -> MappedMessage:
        return _mapped(device_id, uploads.of_device(message, device_id, service))

    return MqttPublisher(connection, mapped, limiter, MAX_MESSAGE, weight)


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
    limiter: of all that the gateway publishes.
    """

    def __init__(
        self,
        own: str,
        connection: PublishingConnection,
        closed: asyncio.Future[Any],
        limiter: RateLimiter,
    ) -> None:
        self._own, self._connection = own, connection
        self._closed, self._limiter = closed, limiter
        self._waiting: deque[_Waiting] = deque()
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
                upload, posted = self._next()
                if posted:
                    await self._wait_turn(upload)
                    mapped = _mapped(self._own, upload)
                    answer = self._connection.post(mapped.topic, mapped.payload)
                    answer.add_done_callback(partial(_acknowledge, posted))
        finally:
            self._sender = None

    async def _wait_turn(self, upload: Upload) -> None:
        while True:
            try:
                await self._limiter.acquire(weight(upload.payload), self._closed)
            except TooManyWaiting:
                await asyncio.sleep(RETRY)
            else:
                return

    def _next(self) -> tuple[Upload, Sequence[Posted]]:
        """Return the next message, with what ends with it: one that stands alone, or one report."""
        report, posted = ChildrenReport(), list[Posted]()
        while self._waiting:
            part, future = self._waiting[0]
            if not future.done():
                if isinstance(part, Upload):
                    if not posted:
                        self._waiting.popleft()
                        return part, [future]
                    break
                if not report.add(part):
                    break
                posted.append(future)
            self._waiting.popleft()
        return report.upload(), posted


def _acknowledge(posted: Sequence[Posted], answer: Posted) -> None:
    _settle(posted, answer.result())


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
            raise Gone
        try:
            if self._order.alone or self._reports is None:
                self._reports = self._current()
            posted = self._reports.post(part)
        except NotSent:
            self._order.delayed = MessageDelayed(LINK_LOST)
        except TooManyWaiting:
            self._order.delayed = TOO_MANY_WAIT
        else:
            try:
                await unless_ended(posted, ended)
            except Gone:
                self._order.delayed = MessageDelayed(LINK_LOST)
                raise
            return ACCEPTED
        return self._order.delayed
