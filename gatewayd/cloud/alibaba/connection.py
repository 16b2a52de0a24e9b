"""A gateway's session at the cloud: requests with their replies, and the cloud's requests."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress

from gatewayd.cloud import mqtt
from gatewayd.cloud.alibaba import alink, payloads
from gatewayd.cloud.alibaba.alink import AlinkError, AlinkReply, Downlink, DownlinkTopic, SubName
from gatewayd.cloud.alibaba.rate_limits import AlibabaRateLimits, MessageLimit, weight
from gatewayd.cloud.alibaba.reporting.device_reports import DeviceReports
from gatewayd.cloud.command_router import post_answer
from gatewayd.cloud.paho_socket import Gone
from gatewayd.cloud.publisher import MappedMessage
from gatewayd.cloud.sub_devices.link import NotSent, deadline
from gatewayd.cloud.sub_devices.pending_requests import PendingRequests
from gatewayd.device.record import CloudName
from gatewayd.network.connect_errors import ConnectionEnd

log = logging.getLogger(__name__)

TOPICS_AT_ONCE = 8
"""Topics of one SUBSCRIBE ("Limits" of the documentation)."""
WATCHED = 5
"""Children whose end is watched on topics of their own: the gateway may have 100, needs some for
itself, and most for commands."""
EARLY = 64
"""Downlinks kept until a handler is set; the oldest give way."""
ANSWERS = 64
"""Answers to the cloud that wait to leave; further requests of the cloud are not answered."""


class AlibabaUplink:
    """One session of the gateway.

    own: the gateway's name.  reply_timeout: seconds.  limits: the gateway's.
    ids: of the reports.  reports: what the gateway reports, for itself and for its children.
    closed: why the session has ended.  Wait for it by asyncio.wait.
    on_command: called with each message that is neither a reply nor about sub-devices; returns
    whether it is a command.
    refused: topics whose subscription the cloud refused.
    dropped: messages of no use, by cause: "late", "malformed", "unexpected", "flood".
    """

    def __init__(
        self,
        own: CloudName,
        connection: mqtt.MqttConnection,
        reply_timeout: float,
        limits: AlibabaRateLimits,
        ids: Iterator[str],
    ) -> None:
        self._own, self._connection, self._reply_timeout = own, connection, reply_timeout
        self.closed: asyncio.Future[ConnectionEnd] = connection.closed
        self.refused: set[str] = set()
        self.dropped: Counter[str] = Counter()
        self._limits = limits
        self._requests = PendingRequests[tuple[str, str], AlinkReply](self.closed, reply_timeout)
        self.reports = self._reports(limits.reports, ids)
        self._ids, self._newest = ids, 0
        self._watched: set[SubName] = set()
        self._answering: set[asyncio.Task[None]] = set()
        self._early: deque[Downlink] = deque(maxlen=EARLY)
        self._on_request: Callable[[Downlink], None] = self._early.append
        self.on_command: Callable[[str, bytes], bool] = _is_none
        connection.on_message = self._handle_message

    @property
    def on_request(self) -> Callable[[Downlink], None]:
        """The handler of what the cloud asks; it never blocks, and never raises.

        The first one that is set receives at once what came before.
        """
        return self._on_request

    @on_request.setter
    def on_request(self, handler: Callable[[Downlink], None]) -> None:
        self._on_request = handler
        while self._early:
            handler(self._early.popleft())

    def reports_of(self, child: SubName, limit: MessageLimit) -> DeviceReports:
        """Return what a child publishes over this session for itself.  limit: the child's."""
        return self._reports(limit, self._ids, child)

    def _reports(
        self, limit: MessageLimit, ids: Iterator[str], child: SubName | None = None
    ) -> DeviceReports:
        own = child or SubName(self._own.product, self._own.device)
        return DeviceReports(
            own, self._connection, limit, ids, lambda: self._requests, self._reply_timeout
        )

    async def subscribe_all(self) -> None:
        """Subscribe to the topics of the gateway itself.  Raises NoAnswer, LinkDown.

        A refusal is recorded in `refused`, and is no error: the cloud subscribes a gateway to some
        topics by itself.
        """
        commands = payloads.command_topics(SubName(self._own.product, self._own.device))
        early = self.reports.early_topics
        await self._subscribe((*alink.gateway_topics(self._own), *early, *commands))
        self.reports.subscribed.update(early)

    async def subscribe_to_commands(self, child: SubName) -> bool:
        """Subscribe to the commands of a child; return whether any of it was granted.

        Raises NoAnswer, LinkDown.
        """
        topics = payloads.command_topics(child)
        async with deadline(self._reply_timeout):
            return await mqtt.subscribe_to_commands(self._connection, topics, child.device)

    async def unsubscribe_from_commands(self, child: SubName) -> None:
        """Unsubscribe from the commands of a child.  Raises NoAnswer, LinkDown."""
        async with deadline(self._reply_timeout):
            await self._connection.unsubscribe(payloads.command_topics(child))

    async def answer_command(self, mapped: MappedMessage, limit: MessageLimit | None) -> bool:
        """Answer a command; return whether the cloud has acknowledged that.

        limit: of the child; None for the gateway's own.
        """
        return await post_answer(self._connection, mapped, limit or self._limits.reports)

    async def watch(self, children: Iterable[SubName]) -> None:
        """Subscribe to the topics of these children, as far as there is room.

        Without room only time is lost: the cloud informs the gateway, too.
        Raises NoAnswer, LinkDown.
        """
        new = [child for child in dict.fromkeys(children) if child not in self._watched]
        new = new[: WATCHED - len(self._watched)]
        self._watched.update(new)
        await self._subscribe([topic for child in new for topic in alink.child_topics(child)])

    async def unwatch(self, child: SubName) -> None:
        """Unsubscribe from the topics of this child.  Raises NoAnswer, LinkDown."""
        if child in self._watched:
            self._watched.remove(child)
            async with deadline(self._reply_timeout):
                await self._connection.unsubscribe(alink.child_topics(child))

    async def ask(self, method: str, params: object) -> AlinkReply:
        """Send one request, as soon as the cloud's limits allow.  Raises NoAnswer, LinkDown.

        method: one of alink.METHODS.
        """
        requests = self._requests
        async with requests.slots:
            await requests.wait_turn(self._limits.of(method), weight(method, params))
            topic = alink.request_topic(self._own, method)
            replied = alink.reply_topic(topic)
            number = self._number(replied)
            message = alink.request(number, method, params)
            # QoS 0: sessions need it, and the reply says more than a PUBACK.
            return await requests.ask(
                (replied, str(number)), lambda: self._connection.publish(topic, message)
            )

    async def _subscribe(self, wanted: Sequence[str]) -> None:
        for first in range(0, len(wanted), TOPICS_AT_ONCE):
            some = wanted[first : first + TOPICS_AT_ONCE]
            async with deadline(self._reply_timeout):
                codes = await self._connection.subscribe(some)
            no = {topic for topic, code in zip(some, codes, strict=True) if code == mqtt.REFUSED}
            self.refused = (self.refused - set(some)) | no
        if self.refused:
            log.warning(
                "Cloud %r refused %d subscriptions of the gateway.",
                self._own.provider,
                len(self.refused),
            )

    def _number(self, topic: str) -> int:
        """Return an id unlike that of any request under way with this reply topic."""
        while True:
            self._newest = self._newest % 0xFFFFFFFF + 1
            if (topic, str(self._newest)) not in self._requests:
                return self._newest

    def _handle_message(self, topic: str, payload: bytes) -> None:
        downlink = alink.downlink_topic(topic, self._own)
        try:
            if downlink is not None:
                self._requested(downlink, payload)
            elif alink.is_reply(topic):
                self._replied(topic, payload)
            else:
                self.dropped["unexpected"] += not self.on_command(topic, payload)
        except AlinkError:
            self.dropped["malformed"] += 1

    def _replied(self, topic: str, payload: bytes) -> None:
        number, reply = alink.parse_reply(payload)
        if not self._requests.resolve((topic, number), reply):
            self.dropped["late"] += 1

    def _requested(self, topic: DownlinkTopic, payload: bytes) -> None:
        number, downlink = alink.parse_downlink(topic, payload)
        if number:
            self._answer(alink.answer_topic(topic), alink.answer(number))
        self._on_request(downlink)

    def _answer(self, topic: str, payload: bytes) -> None:
        """Send an answer in the background; it ends with the session at the latest."""
        if len(self._answering) >= ANSWERS:
            self.dropped["flood"] += 1
            return
        task = asyncio.create_task(self._publish(topic, payload))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _publish(self, topic: str, payload: bytes) -> None:
        with suppress(Gone, NotSent):
            await self._requests.wait_turn(self._limits.messages)
            await self._connection.publish(topic, payload)


def _is_none(_: str, __: bytes) -> bool:
    return False
