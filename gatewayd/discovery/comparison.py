"""The comparison of two sightings: the same facts, or of two devices.  Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from gatewayd.device.identity import Claim, is_kept, kernel_macs, key_of, share_key
from gatewayd.discovery.discoverer import Sighting

_NOTHING: frozenset[Claim] = frozenset()


@dataclass(frozen=True, slots=True)
class OwnClaims:
    """What identifies a device.

    claims: all of it, as far as the device is known to have it.  accepted: of these, what was on
    record or approved.  answered: what is its own by an operator's answer, whether or not it was
    seen with it.  The last two by what is looked up.
    """

    claims: Collection[Claim] = _NOTHING
    accepted: AbstractSet[Claim] = _NOTHING
    answered: AbstractSet[Claim] = _NOTHING

    def are_answered(self, some: AbstractSet[Claim], others: AbstractSet[Claim]) -> bool:
        """Whether an operator has said that what is shown at two places is one device's.

        That is so where each place shows what the other does not, both are the device's own, and
        one of them is by an answer.  A third device, which shows what these have in common, has
        nothing of that.
        """
        ours, theirs = some - others, others - some
        whole = self.accepted | self.answered
        is_answered = not self.answered.isdisjoint(ours | theirs)
        return is_answered and not (whole.isdisjoint(ours) or whole.isdisjoint(theirs))


_NOTHING_OWN = OwnClaims()


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


def are_apart(
    one: Sighting,
    other: Sighting,
    own: OwnClaims = _NOTHING_OWN,
    beside: Collection[Sighting] = (),
) -> bool:
    """Whether two sightings seem to be of two devices: by MAC, or with no address in common.

    own: what identifies the device; it may have several MACs among these.  What an operator has
    said is one device's may be at two places.
    beside: all sightings of the device: what one shows, another at its addresses need not.
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
        return ours.isdisjoint(theirs) and not (ours | theirs).issubset(own.claims)
    if share_key(one.claims, other.claims):
        return False
    if not _in_different_places(one.addresses, other.addresses):
        return False
    return not own.answered or not own.are_answered(_at(one, beside), _at(other, beside))


def _at(place: Sighting, beside: Iterable[Sighting]) -> frozenset[Claim]:
    """Return what is shown at the addresses of a sighting, by what it is looked up by."""
    addresses = set(place.addresses)
    there = [one for one in beside if not addresses.isdisjoint(one.addresses)]
    return frozenset(key_of(c) for one in (place, *there) for c in one.claims if is_kept(c))


def _in_different_places(some: Collection[str], others: Collection[str]) -> bool:
    families = {":" in a for a in some} & {":" in a for a in others}
    return bool(families) and set(some).isdisjoint(others)


def are_behind_two(one: Sighting, other: Sighting) -> bool:
    """Whether the kernel saw two sightings behind different MACs."""
    ours, theirs = kernel_macs(one.claims), kernel_macs(other.claims)
    return bool(ours and theirs) and ours.isdisjoint(theirs)
