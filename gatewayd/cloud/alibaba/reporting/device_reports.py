"""What one device publishes over its connection: messages, and requests with their replies."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence

from gatewayd.cloud import mqtt
from gatewayd.cloud.alibaba import alink
from gatewayd.cloud.alibaba.alink import AlinkError, AlinkReply, SubName
from gatewayd.cloud.alibaba.rate_limits import MessageLimit
from gatewayd.cloud.alibaba.reporting import reports
from gatewayd.cloud.alibaba.reporting.report_queue import ReportForm, ReportQueue
from gatewayd.cloud.alibaba.reporting.reports import (
    BATCH_POST,
    HISTORY_POST,
    PACK_POST,
    ReportRequest,
)
from gatewayd.cloud.paho_socket import Acknowledgement, Gone
from gatewayd.cloud.sub_devices.link import LinkDown, LinkError, deadline
from gatewayd.cloud.sub_devices.pending_requests import PendingRequests
from gatewayd.device import reading

log = logging.getLogger(__name__)

MAX_MISFITS = 20
"""Properties that a device's session logs as not kept by the cloud, once each."""
_EVENT_REPLIES = "thing/event/+/post_reply"
_REPLY_TOPICS: Mapping[str, str] = {
    method: alink.reply_topic(method) for method in (HISTORY_POST, PACK_POST, BATCH_POST)
}
"""Where the wildcard of one level does not reach."""

Replies = PendingRequests[tuple[str, str], AlinkReply]


def message_ids(random: Callable[[int], bytes]) -> Iterator[str]:
    """Yield the ids of what a device reports, which do not repeat in a day.

    random: so many bytes that cannot be guessed.
    """
    number = int.from_bytes(random(4))
    while True:
        number = (number + 1) % (1 << 32)
        yield str(number)


class DeviceReports:
    """What one device publishes over one connection, within its limit.  Implements ReportSender.

    own: the device.  closed: why the connection has ended.
    replies: of the connection; called when the first reply is to be expected.
    reply_timeout: seconds.  ids: of the requests.
    early_topics: those of the replies that a gateway's children need; worth subscribing to before
    there is a report, as the cloud may take seconds to heed a subscription.
    subscribed: topics of replies that are subscribed to.
    """

    def __init__(
        self,
        own: SubName,
        connection: mqtt.MqttConnection,
        limit: MessageLimit,
        ids: Iterator[str],
        replies: Callable[[], Replies],
        reply_timeout: float,
    ) -> None:
        self.own, self._connection, self._limit = own, connection, limit
        self._ids, self._find_replies, self._reply_timeout = ids, replies, reply_timeout
        self.closed = connection.closed
        self._turns = 0
        self._replies: Replies | None = None
        self._misfits: set[str] = set()
        self.subscribed: set[str] = set()
        self._refused: set[str] = set()
        self._subscribing = asyncio.Lock()
        self._queues: dict[ReportForm, ReportQueue] = {}
        self.closed.add_done_callback(self._end)

    @property
    def early_topics(self) -> Sequence[str]:
        return [self._reply_filter(method) for method in (PACK_POST, HISTORY_POST)]

    def queue(self, form: ReportForm) -> ReportQueue:
        """Return the queue of the reports that leave in this form."""
        if form not in self._queues:
            self._queues[form] = ReportQueue(self, form)
        return self._queues[form]

    @property
    def has_turn(self) -> bool:
        """Whether a message may leave at once."""
        return not self._limit.is_full

    async def wait_turn(self) -> None:
        """Return when one message may leave, or the connection has ended.

        Send one without a wait, or give the turn back.
        """
        await self._limit.acquire(self.closed)
        if not self.closed.done():
            self._turns += 1

    def give_back(self, _: object = None) -> None:
        """Note that a message has arrived, or that none leaves in a turn."""
        if self._turns:
            self._turns -= 1
            self._limit.acknowledge()

    def post(self, topic: str, payload: bytes) -> asyncio.Future[Acknowledgement | None]:
        """Publish in a turn that was waited for; see PublishingConnection."""
        answer = self._connection.post(topic, payload)
        answer.add_done_callback(self.give_back)
        return answer

    def post_report(self, request: ReportRequest) -> asyncio.Future[Acknowledgement | None]:
        """Publish a report that is not replied to, as `post` does."""
        payload = reports.payload(next(self._ids), request, answered=False)
        return self.post(self._topic(request.method), payload)

    async def ask(self, request: ReportRequest) -> int:
        """Publish a request in a turn that was waited for; return the code of its reply.

        Of one that the device has made itself the PUBACK counts, where the gateway may not
        subscribe to the reply.  Raises NoAnswer, LinkDown.
        """
        try:
            replies = await self._listen(request.method)
        except LinkError:
            self.give_back()
            raise
        number, topic = request.number or next(self._ids), self._topic(request.method)
        payload = request.payload or reports.payload(number, request, answered=True)
        if request.payload and self._reply_filter(request.method) in self._refused:
            async with deadline(self._reply_timeout):
                if await self.post(topic, payload) is None:
                    raise LinkDown
            return alink.DONE

        async def send() -> None:
            answer = self.post(topic, payload)
            if answer.done():  # the connection has ended, and no reply will
                raise Gone

        reply = await replies.ask((alink.reply_topic(topic), number), send)
        if reply.code == alink.DONE:
            self._note_misfits(reply.data)
        return reply.code

    def _note_misfits(self, data: object) -> None:
        """Log what the cloud has not kept of a report, although it accepted the rest."""
        names = [name for name in data if isinstance(name, str)] if isinstance(data, dict) else []
        new = [name for name in names if name not in self._misfits]
        room = MAX_MISFITS - len(self._misfits)
        if new and room > 0:
            self._misfits.update(new[:room])
            log.warning(
                "Alibaba Cloud does not keep %s of %s/%s: compare with the model of the product.",
                ", ".join(map(reading.shown, new[:room])),
                self.own.product,
                self.own.device,
            )

    async def _listen(self, method: str) -> Replies:
        """Return the replies of this connection, once those to a method are subscribed to.

        A refusal is no error: the cloud subscribes a device to some topics by itself.
        """
        if self._replies is None:
            self._replies = self._find_replies()
        topic = self._reply_filter(method)
        if topic not in self.subscribed:
            async with self._subscribing, deadline(self._reply_timeout):
                if topic not in self.subscribed:
                    (code,) = await self._connection.subscribe([topic])
                    self.subscribed.add(topic)
                    if code == mqtt.REFUSED:
                        self._refused.add(topic)
        return self._replies

    def _reply_filter(self, method: str) -> str:
        return self._topic(_REPLY_TOPICS.get(method, _EVENT_REPLIES))

    def _topic(self, end: str) -> str:
        return f"/sys/{self.own.product}/{self.own.device}/{end}"

    def _end(self, _: object) -> None:
        self._limit.acknowledge(self._turns)
        self._turns = 0


def receive_replies(connection: mqtt.MqttConnection, reply_timeout: float) -> Replies:
    """Have replies that a device's own connection receives be taken for such; return them."""
    replies, others = Replies(connection.closed, reply_timeout), connection.on_message

    def receive(topic: str, payload: bytes) -> None:
        if not alink.is_reply(topic):
            others(topic, payload)
            return
        try:
            number, reply = alink.parse_reply(payload)
        except AlinkError:
            connection.dropped += 1
        else:
            connection.dropped += not replies.resolve((topic, number), reply)

    connection.on_message = receive
    return replies
