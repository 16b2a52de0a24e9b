"""A door: gatewayd as a client of a broker, which acknowledges a message when that is durable.

The broker sends again what was not acknowledged, so a message stays in its queue until it is in the
outbox.  What was read and is not settled is bounded, in messages and bytes: then reading pauses,
whatever the broker holds to be the limit.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from gatewayd.commands.door import AnswerFate, DoorCommand
from gatewayd.device.command import CommandAnswer, CommandOutcome
from gatewayd.device.message import DropReason
from gatewayd.device.reason import NONE, Reason
from gatewayd.messages.doors.access import DoorAccess
from gatewayd.messages.doors.commands import CommandWay, EncodedCommand, NoCommands
from gatewayd.messages.doors.faults import DoorError, DoorFault, door_reason
from gatewayd.messages.doors.held import ReadBudget
from gatewayd.messages.doors.outgoing import (
    OutgoingCommand,
    OutgoingMessage,
    OutgoingMessages,
    Passage,
)
from gatewayd.messages.doors.packets import (
    V5,
    V311,
    ConnackPacket,
    PublishPacket,
    PublishProperties,
)
from gatewayd.messages.doors.session import NOT_MQTT_5, DoorSession
from gatewayd.messages.doors.site.topic_pattern import without_overlap
from gatewayd.messages.doors.subscriptions import NoSubscriptionRecord, SubscriptionRecord
from gatewayd.messages.doors.translation import (
    ChildMessage,
    Receipt,
    Translated,
    Translator,
    Unread,
)
from gatewayd.messages.intake import IncomingMessage, MessageIntake
from gatewayd.runtime.backoff import delay
from gatewayd.runtime.clock import Clock

log = logging.getLogger(__name__)

STABLE = 30.0
"""Seconds after which a connection counts as good, and the next wait begins small."""
WATCH = 5.0
"""Seconds between two checks that a pause still has a cause."""
_HEAD = 64
"""Bytes of a PUBLISH beside its texts, at most."""
TOO_LARGE = CommandAnswer(
    CommandOutcome.FAILED, "gatewayd: the command is larger than the broker of the child accepts"
)
FAULTY = CommandAnswer(CommandOutcome.FAILED, "gatewayd: the command cannot be passed")
LOST = CommandAnswer(
    CommandOutcome.NO_ANSWER, "gatewayd: the connection to the broker was lost meanwhile"
)


@dataclass(frozen=True, slots=True)
class Retry:
    """Seconds to wait between two tries to connect: after the first failure, and at most."""

    first: float = 1.0
    last: float = 60.0


@dataclass(frozen=True, slots=True)
class DoorStatus:
    """The status of a door.

    state: "connected", "connecting", or "paused" while nothing can be stored, and so nothing read.
    reason: why it is not connected, or not in good order.
    received: messages of its broker.  held: those that are not settled.
    dropped: those that were not handed on, by the word of an `Unread`.
    receipts_dropped: receipts that waited too long to leave.
    """

    state: str
    reason: Reason
    received: int
    held: int
    dropped: Mapping[str, int]
    receipts_dropped: int


class Door:
    """One door.  name: in the configuration, and in the outbox.

    translator: what its broker's messages mean.  intake: where messages of children go.
    record: of what was subscribed to in earlier runs; None where that never changes.
    commands: how they pass there; None where they do not.
    """

    def __init__(  # noqa: PLR0913  # ruff counts keyword-only ones: what a door joins
        self,
        name: str,
        access: DoorAccess,
        translator: Translator,
        intake: MessageIntake,
        clock: Clock,
        retry: Retry,
        *,
        record: SubscriptionRecord | None = None,
        commands: CommandWay | None = None,
    ) -> None:
        self.name, self._access, self._translator = name, access, translator
        self.commands = commands or NoCommands()
        self._leaving: dict[DoorCommand, OutgoingCommand] = {}
        self._is_faulty = False
        self._intake, self._clock, self._retry = intake, clock, retry
        self._record = record or NoSubscriptionRecord()
        self._outgoing, self._budget = OutgoingMessages(), ReadBudget()
        self._statuses: dict[str, bytes] = {}
        self._received = 0
        self._dropped: Counter[str] = Counter()
        self._reason, self._detail = door_reason(DoorFault.STARTING, access.endpoint), ""
        self._version = V5
        self._granted: bool | None = None  # all topics; None before they were subscribed to
        self._session: DoorSession | None = None
        self._window = 0  # messages of ours that may be in flight; 0 before a login
        self._largest = 0  # bytes of a packet that the broker accepts; 0 for any
        self._is_paused = False
        self._read_until: float | None = None  # None: in an earlier run of gatewayd, if ever
        self._unblocked = asyncio.Event()
        intake.on_ready(self._resume)
        intake.on_due(self._gather)

    async def run(self) -> None:
        """Be connected, and connect again whenever that ends, until cancelled."""
        failures, retry = 0, self._retry
        while True:
            while self._intake.blocked:  # the broker holds more than a door could
                self._unblocked.clear()
                await self._unblocked.wait()
            begun = self._clock.now()
            error = await self._connect()
            if error.reason.code == DoorFault.VERSION and self._version == V311:
                continue  # with the version that was just chosen
            if self._clock.now() - begun > STABLE:
                failures = 0
            failures += 1
            self._note(error.reason, error.detail)
            await asyncio.sleep(delay(failures, retry.first, retry.last, self._clock.jitter()))

    def status(self) -> DoorStatus:
        """Return the status now."""
        state = "connected" if self._window else "connecting"
        if self._intake.blocked:
            state = "paused"
        return DoorStatus(
            state,
            self._reason,
            self._received,
            self._budget.count,
            dict(self._dropped),
            self._outgoing.dropped,
        )

    def show(self, topic: str, payload: bytes) -> None:
        """Publish a retained message, now or when the door is connected; b"" removes it."""
        if payload:
            self._statuses[topic] = payload
        else:
            self._statuses.pop(topic, None)
        self._outgoing.set_status(OutgoingMessage(topic, payload, retained=True))
        self._send_waiting()

    # Commands to children.

    def send(self, command: DoorCommand, refused: Callable[[], None]) -> bool:
        """Pass a command on, now or as soon as there is room; return whether the door is open.

        It is not while no answer could be read.  refused: called where nothing listens there.
        """
        session = self._session
        if session is None or not self._window or self._intake.blocked:
            return False
        if not session.expires and session.connection.is_congested:
            return False
        encoded = self._encode(command)
        if isinstance(encoded, EncodedCommand) and self._is_too_large(encoded):
            encoded = TOO_LARGE
        if isinstance(encoded, CommandAnswer):
            command.concluded(encoded)
            return True
        self._leave(session, command, encoded, refused)
        return True

    def _encode(self, command: DoorCommand) -> EncodedCommand | CommandAnswer:
        """Return what is published, or how a command ends without."""
        try:
            return self.commands.encode(command)
        except Exception:  # border: one command must not end the session that received it
            if not self._is_faulty:
                log.exception("Door %s: a command cannot be passed.", self.name)
            self._is_faulty = True
            return FAULTY

    def _leave(
        self,
        session: DoorSession,
        command: DoorCommand,
        encoded: EncodedCommand,
        refused: Callable[[], None],
    ) -> None:
        def passed(passage: Passage) -> None:
            self._leaving.pop(command, None)
            if passage is Passage.NO_LISTENER:
                self.commands.end(command)  # another door may be tried, whose answer counts
                refused()
            elif passage is Passage.PASSED:
                command.concluded(encoded.acknowledged)
            elif encoded.acknowledged is not None or not command.is_answered:
                command.concluded(LOST)  # it may have arrived, and no answer will say so

        message = OutgoingMessage(
            encoded.topic,
            encoded.payload,
            properties=PublishProperties(encoded.correlation, encoded.response_topic),
        )
        if not session.expires:
            # QoS 0, which such a broker does not keep for a device that is away: it would get it
            # whenever it comes back
            session.publish(0, message)
            passed(Passage.PASSED)
            return
        leaving = self._leaving[command] = OutgoingCommand(message, command.deadline, passed)
        self._outgoing.add_command(leaving)
        self._send_waiting()

    def _is_too_large(self, encoded: EncodedCommand) -> bool:
        """Whether the broker would close the connection for a command (MQTT 5.0, 3.2.2.3.6)."""
        texts = len(encoded.topic.encode()) + len(encoded.response_topic.encode())
        size = len(encoded.payload) + len(encoded.correlation) + texts + _HEAD
        return 0 < self._largest < size

    def end(self, command: DoorCommand) -> None:
        """Expect no answer to a command any more, and do not send it if it has not left."""
        self.commands.end(command)
        if (leaving := self._leaving.pop(command, None)) is not None:
            self._outgoing.withdraw(leaving)

    # A connection, from its begin to its end.

    async def _connect(self) -> DoorError:
        """Connect once, and return why that failed, or how it ended."""
        version, self._version = self._version, V5
        try:
            login = await self._access.login()
            sock = await self._access.open()
        except DoorError as error:
            return error
        session = self._session = DoorSession(
            sock,
            version,
            self,
            self._access.endpoint,
            self._access.reply_timeout,
            lambda: self._intake.gathers,
        )
        self._is_paused = False
        try:
            connack = await session.log_in(login)
            if not connack.session_present:
                self._intake.session_begun(self.name)
            if self._read_until is not None or connack.session_present:
                self._report_absence()
            if not (connack.session_present and self._granted is not None):
                # A broker keeps subscriptions with the session; they are made again at the first
                # connection, since the configuration may have changed.
                self._granted = await self._subscribe(session)
            self._begin(connack)
            return await self._serve(session)
        except DoorError as error:
            if version == V5 and self._access.may_be_old and error.reason.code in NOT_MQTT_5:
                self._version = V311
            return error
        finally:
            if self._window and not self._is_paused:
                self._read_until = self._clock.now()
            self._session, self._window = None, 0
            self._outgoing.lost()
            await session.connection.close()

    async def _subscribe(self, session: DoorSession) -> bool:
        """Subscribe to what is read, and to nothing else; return whether the broker grants all.

        Raises DoorError.
        """
        record, answers = self._record, self.commands.filters
        wanted = self._translator.filters
        if answers:
            wanted = without_overlap((*wanted, *answers))
        known = await record.read()
        if stale := [one for one in known if one not in set(wanted)]:
            await session.unsubscribe(stale)
        if set(known) != set(wanted):
            await record.write(wanted)
        return await session.subscribe(wanted)

    def _begin(self, connack: ConnackPacket) -> None:
        """Use a session."""
        self._window, self._largest = connack.receive_maximum, connack.maximum_packet
        if not connack.session_present:  # it may have forgotten what it has retained, too
            for topic, payload in self._statuses.items():
                self._outgoing.set_status(OutgoingMessage(topic, payload, retained=True))
        refused = door_reason(DoorFault.SUBSCRIPTION, self._access.endpoint)
        self._note(NONE if self._granted else refused)
        self._send_waiting()

    async def _serve(self, session: DoorSession) -> DoorError:
        """Return how the session has ended, when it has."""
        ended = asyncio.ensure_future(session.wait_closed())
        try:
            while not (await asyncio.wait({ended}, timeout=WATCH))[0]:
                self._adjust()  # a pause must not outlast its cause, whatever was forgotten
                if not self._intake.gathers:
                    self._gather()
                self._send_waiting()
            return ended.result()
        finally:
            ended.cancel()

    def _note(self, reason: Reason, detail: str = "") -> None:
        """Note a reason, and log it where it is another than before.  detail: for the log."""
        if (reason.code, detail) == (self._reason.code, self._detail):
            return
        self._reason, self._detail = reason, detail
        if reason == NONE:
            log.info("Door %s is connected to the broker at %s.", self.name, self._access.endpoint)
        else:
            log.warning("Door %s: %s", self.name, f"{reason} {detail}".rstrip())

    # What a session receives.

    def on_message(self, message: PublishPacket, acknowledge: Callable[[], None]) -> None:
        """Pass a message on, and have it acknowledged when it is settled."""
        size = len(message.payload)
        self._budget.add(size)
        self._received += 1
        translated, receipt = self._translate(message), self._translator.receipt(message)
        if isinstance(translated, AnswerFate):
            if translated is AnswerFate.LATE:
                self._dropped[translated] += 1
            self._finish(acknowledge, size, receipt, translated)
        elif isinstance(translated, ChildMessage):
            settled = partial(self._settled, acknowledge, size, receipt)
            self._intake.offer(self._incoming(translated, message), settled)
        else:
            self._dropped[translated] += 1
            self._finish(acknowledge, size, receipt, f"refused {translated}")
        self._adjust()

    def _translate(self, message: PublishPacket) -> Translated | AnswerFate:
        """Return what a message means, or what became of it where it is an answer to a command.

        A fault of ours in it costs this message.
        """
        try:
            translated = self._translator.translate(message)
            fate = self.commands.receive(message, translated)
        except Exception:  # border: one payload must not close the door to all others
            if not self._dropped[Unread.UNREADABLE]:
                log.exception("Door %s: a message cannot be read.", self.name)
            return Unread.UNREADABLE
        return translated if fate is AnswerFate.NONE else fate

    def _incoming(self, translated: ChildMessage, message: PublishPacket) -> IncomingMessage:
        return IncomingMessage(
            self.name,
            translated.child,
            translated.topic,
            translated.payload,
            message.packet,
            message.repeated,
        )

    def _settled(
        self,
        acknowledge: Callable[[], None],
        size: int,
        receipt: Receipt | None,
        reason: DropReason | None,
    ) -> None:
        """Acknowledge a message that is durable, or was dropped."""
        outcome = "stored" if reason is None else f"refused {reason}"
        self._finish(acknowledge, size, receipt, outcome)
        if self._is_paused:  # else there is nothing to go on with
            self._adjust()

    def _finish(
        self, acknowledge: Callable[[], None], size: int, receipt: Receipt | None, outcome: str
    ) -> None:
        self._budget.remove(size)
        acknowledge()
        if receipt is not None:
            answer = OutgoingMessage(
                receipt.topic, outcome.encode(), properties=PublishProperties(receipt.correlation)
            )
            self._outgoing.add_receipt(answer)
            self._send_waiting()

    def on_published(self, packet: int, code: int) -> None:
        """Send what has waited for room."""
        self._outgoing.acknowledged(packet, code)
        self._send_waiting()

    def _send_waiting(self) -> None:
        session = self._session
        while session is not None and self._window and not session.connection.is_congested:
            following = self._outgoing.next(self._window, self._clock.now())
            if following is None:
                return
            session.publish(*following)

    def _resume(self) -> None:
        """Go on, now that messages can be stored again."""
        self._unblocked.set()
        self._adjust()

    def _gather(self) -> None:
        """Read what has come while the outbox waited for it."""
        if self._session is not None:
            self._session.connection.gather()

    def _adjust(self) -> None:
        """Pause reading, or go on, as what is held allows."""
        session = self._session
        if session is None:
            return
        if self._budget.is_used_up or self._intake.blocked:
            if not self._is_paused:
                self._read_until = self._clock.now()
            self._is_paused = True
            session.connection.pause()
        elif self._is_paused and self._budget.has_room:
            self._is_paused = False
            self._report_absence()
            session.connection.resume()

    def _report_absence(self) -> None:
        """Report for how long nothing was read, before anything is read again."""
        until, now = self._read_until, self._clock.now()
        self._read_until = now
        self._intake.was_away(self.name, math.inf if until is None else now - until)
