"""How commands of a cloud reach the sessions of children over MQTT, and how the answers leave.

Each cloud adds its form, see `commanding/` in its folder: a pure mapping, as that of messages is.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from gatewayd.cloud.provider import CommandHandler
from gatewayd.cloud.publisher import MappedMessage, PublishingConnection
from gatewayd.device.command import (
    REFUSALS,
    ChildCommand,
    CommandAnswer,
    CommandKind,
    CommandOutcome,
)
from gatewayd.runtime.rate_limiter import TooManyWaiting

log = logging.getLogger(__name__)

UNDER_WAY = 64
"""Refusals of one connection that wait to leave; further ones are not sent."""
EARLY, EARLY_IN_ALL, EARLY_BYTES, EARLY_AGE = 64, 1024, 1 << 20, 30.0
"""Messages that are kept until their child's session asks for commands: of one child, and in all;
the bytes of all, and for how many seconds.  A cloud sends what has waited for a child as soon as
that is online, as are all children of a gateway together."""
REMEMBERED, REMEMBERED_OF_ONE = 1024, 64
"""Commands that are remembered in order to know a repeat: of a gateway with its children, and of a
device with a connection of its own, of which there may be thousands."""
REPEATED_WITHIN, COPIED_WITHIN = 60.0, 0.5
"""Seconds for which they are; and where a cloud may send copies without an identifier: then a
repeat is one of the same content."""
NO_LISTENER = CommandAnswer(CommandOutcome.NO_LISTENER, REFUSALS[CommandOutcome.NO_LISTENER])
UNREADABLE = "gatewayd: the command cannot be read"
UNWRITABLE = CommandAnswer(
    CommandOutcome.FAILED, "gatewayd: the answer of the child does not fit the form of the cloud"
)

Child = TypeVar("Child", bound=Hashable)
ChildT_contra = TypeVar("ChildT_contra", bound=Hashable, contravariant=True)


class NoCommand(Exception, Generic[Child]):
    """A message on a topic of commands that is none.

    child: whose topic it is.  kind: what is wrong, in a few fixed words.
    answer: what the cloud is to be given; None where it could relate that to nothing.
    """

    def __init__(self, child: Child, kind: str, answer: MappedMessage | None = None) -> None:
        super().__init__(kind)
        self.child, self.kind, self.answer = child, kind, answer


class CommandForm(Protocol[Child]):
    """The form that a cloud gives its commands, and wants of their answers.  Pure.

    has_copies: whether a message without an identifier may come twice at once, as by a subscription
    of the device and one of the cloud's own.
    """

    @property
    def has_copies(self) -> bool: ...

    def read(self, topic: str, payload: bytes) -> tuple[Child, ChildCommand] | None:
        """Return a command, and whose it is; None for a topic of something else.

        Raises NoCommand.
        """

    def write(
        self, child: Child, command: ChildCommand, answer: CommandAnswer
    ) -> MappedMessage | None:
        """Return what the cloud is given as the answer; None where it awaits none of this kind."""


SendAnswer: TypeAlias = Callable[[Child, MappedMessage], Awaitable[bool]]
"""Sends an answer in the name of a child; returns whether the cloud has acknowledged it."""


class AnswerLimit(Protocol):
    """The limit of what a device, or a connection, may publish."""

    async def acquire_urgently(self, size: int, ended: asyncio.Future[Any]) -> None:
        """Return when an answer of so many bytes may leave, before what is not urgent.

        ended: once it is done, no wait is of use; then nothing is counted.  Raises TooManyWaiting.
        """

    def arrived(self, size: int) -> None:
        """Note that an answer which was counted has arrived, or will not any more."""


class AnsweringConnection(PublishingConnection, Protocol):
    """A connection over which answers leave.  closed: done when it has ended."""

    @property
    def closed(self) -> asyncio.Future[Any]: ...


async def post_answer(
    connection: AnsweringConnection, mapped: MappedMessage, limit: AnswerLimit
) -> bool:
    """Publish an answer at QoS 1, within the limit; return whether the cloud acknowledged it."""
    size, closed = len(mapped.payload), connection.closed
    try:
        await limit.acquire_urgently(size, closed)
    except TooManyWaiting:
        return False
    if closed.done():
        return False
    posted = connection.post(mapped.topic, mapped.payload)
    posted.add_done_callback(lambda _: limit.arrived(size))
    return await asyncio.shield(posted) is not None


class ReceivingConnection(AnsweringConnection, Protocol):
    """A connection of one device.  on_message: may be replaced.  dropped: what was of no use."""

    on_message: Callable[[str, bytes], None]
    dropped: int


class EarlyPackets:
    """A handler of what a connection receives before its true handler is known."""

    def __init__(self) -> None:
        self._received: deque[tuple[str, bytes]] = deque(maxlen=EARLY)

    def __call__(self, topic: str, payload: bytes) -> None:
        self._received.append((topic, payload))

    def hand_over(self, handler: Callable[[str, bytes], None]) -> None:
        """Have the handler handle what was received."""
        while self._received:
            handler(*self._received.popleft())


class _Early(NamedTuple):
    child: Hashable
    command: ChildCommand
    at: float


def _ignore(_: object, __: object) -> None:
    """Do nothing where it makes no difference who receives commands."""


class CommandRouter(Generic[Child]):
    """The way of commands to the sessions of one device, or of a gateway and its children.

    cloud: its name, for the log.  now: seconds of a steady clock.
    on_change: called when a child begins or ends to receive commands, or to expect them.
    remembered: commands that are known again, at most.
    dropped: what was of no use, by cause.
    """

    def __init__(
        self,
        form: CommandForm[Child],
        send: SendAnswer[Child],
        cloud: str,
        now: Callable[[], float],
        on_change: Callable[[Child, ChildCommands], None] = _ignore,
        remembered: int = REMEMBERED,
    ) -> None:
        self._remembered = remembered
        self._form, self._send, self._cloud, self._now = form, send, cloud, now
        self._on_change = on_change
        self.dropped: Counter[str] = Counter()
        self._sessions: dict[Child, ChildCommands] = {}
        self._early: deque[_Early] = deque()
        self._recent: dict[tuple[Hashable, ...], float] = {}
        self._refusing: set[asyncio.Task[bool]] = set()

    def open(self, child: Child) -> ChildCommands:
        """Return the commands of a child's new session, which takes the place of an older one."""

        async def answer(command: ChildCommand, given: CommandAnswer) -> bool:
            return await self.answer(child, command, given)

        def early() -> list[ChildCommand]:
            return self._early_of(child)

        def change(session: ChildCommands) -> None:
            if self._sessions.get(child) is session:
                self._on_change(child, session)
                if session.ended:
                    del self._sessions[child]

        self._sessions[child] = session = ChildCommands(answer, early, change)
        return session

    def handle(self, topic: str, payload: bytes) -> bool:
        """Handle a message, if its topic is one of commands; return whether it is.

        Never blocks, never raises.
        """
        try:
            read = self._form.read(topic, payload)
        except NoCommand as fault:
            self._drop(fault.child, fault.kind)
            if fault.answer is not None:
                self._send_soon(fault.child, fault.answer)
            return True
        if read is not None:
            self._handle(*read)
        return read is not None

    async def answer(self, child: Child, command: ChildCommand, given: CommandAnswer) -> bool:
        """Answer a command, as SupportsCommands says."""
        mapped = self._form.write(child, command, given)
        return mapped is None or await self._send(child, mapped)

    def _handle(self, child: Child, command: ChildCommand) -> None:
        if self._is_repeat(child, command):
            self.dropped["repeated"] += 1
            return
        session = self._sessions.get(child)
        if session is not None and session.handler is not None:
            session.handler(command)
        elif command.kind is CommandKind.MESSAGE:
            self._keep(child, command, wanted=session is None or not session.asked)
        else:
            self.dropped["no-listener"] += 1
            if (mapped := self._form.write(child, command, NO_LISTENER)) is not None:
                self._send_soon(child, mapped)

    def _is_repeat(self, child: Child, command: ChildCommand) -> bool:
        """Whether a command has come before: at QoS 1, or by two subscriptions that both match."""
        now, mark, within = self._now(), command.identifier, REPEATED_WITHIN
        if not mark:
            if not self._form.has_copies:
                return False
            mark, within = hashlib.blake2b(command.payload).hexdigest(), COPIED_WITHIN
        key = (child, command.topic, mark)
        before = self._recent.pop(key, None)
        self._recent[key] = now
        oldest = next(iter(self._recent))
        while len(self._recent) > self._remembered or self._recent[oldest] + REPEATED_WITHIN < now:
            del self._recent[oldest]
            oldest = next(iter(self._recent))
        return before is not None and now - before < within

    def _keep(self, child: Child, command: ChildCommand, *, wanted: bool) -> None:
        """Keep a message for a child whose session has not asked for commands yet."""
        if not wanted or len(command.payload) > EARLY_BYTES:
            self.dropped["no-listener"] += 1
            return
        self._early.append(_Early(child, command, self._now()))
        own = [one for one in self._early if one.child == child]
        if len(own) > EARLY:
            self._early.remove(own[0])
            self.dropped["no-listener"] += 1
        while (
            len(self._early) > EARLY_IN_ALL
            or sum(len(one.command.payload) for one in self._early) > EARLY_BYTES
        ):
            self._early.popleft()
            self.dropped["no-listener"] += 1

    def _early_of(self, child: Child) -> list[ChildCommand]:
        """Return what was kept for a child; what is too old is dropped."""
        oldest = self._now() - EARLY_AGE
        mine = [one.command for one in self._early if one.child == child and one.at >= oldest]
        rest = [one for one in self._early if one.child != child and one.at >= oldest]
        if late := len(self._early) - len(mine) - len(rest):
            self.dropped["no-listener"] += late
        self._early = deque(rest)
        return mine

    def _send_soon(self, child: Child, mapped: MappedMessage) -> None:
        """Send a refusal in the background; it ends with the connection at the latest."""
        if len(self._refusing) >= UNDER_WAY:
            self._drop(child, "too many refusals wait to leave")
            return

        async def send() -> bool:
            return await self._send(child, mapped)

        task = asyncio.create_task(send())
        self._refusing.add(task)
        task.add_done_callback(self._refusing.discard)

    def _drop(self, child: Child, kind: str) -> None:
        """Count a command that comes to nothing; the first of each kind is logged."""
        if not self.dropped[kind]:
            name = "/".join(child) if isinstance(child, tuple) else child
            log.warning(
                "Cloud %r: a command to %s was dropped (%s); more like it are only counted.",
                self._cloud, name, kind,
            )  # fmt: skip
        self.dropped[kind] += 1


class ChildCommands:
    """The commands of one session.  Implements SupportsCommands.

    The session may be one of a cloud that has room for some children only: see ExpectsCommands.

    answer: sends the answer to a command.  early: returns what came before there was a handler.
    on_change: called when what follows has changed.
    handler: None where commands are refused.  asked: whether one was ever set, or refused.
    expected: whether the child may get any command.  ended: whether the session has.
    """

    def __init__(
        self,
        answer: Callable[[ChildCommand, CommandAnswer], Awaitable[bool]],
        early: Callable[[], list[ChildCommand]],
        on_change: Callable[[ChildCommands], None],
    ) -> None:
        self._answer, self._take_early, self._on_change = answer, early, on_change
        self.handler: CommandHandler | None = None
        self.asked = self.expected = self.ended = False

    def receive_commands(self, handler: CommandHandler | None) -> None:
        """Have each command handled from now on, as SupportsCommands says."""
        if self.ended:
            return
        self.handler, self.asked = handler, True
        self._on_change(self)
        for command in self._take_early():
            if handler is not None:
                handler(command)

    def expect(self, *, expected: bool) -> None:
        """Note whether the child may get any command."""
        if not self.ended and self.expected != expected:
            self.expected = expected
            self._on_change(self)

    async def answer(self, command: ChildCommand, answer: CommandAnswer) -> bool:
        """Answer a command once, as SupportsCommands says."""
        return not self.ended and await self._answer(command, answer)

    def end(self) -> None:
        """End it with its session: what comes now is refused."""
        if not self.ended:
            self.ended, self.handler = True, None
            self._on_change(self)


def own_commands(
    connection: ReceivingConnection,
    own: Child,
    form: CommandForm[Child],
    limit: AnswerLimit,
    cloud: str,
    now: Callable[[], float],
) -> ChildCommands:
    """Have a device's own connection receive its commands; return them.

    limit: of the connection.  cloud: its name, for the log.  now: seconds of a steady clock.
    """

    async def send(_: Child, mapped: MappedMessage) -> bool:
        return await post_answer(connection, mapped, limit)

    router = CommandRouter(form, send, cloud, now, remembered=REMEMBERED_OF_ONE)

    def handle(topic: str, payload: bytes) -> None:
        connection.dropped += not router.handle(topic, payload)

    connection.on_message = handle
    return router.open(own)
