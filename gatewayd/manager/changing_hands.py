"""Children change hands between the gateways of a site, a shard at a time, while all else goes on.

    gained:  what the site has of them is merged → they are ours → each goes on from its record
    lost:    they are another's → registrations under way end → work ends → what is written is kept

Nothing of a shard works here before it is merged, and when `lost` returns nothing does any more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from gatewayd.admission.controller import AdmissionController
from gatewayd.device import lifecycle as lc
from gatewayd.device.identity import DeviceId
from gatewayd.device.lifecycle import State
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName, Record, RecordStore
from gatewayd.device.secret import SecretSlots
from gatewayd.errors import GatewayError
from gatewayd.manager.manager import Child, DeviceManager

log = logging.getLogger(__name__)

GRACE = 5.0
"""Seconds that a registration under way has to end where its shard is given up in good order."""
LOOK = 0.1
"""Seconds until it is found that it has."""
AT_ONCE = 64
"""Children of a shard whose sessions are closed at the same time."""
SETTLE = 0.5
"""Seconds in which shards that come one after another have strangers judged again once."""
REFRESH = 2.0
"""Seconds from one look at who has the children that are elsewhere to the next."""

FORGOTTEN_THERE = Reason("forgotten-at-site", "It was forgotten at another gateway of the site.")

_REGISTERS = frozenset({State.REGISTERING, State.SECURING})
"""The states in which the cloud may be about to issue a secret."""
_UNJUDGED = frozenset({State.PENDING, State.ELSEWHERE})
"""The states of a device without a record whose rule may mean another gateway now, or this one."""


class ShardOwnership(Protocol):
    """Which shards this gateway has."""

    def elsewhere(self, name: CloudName) -> Reason:
        """Return why a child by this name belongs to another gateway; NONE where it is ours."""

    def gained(self, shard: int, token: int) -> None:
        """Note that the children of a shard are ours, by this token, and merged."""


class ShardCopies(Protocol):
    """What the site has of the children of a shard."""

    async def load(self, shard: int, token: int) -> None:
        """Merge it with what is here.  Raises GatewayError."""

    async def release(self, shard: int) -> None:
        """Write what has changed, and let another gateway go on with it."""


class ChangingHands:
    """What has the children of shards begin and end their work here: `SiteChildren`.

    begin_move: has a child that is moving to another cloud go on with that.
    shard_of: returns the shard of a name.
    may_send: whether this gateway may still send anything for its children, by its lease.
    waiting: returns the children of which messages wait to be sent.
    """

    def __init__(  # noqa: PLR0913  # by keyword: what children have to do with
        self,
        manager: DeviceManager,
        admission: AdmissionController,
        *,
        records: RecordStore,
        secrets: SecretSlots,
        ownership: ShardOwnership,
        copies: ShardCopies,
        begin_move: Callable[[DeviceId], None],
        shard_of: Callable[[CloudName], int],
        may_send: Callable[[], bool],
        waiting: Callable[[], Iterable[DeviceId]] = tuple,
    ) -> None:
        self._manager, self._admission = manager, admission
        self._records, self._secrets = records, secrets
        self._ownership, self._copies, self._begin_move = ownership, copies, begin_move
        self._shard_of, self._may_send, self._waiting = shard_of, may_send, waiting
        self._settled: set[int] = set()
        self._judge_at = asyncio.Event()

    async def gained(self, shard: int, token: int) -> None:
        """Merge what the site has of a shard's children, then let them work here.

        Raises GatewayError where that cannot be now.
        """
        await self._copies.load(shard, token)
        here = [(record, await self._has_secret(record)) for record in self._of(shard)]
        self._ownership.gained(shard, token)
        self._settled.add(shard)
        for record, has_secret in here:
            self._go_on(self._records[record.device], has_secret=has_secret)
        self._judge_at.set()

    async def lost(self, shard: int) -> None:
        """Return when nothing of a shard's children runs here any more, and all is written."""
        turns = asyncio.Semaphore(AT_ONCE)
        if not self._may_send():
            self._settled.discard(shard)

        async def release(record: Record) -> None:
            async with turns:
                await self._release(record)

        await asyncio.gather(*(release(record) for record in self._of(shard)))
        self._judge_at.set()
        try:
            await self._copies.release(shard)
        except GatewayError as error:
            log.warning("Not all that changed of shard %d is in etcd: %s.", shard, error)

    def owed(self) -> frozenset[int]:
        """Return the shards of whose children messages wait here since a loss by time, or a start.

        One that was gained since is owed no more: given up in good order, it comes back as any
        other does; else it would go back and forth while a cloud is away.
        """
        records = (self._records.get(device) for device in self._waiting())
        found = {self._shard_of(one.cloud) for one in records if one is not None and one.cloud}
        return frozenset(found - self._settled)

    def adopt(self, record: Record) -> None:
        """Know a child by a record that another gateway of the site has written."""
        self._admission.adopt(record)

    def drop(self, device: DeviceId) -> None:
        """Know a child no more that was forgotten at another gateway: now it is a stranger."""
        self._admission.drop(device)
        child = self._manager.children.get(device)
        self._manager.post(device, lc.Forgotten(FORGOTTEN_THERE))
        if child is not None and child.present:
            self._manager.post(device, lc.Seen())

    async def run(self) -> None:
        """Have strangers judged again after changes, and look at who has what, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(REFRESH):
                    await self._judge_at.wait()
            except TimeoutError:
                await self._look_elsewhere()
                continue
            await asyncio.sleep(SETTLE)
            self._judge_at.clear()
            self._judge_strangers()

    def _of(self, shard: int) -> list[Record]:
        """Return the records of a shard's children."""
        found = self._records.all()
        return [one for one in found if one.cloud and self._shard_of(one.cloud) == shard]

    async def _has_secret(self, record: Record) -> bool:
        return bool(record.stored) and await self._secrets.holds(record.slot(record.stored))

    async def _release(self, record: Record) -> None:
        """End all work for a child; a secret that its cloud is about to issue is awaited."""
        assert record.cloud is not None, "a child of a shard has a name"
        end = asyncio.get_running_loop().time() + GRACE
        while self._registers(record.device) and self._may_send():
            if asyncio.get_running_loop().time() >= end:
                break
            await asyncio.sleep(LOOK)
        await self._manager.release(record.device, self._ownership.elsewhere(record.cloud))

    def _registers(self, device: DeviceId) -> bool:
        child = self._manager.children.get(device)
        return child is not None and child.state in _REGISTERS

    def _judge_strangers(self) -> None:
        """Have devices without a record judged again, which may be another gateway's by now."""
        for child in self._without_record():
            self._manager.post(child.id, lc.Changed())

    def _without_record(self) -> Iterable[Child]:
        children = tuple(self._manager.children.values())
        return (c for c in children if c.state in _UNJUDGED and self._records.get(c.id) is None)

    async def _look_elsewhere(self) -> None:
        """Have each child that is elsewhere go on, if it is ours; else show who has it now.

        By what is so, whatever has happened: a child that missed its turn would work nowhere.
        """
        for child in tuple(self._manager.children.values()):
            record = self._records.get(child.id)
            if child.state is not State.ELSEWHERE or record is None:
                continue
            if record.elsewhere.code:
                if record.elsewhere.text != child.reason.text:
                    self._manager.show_elsewhere(child, record.elsewhere)
                continue
            has_secret = await self._has_secret(record)
            if child.state is State.ELSEWHERE and self._records.get(child.id) == record:
                self._go_on(record, has_secret=has_secret)

    def _go_on(self, record: Record, *, has_secret: bool) -> None:
        """Have a child of ours work from its record."""
        self._manager.regain(record, has_secret=has_secret)
        if record.is_moving:
            self._begin_move(record.device)
