"""The children of the gateway: in its topology, and logged in over its link."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gatewayd.cloud.alibaba import entries
from gatewayd.cloud.alibaba.calls import Calls
from gatewayd.cloud.alibaba.entries import Entry, sub_name
from gatewayd.cloud.alibaba.topics import SubName
from gatewayd.cloud.alibaba.topology import Topology
from gatewayd.cloud.provider import Ended, LoginError, LoginFailed, LoginRemoved
from gatewayd.cloud.subdevices.coded import Denied, Kind
from gatewayd.cloud.subdevices.online import Online
from gatewayd.cloud.subdevices.pauses import Pauses
from gatewayd.cloud.subdevices.reasons import REMOVED, UNANSWERED, unanswered
from gatewayd.cloud.subdevices.session import ChildSession
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret

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


class Family:
    """calls: what may be asked.  limit: children that the cloud lets a gateway have.
    now: seconds."""

    def __init__(
        self, calls: Calls, signing: Signing, limit: int, now: Callable[[], float]
    ) -> None:
        self._calls, self._signing = calls, signing
        self._online = Online(calls.log_out, now)
        self.pauses = Pauses[SubName](now)
        self.topology = Topology(limit, calls.attached)

    def sessions(self) -> tuple[ChildSession, ...]:
        """Return those that are open."""
        return self._online.sessions()

    def expect(self, child: SubName) -> None:
        """A child is about to be registered: it counts, whatever has become of it before."""
        self._online.expect(child)
        self.topology.want(child)

    async def connect(self, name: CloudName, secret: Secret, *, issued: bool) -> ChildSession:
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

    async def forget(self, name: CloudName) -> Reason | None:
        """Take a child out of the topology; return why that was not done."""
        child = sub_name(name)
        try:
            with self._online.forgetting(child):
                await self._calls.detach.submit(child)
        except Denied as denied:
            if denied.coded.kind is not Kind.REMOVED:
                return denied.coded.reason
        except UNANSWERED as error:
            return unanswered(error)
        self._online.forgotten(child)
        self.topology.drop(child)
        self.pauses.end(child)
        return None

    async def check(self, session: ChildSession) -> bool:
        """Log a child in once more, to learn whether the cloud still has its session.

        Return whether that is known now; a session that is not open any more is left alone.
        """
        child = sub_name(session.name)
        if self._online.get(child) is not session:
            return True
        try:
            await self._calls.log_in.submit(self._to_log_in(session.name, session.secret))
        except Denied as denied:
            if denied.coded.kind is Kind.TRANSIENT:
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
        coded = denied.coded
        self.pauses.note(child, coded)
        if coded.kind is Kind.REMOVED:
            self.take(child)
        else:
            self._online.end(child, Ended(coded.reason))

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
        coded = denied.coded
        if issued and denied.code == NOT_FOUND:
            return LoginRemoved(REMOVED)
        self.pauses.note(child, coded)
        return coded.login_error

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
        step = self._calls.log_in.submit(self._to_log_in(name, secret))
        await self._online.commit(sub_name(name), step)

    def _to_log_in(self, name: CloudName, secret: Secret) -> Entry:
        return entries.to_log_in(name, secret, self._signing.method, self._signing.timestamp())
