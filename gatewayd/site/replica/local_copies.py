"""What this gateway has itself of the children of a site, and how the site's is merged into it.

All that touches the disk runs on the commit thread.  A merge takes two commits: records, secrets
and marks that say "merging", then marks that say up to which write of the site that is.  Where the
gateway dies between any two steps, what the site has is merged again at the next gain.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from gatewayd.device.identity import GATEWAY_PREFIX, DeviceId
from gatewayd.device.record import CloudName, Record
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.errors import SecretCorrupt, SecretNotFound
from gatewayd.secretstore.store import SecretStore
from gatewayd.site.replica.blob import ChildBlob
from gatewayd.site.replica.merge import LocalCopy, Merged, merged
from gatewayd.storage.commit_thread import CommitThread
from gatewayd.storage.records import DurableRecords, RecordDatabase
from gatewayd.storage.site_marks import MarkStanding, SiteMark

log = logging.getLogger(__name__)

AT_ONCE = 32
"""Children that are merged by one work: others wait for the thread meanwhile."""
_ID_DIGITS = 20


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob that etcd holds.

    name: of its key, 64 hex digits.  revision: of etcd, when it was written.
    blob: None where it does not open.  is_old: whether it has a former key of the site.
    is_newer: whether it says to be of a newer gatewayd: then that child alone is left as it is.
    """

    name: str
    revision: int
    blob: ChildBlob | None
    is_old: bool = False
    is_newer: bool = False


@dataclass(frozen=True, slots=True)
class MergeResult:
    """What became of one child.

    device: its id here; None where there is none.  record: that was written here; None for none.
    """

    stored: StoredBlob
    device: DeviceId | None
    record: Record | None = None
    removed: bool = False
    publish: bool = False


def is_shared(record: Record | None) -> bool:
    """Whether a record is one of the site.

    What has no name at a cloud, as a device that was rejected before it got one, is this gateway's
    alone; so is the gateway's own identity, and with it its CAs and keys, which no record has.
    """
    if record is None or record.cloud is None:
        return False
    return not record.device.startswith(GATEWAY_PREFIX)


def _is_another(holder: Record, record: Record) -> bool:
    """Whether the id of a record is here that of a child by another name."""
    return is_shared(holder) and not {*holder.names} & {*record.names}


class LocalCopies:
    """The records and secrets here, with their marks.

    marks: by names, as they are known on the disk.  wall: microseconds since the epoch.
    shard_of: returns the shard of a name.
    """

    def __init__(
        self,
        thread: CommitThread,
        database: RecordDatabase,
        store: SecretStore,
        records: DurableRecords,
        shard_of: Callable[[CloudName], int],
        wall: Callable[[], int],
    ) -> None:
        self._thread, self._database, self._store = thread, database, store
        self.records, self._shard_of, self._wall = records, shard_of, wall
        self.marks: dict[str, SiteMark] = {}
        self._names: dict[CloudName, DeviceId] = {}
        self._indexed: dict[DeviceId, Record] = {}
        self._shards: dict[int, set[DeviceId]] = {}

    async def open(self) -> None:
        """Read the marks.  Raises StoreError."""
        self.marks = dict(await self._thread.run(self._database.marks.all))
        for record in self.records.all():
            self.index(record.device, record)

    def index(self, device: DeviceId, record: Record | None) -> None:
        """Know a record from now on; None: that it is gone."""
        before = self._indexed.pop(device, None)
        if before is not None and before.cloud is not None:
            for name in before.names:
                if self._names.get(name) == device:
                    del self._names[name]
            self._shards[self._shard_of(before.cloud)].discard(device)
        if record is not None and record.cloud is not None and is_shared(record):
            self._indexed[device] = record
            self._names.update(dict.fromkeys(record.names, device))
            self._shards.setdefault(self._shard_of(record.cloud), set()).add(device)

    def of_shard(self, shard: int) -> Mapping[CloudName, DeviceId]:
        """Return the children of a shard, by the names in use."""
        found = (self._indexed[device] for device in self._shards.get(shard, ()))
        return {one.cloud: one.device for one in found if one.cloud is not None}

    async def read(
        self, devices: Sequence[DeviceId]
    ) -> Sequence[tuple[Record | None, Mapping[SecretRef, Secret]]]:
        """Return the durable record and the secrets of each.  Raises StoreError."""
        return await self._thread.run(
            lambda: [(self.records.get(one), self._secrets(one)) for one in devices]
        )

    async def merge(
        self, blobs: Sequence[StoredBlob], own: Mapping[str, DeviceId]
    ) -> Sequence[MergeResult]:
        """Merge what the site has into what is here; return when that is durable.

        own: the children of the shard that are here, by the names of their keys.
        Raises StoreError; then some may be merged, and the others not.
        """
        results: list[MergeResult] = []
        # a name that was left comes before the one that the same child has now
        ordered = sorted(blobs, key=lambda one: one.blob is None or one.blob.record is not None)
        for begin in range(0, len(ordered), AT_ONCE):
            chunk, now = ordered[begin : begin + AT_ONCE], self._wall()

            def work(chunk: Sequence[StoredBlob] = chunk, now: int = now) -> list[MergeResult]:
                return [self._merge_one(one, own, now) for one in chunk]

            done = await self._thread.run(work, self._adopt)
            results += done
        for one in results:
            if one.device is not None and (one.record is not None or one.removed):
                self.index(one.device, one.record)
        return results

    async def note(self, marks: Mapping[str, SiteMark | None]) -> None:
        """Replace marks, None: by nothing; return when that is durable.  Raises StoreError."""
        changed = {name: one for name, one in marks.items() if self.marks.get(name) != one}
        if changed:
            await self._thread.run(lambda: self._put_marks(changed))
            self.know(changed)

    def know(self, marks: Mapping[str, SiteMark | None]) -> None:
        """Go on with these marks, which may not be on the disk."""
        for name, mark in marks.items():
            if mark is None:
                self.marks.pop(name, None)
            else:
                self.marks[name] = mark

    def _put_marks(self, marks: Mapping[str, SiteMark | None]) -> None:
        for name, mark in marks.items():
            if mark is None:
                self._database.marks.remove(name)
            else:
                self._database.marks.put(name, mark)

    def _secrets(self, device: DeviceId) -> Mapping[SecretRef, Secret]:
        found = {}
        for ref in self._store.refs(device):
            with suppress(SecretNotFound, SecretCorrupt):  # what cannot be read is of no use there
                found[ref] = self._store.get(ref)
        return found

    def _merge_one(self, stored: StoredBlob, own: Mapping[str, DeviceId], now: int) -> MergeResult:
        """Merge one child, within a group."""
        if stored.is_newer:
            return MergeResult(stored, None)
        if stored.blob is None:
            device = own.get(stored.name)
            return MergeResult(stored, device, publish=device is not None)
        device = self._device(stored.blob, own.get(stored.name))
        if device is None:
            return MergeResult(stored, None)
        record = self._newest(device)
        if record is not None and stored.blob.record is not None:
            record = None if _is_another(record, stored.blob.record) else record
        here = LocalCopy(device, record, self._secrets(device), self.marks.get(stored.name))
        outcome = merged(stored.blob, stored.revision, here, now)
        if outcome.record is not None or outcome.removed:
            mark = SiteMark(device, 0, stored.blob.serial, MarkStanding.MERGING)
            self._database.marks.put(stored.name, mark)
            self._apply(device, outcome)
        return MergeResult(stored, device, outcome.record, outcome.removed, outcome.publish)

    def _newest(self, device: DeviceId) -> Record | None:
        """Return the record of a child as this group has left it so far."""
        return self._database.newest(device, self.records.get(device))

    def _device(self, blob: ChildBlob, own: DeviceId | None) -> DeviceId | None:
        """Return the id that a child has here, or gets; None for one that is gone everywhere."""
        if blob.record is None:
            return own
        for name in blob.record.names:
            if (known := self._names.get(name)) is not None:
                return known
        theirs = blob.record.device
        holder = self._newest(theirs)
        if holder is None or not _is_another(holder, blob.record):
            return theirs
        if self._has_left(theirs) and holder.claims & blob.record.claims:
            return theirs  # it was forgotten where it went, and is back by another name
        # the id is another child's here: the rules of the two gateways differ
        digest = hashlib.sha256(repr(blob.record.cloud).encode()).hexdigest()
        return DeviceId(f"child-{digest[:_ID_DIGITS]}")

    def _has_left(self, device: DeviceId) -> bool:
        """Whether a child went to another gateway, with all that was known here."""
        marks = [one for one in self.marks.values() if one.device == device]
        return bool(marks) and all(one.standing is MarkStanding.AWAY for one in marks)

    def _apply(self, device: DeviceId, outcome: Merged) -> None:
        if outcome.removed:
            self._database.remove(device)
            for ref in self._store.refs(device):
                self._store.delete(ref)
        if outcome.record is not None:
            self._database.write(outcome.record)
        for ref in outcome.set_aside:
            log.warning("A secret differs from the site's, and is set aside: %s.", ref.device)
            self._store.quarantine(ref)
        for ref, secret in outcome.put.items():
            self._store.put(ref, secret)
        for ref in outcome.delete:
            self._store.delete(ref)

    def _adopt(self, results: Sequence[MergeResult]) -> None:
        """Hold what is durable now.  On the commit thread."""
        for one in results:  # in this order: one that is removed may be back by another name
            self.records.adopt(
                () if one.record is None else (one.record,),
                (one.device,) if one.removed and one.device is not None else (),
            )


def moved_on(mark: SiteMark | None, result: MergeResult) -> SiteMark | None:
    """Return the mark of a child that is merged; None for none: it is gone on both sides.

    mark: the one before.
    """
    blob = result.stored.blob
    is_forgotten = blob is not None and blob.record is None and not result.publish
    if is_forgotten or result.device is None:
        return None
    serial = max(mark.serial if mark else 0, blob.serial if blob else 0)
    return SiteMark(result.device, result.stored.revision, serial)


def without_copy(mark: SiteMark | None, device: DeviceId) -> SiteMark:
    """Return the mark of a child of which the site has nothing."""
    if mark is None:
        return SiteMark(device, 0, 0)
    return replace(mark, device=device, revision=0, standing=MarkStanding.OURS)
