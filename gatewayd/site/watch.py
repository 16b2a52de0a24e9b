"""What happens to a site while gatewayd runs: each change once, in the journal, and counted."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from gatewayd.device.views import GatewayStanding, SiteState, SiteView
from gatewayd.site.snapshot import SiteReading

log = logging.getLogger(__name__)

_WITHOUT_QUORUM = (SiteState.NO_QUORUM, SiteState.STOPPED)


QUORUM_LOST = {"message_id": "site-quorum-lost"}
RECOVERED = {"message_id": "site-quorum-recovered"}
STOPPED = {"message_id": "site-stopped"}
TAKEN_OVER = {"message_id": "site-taken-over"}
MEMBER_WAITS = {"message_id": "site-member-waits"}


class SiteEvent(NamedTuple):
    """Something that has happened to the site.

    entry: of the journal.  level: of logging.  text: a sentence without its full stop.
    """

    entry: Mapping[str, str]
    level: int
    text: str


def events(before: SiteView, now: SiteView) -> Iterator[SiteEvent]:
    """Yield what has happened from one view of a site to the next."""
    had, has = before.state in _WITHOUT_QUORUM, now.state in _WITHOUT_QUORUM
    why = now.reason.text.rstrip(".")
    if has and not had:
        yield SiteEvent(QUORUM_LOST, logging.WARNING, f"Site {now.name}: {why}")
    if had and not has:
        text = f"Site {now.name}: etcd answers again"
        yield SiteEvent(RECOVERED, logging.WARNING, text)
    if now.state is SiteState.STOPPED and before.state is SiteState.NO_QUORUM:
        yield SiteEvent(STOPPED, logging.ERROR, f"Site {now.name}: {why}")
    waited = {one.name for one in before.gateways if one.standing is GatewayStanding.WAITING}
    known = waited | {now.gateway}  # for itself, its state says so
    for one in now.gateways:
        if one.standing is GatewayStanding.WAITING and one.name not in known:
            yield SiteEvent(MEMBER_WAITS, logging.WARNING, _waits(now, one.name))


def _waits(site: SiteView, name: str) -> str:
    return (
        f"Gateway {name} wants to join site {site.name}. If it is yours, run gatewayctl site "
        "accept GATEWAY FINGERPRINT with the fingerprint that it shows itself"
    )


class TakeOvers:
    """The shards that this gateway has taken of others that were gone."""

    def __init__(self) -> None:
        self.total = 0
        self._newest: dict[int, str] = {}

    def note(self, gateway: str, reading: SiteReading) -> Counter[str]:
        """Note who has each shard now; return how many of each gateway that is gone are ours since.

        gateway: our name.
        """
        taken: Counter[str] = Counter()
        for shard, owner in reading.owners.items():
            last = self._newest.get(shard, gateway)
            is_lost = bool(last) and last != gateway and last not in reading.gateways
            if is_lost and owner.gateway == gateway:
                taken[last] += 1
            self._newest[shard] = owner.gateway
        self.total += taken.total()
        return taken


class SiteWatch:
    """What was seen of the site last, and what was logged of it."""

    def __init__(self) -> None:
        self.lost_at = 0
        self._take_overs = TakeOvers()
        self._before: SiteView | None = None

    @property
    def taken_over(self) -> int:
        """Shards of gateways that were gone, which this one has taken."""
        return self._take_overs.total

    def heed(self, *, reachable: bool, now: int) -> int:
        """Note whether etcd answers; return since when it does not, 0 where it does.

        now: microseconds since the epoch.
        """
        self.lost_at = 0 if reachable else self.lost_at or now
        return self.lost_at

    def note(self, view: SiteView, reading: SiteReading | None) -> bool:
        """Log what has happened since the last view; return whether the state is another one."""
        before, self._before = self._before, view
        taken = self._take_overs.note(view.gateway, reading) if reading is not None else Counter()
        for gateway, number in sorted(taken.items()):
            shards = "1 shard" if number == 1 else f"{number} shards"
            text = f"Site {view.name}: took over {shards} of {gateway}, whose lease has ended"
            _write(SiteEvent(TAKEN_OVER, logging.WARNING, text))
        if before is None:
            return True
        for event in events(before, view):
            _write(event)
        return before.state is not view.state


def _write(event: SiteEvent) -> None:
    log.log(event.level, "%s.", event.text, extra=event.entry)
