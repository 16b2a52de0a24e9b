"""One interface of a source that knows devices by their MAC: the kernel says which are there."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import NamedTuple

from gatewayd.discovery.discoverer import Sighting
from gatewayd.discovery.kernel.interfaces import LanInterface
from gatewayd.discovery.kernel.witness import PORT, NeighbourWitness, Witnessed
from gatewayd.discovery.probing.protocol import Found, Transmission
from gatewayd.discovery.probing.table import FoundTable
from gatewayd.errors import DiscoveryRetry
from gatewayd.runtime.tasks import cancel_and_wait

EXPIRE_EVERY = 5.0
"""Seconds between two checks for what was not seen again."""
NOTABLE = 30.0
"""Seconds by which a device must be believed longer for the same facts to be reported again."""
NOT_NOW = 15.0
"""Seconds until a device may be asked that cannot be asked now."""


class Placed(NamedTuple):
    """A device, and where it is.  addresses: without scope.

    `found.key` is its MAC, 12 hex digits, and `found.valid_for` a bound; 0 for none.
    """

    found: Found
    addresses: tuple[str, ...]


Recognise = Callable[[Witnessed, NeighbourWitness], Placed | None]
"""Returns the device that a neighbour is; None if it is none of the source's."""


class WitnessedLink:
    """A `LinkUnit`: it reports a device whenever the kernel has confirmed it again.

    link: returns what the kernel says of the interface now.
    table: of what was found there.
    believed: seconds for which a device is believed after it was confirmed.
    now: seconds of the event loop's clock.
    """

    def __init__(
        self,
        link: Callable[[], LanInterface],
        table: FoundTable,
        recognise: Recognise,
        believed: float,
        now: Callable[[], float],
    ) -> None:
        self.link, self.table = link, table
        self._recognise, self._believed, self._now = recognise, believed, now
        self._renewed = float("-inf")
        self.witness = NeighbourWitness(now, self._see)

    async def run(self) -> None:
        """Follow the kernel until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.witness.run())
                group.create_task(self._expire())
        finally:
            self.table.stop()

    def relinked(self) -> None:
        """Nothing is bound to the interface: its neighbours leave and come by themselves."""

    def renew(self) -> None:
        """Report again all that is believed."""
        self._renewed = self._now()
        self.table.renew()
        self.witness.repeat()

    def report(self, placed: Placed, confirmed: float) -> None:
        """Report a device that was confirmed at a moment, unless that is known."""
        found, addresses = placed
        end = confirmed + self._believed
        if found.valid_for:
            end = min(end, self._now() + found.valid_for)
        if not self._is_known(placed, end):
            self.table.add(replace(found, valid_for=end - self._now()), addresses)

    async def is_there(self, addresses: Collection[str], mac: str, since: float) -> bool:
        """Return whether a device is at one of the addresses, as `NeighbourWitness.ask` does.

        Raises DiscoveryRetry if it cannot be asked.
        """
        link = self.link()
        if not link.is_usable:
            raise DiscoveryRetry(f"{link.name} is down, or has no address", NOT_NOW)
        bare = dict.fromkeys(bare_addresses(addresses))
        asked = [asyncio.create_task(self.witness.ask(one, link.name, mac, since)) for one in bare]
        try:
            for answer in asyncio.as_completed(asked):
                if await answer:
                    return True
        except OSError as error:
            raise DiscoveryRetry(
                f"{link.name}: the device cannot be asked: {error.strerror}", NOT_NOW
            ) from error
        finally:
            await cancel_and_wait(asked)
        return False

    async def verify(self, placed: Placed, since: float) -> Sighting | None:
        """Ask a device; return its sighting, or None if it does not answer in 2.8 s.

        since: when it was seen last.  Raises DiscoveryRetry if it cannot be asked.
        """
        if not await self.is_there(placed.addresses, placed.found.key, since):
            return None
        limit = placed.found.valid_for
        found = replace(placed.found, valid_for=min(limit or self._believed, self._believed))
        addresses = [one for one in placed.addresses if self._was_at(one, found.key)]
        return self.table.confirm(found, addresses or placed.addresses)

    def _was_at(self, address: str, mac: str) -> bool:
        """Whether a device was seen at an address, so lately that it is believed."""
        known = self.witness.find(address, self.link().name)
        if known is None or known.mac != mac:
            return False
        return known.at + self._believed > self._now()

    def _is_known(self, placed: Placed, end: float) -> bool:
        """Whether a report would say nothing new.  end: until when it would be believed."""
        known = self.table.get(placed.found.key)
        if known is None or known.at <= self._renewed:
            return False
        is_same = set(bare_addresses(known.addresses)) == set(placed.addresses)
        is_same = is_same and known.claims == placed.found.claims
        is_same = is_same and placed.found.attributes.items() <= known.attributes.items()
        return is_same and end - (known.at + known.valid_for) < NOTABLE

    def _see(self, one: Witnessed) -> None:
        if one.interface != self.link().index or one.at + self._believed <= self._now():
            return
        placed = self._recognise(one, self.witness)
        if placed is not None:
            self.report(placed, one.at)

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(EXPIRE_EVERY)
            self.table.expire()


def question(interface: str, occasion: str) -> Transmission:
    """Return what a device is sent that is asked.  occasion: of `Transmission`."""
    return Transmission(
        f"its address, port {PORT} by UDP", interface, 0.0, 0,
        "have the kernel find out whether it is there", occasion,
    )  # fmt: skip


def formatted(mac: str) -> str:
    """Return a MAC to be shown, as 24:0a:c4:0c:2f:91.  mac: 12 hex digits."""
    return ":".join(mac[at : at + 2] for at in range(0, len(mac), 2))


def bare_addresses(addresses: Collection[str]) -> tuple[str, ...]:
    """Return addresses without their scopes."""
    return tuple(one.partition("%")[0] for one in addresses)


def in_order(addresses: Collection[str]) -> tuple[str, ...]:
    """Return addresses without scope in the order of their numbers, those of IPv4 first."""
    made = map(ipaddress.ip_address, addresses)
    return tuple(str(one) for one in sorted(made, key=lambda one: (one.version, int(one))))
