"""What must hold at a site of several gateways, whatever fails when.  Pure, over a log of events.

What the cloud saw is joined with what etcd says of tokens.  etcd tells its watchers a moment after
it has answered the gateway, so that a claim counts from EARLY seconds before it was seen.  That
hides no lower token: a claim adds to what its own gateway holds, and takes nothing from another.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from script.soaking.site.events import (
    Claimed,
    Connected,
    FaultEnded,
    Released,
    Said,
    SiteEvent,
    StartedAgain,
)
from script.soaking.site.service import (
    FaultEpoch,
    ServedSpell,
    ServiceGap,
    epochs_of,
    gaps_of,
    served_at,
    spells_of,
)

EARLY, LATE = 5.0, 1.0
"""Seconds by which a claim is seen late, at most; and by which the end of a session is."""
STALE = 12.0
"""Seconds after the end of its key in which a gateway may still act: its fence, and a second or
two.  The key may end first: etcd before 3.5.11 deletes keys of leases that were renewed, where its
leader was stopped and runs on."""
MOST = 0.6
"""The part of the children that one gateway may have, where one of three is dead."""
JUST_BEFORE = 0.001


@dataclass(frozen=True, slots=True)
class FinalFacts:
    """What the cloud says of a child after the last start of all gateways.

    issued: secrets that it was given, where that is no CONNECT that the log has.
    """

    online: bool
    refused_logins: int
    issued: int = 1


@dataclass(slots=True)
class SiteVerdict:
    """What was counted; a sentence for each offence.

    lower: a CONNECT or PUBLISH by a holder of a lower token.  without: by who held none.
    needless: registrations of a child that had a session already.  lost: secrets.
    late: children that were not served in time.  crowded: placements.  restless: reconnects.
    moved: seconds from the fault of an owner to the session of another, by the kind of the fault.
    shares: the largest part of the children that one gateway had, after each lone death.
    returns: of a gateway, after which reconnects were counted.
    """

    connects: int = 0
    said: int = 0
    registrations: int = 0
    tokens: int = 0
    epochs: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    lower: list[str] = field(default_factory=list)
    without: list[str] = field(default_factory=list)
    needless: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    crowded: list[str] = field(default_factory=list)
    restless: list[str] = field(default_factory=list)
    moved: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    shares: list[float] = field(default_factory=list)
    returns: int = 0

    @property
    def offences(self) -> Sequence[str]:
        """All of them."""
        return (
            *self.lower, *self.without, *self.needless, *self.lost, *self.late, *self.crowded,
            *self.restless,
        )  # fmt: skip


def judge(
    events: Sequence[SiteEvent],
    shard_of: Callable[[str], int],
    final: Mapping[str, FinalFacts],
) -> SiteVerdict:
    """Return what is right and wrong with what happened.

    shard_of: that of a child.  final: of each child that there is.
    """
    log = sorted(events, key=lambda event: event.at)
    verdict = SiteVerdict()
    _judge_tokens(log, shard_of, verdict)
    _judge_registrations(log, verdict)
    spells, epochs = spells_of(log), epochs_of(log)
    verdict.epochs = len(epochs)
    verdict.faults.update(one.kind for epoch in epochs for one in epoch.began)
    last = _last_of(log)
    for child, all_ in spells.items():
        for gap in gaps_of(child, all_, last):
            _judge_gap(gap, epochs, verdict)
    if len(spells) > 1:  # one piece is at one gateway
        _judge_placements(log, spells, epochs, verdict)
    for child, facts in final.items():
        if facts.issued > 1:
            verdict.needless.append(f"{child}: {facts.issued} secrets were issued")
        if not facts.online or facts.refused_logins:
            refused = f"{facts.refused_logins} logins refused"
            verdict.lost.append(f"{child}: {'online' if facts.online else 'offline'}, {refused}")
    return verdict


def _last_of(log: Sequence[SiteEvent]) -> float:
    """Return when a campaign is over: what follows is a start in order."""
    again = (event.at for event in log if isinstance(event, StartedAgain))
    return next(again, log[-1].at if log else 0.0)


class _Tokens:
    """What each gateway holds, as etcd has said until now."""

    def __init__(self) -> None:
        self._held: dict[tuple[int, str], int] = {}
        self._gone: dict[tuple[int, int], float] = {}

    def claimed(self, event: Claimed) -> None:
        self._held[event.shard, event.gateway] = event.token

    def released(self, event: Released) -> None:
        self._gone[event.shard, event.token] = event.at

    def of(self, shard: int, gateway: str) -> int:
        """Return the newest token that a gateway has had of a shard; 0 for none."""
        return self._held.get((shard, gateway), 0)

    def is_gone(self, shard: int, token: int, now: float) -> bool:
        """Whether a key was deleted so long before that nothing more may be done by it."""
        return self._gone.get((shard, token), now) + STALE < now


def _judge_tokens(
    log: Sequence[SiteEvent], shard_of: Callable[[str], int], verdict: SiteVerdict
) -> None:
    """Find who acts for a child by a lower token than one by which it was connected, or by none."""
    tokens = _Tokens()
    reached: dict[str, int] = defaultdict(int)
    claims = iter(sorted(
        (event for event in log if isinstance(event, Claimed)), key=lambda event: event.at
    ))  # fmt: skip
    following = next(claims, None)
    for event in log:
        while following is not None and following.at - EARLY <= event.at:
            tokens.claimed(following)
            verdict.tokens += 1
            following = next(claims, None)
        if isinstance(event, Released):
            tokens.released(event)
        elif isinstance(event, Connected | Said):
            what = "CONNECT" if isinstance(event, Connected) else "PUBLISH"
            shard = shard_of(event.child)
            token = tokens.of(shard, event.gateway)
            place = f"{event.at:.2f} s: {what} of {event.child} by {event.gateway}"
            if token < reached[event.child]:
                verdict.lower.append(f"{place}, token {token} after {reached[event.child]}")
            elif not token or tokens.is_gone(shard, token, event.at):
                verdict.without.append(f"{place}, which does not hold its shard")
            if what == "CONNECT":
                verdict.connects += 1
                reached[event.child] = max(reached[event.child], token)
            else:
                verdict.said += 1


def _judge_registrations(log: Sequence[SiteEvent], verdict: SiteVerdict) -> None:
    """Find registrations of a child that had logged in: its secret was durable before it did."""
    logged_in: set[str] = set()
    for event in log:
        if not isinstance(event, Connected) or not event.accepted:
            continue
        if not event.registers:
            logged_in.add(event.child)
            continue
        verdict.registrations += 1
        if event.child in logged_in:
            verdict.needless.append(f"{event.at:.2f} s: {event.child} by {event.gateway}")


def _judge_gap(gap: ServiceGap, epochs: Sequence[FaultEpoch], verdict: SiteVerdict) -> None:
    """Find a child that was not served for longer than it may."""
    place = bisect_right(epochs, gap.begin + LATE, key=lambda epoch: epoch.begin)
    if not place:
        return  # the site comes up
    epoch = epochs[place - 1]
    names = " and ".join(f"{one.kind} {one.victim}" for one in epoch.began)
    if gap.end > epoch.deadline(gap):
        verdict.late.append(
            f"{gap.begin:.2f} s: {gap.child} was not served for {gap.end - gap.begin:.1f} s, after "
            f"{gap.before} and before {gap.after or 'none'} (fault {epoch.number}: {names})"
        )
    kinds = [one for one in epoch.began if one.victim == gap.before and epoch.lasts(one, gap.begin)]
    if gap.after and gap.after != gap.before and kinds and not epoch.is_broad:
        leader = ", and etcd's leader" if epoch.leader else ""
        verdict.moved[f"{kinds[0].kind}{leader}"].append(gap.end - kinds[0].at)


def _judge_placements(
    log: Sequence[SiteEvent],
    spells: Mapping[str, Sequence[ServedSpell]],
    epochs: Sequence[FaultEpoch],
    verdict: SiteVerdict,
) -> None:
    """Find a gateway with too many children while another is dead, and reconnects at a return."""
    begins = [epoch.begin for epoch in epochs]
    by_number = {epoch.number: epoch for epoch in epochs}
    for event in log:
        if not isinstance(event, FaultEnded):
            continue
        epoch = by_number[event.epoch]
        served = served_at(event.at - JUST_BEFORE, spells)
        if epoch.lone_death is None or len(served) < len(spells):
            continue
        counts = Counter(served.values())
        if event.victim not in counts:
            ((gateway, most),) = counts.most_common(1)
            verdict.shares.append(most / len(served))
            if most > MOST * len(served):
                verdict.crowded.append(f"{gateway} has {most} of {len(served)} children")
        until = min((at for at in begins if at > event.at), default=_last_of(log))
        verdict.returns += 1
        verdict.restless += _restless(log, event, until)


def _restless(log: Sequence[SiteEvent], end: FaultEnded, until: float) -> Iterator[str]:
    first = bisect_right(log, end.at, key=lambda event: event.at)
    last = bisect_left(log, until, key=lambda event: event.at)
    logins = Counter(
        event.child
        for event in log[first:last]
        if isinstance(event, Connected) and event.accepted and not event.registers
    )
    yield from (
        f"{child} connected {count} times after the return of {end.victim} (fault {end.epoch})"
        for child, count in logins.items()
        if count > 1
    )
