"""The comparison of two sightings: the same facts, or of two devices.  Pure."""

from __future__ import annotations

from collections.abc import Collection

from gatewayd.device.identity import Claim, kernel_macs, share_key
from gatewayd.discovery.discoverer import Sighting


def same_facts(one: Sighting, other: Sighting) -> bool:
    """Whether two sightings of one origin differ in no more than their times."""
    return (
        one.claims == other.claims
        and one.trust is other.trust
        and one.attributes == other.attributes
        and one.label == other.label
        and one.port == other.port
        and one.is_behind == other.is_behind
        and set(one.addresses) == set(other.addresses)
    )


def are_apart(one: Sighting, other: Sighting, own: Collection[Claim]) -> bool:
    """Whether two sightings seem to be of two devices: by MAC, or with no address in common.

    own: what identifies the device; it may have several MACs among these.
    On different interfaces of the gateway one device may well have different addresses; and so may
    one that shows the same UUID or certificate at both, but not different MACs: one image gives
    many devices a UUID.  So may one that was seen by itself, and behind another, whose addresses
    these are.
    """
    if one.interface and other.interface and one.interface != other.interface:
        return False
    if one.is_behind != other.is_behind:
        return False
    ours, theirs = kernel_macs(one.claims), kernel_macs(other.claims)
    if ours and theirs:
        return ours.isdisjoint(theirs) and not (ours | theirs).issubset(own)
    is_one = share_key(one.claims, other.claims)
    return not is_one and _in_different_places(one.addresses, other.addresses)


def _in_different_places(some: Collection[str], others: Collection[str]) -> bool:
    families = {":" in a for a in some} & {":" in a for a in others}
    return bool(families) and set(some).isdisjoint(others)
