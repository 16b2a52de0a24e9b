"""A gateway's requests for its children, batched: many children, few requests.

Each call is for one child.  Calls made at about the same time travel in one request, and each
child's part of the response is found by its name, never by its position.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

from gatewayd.cloud.batch import Batcher
from gatewayd.cloud.huawei import messages, reasons
from gatewayd.cloud.huawei.connection import HuaweiUplink
from gatewayd.cloud.huawei.messages import (
    NodeName,
    Response,
    SubDeviceEvent,
    SubDeviceFailure,
    SubDeviceInfo,
    SubDeviceStatus,
)
from gatewayd.cloud.sub_devices.link import GatewayLink
from gatewayd.cloud.sub_devices.result_codes import MissingFromReply, ResultKind

WAIT = 0.05
"""Seconds for which a batch stays open."""
ADDED, DELETED, REPORTED = 50, 50, 100
"""Children in one request, at most ("Adding child devices", "Deleting child devices"; the last is
of the vendor's C SDK)."""
_BATCHES_PER_SECOND = 2
"""Status batches in a second, at least: so no second exceeds its limit by more than half."""


class HuaweiRequests:
    """The requests of one gateway.

    status_per_second: children reported in a second.
    reported: called for each child whose status was accepted.
    wait: seconds for which a batch stays open.
    """

    def __init__(
        self,
        link: GatewayLink[HuaweiUplink],
        status_per_second: int,
        reported: Callable[[str, SubDeviceStatus], None],
        wait: float = WAIT,
    ) -> None:
        self._link, self._reported = link, reported
        size = min(REPORTED, max(1, status_per_second // _BATCHES_PER_SECOND))
        self._adds = Batcher[NodeName, SubDeviceInfo](ADDED, wait, self._add)
        self._adding: dict[NodeName, asyncio.Task[SubDeviceInfo]] = {}
        self.delete = Batcher[str, None](DELETED, wait, self._delete)
        self.log_in = Batcher[str, None](size, wait, self._log_in)
        self.log_out = Batcher[str, None](size, wait, self._log_out)

    async def add(self, child: NodeName) -> SubDeviceInfo:
        """Add a child.

        Calls for the same child share one request, which goes on if none of them waits any more.
        Raises Denied, MissingFromReply, BatcherClosed, LinkError.
        """
        task = self._adding.get(child)
        if task is None:
            task = asyncio.create_task(self._adds.submit(child))
            self._adding[child] = task
            task.add_done_callback(lambda done: self._added(child, done))
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Cancel what is under way."""
        await self._adds.close()
        for batcher in (self.delete, self.log_in, self.log_out):
            await batcher.close()
        await asyncio.gather(*self._adding.values(), return_exceptions=True)

    def _added(self, child: NodeName, task: asyncio.Task[SubDeviceInfo]) -> None:
        del self._adding[child]
        if not task.cancelled():
            task.exception()  # retrieved, as perhaps no caller waits any more

    async def _add(self, children: Sequence[NodeName]) -> Sequence[SubDeviceInfo | Exception]:
        response = await self._link.get().ask(
            SubDeviceEvent.ADD, messages.to_add(children), len(children)
        )
        nodes = Counter(child.node for child in children)
        return [_part(child, response, alone=nodes[child.node] == 1) for child in children]

    async def _delete(self, device_ids: Sequence[str]) -> Sequence[Exception | None]:
        paras = messages.to_delete(device_ids)
        response = await self._link.get().ask(SubDeviceEvent.DELETE, paras, len(device_ids))
        return _parts(device_ids, response)

    async def _log_in(self, device_ids: Sequence[str]) -> Sequence[Exception | None]:
        return await self._report(device_ids, SubDeviceStatus.ONLINE)

    async def _log_out(self, device_ids: Sequence[str]) -> Sequence[Exception | None]:
        return await self._report(device_ids, SubDeviceStatus.OFFLINE)

    async def _report(
        self, device_ids: Sequence[str], status: SubDeviceStatus
    ) -> Sequence[Exception | None]:
        paras = messages.to_report(device_ids, status)
        response = await self._link.get().ask(SubDeviceEvent.STATUS, paras, len(device_ids))
        for info in response.done:
            self._reported(info.device_id, status)
        return _parts(device_ids, response)


def _part(child: NodeName, response: Response, *, alone: bool) -> SubDeviceInfo | Exception:
    """Return a child's part of the response to an addition.

    alone: whether no other child of the request has its node ID, which then suffices.
    """
    names = (child, NodeName("", child.node)) if alone else (child,)
    for info in response.done:
        if info.name in names:
            return info
    return _failure(response, [one for one in response.failed if one.name in names])


def _parts(device_ids: Sequence[str], response: Response) -> Sequence[Exception | None]:
    done = {info.device_id for info in response.done}
    failed: dict[str, list[SubDeviceFailure]] = {}
    for one in response.failed:
        failed.setdefault(one.device_id, []).append(one)
    return [
        None if device_id in done else _denied(response, failed.get(device_id, []))
        for device_id in device_ids
    ]


def _denied(response: Response, failures: Sequence[SubDeviceFailure]) -> Exception | None:
    error = _failure(response, failures)
    done = getattr(error, "meaning", None)
    return None if done is not None and done.kind is ResultKind.DONE else error


def _failure(response: Response, failures: Sequence[SubDeviceFailure]) -> Exception:
    return reasons.denial(failures[0].code, response.event) if failures else MissingFromReply()
