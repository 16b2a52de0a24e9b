"""The device cache: the children that the platform has for this gateway, as far as it has reported.

`DeviceSync` fills it.  The platform does not answer the request for the children: it reports them
in notices, and sends none if there are no children.  The last version reported is kept in memory
alone, so that the first session of a run requests all children, which corrects what is wrong here
after a restart.
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
"""Children in the cache, at most; the platform lets a gateway have no more."""
DELETED = 10_000
"""Deleted children that are remembered, at most: a child that is online learns of it soon."""


class DeviceCache(Quota[NodeName]):
    """A cache of the gateway's children.

    limit: children that the platform lets this gateway have.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(limit, MOST)
        self._children: dict[str, SubDeviceInfo] = {}
        self._ids: dict[NodeName, str] = {}
        self._deleted: dict[str, None] = {}  # the oldest first

    def update(self, info: SubDeviceInfo) -> bool:
        """Add or update a child; return whether it was neither known nor requested."""
        before = self._children.get(info.device_id)
        if before is None and len(self._children) >= MOST:
            return False
        new = before is None and info.name not in self._reserved
        if before is not None:
            self.forget(info.device_id)
            info = _merged(before, info)
        self._deleted.pop(info.device_id, None)
        self._children[info.device_id] = info
        self._ids[info.name] = info.device_id
        self.add(info.name)
        return new

    def set_status(self, device_id: str, status: SubDeviceStatus) -> None:
        """Note a status that the platform has accepted; that of an unknown child is ignored."""
        if (info := self._children.get(device_id)) is not None:
            self._children[device_id] = replace(info, status=status)

    def forget(self, device_id: str) -> bool:
        """Remove a child; return whether it was known."""
        info = self._children.pop(device_id, None)
        if info is None:
            return False
        if self._ids.get(info.name) == device_id:  # else another child has this name now
            del self._ids[info.name]
            self.remove(info.name)
        return True

    def delete(self, device_id: str) -> None:
        """Remove a child that the platform reports as deleted."""
        if self.forget(device_id):
            self._deleted[device_id] = None
            if len(self._deleted) > DELETED:
                del self._deleted[next(iter(self._deleted))]

    def was_deleted(self, device_id: str) -> bool:
        """Whether the platform's last report of a child was that it is deleted."""
        return device_id in self._deleted

    def find(self, name: NodeName) -> SubDeviceInfo | None:
        """Return what the platform has reported of a child; None for an unknown one."""
        device_id = self._ids.get(name) or self._ids.get(NodeName("", name.node))
        return self._children.get(device_id) if device_id else None

    def belongs_to_another(self, device_id: str, name: NodeName) -> bool:
        """Whether the platform has reported a device ID as that of another child."""
        info = self._children.get(device_id)
        return info is not None and info.node not in ("", name.node)

    def device_id(self, name: NodeName) -> str:
        """Return a child's device ID: as reported, or else what the platform would choose."""
        info = self.find(name)
        return info.device_id if info else default_device_id(name.product, name.node)

    def online(self) -> Sequence[str]:
        """Return the device IDs of the children that are online at the platform."""
        children = self._children.values()
        return [info.device_id for info in children if info.status is SubDeviceStatus.ONLINE]


def _merged(before: SubDeviceInfo, info: SubDeviceInfo) -> SubDeviceInfo:
    """Return the new report, completed from the one before."""
    return SubDeviceInfo(
        info.device_id,
        info.node or before.node,
        info.product or before.product,
        info.parent or before.parent,
        info.status or before.status,
    )


QUIET = 2.0
"""Seconds after a notice in which the next one would have come."""


class DeviceSync:
    """The synchronisation of the device cache with the platform.

    patience: seconds in which the first notice comes, if any.  now: seconds of a steady clock.
    version: the last one that the platform has reported; 0 before that.  It grows; but a platform
    that has lost count, or has created the gateway again, restarts it.  So a lower version is an
    old notice only after a higher one of the same session, and not when all children are requested.
    """

    def __init__(
        self,
        link: GatewayLink[HuaweiUplink],
        cache: DeviceCache,
        patience: float,
        now: Callable[[], float],
    ) -> None:
        self._link, self._cache, self._patience, self._now = link, cache, patience, now
        self._tasks: set[asyncio.Task[None]] = set()
        self._full_sync: asyncio.Task[None] | None = None
        self._arrival = asyncio.Event()
        self._notices = 0
        self._newest = 0
        self.version = 0

    def begin(self) -> None:
        """Request the changes over a new link, or all children if nothing is known.

        Does not wait for the result.
        """
        self._newest = 0
        self.wake()
        self._start(self.version)

    def is_current(self, notice: Notice) -> bool:
        """Whether a notice is not older than what is known; keeps its version.

        One of the same version counts: the platform may need several to report all children.
        """
        if 0 < notice.version < self._newest:
            return False
        self._newest = max(self._newest, notice.version)
        self.version = self._newest or self.version
        return True

    def notice_received(self) -> None:
        """Wake those that wait for notices: the cache has one more."""
        self._notices += 1
        self.wake()

    def wake(self) -> None:
        """Wake those that wait for notices: the link may have ended."""
        self._arrival.set()
        self._arrival = asyncio.Event()

    async def find(self, name: NodeName) -> SubDeviceInfo | None:
        """Request all children; return this one, or None if the platform does not report it.

        Raises NoAnswer, LinkDown.
        """
        uplink, before, end = self._link.get(), self._notices, self._now() + self._patience
        if self._full_sync is None or self._full_sync.done():
            self._newest = 0
            self._full_sync = self._start(0)
        await asyncio.shield(self._full_sync)
        while (info := self._cache.find(name)) is None:
            if self._link.get() is not uplink:
                raise LinkDown
            left = end - self._now()
            if not await self._next(min(left, QUIET) if self._notices > before else left):
                break
        return info

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
            task.exception()  # the end of the link is reported elsewhere

    async def _next(self, seconds: float) -> bool:
        """Return whether a notice comes within so many seconds."""
        arrival = self._arrival
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await arrival.wait()
        return arrival.is_set()
