"""Which shard a child is in, and which gateway is to have each shard.  Pure.

Children belong to gateways by shards, not one by one, so that what etcd holds of ownership, and
what each gateway reads of it, does not grow with the children.  Every gateway computes the same
placement from the same reading of etcd; none has to ask another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from hashlib import sha256

from gatewayd.device.record import CloudName

SHARDS = 64
"""Shards of a site: part of the layout of its keys in etcd, and the same for ever."""

MAX_GATEWAYS = 10
"""Gateways of one site, at most.

Of more, a part would be so few shards that the parts of those that stay had to shrink where one
goes: with 12, each has 5 or 6, and with 11, most have 5.
"""


def shard_of(name: CloudName, piece: str = "") -> int:
    """Return the shard of a child, from 0.

    By what the cloud calls it, which all gateways with the same rules agree on; the name of the
    cloud in the configuration, and the route, do not count.
    piece: what moves as one, as the children behind a gateway's identity at a cloud do: all that
    have the same are in one shard, whatever their names; "" for a child that moves alone.
    """
    text = f"piece\0{piece}" if piece else f"child\0{name.product}\0{name.device}"
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big") % SHARDS


def parts(live: Collection[str]) -> Mapping[str, int]:
    """Return how many shards each gateway is to have: as many as the others, or one more.

    The first by name have one more, so that all gateways agree on it.
    """
    least, more = divmod(SHARDS, len(live))
    return {one: least + (place < more) for place, one in enumerate(sorted(live))}


NOTHING_OWED: Mapping[str, Collection[int]] = {}


def placement(
    current: Mapping[int, str],
    live: Collection[str],
    owed: Mapping[str, Collection[int]] = NOTHING_OWED,
) -> Mapping[int, str]:
    """Return which gateway is to have each shard; nothing where no gateway is live.

    current: who has each shard now; a shard without an entry is free.
    live: the gateways that may have shards.
    owed: the shards of whose children a gateway has messages that only it can send.

    Sticky: a gateway keeps what it has, up to its part; above it, what weighs most with it.  All
    else goes to the gateways below theirs, each shard to the one with which it weighs most
    (rendezvous hashing, Thaler and Ravishankar 1998).  So a gateway that goes moves its own shards
    alone, one that comes takes no more than its part, and while some of the moves are done, the
    rest of them stay the same.
    """
    if not live:
        return {}
    most = parts(set(live))
    claimed = _owed_first(current, most, owed)
    left = dict(most)
    for gateway in claimed.values():
        left[gateway] -= 1
    kept = {s: g for s, g in current.items() if s not in claimed}
    placed = claimed | {
        shard: gateway
        for gateway in most
        for shard in _heaviest((s for s, g in kept.items() if g == gateway), gateway, left)
    }
    counts = Counter(placed.values())
    for shard in range(SHARDS):
        if shard not in placed:
            below = (gateway for gateway in most if counts[gateway] < most[gateway])
            placed[shard] = max(below, key=lambda gateway: _weight(shard, gateway))
            counts[placed[shard]] += 1
    return placed


def _owed_first(
    current: Mapping[int, str], most: Mapping[str, int], owed: Mapping[str, Collection[int]]
) -> dict[int, str]:
    """Return the shards that go to gateways below their parts, which owe them; all of them move in
    any case: they are free, or their gateway has more than its part."""
    counts = Counter(gateway for gateway in current.values() if gateway in most)
    claimed: dict[int, str] = {}
    for gateway in sorted(owed.keys() & most.keys()):
        for shard in sorted(owed[gateway]):
            owner = current.get(shard, "")
            is_surplus = owner not in most or counts[owner] > most[owner]
            if shard in claimed or not is_surplus or counts[gateway] >= most[gateway]:
                continue
            claimed[shard] = gateway
            counts[gateway] += 1
            counts[owner] -= 1
    return claimed


def _heaviest(shards: Iterable[int], gateway: str, most: Mapping[str, int]) -> list[int]:
    by_weight = sorted(shards, key=lambda shard: _weight(shard, gateway), reverse=True)
    return by_weight[: most[gateway]]


def _weight(shard: int, gateway: str) -> bytes:
    return sha256(f"{shard}\0{gateway}".encode()).digest()
