"""What becomes of a child when its shard is gained: the site's copy, or the one here.  Pure.

| the site has            | here is                             | what is done                     |
|-------------------------|-------------------------------------|----------------------------------|
| what was last known here| the same, or newer                  | what is here is written there    |
| that, with its secret   | the same, and its secret is lost    | the site's                       |
| an older write than that| anything                            | as above: etcd was put back      |
| another write           | a record, or none                   | the site's, under the id here    |
| another write, no secret| a secret, and never of the site     | what is here is written there    |
| that it is forgotten    | an older record                     | it is removed here               |
| that it is forgotten    | a newer one, and never of the site  | what is here is written there    |
| nothing                 | a record                            | what is here is written there    |

A secret that is here alone is kept, unless the child has done without it since: it may have been
issued just before a crash.  One that differs from the site's in the same slot goes to quarantine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gatewayd.device.identity import DeviceId, contradict
from gatewayd.device.reason import NONE
from gatewayd.device.record import Record
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.site.replica.blob import ChildBlob
from gatewayd.storage.reconcile import FindingKind, decide
from gatewayd.storage.site_marks import MarkStanding, SiteMark

_PROGRESS = (FindingKind.COMPLETED, FindingKind.CANDIDATE)
"""What a secret that is newer than its record makes of that."""


@dataclass(frozen=True, slots=True)
class LocalCopy:
    """What this gateway has of a child.

    device: its id here, whether there is a record or not.
    mark: what is known here of the site's copy; None where nothing is.
    """

    device: DeviceId
    record: Record | None = None
    secrets: Mapping[SecretRef, Secret] = field(default_factory=dict)
    mark: SiteMark | None = None


@dataclass(frozen=True, slots=True)
class Merged:
    """What is to be written here, and whether to the site.

    record: replaces the one here; None where that stays, or is removed.
    put, set_aside, delete: slots to fill, after what is in those of the second was set aside, and
    slots to empty.
    removed: whether record and secrets are to go.
    publish: whether the site is to get what is here then.
    """

    record: Record | None = None
    put: Mapping[SecretRef, Secret] = field(default_factory=dict)
    set_aside: tuple[SecretRef, ...] = ()
    delete: tuple[SecretRef, ...] = ()
    removed: bool = False
    publish: bool = False


def merged(blob: ChildBlob, revision: int, here: LocalCopy, now: int) -> Merged:
    """Return what becomes of a child of which the site has a copy.

    revision: of etcd, at which the copy was written.  now: microseconds since the epoch.
    """
    if _is_ours(blob, revision, here):
        same = ChildBlob(blob.serial, here.record, here.secrets).says_the_same(blob)
        both_gone = here.record is None and blob.record is None
        return Merged(publish=not (same or both_gone))
    if blob.record is None:
        return Merged(removed=here.record is not None)
    return _taken(blob, blob.record, here, now)


def _is_ours(blob: ChildBlob, revision: int, here: LocalCopy) -> bool:
    """Whether what is here is what the site has, or newer."""
    mark = here.mark
    if mark is not None and here.record is None and mark.standing is MarkStanding.AWAY:
        return False  # it left with its shard, and was not forgotten here
    if _has_lost_secret(blob, here):
        return False
    if mark is not None:
        known = mark.standing is not MarkStanding.MERGING and mark.revision == revision
        return known or blob.serial < mark.serial
    if here.record is None:
        return False
    if blob.record is None:
        return here.record.verdict_at > blob.forgotten_at
    return bool(here.record.stored) and not blob.record.stored


def _has_lost_secret(blob: ChildBlob, here: LocalCopy) -> bool:
    """Whether the site has the secret in use, and it is gone here, as from a damaged vault.

    Who gives a secret up uses up the number of its attempt.
    """
    theirs, ours = blob.record, here.record
    if theirs is None or ours is None or not theirs.stored or theirs.cloud != ours.cloud:
        return False
    in_use = theirs.slot(theirs.stored)
    is_lost = replace(in_use, device=here.device) not in here.secrets
    return is_lost and in_use in blob.secrets and ours.attempt == theirs.attempt


def _taken(blob: ChildBlob, theirs: Record, here: LocalCopy, now: int) -> Merged:
    """Return what makes the site's copy the one here."""
    secrets = {replace(ref, device=here.device): one for ref, one in blob.secrets.items()}
    differing = tuple(
        ref for ref, one in here.secrets.items() if ref in secrets and secrets[ref] != one
    )
    record = _under_own_id(theirs, here)
    done_with = tuple(
        ref for ref in here.secrets if ref not in secrets and _is_done_with(record, ref)
    )
    kept = {**here.secrets, **secrets}
    for ref in done_with:
        del kept[ref]
    for finding in decide([record], kept, now):
        if finding.kind in _PROGRESS and finding.record is not None:
            record = finding.record
    return Merged(
        record,
        {ref: one for ref, one in secrets.items() if here.secrets.get(ref) != one},
        differing,
        done_with,
        publish=not ChildBlob(blob.serial, record, kept).says_the_same(blob),
    )


def _under_own_id(theirs: Record, here: LocalCopy) -> Record:
    """Return the site's record under the id that the child has here, with what both know of it."""
    record = replace(theirs, device=here.device, elsewhere=NONE)
    ours = here.record
    if ours is None or contradict(theirs.claims, ours.claims):
        return record
    return replace(
        record,
        claims=theirs.claims | ours.claims,
        first_seen=min(theirs.first_seen, ours.first_seen),
    )


def _is_done_with(record: Record, ref: SecretRef) -> bool:
    """Whether a slot is older than the one by which the child has logged in at its cloud."""
    for one in record.generations:
        if one.provider == ref.provider and ref == record.as_of(one).slot(ref.attempt):
            return bool(one.activated_at) and ref.attempt < one.stored
    return False
