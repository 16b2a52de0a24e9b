"""The leases that a server has given, as its files were read last: what is new, and what is gone.

Pure: moments are arguments, in seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from gatewayd.discovery.leases.lease import MAX_LEASES, Lease


@dataclass(frozen=True, slots=True)
class LeaseNews:
    """What one reading of the files has shown.

    found: leases that were there at the first reading: whether their devices are is not known.
    given: leases that were given or renewed since, so that their devices have just asked.
    returned: leases that are gone before their end, as after a release (RFC 2131, 4.4.6).
    """

    found: tuple[Lease, ...] = ()
    given: tuple[Lease, ...] = ()
    returned: tuple[Lease, ...] = ()


class LeaseBook:
    """The book.

    A server that rewrites its file in place may be found half-way: a lease counts as returned once
    it was missing twice.
    """

    def __init__(self) -> None:
        self._leases: dict[str, Lease] = {}
        self._of: dict[str, dict[str, Lease]] = {}
        self._missing: frozenset[str] = frozenset()
        self._is_read = False

    def __len__(self) -> int:
        return len(self._leases)

    @property
    def is_doubtful(self) -> bool:
        """Whether leases were missing when the files were read last, but not before."""
        return bool(self._missing)

    def update(self, leases: Collection[Lease], now: float) -> LeaseNews:
        """Note what the files hold; return what is new.  leases: at most one of each address."""
        before, after = self._leases, {one.address: one for one in leases}
        gone = {
            address: one
            for address, one in before.items()
            if address not in after and one.ends > now
        }
        returned = [one for address, one in gone.items() if address in self._missing]
        doubtful = {address: one for address, one in gone.items() if address not in self._missing}
        kept = {**doubtful, **after}
        self._leases = dict(list(kept.items())[-MAX_LEASES:])
        self._missing = frozenset(doubtful)
        self._of = {}
        for one in self._leases.values():
            self._of.setdefault(one.mac, {})[one.address] = one
        fresh = tuple(one for one in after.values() if one != before.get(one.address))
        is_first, self._is_read = not self._is_read, True
        if is_first:
            return LeaseNews(found=fresh)
        left = tuple(one for one in returned if one.mac not in self._of)
        return LeaseNews(given=fresh, returned=left)

    def all(self) -> Sequence[Lease]:
        """Return all leases."""
        return tuple(self._leases.values())

    def at(self, address: str) -> Lease | None:
        """Return the lease of an address; None if it has none."""
        return self._leases.get(address)

    def of(self, mac: str) -> Sequence[Lease]:
        """Return the leases of a device, the one that ends last first.  mac: 12 hex digits."""
        return sorted(self._of.get(mac, {}).values(), key=lambda one: -one.ends)
