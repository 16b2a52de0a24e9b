"""Which children of the site are this gateway's now: the `Ownership` that follows etcd."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from gatewayd.device.reason import NONE, Reason
from gatewayd.device.record import CloudName
from gatewayd.site.decisions import LAYOUT
from gatewayd.site.fence import Fence
from gatewayd.site.snapshot import SiteReading

UNREACHABLE = Reason(
    "site-unreachable",
    "No etcd of the site answers, so that it is not known which gateway it belongs to.",
    "Check that most members of etcd run.  If endpoints in [site] is wrong, correct it, then run "
    "systemctl restart gatewayd.",
)
NOT_JOINED = Reason(
    "site-not-joined",
    "This gateway is no member of its site yet, so that none of its children may work here.",
    "Run gatewayctl site join FINGERPRINT.  Then run gatewayctl site accept GATEWAY FINGERPRINT on "
    "a gateway that is a member.",
)
NOT_FOUNDED = Reason(
    "site-not-founded",
    "Its site has no gateway yet, so that none of its children may work anywhere.",
    "Run gatewayctl site found.  On every other gateway run gatewayctl site join FINGERPRINT.",
)
LEASE_ENDED = Reason(
    "site-lease-ended",
    "The lease of this gateway has ended, and no other gateway is known to have it: it has no "
    "session, and what it says is stored.",
    "Check that most members of etcd run, and that this gateway reaches them.",
)
CHANGES_HANDS = Reason(
    "shard-changes-hands",
    "It goes from one gateway of the site to another, which takes some seconds.",
)
OTHER_LAYOUT = Reason(
    "site-of-another-version",
    "What the site has in etcd is of another version of gatewayd.",
    "Install the version that the other gateways of the site have.",
)


@lru_cache(maxsize=64)
def owned_by(gateway: str) -> Reason:
    """Return the reason of a child that another gateway has.  gateway: its name in the site."""
    return Reason(
        "owned-by-another",
        f"It is owned by {gateway}, another gateway of this site.",
        f"Run this command at {gateway}.",
    )


class SiteOwnership:
    """The `Ownership` of a gateway whose site is in etcd.

    gateway: our name.  shard_of: returns the shard of a child.
    fence: after it nothing is ours.
    """

    def __init__(self, gateway: str, shard_of: Callable[[CloudName], int], fence: Fence) -> None:
        self._gateway, self._shard_of, self._fence = gateway, shard_of, fence
        self._tokens: dict[int, int] = {}
        self._leaving: set[int] = set()
        self._kept: set[int] = set()
        self._reading: SiteReading | None = None

    def elsewhere(self, name: CloudName) -> Reason:
        """Return why a child is not ours now; NONE where it is."""
        shard = self._shard_of(name)
        if shard in self._tokens and shard not in self._leaving and self._fence.holds():
            return NONE
        return self._why(shard)

    def token_of(self, name: CloudName) -> int | None:
        """Return the token under which a child is ours; None where it is not.

        Where its shard is about to leave, it still has one, until all of the shard has ended here.
        """
        return self._tokens.get(self._shard_of(name))

    def read(self, reading: SiteReading | None) -> None:
        """Note what was read of the site; None where etcd does not answer."""
        self._reading = reading
        if reading is not None:
            owners = reading.owners.items()
            self._kept -= {shard for shard, one in owners if one.gateway != self._gateway}

    def gained(self, shard: int, token: int) -> None:
        """Note that the children of a shard are ours by this token, and merged."""
        self._tokens[shard] = token
        self._leaving.discard(shard)
        self._kept.discard(shard)

    def leaves(self, shard: int) -> None:
        """Note that the children of a shard are to end here."""
        self._leaving.add(shard)

    def lost(self, shard: int) -> None:
        """Note that nothing of a shard's children runs here any more.

        Where that is since the lease has ended, what they say is stored until another one has them.
        """
        if self._tokens.pop(shard, None) is not None and not self._fence.holds():
            self._kept.add(shard)
        self._leaving.discard(shard)

    def _why(self, shard: int) -> Reason:
        if shard in self._kept or (shard in self._tokens and not self._fence.holds()):
            return LEASE_ENDED
        reading = self._reading
        if reading is None:
            return UNREACHABLE
        owner = reading.owners.get(shard)
        if owner is not None and owner.gateway and owner.gateway != self._gateway:
            return owned_by(owner.gateway)
        if reading.layout not in ("", LAYOUT):
            return OTHER_LAYOUT
        if not reading.members:
            return NOT_FOUNDED
        return CHANGES_HANDS if self._gateway in reading.members else NOT_JOINED
