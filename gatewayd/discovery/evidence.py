"""The evidence that the sightings of one device make together."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from gatewayd.device.identity import Claim, Evidence, Trust
from gatewayd.discovery.discoverer import Sighting
from gatewayd.discovery.resolver import is_exclusive, kernel_macs

MAX_ADDRESSES = 16


def evidence(own: Iterable[Claim], sightings: Iterable[Sighting], conflict: str) -> Evidence:
    """Join what is known of a device; the most trusted sighting comes first.

    own: what identifies it.  conflict: "" for none; a conflict lowers trust to the least.
    """
    ranked = sorted(sightings, key=lambda s: (-s.trust, s.source, s.key))
    beside = (c for s in ranked for c in s.claims if not is_exclusive(c))
    addresses = dict.fromkeys(address for s in ranked for address in s.addresses)
    return Evidence(
        views=tuple({**s.attributes, "trust": s.trust.word} for s in ranked),
        claims=frozenset(own).union(beside),
        trust=ranked[0].trust if ranked and not conflict else Trust.CLAIMED,
        label=next((s.label for s in ranked if s.label), ""),
        addresses=tuple(addresses)[:MAX_ADDRESSES],
        conflict=conflict,
    )


def same_facts(one: Sighting, other: Sighting) -> bool:
    """Whether two sightings of one origin differ in no more than their times."""
    return (
        one.claims == other.claims
        and one.trust is other.trust
        and one.attributes == other.attributes
        and one.label == other.label
        and one.port == other.port
        and set(one.addresses) == set(other.addresses)
    )


def are_apart(one: Sighting, other: Sighting, own: Collection[Claim]) -> bool:
    """Whether two sightings seem to be of two devices: by MAC, or with no address in common.

    own: what identifies the device; it may have several MACs among these.
    On different interfaces of the gateway one device may well have different addresses.
    """
    if one.interface and other.interface and one.interface != other.interface:
        return False
    ours, theirs = kernel_macs(one.claims), kernel_macs(other.claims)
    if ours and theirs:
        return ours.isdisjoint(theirs) and not (ours | theirs).issubset(own)
    return _in_different_places(one.addresses, other.addresses)


def _in_different_places(some: Collection[str], others: Collection[str]) -> bool:
    families = {":" in a for a in some} & {":" in a for a in others}
    return bool(families) and set(some).isdisjoint(others)
