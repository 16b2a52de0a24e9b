"""The sessions of children that are logged in over the gateway's link.

A child that is being logged out is not logged in again before that is done.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Generic, TypeVar

from gatewayd.cloud.batch import Batcher, BatcherClosed, BatchRefused
from gatewayd.cloud.command_router import ChildCommands, CommandRouter
from gatewayd.cloud.paho_socket import Gone
from gatewayd.cloud.provider import (
    CommandHandler,
    LoginFailed,
    LoginRemoved,
    MessageDelayed,
    Publication,
    SessionEnd,
)
from gatewayd.cloud.publisher import MessagePublisher
from gatewayd.cloud.sub_devices import result_codes
from gatewayd.cloud.sub_devices.link import LinkError
from gatewayd.cloud.sub_devices.result_codes import Denied
from gatewayd.device.command import ChildCommand, CommandAnswer
from gatewayd.device.message import Message
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.network import connect_errors
from gatewayd.network.connect_errors import ConnectionEnd
from gatewayd.runtime.tasks import cancel_and_wait

CLOSE_TIME = 2.0
"""Seconds that a session has to close; what is under way then goes on without it."""

Key = TypeVar("Key", bound=Hashable)


class Logouts(Generic[Key]):
    """The children that are being logged out.

    request: logs one child out.  now: seconds of a steady clock.
    """

    def __init__(self, request: Batcher[Key, None], now: Callable[[], float]) -> None:
        self._request, self._now = request, now
        self._under_way: dict[Key, asyncio.Task[None]] = {}

    def __contains__(self, name: Key) -> bool:
        return name in self._under_way

    def begin(self, name: Key) -> asyncio.Task[None]:
        """Log a child out, unless that is under way; return what ends when it is done."""
        return self._under_way.get(name) or self._start(name, None)

    def again(self, name: Key) -> asyncio.Task[None]:
        """Log a child out, after what is under way; return what ends when it is done."""
        return self._start(name, None)

    def follow(self, name: Key, login: asyncio.Future[None]) -> None:
        """Log a child out again, if the login that was given up succeeds."""
        self._start(name, login)

    async def done(self, name: Key) -> None:
        """Return when the child is not being logged out."""
        if (task := self._under_way.get(name)) is not None:
            await asyncio.wait({task})

    async def all_done(self, patience: float, most: float) -> None:
        """Return when no child is being logged out.

        patience: seconds without a child done after which to give up.  most: seconds for all.
        """
        end, before = self._now() + most, len(self._under_way) + 1
        while 0 < len(self._under_way) < before and (left := end - self._now()) > 0:
            before = len(self._under_way)
            await asyncio.wait(set(self._under_way.values()), timeout=min(patience, left))

    async def close(self) -> None:
        """End what is under way."""
        await cancel_and_wait(self._under_way.values())

    def _start(self, name: Key, login: asyncio.Future[None] | None) -> asyncio.Task[None]:
        before = self._under_way.get(name)
        task = asyncio.create_task(self._log_out(name, login, before))
        self._under_way[name] = task
        task.add_done_callback(lambda done: self._finish(name, done))
        return task

    def _finish(self, name: Key, task: asyncio.Task[None]) -> None:
        if self._under_way.get(name) is task:
            del self._under_way[name]

    async def _log_out(
        self, name: Key, login: asyncio.Future[None] | None, before: asyncio.Task[None] | None
    ) -> None:
        if before is not None:
            await asyncio.wait({before})
        # After an error nothing is left to do: the cloud learns it from the gateway's next session
        # at the latest.
        with contextlib.suppress(Denied, LinkError, BatcherClosed, BatchRefused):
            if login is not None:
                await login
            await self._request.submit(name)


class SubDeviceSession:
    """A child that is logged in over the gateway's link.

    Implements Session, SupportsMessages, SupportsCommands, ExpectsCommands, SharesConnection.

    secret: what the child was logged in with, for a check whether it still is.
    publisher: of what the child says.  commands: those that it is sent.
    connection: what all children of the link have in common.
    log_out: ends the session at the cloud; in at most 2 s, and never with an error.
    """

    def __init__(
        self,
        name: CloudName,
        secret: Secret,
        publisher: MessagePublisher,
        commands: ChildCommands,
        connection: object,
        log_out: Callable[[SubDeviceSession], Awaitable[None]],
    ) -> None:
        self.name, self.secret, self.connection = name, secret, connection
        self._publisher, self.max_payload = publisher, publisher.max_payload
        self._commands = commands
        self._log_out = log_out
        self._ended: asyncio.Future[SessionEnd] = asyncio.get_running_loop().create_future()

    async def publish(self, message: Message) -> Publication:
        """Publish a message once, as SupportsMessages says.

        What was accepted while the cloud ended the session counts as delayed: a cloud acknowledges
        also what it drops, as the child is not online there.
        """
        try:
            outcome = await self._publisher.publish(message, self._ended)
        except Gone as gone:
            ended = self._ended.done()
            reason = self._ended.result().reason if ended else result_codes.LINK_LOST
            return MessageDelayed(reason, gone.left)
        if self._ended.done() and (end := self._ended.result()).by_cloud:
            return MessageDelayed(end.reason)
        return outcome

    def receive_commands(self, handler: CommandHandler | None) -> None:
        """Have each command handled from now on, as SupportsCommands says."""
        self._commands.receive_commands(handler)

    def expect_commands(self, *, expected: bool) -> None:
        """Note whether the child may get any command at all."""
        self._commands.expect(expected=expected)

    async def answer(self, command: ChildCommand, answer: CommandAnswer) -> bool:
        """Answer a command once, as SupportsCommands says."""
        return await self._commands.answer(command, answer)

    def end(self, ended: SessionEnd) -> None:
        """Set how the session ended.  Only the first call counts."""
        if not self._ended.done():
            self._ended.set_result(ended)
            self._commands.end()

    async def wait_closed(self) -> SessionEnd:
        """Return how the session ended, when it has."""
        return await asyncio.shield(self._ended)

    async def close(self) -> None:
        """End it in good order, in at most 2 s.  Closing twice is fine."""
        if not self._ended.done():
            self.end(SessionEnd(connect_errors.ENDS[ConnectionEnd.OURS]))
            await self._log_out(self)


class OpenSessions(Generic[Key]):
    """The open sessions of one gateway, by child.

    log_out: logs one child out at the cloud.  now: seconds of a steady clock.
    commands: those that arrive over the gateway's session.
    """

    def __init__(
        self, log_out: Batcher[Key, None], now: Callable[[], float], commands: CommandRouter[Key]
    ) -> None:
        self._commands = commands
        self._sessions: dict[Key, SubDeviceSession] = {}
        self._logouts = Logouts(log_out, now)
        self._opening: dict[Key, asyncio.Future[None]] = {}
        self._unbinding: set[Key] = set()
        self._removed: set[Key] = set()
        self._links = 0

    def sessions(self) -> tuple[SubDeviceSession, ...]:
        """Return the sessions."""
        return tuple(self._sessions.values())

    def children(self) -> tuple[Key, ...]:
        """Return the children that have one."""
        return tuple(self._sessions)

    def get(self, child: Key) -> SubDeviceSession | None:
        """Return a child's session, if one is open."""
        return self._sessions.get(child)

    def busy(self, child: Key) -> bool:
        """Whether a child is online, or about to be, or is being logged out."""
        return child in self._sessions or child in self._opening or child in self._logouts

    def expect(self, child: Key) -> None:
        """Forget that a child was removed: it is about to be registered."""
        self._removed.discard(child)

    async def open(
        self,
        child: Key,
        name: CloudName,
        secret: Secret,
        publisher: MessagePublisher,
        log_in: Callable[[], Awaitable[None]],
    ) -> SubDeviceSession:
        """Log a child in, when it is not being logged out any more.

        publisher: of what the child says.
        log_in: does it; it calls `commit` for the step that is to be undone if it is cancelled.
        Raises LoginRemoved, LoginFailed, and what `log_in` raises.
        """
        if child in self._removed:
            self._removed.discard(child)
            raise LoginRemoved(result_codes.REMOVED)
        await self._logouts.done(child)
        link = self._links
        await log_in()
        if link != self._links:
            raise LoginFailed(result_codes.LINK_LOST)
        commands = self._commands.open(child)
        session = SubDeviceSession(
            name, secret, publisher, commands, self, partial(self._log_out, child)
        )
        self._sessions[child] = session
        return session

    async def commit(self, child: Key, step: Awaitable[None]) -> None:
        """Take a step to log in; if this is cancelled, the step is undone.

        step: a future, as of a batch; else it is made a task.
        """
        login = asyncio.ensure_future(step)
        self._opening[child] = login
        try:
            await asyncio.shield(login)
        except asyncio.CancelledError:
            if self._opening.get(child) is login:
                self._logouts.follow(child, login)
            raise
        finally:
            if self._opening.get(child) is login:
                del self._opening[child]

    def end(self, child: Key, ended: SessionEnd) -> bool:
        """End the session of a child here; return whether there was one."""
        session = self._sessions.pop(child, None)
        if session is not None:
            session.end(ended)
        return session is not None

    def end_all(self) -> Sequence[CloudName]:
        """End every session, as the link is lost; return the names of the children."""
        self._links += 1
        lost = [session.name for session in self._sessions.values()]
        for child in tuple(self._sessions):
            self.end(child, SessionEnd(result_codes.LINK_LOST))
        return lost

    def remove(self, child: Key, *, known: bool) -> None:
        """Note that the cloud has removed a child.  Without a session its next login fails.

        known: whether the cloud had it for this gateway.
        """
        if self.is_unbinding(child):
            return
        if not self.end(child, SessionEnd(result_codes.REMOVED, removed=True)) and known:
            self._removed.add(child)

    @contextmanager
    def unbinding(self, child: Key) -> Iterator[None]:
        """Ignore what the cloud reports of a child while the gateway removes it."""
        self._unbinding.add(child)
        try:
            yield
        finally:
            self._unbinding.discard(child)

    def is_unbinding(self, child: Key) -> bool:
        """Whether the gateway is removing a child."""
        return child in self._unbinding

    def unbound(self, child: Key) -> None:
        """End the session of a child that the gateway has removed."""
        self.end(child, SessionEnd(result_codes.FORGOTTEN))
        self._removed.discard(child)

    async def log_out(self, child: Key) -> None:
        """Log a child out that has no session here; return when that succeeded or failed."""
        await asyncio.wait({self._logouts.again(child)})

    async def leave(self, patience: float, most: float) -> None:
        """Log all children out before the link is closed.

        Their sessions here end with the link.  patience: seconds without an answer of the cloud
        after which to give up.  most: seconds for all.
        """
        self._links += 1
        for child, login in tuple(self._opening.items()):
            del self._opening[child]
            self._logouts.follow(child, login)
        for child in self._sessions:
            self._logouts.begin(child)
        await self._logouts.all_done(patience, most)

    async def close(self) -> None:
        """End what is under way; open sessions are not closed."""
        await self._logouts.close()

    async def _log_out(self, child: Key, session: SubDeviceSession) -> None:
        if self._sessions.get(child) is session:
            del self._sessions[child]
            await asyncio.wait({self._logouts.begin(child)}, timeout=CLOSE_TIME)
