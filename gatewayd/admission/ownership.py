"""Which gateway of a site a child belongs to, where several see the same children.

Two gateways that log the same child in throw each other's sessions out for ever, so that each child
belongs to one.  The name at the cloud says whose it is: all gateways that have the same rules give
a device the same one, whatever each of them sees of it first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from gatewayd.device.identity import GATEWAY_PREFIX, DeviceId
from gatewayd.device.reason import NONE, Reason
from gatewayd.device.record import CloudName

MAX_SHARES = 64
"""Gateways among which the children of a site are divided, at most."""

_SHARE = re.compile(r"([1-9][0-9]?)/([1-9][0-9]?)", re.ASCII)


class Ownership(Protocol):
    """The children that belong to this gateway, of all that the gateways of its site see."""

    def elsewhere(self, name: CloudName) -> Reason:
        """Return why a child by this name belongs to another gateway; NONE where it is ours."""


class Alone:
    """The `Ownership` of a gateway that has its site for itself: everything is its own."""

    def elsewhere(self, name: CloudName) -> Reason:  # noqa: ARG002  # whatever its name
        """Return NONE."""
        return NONE


ALONE = Alone()


@dataclass(frozen=True, slots=True)
class Share:
    """A fixed part of the children of a site, the `Ownership` of one of its gateways.

    number: of the part, from 1 to `of`, the number of parts.
    """

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def elsewhere(self, name: CloudName) -> Reason:
        """Return which other share a name is in; NONE where it is in this one."""
        number = share_of(name, self.of)
        if number == self.number:
            return NONE
        return Reason(
            "share-of-another",
            f"It belongs to share {number}/{self.of} of this site, and this gateway has {self}.",
            f'Look for it at the gateway with share = "{number}/{self.of}".  If there is none, '
            "correct share in [site], then run systemctl restart gatewayd.",
        )


def share_of(name: CloudName, of: int) -> int:
    """Return the number of the share that a name is in, from 1.

    By rendezvous hashing (Thaler and Ravishankar 1998): where a share is added, each of the others
    gives up its part for it, and no child changes between two that were there before.  What the
    configuration calls the cloud does not count, so that it may differ among gateways.
    """
    text = f"{name.product}\0{name.device}"
    weights = (sha256(f"{number}\0{text}".encode()).digest() for number in range(1, of + 1))
    return max(zip(weights, range(1, of + 1), strict=True))[1]


def parse_share(text: str) -> Share | None:
    """Return a share that is written as 2/3; None for what is none."""
    found = _SHARE.fullmatch(text)
    share = Share(int(found[1]), int(found[2])) if found else None
    return share if share is not None and share.number <= share.of <= MAX_SHARES else None


def share(text: str) -> str:
    """Return the rule that a share breaks (a grammar of settings/grammar.py)."""
    if parse_share(text) is not None:
        return ""
    return (
        'must be the number of a share and of all shares, as "1/3", with at most '
        f"{MAX_SHARES} shares: give each gateway of the site another number"
    )


def why_elsewhere(ownership: Ownership, device: DeviceId, name: CloudName | None) -> Reason:
    """Return why a child belongs to another gateway; NONE where it is ours.

    name: at its cloud; None where it has none.  The gateway's own name is always its own.
    """
    if name is None or device.startswith(GATEWAY_PREFIX):
        return NONE
    return ownership.elsewhere(name)
