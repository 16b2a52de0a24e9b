"""Before the start: makes the records and the slots of the secret store agree.

| record                                | slots                   | what is done                  |
|---------------------------------------|-------------------------|-------------------------------|
| attempt n is newer than what is stored| n is there              | the pointer is moved to n     |
| never activated                       | the stored one is gone  | registered again              |
| activated                             | the stored one is gone  | nothing: the secret is lost   |
| activated                             | older ones are there    | those are deleted             |
| activated                             | a newer one, not on     | it is the candidate: a login  |
|                                       | record, is there too    | has to prove it               |
| activated, with a candidate           | only that one is there  | nothing: a login may prove it |
| none                                  | any                     | those are moved to quarantine |

A child that moves, or has moved, has a generation at each of its clouds (device/move.py).  Each is
judged alike; where the secret of one that is not in use is gone, nothing is done at the start.

A child that was being taken over from another gateway of the site is not judged: what the site has
of it is merged again before it is used.

Where more than a few of either kind are without the other, the wrong file is there, or an old
one: then nothing is removed, and an operator has to act.

A start waits for none of the secrets that are where they belong.  Each is opened soon after it, so
that one that is damaged is found before it is needed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import Any

from gatewayd.device.identity import DeviceId
from gatewayd.device.move import Generation
from gatewayd.device.record import Record
from gatewayd.device.secret import SecretRef
from gatewayd.errors import SecretCorrupt, SecretNotFound, StoreError
from gatewayd.secretstore.store import SecretStore, StoreState, is_read_only
from gatewayd.storage.commit_thread import CommitThread
from gatewayd.storage.records import RecordDatabase
from gatewayd.storage.site_marks import MarkStanding

UNREADABLE = (StoreState.SEALED, StoreState.CLONED)
"""The states of a store whose secrets cannot be read now."""

FEW, PERCENT = 3, 1
"""Up to two, and up to one in a hundred, may be missing without doubt about the rest."""


class FindingKind(StrEnum):
    """The kind of a disagreement."""

    COMPLETED = "pointer-completed"  # a secret was stored, and the pointer to it is now too
    AGAIN = "registered-again"  # the secret is gone and was never used: ask for another
    LOST = "secret-lost"  # the secret is gone and the cloud knows the child by it
    LOST_ELSEWHERE = "secret-lost-elsewhere"  # as either, at a cloud where the child is not now
    OUTDATED = "old-secret-deleted"  # a newer one is in use
    CANDIDATE = "candidate-found"  # a newer one is there, which no login has proven
    ORPHAN = "secret-quarantined"  # it belongs to no child
    DEGRADED = "store-degraded"  # so much disagrees that nothing was removed


GONE = frozenset({FindingKind.AGAIN, FindingKind.LOST, FindingKind.LOST_ELSEWHERE})
TAKES_NOTHING = frozenset({FindingKind.COMPLETED, FindingKind.CANDIDATE})

AT_ONCE = 100
"""Secrets that are opened before others may use the store: it takes some milliseconds."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A disagreement of records and slots.

    record: replaces the one on record; None to keep that.
    ref: the slot to empty; None for none.
    """

    kind: FindingKind
    text: str
    device: DeviceId | None = None
    record: Record | None = None
    ref: SecretRef | None = None


def without_secret(findings: Iterable[Finding]) -> frozenset[DeviceId]:
    """Return the children whose stored secret is gone."""
    return frozenset(
        f.device for f in findings if f.device and f.kind in (FindingKind.AGAIN, FindingKind.LOST)
    )


def decide(records: Collection[Record], refs: Iterable[SecretRef], now: int) -> list[Finding]:
    """Compare records and slots.

    refs: the slots that can be read.  now: microseconds since the epoch.
    Slots of another kind than a child's are left alone.
    """
    attempts: dict[tuple[str, DeviceId], set[int]] = defaultdict(set)
    for ref in refs:
        if ref == SecretRef(ref.provider, ref.device, ref.attempt):
            attempts[ref.provider, ref.device].add(ref.attempt)
    held = sum(map(len, attempts.values()))
    found = [finding for record in records for finding in _judge(record, attempts, now)]
    found += [_orphan(*slot, n) for slot, numbers in attempts.items() for n in sorted(numbers)]
    return [*_doubts(found, sum(bool(r.stored) for r in records), held), *found]


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What a start has found on the disk, and repaired.

    records: as they are there now.
    unopened: slots that fit their records, and of which it is not known whether they open.
    """

    findings: Sequence[Finding]
    records: Collection[Record]
    unopened: Sequence[SecretRef]


async def reconcile(
    thread: CommitThread,
    state: RecordDatabase,
    store: SecretStore,
    now: int,
    rows: Iterable[tuple[Any, ...]] | None = None,
) -> Reconciled:
    """Compare what is on the disk, and repair what can be repaired.  Raises StoreError.

    rows: of all records, where they were just read.
    Where slots do not fit a record, each of the child's is opened before it is judged; the others
    are left to `open_rest`.  A sealed store is judged by the slots that are there, not by those
    that can be read, and nothing in it is touched.  Where the disk takes no writes, the findings
    are applied to nothing.
    """
    return await thread.run(lambda: repair(state, store, now, rows))


def repair(
    state: RecordDatabase,
    store: SecretStore,
    now: int,
    rows: Iterable[tuple[Any, ...]] | None = None,
) -> Reconciled:
    """Do what `reconcile` does, on the commit thread."""
    merging = state.marks.devices(MarkStanding.MERGING)
    present = {record.device: record for record in state.all(rows)}
    records = [record for device, record in present.items() if device not in merging]
    there = [ref for ref in store.refs() if ref.device not in merging]
    doubtful = {finding.device for finding in decide(records, there, now)}
    refs = _usable(store, there, doubtful) if doubtful else there
    findings = decide(records, refs, now) if doubtful else []
    for finding in _to_apply(findings, state, store):
        _apply(finding, state, store)
        if finding.record is not None:
            present[finding.record.device] = finding.record
    sealed = store.state in UNREADABLE
    rest = [] if sealed else [ref for ref in there if ref.device not in doubtful]
    return Reconciled(findings, present.values(), rest)


async def open_rest(
    thread: CommitThread, state: RecordDatabase, store: SecretStore, refs: Sequence[SecretRef]
) -> list[Finding]:
    """Open what `reconcile` has left, some at a time; return which secrets are gone.

    Nothing is repaired: the next login of a child finds its secret gone, too.  Raises StoreError.
    """
    damaged = set[DeviceId]()
    for start in range(0, len(refs), AT_ONCE):
        damaged |= await thread.run(partial(_damaged, store, refs[start : start + AT_ONCE]))
    if not damaged:
        return []
    return await thread.run(lambda: _judge_damaged(state, store, damaged, len(refs)))


def _damaged(store: SecretStore, refs: Sequence[SecretRef]) -> set[DeviceId]:
    return {ref.device for ref in refs if not _opens(store, ref)}


def _judge_damaged(
    state: RecordDatabase, store: SecretStore, devices: set[DeviceId], stored: int
) -> list[Finding]:
    """Judge children by what they have now.  stored: how many secrets there are in all."""
    records = [record for one in sorted(devices) if (record := state.read(one)) is not None]
    refs = [ref for record in records for ref in store.refs(record.device)]
    opening = [ref for ref in refs if _opens(store, ref)]
    gone = [finding for finding in decide(records, opening, 0) if finding.kind in GONE]
    return [*_doubts(gone, stored, held=0), *gone]


def _to_apply(
    findings: Sequence[Finding], state: RecordDatabase, store: SecretStore
) -> list[Finding]:
    """Return the findings that are repaired: in doubt, only those that take nothing away."""
    if state.read_only or is_read_only(store):
        return []
    read_only = store.state in (*UNREADABLE, StoreState.ROLLBACK_SUSPECTED)
    if read_only or any(finding.kind is FindingKind.DEGRADED for finding in findings):
        return [finding for finding in findings if finding.kind in TAKES_NOTHING]
    return list(findings)


def _apply(finding: Finding, state: RecordDatabase, store: SecretStore) -> None:
    if finding.record is not None:
        state.write(finding.record)
    if finding.ref is not None and finding.kind is FindingKind.ORPHAN:
        store.quarantine(finding.ref)
    elif finding.ref is not None:
        store.delete(finding.ref)


def _usable(
    store: SecretStore, refs: Sequence[SecretRef], devices: Collection[DeviceId | None]
) -> Sequence[SecretRef]:
    """Return the slots without those of these devices that cannot be read; or all there are, where
    there is no key to read them."""
    try:
        if store.state not in UNREADABLE:
            return [ref for ref in refs if ref.device not in devices or _opens(store, ref)]
    except StoreError:
        if store.state not in UNREADABLE:  # its key did not go meanwhile
            raise
    return refs


def _opens(store: SecretStore, ref: SecretRef) -> bool:
    try:
        store.get(ref)
    except (SecretCorrupt, SecretNotFound):
        return False
    return True


def _judge(
    record: Record, attempts: dict[tuple[str, DeviceId], set[int]], now: int
) -> Iterator[Finding]:
    """Judge one child, and remove its slots from `attempts`: what is left belongs to no child."""
    if record.cloud is None:
        return
    own = attempts.pop((record.cloud.provider, record.device), set())
    for finding in _judge_one(record, own, now):
        record = finding.record or record
        yield finding
    for one in record.other_generations:
        own = attempts.pop((one.provider, record.device), set())
        for found in _judge_one(record.as_of(one), own, now):
            finding = _elsewhere(record, one, found)
            record = finding.record or record
            yield finding


def _judge_one(record: Record, own: set[int], now: int) -> Iterator[Finding]:
    """Judge what a child has at one cloud.  own: the attempts whose secrets are there."""
    newest = max(own - {record.candidate}, default=0)
    if newest > record.stored and newest >= record.attempt:
        yield _newer(record, newest, now, proven=record.stored in own)
    elif record.stored and record.stored not in own:
        if record.candidate not in own:
            yield _gone(record)
    elif record.activated_at:
        for attempt in sorted(n for n in own if n < record.stored):
            text = "An older secret was deleted."
            yield Finding(FindingKind.OUTDATED, text, record.device, ref=record.slot(attempt))


def _elsewhere(record: Record, one: Generation, found: Finding) -> Finding:
    """Return a finding about a generation that is not in use.  found: as if it were."""
    changed = None
    if found.record is not None:
        changed = record.with_generation(one, found.record.generation(one.left_at))
    if found.kind in (FindingKind.AGAIN, FindingKind.LOST):
        text = f"Its secret at {one.provider}, where it is not now, is gone."
        return replace(found, kind=FindingKind.LOST_ELSEWHERE, text=text, record=changed)
    return replace(found, record=changed)


def _newer(record: Record, newest: int, now: int, *, proven: bool) -> Finding:
    """Judge a secret that is newer than the record knows.

    proven: whether the secret is there by which the cloud knows the child, if it does.
    """
    if record.activated_at and proven:
        facts = replace(record, attempt=newest, candidate=newest)
        return Finding(
            FindingKind.CANDIDATE, "A newer secret waits to be proven.", record.device, facts
        )
    facts = replace(record.with_secret(newest, now), attempt=newest, candidate=0)
    return Finding(FindingKind.COMPLETED, "Its newest secret is in use now.", record.device, facts)


def _gone(record: Record) -> Finding:
    if record.activated_at:
        return Finding(
            FindingKind.LOST, "Its secret is gone, and the cloud knows it by it.", record.device
        )
    text = "Its secret is gone, and was never used: it is registered again."
    return Finding(FindingKind.AGAIN, text, record.device, replace(record, stored=0))


def _orphan(provider: str, device: DeviceId, attempt: int) -> Finding:
    text = "A secret belongs to no child on record; it was moved to quarantine."
    return Finding(FindingKind.ORPHAN, text, device, ref=SecretRef(provider, device, attempt))


def _doubts(found: list[Finding], stored: int, held: int) -> Iterator[Finding]:
    gone = len(without_secret(found))
    orphans = sum(f.kind is FindingKind.ORPHAN for f in found)
    if _too_many(gone, stored):
        yield Finding(
            FindingKind.DEGRADED,
            f"{gone} of {stored} secrets are gone: put the right vault.db back, or a backup of it.",
        )
    if _too_many(orphans, held):
        yield Finding(
            FindingKind.DEGRADED,
            f"{orphans} of {held} secrets belong to no child on record: put the right state.db "
            "back, or a backup of it.",
        )


def _too_many(some: int, total: int) -> bool:
    return some >= FEW and some * 100 > total * PERCENT
