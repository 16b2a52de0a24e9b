"""From when to when each child of a site was served, by which gateway, and what kept it.  Pure."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from script.soaking.site.events import (
    OF_ETCD,
    OF_GATEWAYS,
    Connected,
    Ended,
    FaultBegan,
    FaultEnded,
    FaultKind,
    LeaderFell,
    SiteEvent,
)

DEAD = (FaultKind.KILL, FaultKind.PAUSE, FaultKind.CUT_ETCD)
"""The faults after which the children of the victim are another's."""
UNSERVING = (FaultKind.KILL, FaultKind.PAUSE, FaultKind.CUT_CLOUD)
"""The faults of a gateway during which what the cloud takes for its session serves no child."""
JUST_AFTER = 1.0
"""Seconds in which a gateway that runs on finds that its time is over."""
ALONE_45, LEADER_75, AFTER_60 = 45.0, 75.0, 60.0
"""Seconds: from a death to a session elsewhere, where etcd's leader fell too, after all faults."""


@dataclass(frozen=True, slots=True)
class ServedSpell:
    """A session of a child, without what its gateway slept through."""

    begin: float
    end: float
    gateway: str


@dataclass(frozen=True, slots=True)
class ServiceGap:
    """A time in which a child had no session that served.  before, after: whose they were."""

    child: str
    begin: float
    end: float
    before: str
    after: str


@dataclass(slots=True)
class FaultEpoch:
    """Faults that were made at once.

    end: of the last; infinite while one lasts.  leader: whether etcd lost its leader.
    """

    number: int
    began: list[FaultBegan] = field(default_factory=list)
    ends: dict[str, float] = field(default_factory=dict)
    leader: bool = False

    @property
    def begin(self) -> float:
        """When the first began."""
        return min(one.at for one in self.began)

    @property
    def end(self) -> float:
        """When the last ended."""
        return max(self.ends.get(one.victim, math.inf) for one in self.began)

    @property
    def is_broad(self) -> bool:
        """Whether more was hit than a site can stand: its cloud, or the majority of etcd."""
        kinds = [one.kind for one in self.began]
        return FaultKind.CUT_CLOUD in kinds or sum(kind in OF_ETCD for kind in kinds) > 1

    @property
    def lone_death(self) -> FaultBegan | None:
        """The fault, where it was one of a gateway alone, whose children moved."""
        (first, *more) = self.began
        return first if not more and first.kind in DEAD else None

    def lasts(self, fault: FaultBegan, moment: float) -> bool:
        """Whether a fault lasts at a moment, or is over just then."""
        return fault.at <= moment <= self.ends.get(fault.victim, math.inf) + JUST_AFTER

    def deadline(self, gap: ServiceGap) -> float:
        """Return until when a child must be served again that was not from a gap's begin on."""
        if self.is_broad:
            return self.end + AFTER_60
        deaths = [one for one in self.began if one.kind in OF_GATEWAYS]
        own = [one.at for one in deaths if one.victim == gap.before and self.lasts(one, gap.begin)]
        base = min([gap.begin, *own])
        if len(deaths) > 1:  # the taker may have died as well
            base = max(base, *(one.at for one in deaths))
        return base + (LEADER_75 if self.leader else ALONE_45)


def epochs_of(log: Iterable[SiteEvent]) -> Sequence[FaultEpoch]:
    """Return what was made when, in order."""
    found: dict[int, FaultEpoch] = {}
    for event in log:
        if isinstance(event, FaultBegan):
            epoch = found.setdefault(event.epoch, FaultEpoch(event.epoch))
            epoch.began.append(event)
            epoch.leader |= event.leader
        elif isinstance(event, LeaderFell):
            found[event.epoch].leader = True
        elif isinstance(event, FaultEnded):
            found[event.epoch].ends[event.victim] = event.at
    return sorted(found.values(), key=lambda epoch: epoch.begin)


def spells_of(log: Sequence[SiteEvent]) -> Mapping[str, Sequence[ServedSpell]]:
    """Return when each child was served, in order.  log: sorted."""
    last = log[-1].at if log else 0.0
    asleep = _asleep(log, last)
    open_: dict[str, Connected] = {}
    children: dict[int, str] = {}
    spells: dict[str, list[ServedSpell]] = defaultdict(list)

    def end(child: str, at: float) -> None:
        began = open_.pop(child)
        spells[child] += _awake(ServedSpell(began.at, at, began.gateway), asleep[began.gateway])

    for event in log:
        if isinstance(event, Connected) and event.accepted and not event.registers:
            if event.child in open_:
                end(event.child, event.at)
            open_[event.child] = event
            children[event.link] = event.child
        elif isinstance(event, Ended):
            child = children.pop(event.link, "")
            if child in open_ and open_[child].link == event.link:
                end(child, event.at)
    for child in tuple(open_):
        end(child, last)
    return spells


def gaps_of(child: str, spells: Sequence[ServedSpell], last: float) -> Iterator[ServiceGap]:
    """Yield when a child was not served, from its first session to the last moment that counts."""
    for spell, following in pairwise(spells):
        if following.begin > spell.end < last:
            end = min(following.begin, last)
            yield ServiceGap(child, spell.end, end, spell.gateway, following.gateway)
    if spells and spells[-1].end < last:
        yield ServiceGap(child, spells[-1].end, last, spells[-1].gateway, "")


def served_at(moment: float, spells: Mapping[str, Sequence[ServedSpell]]) -> Mapping[str, str]:
    """Return which gateway serves each child at a moment; without those that none serves."""
    found: dict[str, str] = {}
    for child, all_ in spells.items():
        place = bisect_right(all_, moment, key=lambda spell: spell.begin)
        if place and moment < all_[place - 1].end:
            found[child] = all_[place - 1].gateway
    return found


def _asleep(log: Iterable[SiteEvent], last: float) -> Mapping[str, Sequence[tuple[float, float]]]:
    """Return from when to when each gateway could serve no child, whatever the cloud saw."""
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for epoch in epochs_of(log):
        for one in epoch.began:
            if one.kind in UNSERVING:
                found[one.victim].append((one.at, epoch.ends.get(one.victim, last)))
    return found


def _awake(spell: ServedSpell, asleep: Sequence[tuple[float, float]]) -> Iterator[ServedSpell]:
    begin = spell.begin
    for first, until in sorted(asleep):
        if until <= begin or first >= spell.end:
            continue
        if first > begin:
            yield ServedSpell(begin, first, spell.gateway)
        begin = max(begin, until)
    if begin < spell.end:
        yield ServedSpell(begin, spell.end, spell.gateway)
