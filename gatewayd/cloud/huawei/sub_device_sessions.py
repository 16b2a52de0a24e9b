"""Sub-device sessions: children added at the platform, and online over the gateway's link."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from gatewayd.cloud.command_router import CommandRouter
from gatewayd.cloud.huawei import reasons
from gatewayd.cloud.huawei.device_cache import DeviceCache, DeviceSync
from gatewayd.cloud.huawei.messages import NodeName, SubDeviceInfo, SubDeviceStatus, node_name
from gatewayd.cloud.huawei.requests import HuaweiRequests
from gatewayd.cloud.provider import LoginError, LoginFailed, SessionEnd
from gatewayd.cloud.publisher import MessagePublisher
from gatewayd.cloud.sub_devices.link import NotSent
from gatewayd.cloud.sub_devices.result_codes import (
    REMOVED,
    UNANSWERED,
    Cooldown,
    Denied,
    MissingFromReply,
    ResultKind,
    ResultMeaning,
    unanswered,
)
from gatewayd.cloud.sub_devices.sessions import OpenSessions, SubDeviceSession
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.runtime.tasks import cancel_and_wait


class HuaweiSubDeviceSessions:
    """The sessions of the gateway's children.

    publisher: of what a child says, by its name and device ID.
    commands: those of the gateway and its children.
    now: seconds of a steady clock.  online: by device ID.
    """

    def __init__(
        self,
        requests: HuaweiRequests,
        cache: DeviceCache,
        sync: DeviceSync,
        publisher: Callable[[CloudName, str], MessagePublisher],
        commands: CommandRouter[str],
        now: Callable[[], float],
    ) -> None:
        self._requests, self._cache, self._sync = requests, cache, sync
        self._publisher = publisher
        self._unsure: set[NodeName] = set()
        self._checks: dict[str, asyncio.Task[None]] = {}
        self.online = OpenSessions(requests.log_out, now, commands)
        self.cooldown = Cooldown[NodeName](now)

    async def add(self, child: NodeName) -> str:
        """Add a child, unless the platform has it for this gateway; return its device ID.

        Raises Denied, MissingFromReply, and what a request raises.
        """
        self._cache.reserve(child)
        info = self._cache.find(child)
        if info is None and child in self._unsure:
            info = await self._sync.find(child)
        if info is None:
            info = await self._request_addition(child)
        if self._cache.belongs_to_another(info.device_id, child):
            raise MissingFromReply  # the two children would replace each other
        self._unsure.discard(child)
        self._cache.update(
            SubDeviceInfo(info.device_id, child.node, child.product, status=info.status)
        )
        return info.device_id

    async def connect(self, name: CloudName, device_id: str, kept: Secret) -> SubDeviceSession:
        """Report a child online.  Raises LoginRemoved, LoginFailed."""

        async def log_in() -> None:
            await self.online.commit(device_id, self._requests.log_in.post(device_id))

        publisher = self._publisher(name, device_id)
        try:
            session = await self.online.open(device_id, name, kept, publisher, log_in)
        except Denied as denied:
            raise self._login_error(name, device_id, denied) from denied
        except MissingFromReply as error:
            raise LoginFailed(reasons.NOT_LISTED) from error
        except UNANSWERED as error:
            raise LoginFailed(unanswered(error)) from error
        self._cache.update(
            SubDeviceInfo(device_id, name.device, name.product, status=SubDeviceStatus.ONLINE)
        )
        return session

    async def unbind(self, name: CloudName) -> Reason | None:
        """Delete a child at the platform; return why that was not done."""
        child = node_name(name)
        device_id = self._cache.device_id(child)
        try:
            with self.online.unbinding(device_id):
                await self._requests.delete.submit(device_id)
        except Denied as denied:
            return denied.meaning.reason
        except MissingFromReply:
            return reasons.NOT_LISTED
        except UNANSWERED as error:
            return unanswered(error)
        self.online.unbound(device_id)
        self._forget(child, device_id)
        return None

    def confirm_deletion(self, device_id: str) -> None:
        """Check a child that the platform reports as deleted.

        A notice after a reconnect may be old: the child may have been added again since.  A child
        without a session is checked when it logs in.
        """
        if self.online.is_unbinding(device_id):
            return
        self._cache.delete(device_id)
        self._begin_check(device_id)

    def report_again(self) -> None:
        """Report all online children again, over a link that has replaced another.

        Sessions of children that the platform no longer knows end.
        """
        for device_id in self.online.children():
            self._begin_check(device_id)

    def end_all(self) -> Sequence[CloudName]:
        """End every session, as the link is lost; return the names of their children."""
        self._sync.wake()
        return self.online.end_all()

    async def close(self) -> None:
        """Cancel what is under way.  Sessions are closed by their owners."""
        await cancel_and_wait(self._checks.values())
        await self.online.close()
        await self._sync.close()
        await self._requests.close()

    async def _request_addition(self, child: NodeName) -> SubDeviceInfo:
        """Request the addition of a child; an existing one may be this gateway's.

        Where the response is lost, the next try requests the platform's children first.
        """
        self._unsure.add(child)
        try:
            return await self._requests.add(child)
        except NotSent:
            self._unsure.discard(child)
            raise
        except Denied as denied:
            self._unsure.discard(child)
            exists = denied.meaning.kind is ResultKind.EXISTS
            info = await self._sync.find(child) if exists else None
            if info is None:
                raise
            return info

    def _begin_check(self, device_id: str) -> None:
        session = self.online.get(device_id)
        if session is not None and device_id not in self._checks:
            task = asyncio.create_task(self._check(session, device_id))
            self._checks[device_id] = task
            task.add_done_callback(lambda _: self._checks.pop(device_id))

    async def _check(self, session: SubDeviceSession, device_id: str) -> None:
        """Report a child online once more, to learn whether the platform still has it."""
        try:
            await self._requests.log_in.submit(device_id)
        except Denied as denied:
            meaning = self._meaning(device_id, denied)
            if meaning.kind is ResultKind.REMOVED and self.online.get(device_id) is session:
                self.online.end(device_id, SessionEnd(meaning.reason, removed=True))
        except (MissingFromReply, *UNANSWERED):
            return  # every session ends with the link
        else:
            name = session.name
            self._cache.update(
                SubDeviceInfo(device_id, name.device, name.product, status=SubDeviceStatus.ONLINE)
            )
            if self.online.get(device_id) is None:
                await self.online.log_out(device_id)

    def _login_error(self, name: CloudName, device_id: str, denied: Denied) -> LoginError:
        meaning = self._meaning(device_id, denied)
        self.cooldown.start(node_name(name), meaning)
        if meaning.kind is ResultKind.REMOVED:
            self._forget(node_name(name), device_id)
        return meaning.login_error

    def _meaning(self, device_id: str, denied: Denied) -> ResultMeaning:
        """Return what a denied report means: codes are not documented, but deletions are known."""
        unknown = denied.meaning.kind is ResultKind.UNKNOWN
        deleted = unknown and self._cache.was_deleted(device_id)
        return ResultMeaning(ResultKind.REMOVED, REMOVED) if deleted else denied.meaning

    def _forget(self, child: NodeName, device_id: str) -> None:
        self._cache.forget(device_id)
        self._cache.drop(child)
        self._unsure.discard(child)
        self.cooldown.end(child)
