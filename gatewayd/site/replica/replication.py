"""The records and secrets of children of a site: durable here, then in etcd, then the call returns.

What belongs to no shard stays at its gateway: its own identities and keys, its device CAs with what
they have issued, the CA of its broker, devices that were rejected before they had a name at a
cloud, and what operators have answered about claims, since each gateway sees the LAN for itself.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from gatewayd.device.identity import Claim, DeviceId
from gatewayd.device.reason import Reason
from gatewayd.device.record import Change, CloudName, Record
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.errors import (
    BlobDamaged,
    BlobTooLarge,
    ConfigError,
    OwnershipLost,
    ShardOverfull,
)
from gatewayd.runtime.tasks import going_on
from gatewayd.site.etcd import as_one_word, read_bounded
from gatewayd.site.etcd_messages import Compare, Compared, Delete, Get, KeyValue
from gatewayd.site.reading import SiteKeys
from gatewayd.site.replica.blob import BlobKeys, epoch_of, key_of_child, keys_of_shard, open_blob
from gatewayd.site.replica.blob_writer import FENCED, LOST, BlobWriter, SiteStore
from gatewayd.site.replica.local_copies import (
    LocalCopies,
    MergeResult,
    StoredBlob,
    is_shared,
    moved_on,
    without_copy,
)
from gatewayd.site.shown import ShownCopies
from gatewayd.storage.records import DurableRecords, DurableSecrets
from gatewayd.storage.site_marks import MarkStanding, SiteMark

log = logging.getLogger(__name__)

PAGE = 5
"""Children of one response of etcd: the largest of them fit into 1 MiB."""
MAX_OF_SHARD = 2_000
"""Children of one shard that are read; 64 of them are more than a site is made for."""
FORGOTTEN_FOR = 90 * 86_400 * 1_000_000
"""Microseconds for which etcd knows that a child was forgotten.  A gateway that was away for longer
would bring it back; it is to be removed from the site, and to join it again."""


_NAME = re.compile(r"[0-9a-f]{64}", re.ASCII)
"""The last part of a child's key; other keys were written by no gateway."""


async def nothing() -> None:
    """Read nothing again."""


class Replica:
    """What the site has of the children, beside what is here: merged when a shard is gained.

    site: its keys in etcd.
    keys: returns the keys of the site; raises StoreError where this gateway is no member.
    may_send: whether the lease holds.  others: whether another gateway of the site lives.
    reread: awaited where etcd seems to have a newer key of the site; `keys` may return that then.
    adopted: called with each record of a shard that is gained, before anything of it works here.
    forgotten: called with each child that another gateway has forgotten.
    """

    def __init__(  # noqa: PLR0913  # by keyword: what a copy has to do with
        self,
        client: SiteStore,
        site: SiteKeys,
        local: LocalCopies,
        keys: Callable[[], BlobKeys],
        *,
        shard_of: Callable[[CloudName], int],
        may_send: Callable[[], bool],
        wall: Callable[[], int],
        adopted: Callable[[Record], None] = lambda _: None,
        forgotten: Callable[[DeviceId], None] = lambda _: None,
        others: Callable[[], bool] = lambda: True,
        reread: Callable[[], Awaitable[None]] = nothing,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._client, self._site, self._local, self._keys = client, site, local, keys
        self._shard_of, self._may_send, self._wall = shard_of, may_send, wall
        self._adopted, self._forgotten, self._others = adopted, forgotten, others
        self._reread = reread
        self._turn = asyncio.Lock()
        self._writer = BlobWriter(
            client, site, local, keys, may_send=may_send, random=random, wall=wall
        )

    async def open(self) -> None:
        """Read what is known here of the site.  Raises StoreError."""
        await self._local.open()

    async def run(self) -> None:
        """Write to etcd what changes, until cancelled."""
        await self._writer.run()

    def view(self) -> ShownCopies:
        """Return what is shown of the copies."""
        marks, records = self._local.marks.values(), self._local.records
        children = sum(1 for one in marks if one.revision and records.get(one.device) is not None)
        return ShownCopies(children, self._writer.count, self._writer.fault)

    async def load(self, shard: int, token: int) -> None:
        """Merge what the site has of a shard's children with what is here, and write what it lacks.

        token: of the shard, as this gateway has claimed it.
        Raises SiteError, StoreError, ConfigError; then it is to be done again.
        """
        results = await going_on(self._merge(shard))
        self._writer.tokens[shard] = token
        try:
            await self._publish(shard, results)
            await self._purge(shard, results)
        except BaseException:
            self._writer.tokens.pop(shard, None)
            raise
        for device in self._local.of_shard(shard).values():
            self._adopted(self._local.records[device])

    async def _merge(self, shard: int) -> Sequence[MergeResult]:
        """Merge what the site has of a shard's children; to its end, once it has begun.

        One shard after another: a child that has moved has a name in each of two, and what one of
        them says of a name that was left must not be applied to what the other has made of it.
        """
        async with self._turn:
            keys = self._keys()
            pairs = await self._children(shard)
            children = self._local.of_shard(shard).items()
            own = {_name(key_of_child(keys, shard, cloud)): one for cloud, one in children}
            begin = self._site.prefix + keys_of_shard(shard)
            written = [one for one in pairs if _NAME.fullmatch(one.key.removeprefix(begin))]
            if any(_is_ahead(keys, one.value) for one in written):
                await self._reread()  # by a member that has the next key already, or by no member
                keys = self._keys()
            blobs = [self._opened(keys, one) for one in written]
            results = await self._local.merge(blobs, own)
            own |= {one.stored.name: one.device for one in results if one.record and one.device}
            await self._local.note(self._marks(results, own))
            for one in results:
                if one.removed and one.device and self._local.records.get(one.device) is None:
                    self._forgotten(one.device)
            return results

    async def release(self, shard: int) -> None:
        """Write what has changed, and let another gateway go on with a shard.  Raises StoreError.

        Where no other gateway lives, its children stay this one's, should it leave the site.
        """
        try:
            await self._writer.flush(shard)
        finally:
            self._writer.tokens.pop(shard, None)
        if self._others():
            devices = {*self._local.of_shard(shard).values()}
            marks = self._local.marks.items()
            away = {name: _away(one) for name, one in marks if one.device in devices}
            await self._local.note(away)

    async def reseal(self) -> None:
        """Write all children of all shards again, as the key of the site has changed.

        Raises OwnershipLost, StoreError.
        """
        for shard in tuple(self._writer.tokens):
            children = self._local.of_shard(shard).items()
            await _all([self._writer.write(shard, cloud, device) for cloud, device in children])

    def demand_own(self, record: Record | None) -> None:
        """Raise OwnershipLost for a child that is not this gateway's now."""
        if record is None or record.cloud is None or not is_shared(record):
            return
        if self._shard_of(record.cloud) not in self._writer.tokens:
            raise OwnershipLost(LOST)
        if not self._may_send():
            raise OwnershipLost(FENCED)

    async def publish(self, device: DeviceId, before: Record | None, now: Record | None) -> None:
        """Return when a change of a child, which is durable here, is durable in etcd.

        before, now: its records, None for none.  Raises OwnershipLost, StoreError.
        """
        self._local.index(device, now)
        names = {one.cloud for one in (before, now) if one and one.cloud and is_shared(one)}
        await _all([self._writer.write(self._shard_of(name), name, device) for name in names])

    async def _children(self, shard: int) -> list[KeyValue]:
        """Return all that etcd has of a shard's children."""
        begin, found, last = self._site.prefix + keys_of_shard(shard), list[KeyValue](), ""
        while len(found) <= MAX_OF_SHARD:
            page = await read_bounded(self._client, Get(begin, True, PAGE, last))
            found += page.pairs
            if not page.more:
                return found
            last = found[-1].key
        newest = max(found, key=lambda one: one.created)
        raise ShardOverfull(
            f"shard {shard} has more than {MAX_OF_SHARD} keys at etcd. Delete those that no "
            f"gateway wrote; the newest is {as_one_word(newest.key)}"
        )

    def _opened(self, keys: BlobKeys, pair: KeyValue) -> StoredBlob:
        """Open a blob; one that is damaged counts as none, and is replaced by what is here."""
        key = pair.key.removeprefix(self._site.prefix)
        try:
            blob = open_blob(keys, key, pair.value)
        except (BlobDamaged, ConfigError) as error:
            log.warning(
                "What etcd has of a child is of no use: %s. Its key is %s.",
                error,
                as_one_word(pair.key),
            )
            is_newer = isinstance(error, ConfigError)
            return StoredBlob(_name(key), pair.changed, None, is_newer=is_newer)
        is_old = epoch_of(pair.value) != keys.epoch
        return StoredBlob(_name(key), pair.changed, blob, is_old)

    def _marks(
        self, results: Sequence[MergeResult], own: Mapping[str, DeviceId]
    ) -> Mapping[str, SiteMark | None]:
        """Return the marks of a shard that is merged."""
        known = self._local.marks
        there = {one.stored.name for one in results}
        marks = {
            one.stored.name: moved_on(known.get(one.stored.name), one)
            for one in results
            if not one.stored.is_newer
        }
        lacking = {name: without_copy(known.get(name), own[name]) for name in own.keys() - there}
        return {**marks, **lacking}

    async def _publish(self, shard: int, results: Sequence[MergeResult]) -> None:
        """Write what the site lacks: what was changed here, and what it has under an old key."""
        keys, children = self._keys(), dict(self._local.of_shard(shard))
        stored = {one.stored.name for one in results}
        stale = {one.stored.name for one in results if one.publish or one.stored.is_old}
        for one in results:
            blob = one.stored.blob
            if one.publish and one.device and blob and blob.record and blob.record.cloud:
                children.setdefault(blob.record.cloud, one.device)  # it was forgotten here
        writes = [
            self._writer.write(shard, cloud, device)
            for cloud, device in children.items()
            if (name := _name(key_of_child(keys, shard, cloud))) in stale or name not in stored
        ]
        for result in await asyncio.gather(*writes, return_exceptions=True):
            if isinstance(result, BlobTooLarge):  # it works here, and no other child waits for it
                log.error("What a child has stays at this gateway alone: %s.", result)
            elif isinstance(result, BaseException):
                raise result

    async def _purge(self, shard: int, results: Sequence[MergeResult]) -> None:
        """Let etcd forget that children were forgotten long ago."""
        before = self._wall() - FORGOTTEN_FOR
        own = {_name(key_of_child(self._keys(), shard, n)) for n in self._local.of_shard(shard)}
        for one in results:
            blob = one.stored.blob
            if blob is None or blob.record is not None or one.stored.name in own:
                continue
            if blob.forgotten_at < before:
                key = f"{self._site.prefix}{keys_of_shard(shard)}{one.stored.name}"
                still = Compare(key, Compared.CHANGED, one.stored.revision)
                await self._client.txn([still], [Delete(key)])


class ReplicatedRecords:
    """The `RecordStore` of a gateway of a site on etcd."""

    def __init__(self, durable: DurableRecords, replica: Replica) -> None:
        self._durable, self._replica = durable, replica

    def __getitem__(self, device: DeviceId) -> Record:
        """Return the newest record that is durable here.  Raises KeyError."""
        return self._durable[device]

    def get(self, device: DeviceId) -> Record | None:
        """Return the newest record that is durable here; None for a child without one."""
        return self._durable.get(device)

    def all(self) -> Iterator[Record]:
        """Return every record that is here, in order of device id."""
        return self._durable.all()

    async def update(self, device: DeviceId, change: Change) -> Record:
        """Change a record, and return it when it is durable here and in etcd.

        Raises OwnershipLost where that cannot be any more; what is durable here alone by then gives
        way to what the next owner makes of the child.  Raises StoreError, and what `change` raises.
        """

        def owned(record: Record | None) -> Record:
            changed = change(record)
            for one in (record, changed):
                self._replica.demand_own(one)
            return changed

        async def done() -> Record:
            before = self._durable.get(device)
            record = await self._durable.update(device, owned)
            await self._replica.publish(device, before, record)
            return record

        return await going_on(done())

    async def forget(self, device: DeviceId) -> None:
        """Return when neither the record nor any secret of the device is left, here or in etcd."""
        await self._forget(device, self._durable.forget(device))

    @property
    def answers(self) -> Mapping[Claim, DeviceId]:
        """Whose claims are, by the answers of an operator of this gateway."""
        return self._durable.answers

    async def settle(
        self, answers: Mapping[Claim, DeviceId | None], gone: DeviceId | None = None
    ) -> None:
        """Return when answers are durable here; None withdraws one.  Raises StoreError.

        gone: a device that is forgotten in the same commit, as it is another.
        """
        if gone is None:
            await self._durable.settle(answers)
        else:
            await self._forget(gone, self._durable.settle(answers, gone))

    async def _forget(self, device: DeviceId, forget: Coroutine[Any, Any, None]) -> None:
        async def done() -> None:
            before = self._durable.get(device)
            await forget
            await self._replica.publish(device, before, None)

        try:
            self._replica.demand_own(self._durable.get(device))
        except OwnershipLost:
            forget.close()
            raise
        await going_on(done())


class ReplicatedSecrets:
    """The `SecretSlots` of a gateway of a site on etcd; they raise StoreError.

    A slot of a child without a record, or of none, stays here.
    """

    def __init__(self, durable: DurableSecrets, records: DurableRecords, replica: Replica) -> None:
        self._durable, self._records, self._replica = durable, records, replica

    async def put(self, ref: SecretRef, secret: Secret) -> None:
        """Return when the secret is durable here and in etcd.  Raises OwnershipLost, too."""
        record = self._demand_own(ref)

        async def done() -> None:
            await self._durable.put(ref, secret)
            await self._publish(ref, record)

        await going_on(done())

    async def get(self, ref: SecretRef) -> Secret:
        """Read a slot from the disk.  Raises SecretNotFound, SecretCorrupt, StoreSealed."""
        return await self._durable.get(ref)

    async def delete(self, ref: SecretRef) -> None:
        """Return when a slot is empty, here and in etcd.  Raises OwnershipLost, too."""
        record = self._demand_own(ref)

        async def done() -> None:
            await self._durable.delete(ref)
            await self._publish(ref, record)

        await going_on(done())

    async def refs(self, device: DeviceId) -> Sequence[SecretRef]:
        """Return all slots of a device that hold something."""
        return await self._durable.refs(device)

    async def holds(self, ref: SecretRef) -> bool:
        """Whether a slot can be read.  Raises StoreSealed, StoreUnavailable."""
        return await self._durable.holds(ref)

    async def check_ready(self) -> Reason | None:
        """Return why no secret could be stored now; None if one could."""
        return await self._durable.check_ready()

    def _demand_own(self, ref: SecretRef) -> Record | None:
        record = self._records.get(ref.device)
        self._replica.demand_own(record)
        return record

    async def _publish(self, ref: SecretRef, record: Record | None) -> None:
        await self._replica.publish(ref.device, record, self._records.get(ref.device))


async def _all(writes: Sequence[asyncio.Future[None]]) -> None:
    """Return when all is written.  Raises the first error, once none is under way any more."""
    for result in await asyncio.gather(*writes, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


def _is_ahead(keys: BlobKeys, sealed: bytes) -> bool:
    """Whether a blob says to have a newer key than is known here; anyone could write that."""
    with suppress(BlobDamaged, ConfigError):
        return epoch_of(sealed) > keys.epoch
    return False


def _name(key: str) -> str:
    """Return the last part of a child's key."""
    return key.rpartition("/")[2]


def _away(mark: SiteMark) -> SiteMark:
    return SiteMark(mark.device, mark.revision, mark.serial, MarkStanding.AWAY)
