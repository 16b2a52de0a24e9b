"""The children of the gateway: in its topology, and logged in over its link.

Looks whether the children still are logged in, when the cloud says that one of them is not.

Which children the cloud has for this gateway.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from gatewayd.cloud.alibaba import payloads
from gatewayd.cloud.alibaba.payloads import Entry, sub_name
from gatewayd.cloud.alibaba.requests import AlibabaCalls
from gatewayd.cloud.alibaba.topics import SubName
from gatewayd.cloud.provider import LoginError, LoginFailed, LoginRemoved, SessionEnd
from gatewayd.cloud.sub_devices.quota import Quota
from gatewayd.cloud.sub_devices.requests import BackgroundTask, Cooldown
from gatewayd.cloud.sub_devices.result_codes import (
    REMOVED,
    UNANSWERED,
    Denied,
    ResultKind,
    unanswered,
)
from gatewayd.cloud.sub_devices.sessions import OpenSessions, SubDeviceSession
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret

MOST = 10_000
"""Children that are remembered, whatever the cloud tells; the limit cannot be set higher."""


class AlibabaTopology(Quota[SubName]):
    """limit: children that the cloud lets a gateway have.
    fetch: asks the cloud; raises what the question raises."""

    def __init__(self, limit: int, fetch: Callable[[], Awaitable[frozenset[SubName]]]) -> None:
        super().__init__(limit, MOST)
        self._fetch = fetch
        self._fetching: asyncio.Task[None] | None = None

    async def know(self) -> None:
        """Return when the cloud was asked since the link came up; many may wait at once.

        Raises what the question raises; whoever asks next asks the cloud again.
        """
        if self._fetching is None or _failed(self._fetching):
            self.begin()
        assert self._fetching is not None, "it was begun"
        await asyncio.shield(self._fetching)

    def begin(self) -> None:
        """Ask the cloud anew, though nobody waits for it yet: the link is another, or the cloud
        hints at changes."""
        if self._fetching is not None:
            self._fetching.cancel()
        self._fetching = asyncio.create_task(self._learn())
        self._fetching.add_done_callback(_failed)  # whoever waits asks again

    async def close(self) -> None:
        """End a question that is under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait({self._fetching})

    async def _learn(self) -> None:
        self.replace(await self._fetch())


def _failed(task: asyncio.Task[None]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


NOT_FOUND = 6100
"""The cloud does not know the device."""


@dataclass(frozen=True, slots=True)
class Signing:
    """How children are signed.  method: one of signing.METHODS.  wall: seconds since the epoch."""

    method: str
    wall: Callable[[], float]

    def timestamp(self) -> str:
        """Return the time as the cloud wants it: milliseconds as text."""
        return str(int(self.wall() * 1000))


class AlibabaSessions:
    """calls: what may be asked.  limit: children that the cloud lets a gateway have.
    now: seconds."""

    def __init__(
        self, calls: AlibabaCalls, signing: Signing, limit: int, now: Callable[[], float]
    ) -> None:
        self._calls, self._signing = calls, signing
        self._online = OpenSessions(calls.log_out, now)
        self.pauses = Cooldown[SubName](now)
        self.topology = AlibabaTopology(limit, calls.attached)

    def sessions(self) -> tuple[SubDeviceSession, ...]:
        """Return those that are open."""
        return self._online.sessions()

    def expect(self, child: SubName) -> None:
        """A child is about to be registered: it counts, whatever has become of it before."""
        self._online.expect(child)
        self.topology.want(child)

    async def connect(self, name: CloudName, secret: Secret, *, issued: bool) -> SubDeviceSession:
        """Log a child in, and add it to the topology before if it is not there.

        issued: whether the cloud issued the secret, so that it has known the child.
        Raises LoginRefused, LoginRemoved, LoginFailed.
        """
        child = sub_name(name)

        async def log_in() -> None:
            await self._know_topology()
            await self._attach_and_log_in(name, secret)

        try:
            return await self._online.open(child, name, secret, log_in)
        except Denied as denied:
            raise self._login_error(child, denied, issued=issued) from denied
        except UNANSWERED as error:
            raise LoginFailed(unanswered(error)) from error

    async def unbind(self, name: CloudName) -> Reason | None:
        """Take a child out of the topology; return why that was not done."""
        child = sub_name(name)
        try:
            with self._online.forgetting(child):
                await self._calls.detach.submit(child)
        except Denied as denied:
            if denied.meaning.kind is not ResultKind.REMOVED:
                return denied.meaning.reason
        except UNANSWERED as error:
            return unanswered(error)
        self._online.forgotten(child)
        self.topology.drop(child)
        self.pauses.end(child)
        return None

    async def check(self, session: SubDeviceSession) -> bool:
        """Log a child in once more, to learn whether the cloud still has its session.

        Return whether that is known now; a session that is not open any more is left alone.
        """
        child = sub_name(session.name)
        if self._online.get(child) is not session:
            return True
        try:
            await self._calls.log_in.submit(self._to_log_in(session.name, session.secret))
        except Denied as denied:
            if denied.meaning.kind is ResultKind.TRANSIENT:
                return False
            if self._online.get(child) is session:
                self.force_off(child, denied)
        except UNANSWERED:
            return False
        return True

    def force_off(self, child: SubName, denied: Denied) -> None:
        """The cloud does not let a child be online.

        If that is for want of topology, the topology is asked at the next login: the cloud may be
        about to tell that it has removed the child.
        """
        meaning = denied.meaning
        self.pauses.note(child, meaning)
        if meaning.kind is ResultKind.REMOVED:
            self.take(child)
        else:
            self._online.end(child, SessionEnd(meaning.reason))

    def take(self, child: SubName) -> None:
        """The cloud has removed a child.  One without a session learns it when it logs in."""
        self._online.remove(child, known=self.topology.remove(child))

    def end_all(self) -> Sequence[CloudName]:
        """The link is lost, and with it every session.  Return whose it was."""
        return self._online.end_all()

    async def close(self) -> None:
        """End what is under way.  Sessions belong to whoever opened them."""
        await self._online.close()
        await self.topology.close()
        await self._calls.close()

    def _login_error(self, child: SubName, denied: Denied, *, issued: bool) -> LoginError:
        meaning = denied.meaning
        if issued and denied.code == NOT_FOUND:
            return LoginRemoved(REMOVED)
        self.pauses.note(child, meaning)
        return meaning.login_error

    async def _know_topology(self) -> None:
        """Ask for the topology, if need be; a no to that says nothing of any child."""
        try:
            await self.topology.know()
        except Denied as denied:
            raise LoginFailed(denied.meaning.reason) from denied

    async def _attach_and_log_in(self, name: CloudName, secret: Secret) -> None:
        child = sub_name(name)
        await self._attach(name, secret)
        try:
            await self._log_in(name, secret)
        except Denied as denied:
            if denied.meaning.kind is not ResultKind.TOPOLOGY:
                raise
            self.topology.remove(child)
            await self._attach(name, secret)
            await self._log_in(name, secret)

    async def _attach(self, name: CloudName, secret: Secret) -> None:
        child = sub_name(name)
        if child in self.topology.names:
            return
        self.topology.want(child)
        signing = self._signing
        await self._calls.attach.submit(
            payloads.to_attach(name, secret, signing.method, signing.timestamp())
        )
        self.topology.add(child)

    async def _log_in(self, name: CloudName, secret: Secret) -> None:
        step = self._calls.log_in.submit(self._to_log_in(name, secret))
        await self._online.commit(sub_name(name), step)

    def _to_log_in(self, name: CloudName, secret: Secret) -> Entry:
        return payloads.to_log_in(name, secret, self._signing.method, self._signing.timestamp())


TOGETHER, PAUSE = 50, 1.0
"""So many children are looked at together, and so many seconds apart."""
PERIOD = 60.0
"""Seconds from one look at all to the next: a child may log in five times a minute."""


class SessionCheck(BackgroundTask):
    """now: seconds."""

    def __init__(self, family: AlibabaSessions, now: Callable[[], float]) -> None:
        super().__init__(self._look_until_sure)
        self._family, self._now = family, now
        self._told, self._last = False, -PERIOD

    def begin(self) -> None:
        """Look at all children, and once more if a look is under way: some had their turn."""
        self._told = True
        super().begin()

    async def _look_until_sure(self) -> None:
        unsure: Sequence[SubDeviceSession] = ()
        while self._told or unsure:
            await asyncio.sleep(max(0.0, self._last + PERIOD - self._now()))
            sessions = self._family.sessions() if self._told else unsure
            self._told, self._last = False, self._now()
            unsure = await self._look(sessions)

    async def _look(self, sessions: Sequence[SubDeviceSession]) -> Sequence[SubDeviceSession]:
        """Return those of which the cloud did not say whether it has them."""
        unsure: list[SubDeviceSession] = []
        for first in range(0, len(sessions), TOGETHER):
            some = sessions[first : first + TOGETHER]
            sure = await asyncio.gather(*(self._family.check(session) for session in some))
            unsure += [session for session, one in zip(some, sure, strict=True) if not one]
            await asyncio.sleep(PAUSE)
        return unsure
