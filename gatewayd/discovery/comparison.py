"""The comparison of claims, and of sightings: the same, or of two devices.  Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from gatewayd.device.identity import KERNEL, Claim, strength, universal
from gatewayd.discovery.discoverer import Sighting

_EXCLUSIVE = frozenset({"cert", "serial", "uuid"})
"""Kinds of which a device has one value in a namespace.  Of MACs it may have several."""


def is_exclusive(one: Claim) -> bool:
    """Whether a device can have no other value of this kind in this namespace."""
    return one.kind in _EXCLUSIVE


def is_kernel_mac(one: Claim) -> bool:
    """Whether the kernel saw this MAC itself.  No announcement can write such a claim."""
    return one.kind == "mac" and one.namespace == KERNEL


def consistent(claims: Iterable[Claim]) -> tuple[Claim, ...]:
    """Return the claims strongest first, without those that contradict one another."""
    distinct = set(claims)
    values = Counter((c.kind, c.namespace) for c in distinct if is_exclusive(c))
    kept = (c for c in distinct if values[c.kind, c.namespace] < 2)  # noqa: PLR2004  # two contradict
    return tuple(sorted(kept, key=lambda c: (-strength(c), c)))


def contradict(some: Iterable[Claim], others: Iterable[Claim]) -> bool:
    """Whether two sets of claims cannot be of one device: two values where only one can be."""
    ours = {(c.kind, c.namespace): c.value for c in some if is_exclusive(c)}
    return any(
        ours.get((c.kind, c.namespace), c.value) != c.value for c in others if is_exclusive(c)
    )


def is_kept(one: Claim) -> bool:
    """Whether a claim identifies a device, or is the kernel's MAC of it."""
    return strength(one) > 0 or is_kernel_mac(one)


def kernel_macs(claims: Iterable[Claim]) -> frozenset[Claim]:
    """Return the MACs that the kernel saw itself."""
    return frozenset(c for c in claims if is_kernel_mac(c))


def key_of(one: Claim) -> Claim:
    """Return what a claim is looked up by: the same in all namespaces where it means the same."""
    return universal(one) or one


def share_key(some: Iterable[Claim], others: Iterable[Claim]) -> bool:
    """Whether two sets of claims have a UUID or a certificate in common, so that one device has
    both, whatever MACs it has."""
    ours, theirs = (
        {key for key in map(key_of, claims) if key.kind == "cert" or _is_uuid(key)}
        for claims in (some, others)
    )
    return not ours.isdisjoint(theirs)


def _is_uuid(key: Claim) -> bool:
    return key.kind == "uuid" and universal(key) == key


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
    On different interfaces of the gateway one device may well have different addresses; and so may
    one that shows the same UUID or certificate at both.
    """
    if one.interface and other.interface and one.interface != other.interface:
        return False
    if share_key(one.claims, other.claims):
        return False
    ours, theirs = kernel_macs(one.claims), kernel_macs(other.claims)
    if ours and theirs:
        return ours.isdisjoint(theirs) and not (ours | theirs).issubset(own)
    return _in_different_places(one.addresses, other.addresses)


def _in_different_places(some: Collection[str], others: Collection[str]) -> bool:
    families = {":" in a for a in some} & {":" in a for a in others}
    return bool(families) and set(some).isdisjoint(others)
