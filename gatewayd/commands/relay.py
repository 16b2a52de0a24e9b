"""The relay of commands: from the session of a child to a door, and the answer back.

    session → rule → bounds → door → child → answer → session

Each command ends once: by the child's answer, at once where it is refused or nothing listens, or a
second before the cloud gives it up.  What comes after that is dropped.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Protocol

from gatewayd.cloud.provider import (
    ExpectsCommands,
    Session,
    SupportsAnswers,
    SupportsCommands,
)
from gatewayd.commands.answers import (
    ERROR,
    MAX_ANSWER,
    TOO_LARGE,
    in_cloud_form,
    in_neutral_form,
    size_of,
)
from gatewayd.commands.door import (
    AnswerFate,
    CommandDoors,
    DoorCommand,
    is_answer_topic,
    is_passable,
)
from gatewayd.commands.journal import CommandJournal
from gatewayd.commands.pending import EndedCommands, PendingCommand, PendingCommands
from gatewayd.device.command import (
    REFUSALS,
    ChildCommand,
    CommandAnswer,
    CommandKind,
    CommandOutcome,
)
from gatewayd.device.identity import GATEWAY_PREFIX, DeviceId
from gatewayd.device.views import CommandStatistics
from gatewayd.runtime.clock import Clock
from gatewayd.runtime.tasks import cancel_and_wait

log = logging.getLogger(__name__)

BEFORE_LIMIT = 1.0
"""Seconds by which a command ends before its cloud gives it up; half of a limit below 2 s."""
UNLIMITED = 20.0
"""Seconds for a command of which the cloud awaits no answer, and which is no message."""
ANSWERING, ANSWERING_IN_ALL, ANSWERING_BYTES = 32, 2000, 16 * 1024 * 1024
"""Answers that wait for a cloud's acknowledgement: of one child, and in all; and their bytes.
Beyond, an answer stays unsaid, and the cloud runs into its own limit."""

NOT_OF_GATEWAY = CommandAnswer(
    CommandOutcome.NOT_ALLOWED, "gatewayd: the gateway itself takes no commands"
)
BAD_TOPIC = CommandAnswer(
    CommandOutcome.FAILED, "gatewayd: no broker accepts the topic of this command"
)


def refusal(outcome: CommandOutcome) -> CommandAnswer:
    """Return the answer where gatewayd answers in the place of the child."""
    return CommandAnswer(outcome, REFUSALS[outcome])


def shown(answer: CommandAnswer) -> bytes:
    """Return what operators are shown of an answer: as the child gave it, or what stands for it."""
    if answer.raw is not None:
        return answer.raw
    said = {**answer.result, **({ERROR: answer.text} if answer.text else {})}
    return json.dumps(said).encode() if said else b""


class ShowStep(Protocol):
    """Shows operators a step of a command, as `MessageTap.show` does."""

    def __call__(
        self, child: DeviceId, step: str, topic: str, payload: bytes = b"", **more: str | int
    ) -> None: ...


class CommandRelay:
    """The way of all commands.  Implements SessionListener and CommandAnswers.

    allowed: whether a child may get a command; None for any at all.
    down_keep: seconds for which a message of a cloud may wait for a child that is away.
    show: as of the tap.
    form: of answers, as the cloud of a child has it; None where that has none.
    """

    def __init__(
        self,
        allowed: Callable[[DeviceId, ChildCommand | None], bool],
        down_keep: float,
        clock: Clock,
        show: ShowStep,
        form: Callable[[DeviceId], SupportsAnswers | None],
    ) -> None:
        self._allowed, self._down_keep, self._clock, self._show = allowed, down_keep, clock, show
        self._form = form
        self._doors: CommandDoors | None = None
        self._sessions: dict[DeviceId, SupportsCommands] = {}
        self._forms: dict[DeviceId, SupportsAnswers | None] = {}
        self._pending, self._ended = PendingCommands(), EndedCommands()
        self._journal = CommandJournal(clock)
        self._timers: dict[PendingCommand, asyncio.TimerHandle] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._answering_of: Counter[DeviceId] = Counter()
        self._answering_bytes = 0

    def connect(self, doors: CommandDoors) -> None:
        """Pass commands to these doors.  Called once, before any session is open."""
        self._doors = doors

    def statistics(self) -> CommandStatistics:
        """Return the statistics of now."""
        return self._journal.statistics(self._pending.count)

    async def aclose(self) -> None:
        """Let no command wait any more; the clouds run into their own limits."""
        for pending in self._pending.all():
            self._leave(pending)
        await cancel_and_wait(self._answering)

    # Sessions.

    def session_opened(self, device: DeviceId, session: Session) -> None:
        """Receive the commands of a child from now on."""
        self._sessions.pop(device, None)
        self._leave_other_cloud(device)
        self._expect(device, session)
        if isinstance(session, SupportsCommands):
            self._sessions[device] = session
            session.receive_commands(partial(self._receive, device))
            for one in self._ended.take_awaited(device, self._clock.now()):
                self._journal.unanswered -= 1
                self._answer(device, one.command, one.answer, one.until)

    def _leave_other_cloud(self, device: DeviceId) -> None:
        """Let nothing wait of a cloud from which a child has moved: no other takes the answer."""
        form = self._form(device)
        if self._forms.get(device, form) is not form:
            for pending in self._pending.of(device):
                self._leave(pending)
            self._ended.forget(device)
        self._forms[device] = form

    def session_closed(self, device: DeviceId) -> None:
        """Receive no commands of a child; those that wait may be answered by its next session."""
        session = self._sessions.pop(device, None)
        if session is not None:
            session.receive_commands(None)

    def rules_changed(self) -> None:
        """Have clouds that have room for the commands of some children serve those of now."""
        for device, session in self._sessions.items():
            self._expect(device, session)

    def _expect(self, device: DeviceId, session: Session | SupportsCommands) -> None:
        if isinstance(session, ExpectsCommands):
            session.expect_commands(expected=self._allowed(device, None))

    def forget(self, device: DeviceId) -> None:
        """Refuse what waits for a child that is gone, and forget it."""
        for pending in self._pending.of(device):
            self._conclude(pending, refusal(CommandOutcome.NOT_ALLOWED))
        self._ended.forget(device)
        self._journal.forget(device)
        self._forms.pop(device, None)

    # The way to the child.

    def _receive(self, child: DeviceId, command: ChildCommand) -> None:
        """Handle a command that has arrived."""
        self._show(child, "command", command.topic, command.payload, id=command.identifier)
        if self._pending.waits(child, command):
            self._journal.repeated += 1
        elif self._ended.knows(child, command):
            self._journal.repeated += 1
            if (lacking := self._ended.take(child, command)) is not None:
                self._journal.unanswered -= 1
                self._answer(child, command, lacking, self._clock.now() + command.seconds)
        else:
            self._journal.received += 1
            self._begin(child, command)

    def _begin(self, child: DeviceId, command: ChildCommand) -> None:
        """Pass a new command on, or refuse it."""
        begun = self._clock.now()
        is_answered = command.kind is not CommandKind.MESSAGE and command.seconds > 0
        seconds = self._seconds(command)
        pending: PendingCommand

        def concluded(answer: CommandAnswer | None) -> None:
            if answer is not None:
                fits = len(answer.raw or b"") <= MAX_ANSWER
                self._conclude(pending, answer if fits else TOO_LARGE)
            elif not is_answered:  # the broker has it, and more cannot be known
                self._conclude(pending, CommandAnswer(CommandOutcome.DONE))

        sent = DoorCommand(child, command, begun + seconds, is_answered, concluded)
        pending = PendingCommand(sent, begun)
        if (refused := self._refusal(child, command)) is not None:
            self._finish(pending, refused)
            return
        self._pending.add(pending)
        late = partial(self._conclude, pending, refusal(CommandOutcome.NO_ANSWER))
        self._timers[pending] = asyncio.get_running_loop().call_later(seconds, late)
        self._journal.sent += 1
        assert self._doors is not None, "doors are connected before sessions are open"
        self._doors.send(sent)

    def _refusal(self, child: DeviceId, command: ChildCommand) -> CommandAnswer | None:
        """Return the answer to a command that is not passed on; None for one that is."""
        if child.startswith(GATEWAY_PREFIX):
            return NOT_OF_GATEWAY
        if not self._allowed(child, command):
            return refusal(CommandOutcome.NOT_ALLOWED)
        if not is_passable(command.topic):
            return BAD_TOPIC
        if not self._pending.has_room(child, command):
            return refusal(CommandOutcome.TOO_MANY)
        return None

    def _seconds(self, command: ChildCommand) -> float:
        """Return for how long a command may be on its way."""
        if command.kind is CommandKind.MESSAGE:
            return self._down_keep
        if command.seconds <= 0:
            return UNLIMITED
        return max(command.seconds - BEFORE_LIMIT, command.seconds / 2)

    # The way back.

    def receive(
        self, child: DeviceId, topic: str, payload: bytes, correlation: bytes
    ) -> AnswerFate:
        """Use a message of a child if it is an answer."""
        neutral, form = is_answer_topic(topic), self._form(child)
        pending = self._pending.answered(child, topic, payload, correlation, form)
        if pending is None:
            if not (neutral or (form is not None and form.is_answer(topic))):
                return AnswerFate.NONE
            self._journal.late += 1
            self._show(child, "late-answer", topic, payload)
            return AnswerFate.LATE
        command = pending.command
        if neutral:
            answer = in_neutral_form(command, payload)
        else:
            answer = in_cloud_form(form, command, payload)
        self._conclude(pending, answer)
        return AnswerFate.ANSWERED

    def _conclude(self, pending: PendingCommand, answer: CommandAnswer) -> None:
        """End a command that waits, unless it has ended."""
        if self._leave(pending):
            self._finish(pending, answer)

    def _leave(self, pending: PendingCommand) -> bool:
        """Let a command wait no more; return whether it did."""
        if not self._pending.end(pending):
            return False
        self._timers.pop(pending).cancel()
        if self._doors is not None:
            self._doors.end(pending.sent)
        return True

    def _finish(self, pending: PendingCommand, answer: CommandAnswer) -> None:
        """Note how a command has ended, and answer its cloud."""
        child, command = pending.sent.child, pending.command
        self._journal.ended(child, command, answer.outcome, self._clock.now() - pending.begun)
        self._ended.remember(child, command)
        if pending.sent.is_answered:
            self._answer(child, command, answer, pending.begun + command.seconds)
        self._show(
            child,
            "answer",
            command.reply_topic,
            shown(answer),
            id=command.identifier,
            outcome=answer.outcome.value,
        )

    def _answer(
        self, child: DeviceId, command: ChildCommand, answer: CommandAnswer, until: float
    ) -> None:
        """Have a cloud given an answer.

        One that it may lack is given over the child's next session, or where it asks once more.
        until: when it gives the command up, seconds of the clock.
        """
        session, size = self._sessions.get(child), size_of(answer)
        if session is None or not self._may_answer(child, size):
            self._unanswered(child, command, answer, until)
            return
        self._answering_of[child] += 1
        self._answering_bytes += size
        task = asyncio.create_task(self._give(session, child, command, answer, until))
        self._answering.add(task)
        task.add_done_callback(partial(self._given, child, size))

    def _may_answer(self, child: DeviceId, size: int) -> bool:
        """Whether one more answer, of so many bytes, may wait for an acknowledgement."""
        own, total = self._answering_of[child], len(self._answering)
        fits = self._answering_bytes + size <= ANSWERING_BYTES
        return fits and own < ANSWERING and total < ANSWERING_IN_ALL

    def _given(self, child: DeviceId, size: int, task: asyncio.Task[None]) -> None:
        self._answering.discard(task)
        self._answering_bytes -= size
        self._answering_of[child] -= 1
        if not self._answering_of[child]:
            del self._answering_of[child]

    async def _give(
        self,
        session: SupportsCommands,
        child: DeviceId,
        command: ChildCommand,
        answer: CommandAnswer,
        until: float,
    ) -> None:
        try:
            acknowledged = await session.answer(command, answer)
        except Exception:  # border: a fault of a cloud's plug-in costs this answer
            log.exception("An answer of device %s cannot be given.", child, extra={"device": child})
            acknowledged = False
        if not acknowledged:
            self._unanswered(child, command, answer, until)

    def _unanswered(
        self, child: DeviceId, command: ChildCommand, answer: CommandAnswer, until: float
    ) -> None:
        self._journal.unanswered += 1
        self._ended.keep(child, command, answer, until)
