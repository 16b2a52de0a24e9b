"""Writes children to etcd: many that wait in one transaction, each under the token of its shard.

A transaction compares the tokens of the shards and the revision of each blob that is replaced.  So
what was sent twice, or is carried out late, changes nothing; and nothing is written by a gateway
that has lost the shard, whatever it believes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from gatewayd.device.identity import DeviceId
from gatewayd.device.record import CloudName, Record
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.errors import (
    BlobDamaged,
    ConfigError,
    OwnershipLost,
    SiteError,
    StoreError,
    StoreUnavailable,
)
from gatewayd.site.etcd_messages import Compare, Compared, EtcdTxn, Get, KeyValue, Operation, Put
from gatewayd.site.reading import SiteKeys
from gatewayd.site.replica.blob import (
    BlobKeys,
    ChildBlob,
    epoch_of,
    key_of_child,
    open_blob,
    seal_blob,
)
from gatewayd.site.replica.local_copies import LocalCopies
from gatewayd.storage.site_marks import SiteMark

log = logging.getLogger(__name__)

QUEUE_LIMIT = 10_000
"""Changes that may wait or be written."""
MAX_CHILDREN = 60
"""Children of one transaction: their compares, and those of their shards, are 128 at most."""
MAX_BATCH = 600 << 10
"""Bytes of the blobs of one transaction: as JSON they are a third more, and 1 MiB is the limit."""
RETRY = 0.5
"""Seconds until etcd, which did not answer, is asked again."""

PATIENCE = 20.0
"""Seconds for which a change waits while etcd refuses it, or does not answer: longer than a lease,
which may be renewed all the same where etcd is full."""

LOST = "another gateway of the site has the child, or may have it soon"
FENCED = "etcd did not answer until the lease of this gateway had ended"


class SiteStore(Protocol):
    """The transactions of etcd, as `EtcdClient` has them."""

    async def txn(
        self,
        compares: Iterable[Compare],
        success: Iterable[Operation],
        failure: Iterable[Operation] = (),
    ) -> EtcdTxn: ...


@dataclass(slots=True, eq=False)
class _Change:
    """A child that is to be written, and who waits for that.

    key: below the prefix of the site.  since: when it was requested, by the event loop's clock.
    sealed, serial: of the blob, once it is made.  is_forgotten: whether that has no record.
    """

    shard: int
    key: str
    cloud: CloudName
    device: DeviceId
    done: asyncio.Future[None]
    since: float
    sealed: bytes = b""
    serial: int = 0
    is_forgotten: bool = False

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rpartition("/")[2]

    def mark(self, revision: int) -> SiteMark | None:
        """Return what is known of the site's copy once it is written at a revision."""
        return None if self.is_forgotten else SiteMark(self.device, revision, self.serial)

    def finish(self, error: StoreError | None = None) -> None:
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


class BlobWriter:
    """The queue of children that are to be written, and the one who writes them.

    site: its keys in etcd.
    keys: returns the keys of the site; raises StoreError where this gateway is no member.
    may_send: whether the lease holds.  wall: microseconds since the epoch.
    tokens: of the shards that are this gateway's.  fault: why the last write failed; "" for none.
    """

    def __init__(  # noqa: PLR0913  # partly by keyword: what a write depends on
        self,
        client: SiteStore,
        site: SiteKeys,
        local: LocalCopies,
        keys: Callable[[], BlobKeys],
        *,
        may_send: Callable[[], bool],
        random: Callable[[int], bytes],
        wall: Callable[[], int],
    ) -> None:
        self._client, self._site, self._local, self._keys = client, site, local, keys
        self._may_send, self._random, self._wall = may_send, random, wall
        self.tokens: dict[int, int] = {}
        self.fault = ""
        self._waiting: dict[str, _Change] = {}
        self._writing: Sequence[_Change] = ()
        self._wake = asyncio.Event()

    @property
    def count(self) -> int:
        """How many changes are not in etcd yet."""
        return len(self._waiting) + len(self._writing)

    def write(self, shard: int, cloud: CloudName, device: DeviceId) -> asyncio.Future[None]:
        """Have a child written as it is then; its future ends when it is durable in etcd.

        cloud: the name under which it is written: forgotten, where it has another one by then.
        The future raises OwnershipLost, StoreError.  Raises OwnershipLost, StoreUnavailable.
        """
        if shard not in self.tokens:
            raise OwnershipLost(LOST)
        key = key_of_child(self._keys(), shard, cloud)
        if (waiting := self._waiting.get(key)) is not None:
            return asyncio.shield(waiting.done)
        if self.count >= QUEUE_LIMIT:
            raise StoreUnavailable("too many children wait to be written to etcd")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        done.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        self._waiting[key] = _Change(shard, key, cloud, device, done, loop.time())
        self._wake.set()
        return asyncio.shield(done)

    async def flush(self, shard: int) -> None:
        """Return when nothing of a shard waits any more, whether it was written or not."""
        changes = (*self._writing, *self._waiting.values())
        waiting = {one.done for one in changes if one.shard == shard}
        if waiting:
            await asyncio.wait(waiting)

    async def run(self) -> None:
        """Write what comes, until cancelled."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    await self._write_some()
        finally:
            self.tokens.clear()
            for one in (*self._writing, *self._waiting.values()):
                one.finish(OwnershipLost(LOST))
            self._waiting.clear()

    async def _write_some(self) -> None:
        """Write the first of what waits, in as few transactions as that fits into."""
        keys = list(self._waiting)[:MAX_CHILDREN]
        self._writing = batch = [self._waiting.pop(key) for key in keys]
        try:
            for part in _parts(await self._seal(batch)):
                await self._put(part)
        except StoreError as error:
            for one in batch:
                one.finish(type(error)(*error.args))
        finally:
            self._writing = ()

    async def _seal(self, batch: Sequence[_Change]) -> list[_Change]:
        """Make the blobs of what is durable here now; return those that could be made."""
        keys, made = self._keys(), []
        copies = await self._local.read([one.device for one in batch])
        for one, (record, secrets) in zip(batch, copies, strict=True):
            mark = self._local.marks.get(one.name)
            one.serial = max(mark.serial + 1 if mark else 1, self._wall())
            if record is None or record.cloud != one.cloud:
                one.is_forgotten = True
                blob = ChildBlob(one.serial, None, {}, self._wall())
            else:
                kept = await self._kept(keys, one, record, secrets)
                blob = ChildBlob(one.serial, record, {**secrets, **kept})
            try:
                one.sealed = seal_blob(keys, one.key, blob, self._random)
            except StoreError as error:
                one.finish(error)
            else:
                made.append(one)
        return made

    async def _kept(
        self, keys: BlobKeys, one: _Change, record: Record, here: Collection[SecretRef]
    ) -> Mapping[SecretRef, Secret]:
        """Return secrets in use that the site has, and that cannot be read here any more.

        A damaged vault must not have the site lose them, too: the next gain puts them back here.
        """
        parts = [record.as_of(part) for part in record.generations]
        used = {part.slot(n) for part in parts for n in (part.stored, part.candidate) if n}
        if not (lost := used - set(here)) or one.name not in self._local.marks:
            return {}
        while self._permitted([one]):
            if (read := await self._try((), [Get(self._key(one))])) is None:
                continue
            with suppress(BlobDamaged, IndexError):  # there is none, or one of no use
                there = open_blob(keys, one.key, read.found[0].pairs[0].value).secrets
                own = {replace(ref, device=one.device): secret for ref, secret in there.items()}
                return {ref: own[ref] for ref in lost & own.keys()}
            break
        return {}

    async def _put(self, batch: Sequence[_Change]) -> None:
        """Write a batch; what is refused is written one by one."""
        while batch := self._permitted(batch):
            shards = {one.shard for one in batch}
            compares = [*map(self._own, shards), *(self._unchanged(one) for one in batch)]
            puts = [Put(self._key(one), one.sealed) for one in batch]
            if (done := await self._try(compares, puts)) is None:
                continue
            if done.succeeded:
                await self._written(batch, done.revision)
            else:
                for one in batch:
                    await self._put_one(one)
            return

    async def _put_one(self, one: _Change) -> None:
        """Write one child of a batch that was refused: it may be by an earlier try of our own."""
        while self._permitted([one]):
            gets = [Get(self._site.shard(one.shard)), Get(self._key(one))]
            if (read := await self._try((), gets)) is None:
                continue
            shard, child = (found.pairs[0] if found.pairs else None for found in read.found)
            if shard is None or shard.created != self.tokens.get(one.shard):
                one.finish(OwnershipLost(LOST))
                return
            if child is not None and child.value == one.sealed:
                await self._written([one], child.changed)
                return
            if child is not None and (why := _why_newer(child.value)):
                one.finish(StoreUnavailable(why))
                return
            compares = [self._own(one.shard), _still(self._key(one), child)]
            done = await self._try(compares, [Put(self._key(one), one.sealed)])
            if done is not None and done.succeeded:
                await self._written([one], done.revision)
                return

    async def _try(
        self, compares: Iterable[Compare], operations: Iterable[Operation]
    ) -> EtcdTxn | None:
        """Return the result of a transaction; None where etcd did not answer, a little later."""
        try:
            done = await self._client.txn(compares, operations)
        except SiteError as error:
            if not self.fault:
                log.warning("Children are not written to etcd now: %s", error)
            self.fault = str(error)
            await asyncio.sleep(RETRY)
            return None
        if self.fault:
            log.info("Children are written to etcd again.")
        self.fault = ""
        return done

    def _permitted(self, batch: Sequence[_Change]) -> list[_Change]:
        """Return what may be written now; the others end."""
        holds, kept, now = self._may_send(), [], asyncio.get_running_loop().time()
        for one in batch:
            if self.fault and now > one.since + PATIENCE:
                one.finish(StoreUnavailable(f"etcd has not got what has changed: {self.fault}"))
            elif not holds:
                one.finish(OwnershipLost(FENCED))
            elif one.shard not in self.tokens:
                one.finish(OwnershipLost(LOST))
            else:
                kept.append(one)
        return kept

    async def _written(self, batch: Collection[_Change], revision: int) -> None:
        """Note what is durable in etcd, and let those that wait go on."""
        marks = {one.name: one.mark(revision) for one in batch}
        try:
            await self._local.note(marks)
        except StoreError as error:  # etcd has it: at the next gain it is merged again
            log.warning("What etcd has was not noted here: %s.", error)
            self._local.know(marks)
        for one in batch:
            one.finish()

    def _own(self, shard: int) -> Compare:
        return Compare(self._site.shard(shard), Compared.CREATED, self.tokens[shard])

    def _unchanged(self, one: _Change) -> Compare:
        mark = self._local.marks.get(one.name)
        known = mark.revision if mark is not None else 0
        return Compare(self._key(one), Compared.CHANGED, known)

    def _key(self, one: _Change) -> str:
        return self._site.prefix + one.key


def _parts(batch: Iterable[_Change]) -> Iterator[list[_Change]]:
    """Yield the changes again, as many at a time as are not too large for one transaction."""
    part: list[_Change] = []
    for one in batch:
        if part and sum(len(other.sealed) for other in (*part, one)) > MAX_BATCH:
            yield part
            part = []
        part.append(one)
    if part:
        yield part


def _why_newer(sealed: bytes) -> str:
    """Return why a blob is not replaced: a newer gatewayd may know more; "" where it may be."""
    try:
        epoch_of(sealed)
    except ConfigError as error:
        return str(error)
    except BlobDamaged:
        pass
    return ""


def _still(key: str, pair: KeyValue | None) -> Compare:
    return Compare(key, Compared.CHANGED, pair.changed if pair is not None else 0)
