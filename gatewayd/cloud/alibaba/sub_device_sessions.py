"""The children of the gateway: in its topology, and logged in over its link."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from gatewayd.cloud.alibaba import payloads
from gatewayd.cloud.alibaba.alink import SubName
from gatewayd.cloud.alibaba.connection import AlibabaUplink
from gatewayd.cloud.alibaba.payloads import ChildLogin, Entry, sub_name
from gatewayd.cloud.alibaba.rate_limits import MessageLimit, MessageLimits
from gatewayd.cloud.alibaba.reporting.publishers import SubDevicePublisher
from gatewayd.cloud.alibaba.requests import AlibabaRequests
from gatewayd.cloud.alibaba.settings import AlibabaSettings
from gatewayd.cloud.command_router import CommandRouter
from gatewayd.cloud.provider import LoginError, LoginFailed, LoginRemoved, SessionEnd
from gatewayd.cloud.sub_devices.link import GatewayLink
from gatewayd.cloud.sub_devices.quota import Quota
from gatewayd.cloud.sub_devices.result_codes import (
    REMOVED,
    UNANSWERED,
    Cooldown,
    Denied,
    ResultKind,
    unanswered,
)
from gatewayd.cloud.sub_devices.sessions import OpenSessions, SubDeviceSession
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.runtime.tasks import BackgroundTask

NOT_FOUND = 6100
"""The cloud does not know the device."""


@dataclass(frozen=True, slots=True)
class Signing:
    """How requests for children are signed.

    settings: of the cloud.  now: seconds since the epoch.
    """

    settings: AlibabaSettings
    now: Callable[[], float]

    def login_of(self, name: CloudName) -> ChildLogin:
        """Return what a request in the name of a child says now."""
        settings = self.settings
        client, time = payloads.client_id_of(name, settings), int(self.now() * 1000)
        return ChildLogin(client, settings.sign_method, str(time), settings.clean_session)


class AlibabaSubDeviceSessions:
    """The sessions of the gateway's children, and the topology that they need.

    commands: those of the gateway and its children.
    limit: children that the cloud lets a gateway have.  now: seconds of a steady clock.
    """

    def __init__(
        self,
        link: GatewayLink[AlibabaUplink],
        requests: AlibabaRequests,
        signing: Signing,
        commands: CommandRouter[SubName],
        limit: int,
        now: Callable[[], float],
    ) -> None:
        self._link, self._requests, self._signing = link, requests, signing
        self._limits = MessageLimits(now)
        self._online = OpenSessions(requests.log_out, now, commands)
        self.cooldown = Cooldown[SubName](now)
        self.topology = AlibabaTopology(limit, requests.attached)

    def all(self) -> tuple[SubDeviceSession, ...]:
        """Return the sessions that are open."""
        return self._online.sessions()

    def limit_of(self, child: SubName) -> MessageLimit:
        """Return the limit of what a child publishes by itself."""
        return self._limits.of(child)

    def expect(self, child: SubName) -> None:
        """Prepare for the registration of a child, and count it as one of the gateway's."""
        self._online.expect(child)
        self.topology.reserve(child)

    async def connect(self, name: CloudName, secret: Secret, *, issued: bool) -> SubDeviceSession:
        """Log a child in, and add it to the topology before if it is not there.

        issued: whether the cloud issued the secret: then it knew the child.
        Raises LoginRefused, LoginRemoved, LoginFailed.
        """
        child = sub_name(name)

        async def log_in() -> None:
            await self._know_topology()
            await self._attach_and_log_in(name, secret)

        try:
            return await self._online.open(child, name, secret, self._publisher(child), log_in)
        except Denied as denied:
            raise self._login_error(child, denied, issued=issued) from denied
        except UNANSWERED as error:
            raise LoginFailed(unanswered(error)) from error

    async def unbind(self, name: CloudName) -> Reason | None:
        """Take a child out of the topology; return why that failed."""
        child = sub_name(name)
        try:
            with self._online.unbinding(child):
                await self._requests.detach.submit(child)
        except Denied as denied:
            if denied.meaning.kind is not ResultKind.REMOVED:
                return denied.meaning.reason
        except UNANSWERED as error:
            return unanswered(error)
        self._online.unbound(child)
        self.topology.drop(child)
        self.cooldown.end(child)
        return None

    async def check(self, session: SubDeviceSession) -> bool:
        """Log a child in once more, to learn whether the cloud still has its session.

        Return whether that is known now; a session that is not open any more is left alone.
        """
        child = sub_name(session.name)
        if self._online.get(child) is not session:
            return True
        try:
            await self._requests.log_in.submit(self._to_log_in(session.name, session.secret))
        except Denied as denied:
            if denied.meaning.kind is ResultKind.TRANSIENT:
                return False
            if self._online.get(child) is session:
                self.force_off(child, denied)
        except UNANSWERED:
            return False
        return True

    def force_off(self, child: SubName, denied: Denied) -> None:
        """End the session of a child that the cloud does not let be online.

        If the child is not in the topology, it is added again at its next login, not now: the
        cloud may be about to report that it has removed the child.
        """
        meaning = denied.meaning
        self.cooldown.start(child, meaning)
        if meaning.kind is ResultKind.REMOVED:
            self.remove(child)
        else:
            self._online.end(child, SessionEnd(meaning.reason, by_cloud=True))

    def remove(self, child: SubName) -> None:
        """End the session of a child that the cloud has removed, or else refuse its next login."""
        self._online.remove(child, known=self.topology.remove(child))

    def end_all(self) -> Sequence[CloudName]:
        """End every session, as the link is lost; return the names of the children."""
        return self._online.end_all()

    async def close(self) -> None:
        """End what is under way; open sessions are not closed."""
        await self._online.close()
        await self.topology.close()
        await self._requests.close()

    def _publisher(self, child: SubName) -> SubDevicePublisher:
        force_off = partial(self.force_off, child)
        return SubDevicePublisher(child, self._link, self._limits.of, force_off)

    def _login_error(self, child: SubName, denied: Denied, *, issued: bool) -> LoginError:
        meaning = denied.meaning
        if issued and denied.code == NOT_FOUND:
            return LoginRemoved(REMOVED)
        self.cooldown.start(child, meaning)
        return meaning.login_error

    async def _know_topology(self) -> None:
        """Ask for the topology, if need be; a refusal of that says nothing about this child."""
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
        self.topology.reserve(child)
        login = self._signing.login_of(name)
        await self._requests.attach.submit(payloads.to_attach(name, secret, login))
        self.topology.add(child)

    async def _log_in(self, name: CloudName, secret: Secret) -> None:
        step = self._requests.log_in.post(self._to_log_in(name, secret))
        await self._online.commit(sub_name(name), step)

    def _to_log_in(self, name: CloudName, secret: Secret) -> Entry:
        return payloads.to_log_in(name, secret, self._signing.login_of(name))


MOST = 10_000
"""Children that are remembered, however many the cloud names; the limit cannot be higher."""


class AlibabaTopology(Quota[SubName]):
    """The children that the cloud has for this gateway.

    limit: children that the cloud lets a gateway have.
    fetch: asks the cloud; raises what the request raises.
    """

    def __init__(self, limit: int, fetch: Callable[[], Awaitable[frozenset[SubName]]]) -> None:
        super().__init__(limit, MOST)
        self._fetch = fetch
        self._fetching: asyncio.Task[None] | None = None

    async def know(self) -> None:
        """Return when the cloud was asked since the link came up; many may wait at once.

        Raises what the request raises; then the next call asks the cloud again.
        """
        if self._fetching is None or _failed(self._fetching):
            self.begin()
        assert self._fetching is not None, "it was begun"
        await asyncio.shield(self._fetching)

    def begin(self) -> None:
        """Ask the cloud again: the link is another, or the cloud hints at changes."""
        if self._fetching is not None:
            self._fetching.cancel()
        self._fetching = asyncio.create_task(self._update())
        self._fetching.add_done_callback(_failed)  # retrieves the exception: know() asks again

    async def close(self) -> None:
        """End a request that is under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait({self._fetching})

    async def _update(self) -> None:
        self.replace(await self._fetch())


def _failed(task: asyncio.Task[None]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


CHECKED, PAUSE = 50, 1.0
"""Children that are checked together, and seconds until the next are."""
PERIOD = 60.0
"""Seconds from one check of all to the next: a child may log in five times a minute."""


class SessionCheck(BackgroundTask):
    """A check of which children are still logged in, for when the cloud says that one is not.

    now: seconds of a steady clock.
    """

    def __init__(self, sessions: AlibabaSubDeviceSessions, now: Callable[[], float]) -> None:
        super().__init__(self._check_until_sure)
        self._sessions, self._now = sessions, now
        self._requested, self._last = False, -PERIOD

    def begin(self) -> None:
        """Check all children; once more if a check is under way, as it is past some of them."""
        self._requested = True
        super().begin()

    async def _check_until_sure(self) -> None:
        unsure: Sequence[SubDeviceSession] = ()
        while self._requested or unsure:
            await asyncio.sleep(max(0.0, self._last + PERIOD - self._now()))
            sessions = self._sessions.all() if self._requested else unsure
            self._requested, self._last = False, self._now()
            unsure = await self._check(sessions)

    async def _check(self, sessions: Sequence[SubDeviceSession]) -> Sequence[SubDeviceSession]:
        """Return the sessions that the cloud neither confirmed nor denied."""
        unsure: list[SubDeviceSession] = []
        for first in range(0, len(sessions), CHECKED):
            some = sessions[first : first + CHECKED]
            sure = await asyncio.gather(*(self._sessions.check(session) for session in some))
            unsure += [session for session, one in zip(some, sure, strict=True) if not one]
            await asyncio.sleep(PAUSE)
        return unsure
