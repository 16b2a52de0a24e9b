"""etcd in memory: keys, transactions and leases as the real one has them, on the loop's clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from gatewayd.errors import EtcdRefused, EtcdUnreachable, LeaseGone
from gatewayd.site.etcd_messages import (
    Compare,
    Compared,
    Delete,
    EtcdTxn,
    FoundKeys,
    Get,
    KeyValue,
    Operation,
    Put,
)

T = TypeVar("T")


def loop_time() -> float:
    return asyncio.get_running_loop().time()


@dataclass
class MemoryEtcd:
    """An etcd without members: it is there, or away.

    now: its clock.  leases: when each ends.
    """

    now: Callable[[], float] = loop_time
    revision: int = 1
    pairs: dict[str, KeyValue] = field(default_factory=dict)
    leases: dict[int, float] = field(default_factory=dict)
    away: bool = False
    granted: int = 700
    requests: int = 0

    def client(self) -> MemoryClient:
        """Return a client, which a partition can cut off."""
        return MemoryClient(self)

    def expire(self) -> None:
        """Delete what has a lease that has ended."""
        for lease, end in list(self.leases.items()):
            if end <= self.now():
                self.revoke(lease)

    def revoke(self, lease: int) -> None:
        """End a lease, early or not."""
        if self.leases.pop(lease, None) is not None:
            self.revision += 1
            self.pairs = {k: p for k, p in self.pairs.items() if p.lease != lease}

    def number(self, key: str, subject: Compared) -> int:
        pair = self.pairs.get(key)
        names = {Compared.CREATED: "created", Compared.CHANGED: "changed", Compared.LEASE: "lease"}
        return 0 if pair is None else int(getattr(pair, names[subject]))

    def txn(
        self,
        compares: Iterable[Compare],
        success: Iterable[Operation],
        failure: Iterable[Operation],
    ) -> EtcdTxn:
        self.expire()
        succeeded = all(self.number(one.key, one.subject) == one.number for one in compares)
        branch = list(success if succeeded else failure)
        written = [one.key for one in branch if isinstance(one, Put | Delete)]
        if len(written) != len(set(written)):
            raise EtcdRefused("duplicate key")
        for one in branch:
            if isinstance(one, Put) and one.lease and one.lease not in self.leases:
                raise LeaseGone("requested lease not found")
        if written:
            self.revision += 1
        found = [self._do(one) for one in branch]
        return EtcdTxn(succeeded, self.revision, tuple(one for one in found if one is not None))

    def _do(self, one: Operation) -> FoundKeys | None:
        if isinstance(one, Put):
            before = self.pairs.get(one.key)
            new = KeyValue(one.key, one.value, self.revision, self.revision, one.lease)
            self.pairs[one.key] = replace(new, created=before.created) if before else new
            return None
        if isinstance(one, Delete):
            self.pairs.pop(one.key, None)
            return None
        return self._find(one)

    def _find(self, one: Get) -> FoundKeys:
        fits = [
            pair
            for key, pair in sorted(self.pairs.items())
            if (key.startswith(one.key) if one.is_prefix else key == one.key) and key > one.after
        ]
        most = one.limit or len(fits)
        return FoundKeys(tuple(fits[:most]), len(fits) > most)


class MemoryClient:
    """A client of it.

    away: whether a partition lies between.  is_late: whether answers come too late.
    """

    def __init__(self, etcd: MemoryEtcd) -> None:
        self._etcd, self.away, self.is_late = etcd, False, False

    async def txn(
        self,
        compares: Iterable[Compare],
        success: Iterable[Operation],
        failure: Iterable[Operation] = (),
    ) -> EtcdTxn:
        await self._reach()
        return await self._answered(self._etcd.txn(compares, success, failure))

    async def grant(self, seconds: int) -> int:
        await self._reach()
        lease = self._etcd.granted = self._etcd.granted + 1
        self._etcd.leases[lease] = self._etcd.now() + seconds
        return await self._answered(lease)

    async def keep_alive(self, lease: int) -> None:
        await self._reach()
        self._etcd.expire()
        if lease not in self._etcd.leases:
            raise LeaseGone("gone")
        self._etcd.leases[lease] = self._etcd.now() + 15
        await self._answered(None)

    async def revoke(self, lease: int) -> None:
        await self._reach()
        self._etcd.revoke(lease)
        await self._answered(None)

    async def _answered(self, answer: T) -> T:
        if self.is_late:
            await asyncio.sleep(1.5)
            raise EtcdUnreachable("the answer came too late")
        return answer

    async def _reach(self) -> None:
        self._etcd.requests += 1
        await asyncio.sleep(0.01)
        if self.away or self._etcd.away:
            await asyncio.sleep(1.5)
            raise EtcdUnreachable("no member answers")
