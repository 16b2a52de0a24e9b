"""The children of the gateway: in its topology, and logged in over its link."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gatewayd.cloud.alibaba import child_reasons, entries
from gatewayd.cloud.alibaba.calls import Calls, Denied, NotSent
from gatewayd.cloud.alibaba.child_session import ChildSession
from gatewayd.cloud.alibaba.codes import Kind
from gatewayd.cloud.alibaba.entries import Entry, sub_name
from gatewayd.cloud.alibaba.logouts import Logouts
from gatewayd.cloud.alibaba.pauses import Pauses
from gatewayd.cloud.alibaba.topics import SubName
from gatewayd.cloud.alibaba.topology import Topology
from gatewayd.cloud.alibaba.uplink import LinkError, NoAnswer
from gatewayd.cloud.batch import Stopped
from gatewayd.cloud.provider import (
    Ended,
    LoginError,
    LoginFailed,
    LoginRefused,
    LoginRemoved,
)
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret

UNANSWERED = (LinkError, Stopped)
"""What a call raises that has no answer."""

_UNANSWERED: Sequence[tuple[type[Exception], Reason]] = (
    (Stopped, child_reasons.STOPPED),
    (NoAnswer, child_reasons.NO_ANSWER),
    (NotSent, child_reasons.NOT_SENT),
    (LinkError, child_reasons.LINK_LOST),
)

NOT_FOUND = 6100
"""The cloud does not know the device."""

_LOGIN_ERRORS: Mapping[Kind, type[LoginError]] = {
    Kind.REREGISTER: LoginRefused,
    Kind.REMOVED: LoginRemoved,
}
"""What to raise for a login that was denied; LoginFailed for the rest: it is tried again."""


@dataclass(frozen=True, slots=True)
class Signing:
    """How children are signed.  method: one of signing.METHODS.  wall: seconds since the epoch."""

    method: str
    wall: Callable[[], float]

    def timestamp(self) -> str:
        """Return the time as the cloud wants it: milliseconds as text."""
        return str(int(self.wall() * 1000))


class Family:
    """calls: what may be asked.  limit: children that the cloud lets a gateway have.
    now: seconds."""

    def __init__(
        self, calls: Calls, signing: Signing, limit: int, now: Callable[[], float]
    ) -> None:
        self._calls, self._signing = calls, signing
        self._sessions: dict[SubName, ChildSession] = {}
        self._logouts = Logouts(calls.log_out)
        self._leaving: set[SubName] = set()
        self._taken: set[SubName] = set()
        self._links = 0
        self.pauses = Pauses(now)
        self.topology = Topology(limit, calls.attached)

    def sessions(self) -> tuple[ChildSession, ...]:
        """Return those that are open."""
        return tuple(self._sessions.values())

    def expect(self, child: SubName) -> None:
        """A child is about to be registered: it counts, whatever has become of it before."""
        self._taken.discard(child)
        self.topology.want(child)

    async def connect(self, name: CloudName, secret: Secret, *, issued: bool) -> ChildSession:
        """Log a child in, and add it to the topology before if it is not there.

        issued: whether the cloud issued the secret, so that it has known the child.
        Raises LoginRefused, LoginRemoved, LoginFailed.
        """
        child = sub_name(name)
        if child in self._taken:
            self._taken.discard(child)
            raise LoginRemoved(child_reasons.REMOVED)
        await self._logouts.done(child)
        link = self._links
        try:
            await self._know_topology()
            await self._attach_and_log_in(name, secret)
        except Denied as denied:
            raise self._login_error(child, denied, issued=issued) from denied
        except UNANSWERED as error:
            raise LoginFailed(unanswered(error)) from error
        if link != self._links:
            raise LoginFailed(child_reasons.LINK_LOST)
        session = ChildSession(name, secret, self._log_out)
        self._sessions[child] = session
        return session

    async def forget(self, name: CloudName) -> Reason | None:
        """Take a child out of the topology; return why that was not done."""
        child = sub_name(name)
        self._leaving.add(child)  # the cloud tells of it, as if it had removed the child
        try:
            await self._calls.detach.submit(child)
        except Denied as denied:
            if denied.coded.kind is not Kind.REMOVED:
                return denied.coded.reason
        except UNANSWERED as error:
            return unanswered(error)
        finally:
            self._leaving.discard(child)
        self.end(child, Ended(child_reasons.FORGOTTEN))
        self.topology.drop(child)
        self.pauses.end(child)
        self._taken.discard(child)
        return None

    async def check(self, session: ChildSession) -> None:
        """Log a child in once more, to learn whether the cloud still has its session."""
        child = sub_name(session.name)
        try:
            await self._calls.log_in.submit(self._to_log_in(session.name, session.secret))
        except Denied as denied:
            if denied.coded.kind is not Kind.TRANSIENT and self._sessions.get(child) is session:
                self.force_off(child, denied)
        except UNANSWERED:
            return  # the link is doubtful, and its end tells every child

    def force_off(self, child: SubName, denied: Denied) -> None:
        """The cloud does not let a child be online.

        If that is for want of topology, the topology is asked at the next login: the cloud may be
        about to tell that it has removed the child.
        """
        coded = denied.coded
        self.pauses.note(child, denied.code, coded.kind, coded.reason)
        if coded.kind is Kind.REMOVED:
            self.take(child)
        else:
            self.end(child, Ended(coded.reason))

    def take(self, child: SubName) -> None:
        """The cloud has removed a child.  One without a session learns it when it logs in."""
        known = self.topology.remove(child)
        if child in self._leaving:
            return
        if not self.end(child, Ended(child_reasons.REMOVED, removed=True)) and known:
            self._taken.add(child)

    def end(self, child: SubName, ended: Ended) -> bool:
        """Tell a session that it has ended; return whether there was one."""
        session = self._sessions.pop(child, None)
        if session is not None:
            session.end(ended)
        return session is not None

    def end_all(self) -> Sequence[CloudName]:
        """The link is lost, and with it every session.  Return whose it was."""
        self._links += 1
        lost = [session.name for session in self._sessions.values()]
        for child in tuple(self._sessions):
            self.end(child, Ended(child_reasons.LINK_LOST))
        return lost

    async def close(self) -> None:
        """End what is under way.  Sessions belong to whoever opened them."""
        await self._logouts.close()
        await self.topology.close()
        await self._calls.close()

    def _login_error(self, child: SubName, denied: Denied, *, issued: bool) -> LoginError:
        coded = denied.coded
        if issued and denied.code == NOT_FOUND:
            return LoginRemoved(child_reasons.REMOVED)
        self.pauses.note(child, denied.code, coded.kind, coded.reason)
        return _LOGIN_ERRORS.get(coded.kind, LoginFailed)(coded.reason)

    async def _know_topology(self) -> None:
        """Ask for the topology, if need be; a no to that says nothing of any child."""
        try:
            await self.topology.know()
        except Denied as denied:
            raise LoginFailed(denied.coded.reason) from denied

    async def _attach_and_log_in(self, name: CloudName, secret: Secret) -> None:
        child = sub_name(name)
        await self._attach(name, secret)
        try:
            await self._log_in(name, secret)
        except Denied as denied:
            if denied.coded.kind is not Kind.TOPOLOGY:
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
            entries.to_attach(name, secret, signing.method, signing.timestamp())
        )
        self.topology.add(child)

    async def _log_in(self, name: CloudName, secret: Secret) -> None:
        """Log in; where nobody waits for it any more, it is undone."""
        login = asyncio.create_task(self._calls.log_in.submit(self._to_log_in(name, secret)))
        try:
            await asyncio.shield(login)
        except asyncio.CancelledError:
            self._logouts.follow(sub_name(name), login)
            raise

    def _to_log_in(self, name: CloudName, secret: Secret) -> Entry:
        return entries.to_log_in(name, secret, self._signing.method, self._signing.timestamp())

    async def _log_out(self, session: ChildSession) -> None:
        child = sub_name(session.name)
        if self._sessions.get(child) is session:
            del self._sessions[child]
            await self._logouts.begin(child)


def unanswered(error: Exception) -> Reason:
    """Return why there is no answer."""
    return next(reason for kind, reason in _UNANSWERED if isinstance(error, kind))
