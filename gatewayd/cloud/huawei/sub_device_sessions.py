"""The children of the gateway: added at the platform, and reported online over its link."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from gatewayd.cloud.huawei import reasons
from gatewayd.cloud.huawei.device_cache import DeviceCache, DeviceSync
from gatewayd.cloud.huawei.messages import NodeName, SubDeviceInfo, SubDeviceStatus, node_name
from gatewayd.cloud.huawei.requests import HuaweiRequests, NotListed
from gatewayd.cloud.provider import LoginError, LoginFailed, SessionEnd
from gatewayd.cloud.sub_devices.link import NotSent
from gatewayd.cloud.sub_devices.requests import Cooldown
from gatewayd.cloud.sub_devices.result_codes import (
    REMOVED,
    UNANSWERED,
    Denied,
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
    """calls: what may be asked.  now: seconds of a steady clock.

    online: by device ID.
    """

    def __init__(
        self, calls: HuaweiRequests, roster: DeviceCache, sync: DeviceSync, now: Callable[[], float]
    ) -> None:
        self._calls, self._roster, self._sync = calls, roster, sync
        self._unsure: set[NodeName] = set()
        self._checks: dict[str, asyncio.Task[None]] = {}
        self.online = OpenSessions(calls.log_out, now)
        self.pauses = Cooldown[NodeName](now)

    async def add(self, child: NodeName) -> str:
        """Add a child, unless the platform has it for this gateway; return its device ID.

        Raises Denied, NotListed, and what a call raises.
        """
        self._roster.want(child)
        told = self._roster.find(child)
        if told is None and child in self._unsure:
            told = await self._sync.find(child)
        if told is None:
            told = await self._ask_for(child)
        if self._roster.is_anothers(told.device_id, child):
            raise NotListed  # two children would take each other's place
        self._unsure.discard(child)
        self._roster.learn(
            SubDeviceInfo(told.device_id, child.node, child.product, status=told.status)
        )
        return told.device_id

    async def connect(self, name: CloudName, device_id: str, kept: Secret) -> SubDeviceSession:
        """Report a child online.  Raises LoginRemoved, LoginFailed."""

        async def log_in() -> None:
            await self.online.commit(device_id, self._calls.log_in.submit(device_id))

        try:
            session = await self.online.open(device_id, name, kept, log_in)
        except Denied as denied:
            raise self._login_error(name, device_id, denied) from denied
        except NotListed as error:
            raise LoginFailed(reasons.NOT_LISTED) from error
        except UNANSWERED as error:
            raise LoginFailed(unanswered(error)) from error
        self._roster.learn(
            SubDeviceInfo(device_id, name.device, name.product, status=SubDeviceStatus.ONLINE)
        )
        return session

    async def unbind(self, name: CloudName) -> Reason | None:
        """Delete a child at the platform; return why that was not done."""
        child = node_name(name)
        device_id = self._roster.device_id(child)
        try:
            with self.online.forgetting(device_id):
                await self._calls.delete.submit(device_id)
        except Denied as denied:
            return denied.meaning.reason
        except NotListed:
            return reasons.NOT_LISTED
        except UNANSWERED as error:
            return unanswered(error)
        self.online.forgotten(device_id)
        self._lose(child, device_id)
        return None

    def take(self, device_id: str) -> None:
        """The platform tells that it has deleted a child: look whether that is so.

        What it tells after a reconnect may be old: a child may have been added again since.  One
        without a session is looked at when it logs in.
        """
        if self.online.is_forgetting(device_id):
            return
        self._roster.delete(device_id)
        self._begin_check(device_id)

    def report_again(self) -> None:
        """Report who is online over a link that has taken the place of another.

        Those who are not known there any more are told so.
        """
        for device_id in self.online.children():
            self._begin_check(device_id)

    def end_all(self) -> Sequence[CloudName]:
        """The link is lost, and with it every session.  Return whose it was."""
        self._sync.wake()
        return self.online.end_all()

    async def close(self) -> None:
        """End what is under way.  Sessions belong to whoever opened them."""
        await cancel_and_wait(self._checks.values())
        await self.online.close()
        await self._sync.close()
        await self._calls.close()

    async def _ask_for(self, child: NodeName) -> SubDeviceInfo:
        """Ask the platform to add a child; one that it has already may be this gateway's.

        Where the answer is lost, the platform is asked for its children before the next try.
        """
        self._unsure.add(child)
        try:
            return await self._calls.add(child)
        except NotSent:
            self._unsure.discard(child)
            raise
        except Denied as denied:
            self._unsure.discard(child)
            exists = denied.meaning.kind is ResultKind.EXISTS
            told = await self._sync.find(child) if exists else None
            if told is None:
                raise
            return told

    def _begin_check(self, device_id: str) -> None:
        session = self.online.get(device_id)
        if session is not None and device_id not in self._checks:
            task = asyncio.create_task(self._check(session, device_id))
            self._checks[device_id] = task
            task.add_done_callback(lambda _: self._checks.pop(device_id))

    async def _check(self, session: SubDeviceSession, device_id: str) -> None:
        """Report a child online once more, to learn whether the platform still has it."""
        try:
            await self._calls.log_in.submit(device_id)
        except Denied as denied:
            meaning = self._meaning(device_id, denied)
            if meaning.kind is ResultKind.REMOVED and self.online.get(device_id) is session:
                self.online.end(device_id, SessionEnd(meaning.reason, removed=True))
        except (NotListed, *UNANSWERED):
            return  # the end of the link tells every child
        else:
            name = session.name
            self._roster.learn(
                SubDeviceInfo(device_id, name.device, name.product, status=SubDeviceStatus.ONLINE)
            )
            if self.online.get(device_id) is None:
                await self.online.log_out(device_id)

    def _login_error(self, name: CloudName, device_id: str, denied: Denied) -> LoginError:
        meaning = self._meaning(device_id, denied)
        self.pauses.note(node_name(name), meaning)
        if meaning.kind is ResultKind.REMOVED:
            self._lose(node_name(name), device_id)
        return meaning.login_error

    def _meaning(self, device_id: str, denied: Denied) -> ResultMeaning:
        """Return what a denied report means: codes are not documented, but deletions are told."""
        unknown = denied.meaning.kind is ResultKind.UNKNOWN
        deleted = unknown and self._roster.was_deleted(device_id)
        return ResultMeaning(ResultKind.REMOVED, REMOVED) if deleted else denied.meaning

    def _lose(self, child: NodeName, device_id: str) -> None:
        self._roster.lose(device_id)
        self._roster.drop(child)
        self._unsure.discard(child)
        self.pauses.end(child)
