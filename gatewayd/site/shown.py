"""What is shown of a site: one view of what agent, members and copies report.  Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from gatewayd.device.reason import NONE, Reason
from gatewayd.device.views import (
    DRAINS,
    GatewayStanding,
    ShardView,
    SiteGatewayView,
    SiteMode,
    SiteState,
    SiteView,
)
from gatewayd.settings.grammar import label
from gatewayd.site.settings import SiteSettings
from gatewayd.site.shards import SHARDS
from gatewayd.site.snapshot import SiteReading, SiteSnapshot

PAGE = "See SEVERAL GATEWAYS in gatewayd(8)."

REASONS: Mapping[SiteState, Reason] = {
    SiteState.READY: NONE,
    SiteState.STARTING: Reason(
        "site-starting", "The site was not read yet: no child is logged in here."
    ),
    SiteState.NOT_FOUNDED: Reason(
        "site-not-founded",
        "This gateway is not a member of a site, so that it has no children.",
        "Run gatewayctl site found on the first gateway of a site, and gatewayctl site join "
        "FINGERPRINT on each other, with the fingerprint of the site.",
    ),
    SiteState.NOT_JOINED: Reason(
        "site-not-joined",
        "This gateway is not a member of the site, so that it has no children.",
        "Run gatewayctl site join FINGERPRINT with the fingerprint of the site, which gatewayctl "
        "site status shows on each of its gateways.",
    ),
    SiteState.WAITING: Reason(
        "site-member-waits",
        "This gateway waits until an operator lets it into the site.",
        "Run gatewayctl site accept GATEWAY FINGERPRINT on a gateway of the site, with the name "
        "and the fingerprint of this one.",
    ),
    SiteState.REMOVED: Reason(
        "site-removed",
        "An operator has removed this gateway from the site, so that it has no children.",
        "Run gatewayctl site join FINGERPRINT to have it there again.",
    ),
    SiteState.DRAINING: Reason(
        "site-draining", "This gateway gives its children to the others, as an operator wants."
    ),
    SiteState.DRAINED: Reason(
        "site-drained",
        "This gateway has given its children to the others, as an operator wants.",
        "Run gatewayctl site resume once its maintenance is over.",
    ),
    SiteState.NO_QUORUM: Reason(
        "site-no-quorum",
        "etcd does not answer: this gateway goes on with the children that it has until its lease "
        "ends.",
        f"Start what is down of etcd, or look at the network between the gateways.  {PAGE}",
    ),
    SiteState.STOPPED: Reason(
        "site-unreachable",
        "etcd does not answer, and the lease of this gateway has ended: its sessions are closed, "
        "and what its children say is stored.",
        f"Start what is down of etcd, or look at the network between the gateways.  {PAGE}",
    ),
}
"""Why the state is as it is, and what to do."""

FAULTY = "site-faulty"
OFFLINE = Reason(
    "site-offline",
    "This gateway is drained, and no other one lives: all children of the site are offline.",
    "Run gatewayctl site resume, here or on another gateway of the site that was drained.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownMembers:
    """What is known of the members.

    standing: of this gateway; READY for a member, else NOT_FOUNDED, NOT_JOINED, WAITING or REMOVED.
    fingerprint, site_fingerprint: of this gateway and of the site; "" for none.
    members, waiting: fingerprints by the names of gateways.
    fault: why what etcd holds of them cannot be used, a sentence; "" where it can.
    """

    standing: SiteState = SiteState.READY
    fingerprint: str = ""
    site_fingerprint: str = ""
    epoch: int = 0
    members: Mapping[str, str] = field(default_factory=dict)
    waiting: Mapping[str, str] = field(default_factory=dict)
    fault: str = ""


@dataclass(frozen=True, slots=True)
class ShownCopies:
    """What of the children is in etcd.

    children: those of which a copy is there.  waiting: changes that are not.
    fault: why they wait, a sentence; "" for nothing.
    """

    children: int = 0
    waiting: int = 0
    fault: str = ""


def without_etcd(settings: SiteSettings) -> SiteView:
    """Return what is shown of a gateway without etcd."""
    mode = SiteMode.SHARE if settings.share else SiteMode.ALONE
    return SiteView(mode=mode, share=settings.share)


def with_etcd(
    seen: SiteSnapshot, members: ShownMembers, copies: ShownCopies, *, lost_at: int
) -> SiteView:
    """Return what is shown of a site on etcd.

    lost_at: since when etcd does not answer, microseconds since the epoch; 0 where it does.
    """
    state = site_state(seen, members)
    reading = seen.reading or SiteReading(0)
    view = SiteView(
        mode=SiteMode.ETCD,
        state=state,
        reason=_reason(state, seen, members),
        name=seen.site,
        gateway=seen.gateway,
        lost_at=lost_at,
        left=int(seen.left),
        owned=len(seen.owned),
        changing=len(seen.gaining | seen.stopping),
        gateways=tuple(_gateways(reading, members)),
        shards=tuple(_shards(reading)),
        fingerprint=members.fingerprint,
        site_fingerprint=members.site_fingerprint,
        epoch=members.epoch,
        replicated=copies.children,
        unwritten=copies.waiting,
        replication_fault=copies.fault,
    )
    return replace(view, reason=OFFLINE) if state in DRAINS and view.troubled else view


def site_state(seen: SiteSnapshot, members: ShownMembers) -> SiteState:
    """Return how this gateway stands: what keeps it from all children comes first."""
    if not seen.reachable and seen.reading is not None:
        return SiteState.NO_QUORUM if seen.left > 0 else SiteState.STOPPED
    if seen.reading is None:
        return SiteState.STOPPED if seen.fault else SiteState.STARTING
    if members.fault:
        return SiteState.FAULTY
    if members.standing is not SiteState.READY:
        return members.standing
    if seen.draining:
        has_some = seen.owned or seen.gaining or seen.stopping
        return SiteState.DRAINING if has_some else SiteState.DRAINED
    return SiteState.READY if seen.lease else SiteState.STARTING


def _reason(state: SiteState, seen: SiteSnapshot, members: ShownMembers) -> Reason:
    if state is SiteState.FAULTY:
        return Reason(FAULTY, members.fault, PAGE)
    reason = REASONS[state]
    if state in (SiteState.NO_QUORUM, SiteState.STOPPED) and seen.fault:
        cause = seen.fault.strip().rstrip(".")
        return Reason(reason.code, f"{reason.text}  It failed last: {cause}.", reason.remedy)
    return reason


def _gateways(reading: SiteReading, members: ShownMembers) -> Iterator[SiteGatewayView]:
    """Yield the gateways of the site, by name: those with a lease, members, and who waits.

    An owner without a name is what etcd holds where no gateway has written; a key below `member` or
    `join` that is no name of one is left out.
    """
    counts = Counter(owner.gateway for owner in reading.owners.values() if owner.gateway)
    known = {*members.members, *reading.members, *members.waiting}
    for name in sorted({*reading.gateways, *known, *counts} - {*filter(label, known)}):
        live = reading.gateways.get(name)
        yield SiteGatewayView(
            name=name,
            standing=_standing(reading, members, name),
            version=live.version if live else "",
            fingerprint=members.members.get(name) or members.waiting.get(name, ""),
            shards=counts[name],
        )


def _standing(reading: SiteReading, members: ShownMembers, name: str) -> GatewayStanding:
    live = reading.gateways.get(name)
    if name not in members.members and name in members.waiting:
        return GatewayStanding.WAITING
    if live is None:
        return GatewayStanding.GONE
    if name not in members.members and name not in reading.members:
        return GatewayStanding.NOT_JOINED
    return GatewayStanding.DRAINING if live.draining else GatewayStanding.LIVE


def _shards(reading: SiteReading) -> Iterator[ShardView]:
    for shard in range(SHARDS):
        owner = reading.owners.get(shard)
        yield ShardView(shard, owner.gateway, owner.token) if owner else ShardView(shard)
