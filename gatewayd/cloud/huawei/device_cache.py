"""Which children the platform has for this gateway, as far as it has told.

Asks the platform which children it has for this gateway.

It does not answer that: it tells of the children in notices, and of nothing if there are none.
The version up to which it has told is kept in memory alone, so that the first session of a run
asks for all children: what is wrong here after a restart is put right by that.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from gatewayd.cloud.huawei.connection import HuaweiUplink
from gatewayd.cloud.huawei.messages import NodeName, Notice, SubDeviceInfo, SubDeviceStatus
from gatewayd.cloud.huawei.settings import default_device_id
from gatewayd.cloud.sub_devices.link import GatewayLink, LinkDown
from gatewayd.cloud.sub_devices.quota import Quota
from gatewayd.runtime.tasks import cancel_and_wait

MOST = 50_000
"""Children that are remembered, whatever the platform tells; it lets a gateway have no more."""
DELETED = 10_000
"""Deleted children that are remembered: whoever is online learns soon that it is gone."""


class DeviceCache(Quota[NodeName]):
    """limit: children that the platform lets this gateway have."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit, MOST)
        self._children: dict[str, SubDeviceInfo] = {}
        self._ids: dict[NodeName, str] = {}
        self._deleted: dict[str, None] = {}  # the oldest first

    def learn(self, told: SubDeviceInfo) -> bool:
        """Learn of a child; return whether it was not known, nor asked for."""
        before = self._children.get(told.device_id)
        if before is None and len(self._children) >= MOST:
            return False
        new = before is None and told.name not in self._wanted
        if before is not None:
            self.lose(told.device_id)
            told = _joined(before, told)
        self._deleted.pop(told.device_id, None)
        self._children[told.device_id] = told
        self._ids[told.name] = told.device_id
        self.add(told.name)
        return new

    def report(self, device_id: str, status: SubDeviceStatus) -> None:
        """Learn that the platform has taken a report; one of a stranger is passed over."""
        if (told := self._children.get(device_id)) is not None:
            self._children[device_id] = replace(told, status=status)

    def lose(self, device_id: str) -> bool:
        """Know of a child no more; return whether it was known."""
        told = self._children.pop(device_id, None)
        if told is None:
            return False
        if self._ids.get(told.name) == device_id:  # else another has come under this name
            del self._ids[told.name]
            self.remove(told.name)
        return True

    def delete(self, device_id: str) -> None:
        """Learn that the platform tells of a child that it has deleted it."""
        if self.lose(device_id):
            self._deleted[device_id] = None
            if len(self._deleted) > DELETED:
                del self._deleted[next(iter(self._deleted))]

    def was_deleted(self, device_id: str) -> bool:
        """Whether that is the last that the platform has told of a child."""
        return device_id in self._deleted

    def find(self, name: NodeName) -> SubDeviceInfo | None:
        """Return what the platform has told of a child; None where that is nothing."""
        device_id = self._ids.get(name) or self._ids.get(NodeName("", name.node))
        return self._children.get(device_id) if device_id else None

    def is_anothers(self, device_id: str, name: NodeName) -> bool:
        """Whether the platform has told of a device ID as that of another child."""
        told = self._children.get(device_id)
        return told is not None and told.node not in ("", name.node)

    def device_id(self, name: NodeName) -> str:
        """Return a child's device ID: what was told, or else what the platform would choose."""
        told = self.find(name)
        return told.device_id if told else default_device_id(name.product, name.node)

    def online(self) -> Sequence[str]:
        """Return the device IDs of those that the platform has online."""
        children = self._children.values()
        return [told.device_id for told in children if told.status is SubDeviceStatus.ONLINE]


def _joined(before: SubDeviceInfo, told: SubDeviceInfo) -> SubDeviceInfo:
    """Return what is told now, and where that is silent, what was told before."""
    return SubDeviceInfo(
        told.device_id,
        told.node or before.node,
        told.product or before.product,
        told.parent or before.parent,
        told.status or before.status,
    )


QUIET = 2.0
"""Seconds after a notice in which another one would have come."""


class DeviceSync:
    """patience: seconds in which the first notice comes, if any.  now: seconds of a steady clock.

    version: that which the platform has told last; 0 before that.  It grows; but a platform that
    has lost count, or created the gateway anew, begins again, so that an older one is an old
    notice only after a newer one of the same session, and not when all children are asked for.
    """

    def __init__(
        self,
        link: GatewayLink[HuaweiUplink],
        roster: DeviceCache,
        patience: float,
        now: Callable[[], float],
    ) -> None:
        self._link, self._roster, self._patience, self._now = link, roster, patience, now
        self._tasks: set[asyncio.Task[None]] = set()
        self._asking: asyncio.Task[None] | None = None
        self._told = asyncio.Event()
        self._notices = 0
        self._newest = 0
        self.version = 0

    def begin(self) -> None:
        """Ask over a new link what has changed, or for all children if nothing is known.

        Nobody waits for it.
        """
        self._newest = 0
        self.wake()
        self._start(self.version)

    def fresh(self, notice: Notice) -> bool:
        """Whether a notice is to be heeded: it is not older than what is known.

        One of the same version is: the platform may need several to tell of all children.
        """
        if 0 < notice.version < self._newest:
            return False
        self._newest = max(self._newest, notice.version)
        self.version = self._newest or self.version
        return True

    def heard(self) -> None:
        """Go on where notices are waited for: the roster has one more."""
        self._notices += 1
        self.wake()

    def wake(self) -> None:
        """Look again where notices are waited for: the link may have ended."""
        self._told.set()
        self._told = asyncio.Event()

    async def find(self, name: NodeName) -> SubDeviceInfo | None:
        """Ask for all children; return this one, or None if the platform does not tell of it.

        Raises NoAnswer, LinkDown.
        """
        uplink, before, end = self._link.get(), self._notices, self._now() + self._patience
        if self._asking is None or self._asking.done():
            self._newest = 0
            self._asking = self._start(0)
        await asyncio.shield(self._asking)
        while (told := self._roster.find(name)) is None:
            if self._link.get() is not uplink:
                raise LinkDown
            left = end - self._now()
            if not await self._next(min(left, QUIET) if self._notices > before else left):
                break
        return told

    async def close(self) -> None:
        """End what is under way."""
        await cancel_and_wait(self._tasks)

    def _start(self, version: int) -> asyncio.Task[None]:
        task = asyncio.create_task(self._link.get().sync(version))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # the end of the link tells all

    async def _next(self, seconds: float) -> bool:
        """Return whether a notice comes within so many seconds."""
        told = self._told
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await told.wait()
        return told.is_set()
