"""What a gateway does about the shards of its site, by what it read of them last.  Pure.

The rules, which tests/site/test_protocol.py explores in every order of what can happen:

- A shard is claimed only while it has no owner in etcd, by a transaction that compares that.
- One whose last owner did not give it up may still be worked on: etcd may delete a lease early, as
  a leader of etcd 3.4.23 that was stopped does (etcd issue 15247).  It is claimed no sooner than
  after a whole fence, by our own clock, from when it was found so.
- A shard is given up in this order: its children end, then its key is deleted, if it is still the
  one that was claimed.  One for which that was requested is never worked on again under the same
  token, since a request whose answer was lost may be carried out later.
- Where the fence is over, all children end, whatever etcd has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gatewayd.site.fence import FENCE
from gatewayd.site.shards import placement
from gatewayd.site.snapshot import ShardOwner, SiteReading

MARGIN = 1.0
"""Seconds, for clocks whose rates differ, and for what is sent in the same moment."""
VACANT_FOR = FENCE + MARGIN
"""Seconds until a shard is claimed that its owner did not give up."""

LAYOUT = "1"
"""The version of the keys that this gatewayd writes; another one is left alone."""


@dataclass(frozen=True, slots=True)
class Vacancy:
    """A shard without an owner that was not given up.

    token: of its last owner.  since: when we first read that, in seconds of our own clock.
    """

    token: int
    since: float


@dataclass(frozen=True, slots=True)
class OwnState:
    """What a gateway knows of itself.

    lease: ours at etcd; 0 without one.  holds: whether the fence holds.
    entitled: whether we may have shards at all: the vault is open, and no operator drains us.
    working: shards whose children work here, or are about to, with their tokens.
    stopping: shards whose children are about to end here.
    renounced: shards that we have requested to be given up, with the newest token of each.
    finished: shards on which we have worked, and no longer do, likewise.
    vacant: shards without an owner, by what was read before: see `vacancies`.
    """

    gateway: str
    lease: int = 0
    holds: bool = False
    entitled: bool = True
    working: Mapping[int, int] = field(default_factory=dict)
    stopping: frozenset[int] = frozenset()
    renounced: Mapping[int, int] = field(default_factory=dict)
    finished: Mapping[int, int] = field(default_factory=dict)
    vacant: Mapping[int, Vacancy] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ShardActions:
    """What is to be done.

    lose: children end, and nothing else.
    give_up: children end, if they work here; then the key with this token is deleted.
    gain: children are to work, under this token.
    claim: the shard is claimed, if its last owner is still the one with this token; 0 for none.
    """

    lose: frozenset[int] = frozenset()
    give_up: Mapping[int, int] = field(default_factory=dict)
    gain: Mapping[int, int] = field(default_factory=dict)
    claim: Mapping[int, int] = field(default_factory=dict)


def vacancies(
    before: Mapping[int, Vacancy], reading: SiteReading, now: float
) -> Mapping[int, Vacancy]:
    """Return the shards without an owner that were not given up, by a new reading.

    now: when it was answered, in seconds of our own clock.  At that moment etcd had deleted the key
    for certain; when the request was sent it may not have.
    """
    found = {}
    for shard, last in reading.held.items():
        if shard not in reading.owners:
            known = before.get(shard)
            is_same = known is not None and known.token == last.token
            found[shard] = known if known is not None and is_same else Vacancy(last.token, now)
    return found


def decide(reading: SiteReading | None, own: OwnState, now: float) -> ShardActions:
    """Return what is to be done now.

    reading: what was read a moment ago, and not before anything that we did since; None to look at
    the fence alone.  now: seconds of our own clock.
    """
    if not own.holds or not own.lease:
        return ShardActions(lose=frozenset(own.working))
    if reading is None:
        return ShardActions()
    ours = {shard: one.token for shard, one in reading.owners.items() if _is_ours(one, own)}
    wanted = _wanted(reading, own)
    lose = {
        shard
        for shard, token in own.working.items()
        if ours.get(shard) != token and reading.revision >= token
    }
    free = wanted - {*reading.owners, *own.working, *own.stopping}
    busy = {*own.stopping, *lose}
    keep = {s for s, token in ours.items() if s in wanted and token != own.renounced.get(s)}
    return ShardActions(
        frozenset(lose),
        {s: token for s, token in ours.items() if s not in keep and s not in busy},
        {s: ours[s] for s in keep if s not in own.working and s not in busy},
        {s: _last(reading, s) for s in free if _is_ripe(reading, own, s, now)},
    )


def live_gateways(reading: SiteReading) -> frozenset[str]:
    """Return the gateways that may have shards, as all of them agree."""
    if reading.layout not in ("", LAYOUT):
        return frozenset()
    live = {name for name, one in reading.gateways.items() if not one.draining}
    return frozenset(live & reading.members.keys())


def _wanted(reading: SiteReading, own: OwnState) -> set[int]:
    """Return the shards that are to be ours; none where another lease has our name."""
    live = live_gateways(reading)
    known = reading.gateways.get(own.gateway)
    if known is None or known.lease != own.lease or not own.entitled:
        return set()
    last = {**reading.held, **reading.owners}
    owed = {name: one.owed for name, one in reading.gateways.items() if one.owed}
    placed = placement({shard: one.gateway for shard, one in last.items()}, live, owed)
    return {shard for shard, gateway in placed.items() if gateway == own.gateway}


def _is_ours(owner: ShardOwner, own: OwnState) -> bool:
    return owner.gateway == own.gateway and owner.lease == own.lease


def _last(reading: SiteReading, shard: int) -> int:
    return reading.held[shard].token if shard in reading.held else 0


def _is_ripe(reading: SiteReading, own: OwnState, shard: int, now: float) -> bool:
    """Whether the last owner of a shard has ended for certain."""
    token = _last(reading, shard)
    if not token or token == own.finished.get(shard):
        return True
    vacancy = own.vacant.get(shard)
    return vacancy is not None and vacancy.token == token and now - vacancy.since >= VACANT_FOR
