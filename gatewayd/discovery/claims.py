"""What two sets of claims say of one another: the grounds on which the resolver decides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from gatewayd.device.identity import Claim, DeviceId, device_id, strength

KERNEL = "l2"
"""The namespace of a MAC that the kernel saw itself."""

DIGITS = (12, 20, 40, 64)
"""How many hex digits an id may have: more than the first only where the id is another's."""

_EXCLUSIVE = frozenset({"cert", "serial", "uuid"})
"""Kinds of which a device has one value in a namespace.  Of MACs it may have several."""


def is_exclusive(one: Claim) -> bool:
    """Whether a device can have no other value of this kind in this namespace."""
    return one.kind in _EXCLUSIVE


def is_kernel_mac(one: Claim) -> bool:
    """Whether the kernel vouches for this MAC.  Whoever does so for it, no device can."""
    return one.kind == "mac" and one.namespace == KERNEL


def consistent(claims: Iterable[Claim]) -> tuple[Claim, ...]:
    """Return the claims strongest first, without those that contradict one another."""
    distinct = set(claims)
    values = Counter((c.kind, c.namespace) for c in distinct if is_exclusive(c))
    kept = (c for c in distinct if values[c.kind, c.namespace] < 2)  # noqa: PLR2004  # two quarrel
    return tuple(sorted(kept, key=lambda c: (-strength(c), c)))


def contradict(some: Iterable[Claim], others: Iterable[Claim]) -> bool:
    """Whether two sets of claims cannot be of one device: two values where only one can be."""
    ours = {(c.kind, c.namespace): c.value for c in some if is_exclusive(c)}
    return any(
        ours.get((c.kind, c.namespace), c.value) != c.value for c in others if is_exclusive(c)
    )


def is_kept(one: Claim) -> bool:
    """Whether a claim says who a device is, or where it is at home."""
    return strength(one) > 0 or is_kernel_mac(one)


def kernel_macs(claims: Iterable[Claim]) -> frozenset[Claim]:
    """Return the MACs that the kernel saw."""
    return frozenset(c for c in claims if is_kernel_mac(c))


def ids(claims: Iterable[Claim], *place: object) -> Iterator[DeviceId]:
    """Yield the ids a device may have, shortest first: of its claims; without any, of its place."""
    own, fallback = tuple(claims), "|".join(map(str, place))
    return (device_id(own, fallback, digits=digits) for digits in DIGITS)
