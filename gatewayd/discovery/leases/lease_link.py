"""The clients of a DHCP server on one interface: which of those that have a lease are there."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable

from gatewayd.device.identity import mac as single_mac
from gatewayd.discovery.discoverer import Health, Sighting
from gatewayd.discovery.kernel.interfaces import LanInterface, Network
from gatewayd.discovery.kernel.witness import NeighbourWitness, Witnessed
from gatewayd.discovery.leases.book import LeaseBook, LeaseNews
from gatewayd.discovery.leases.lease import Lease
from gatewayd.discovery.link.witnessed_link import (
    Placed,
    WitnessedLink,
    bare_addresses,
    in_order,
)
from gatewayd.discovery.probing.protocol import Found, Goodbye
from gatewayd.discovery.probing.table import FoundTable
from gatewayd.discovery.sanitize import MAX_ADDRESSES
from gatewayd.errors import DiscoveryRetry

BELIEVED = 600.0
"""Seconds for which a client is believed after it was given a lease, or the kernel has seen it."""
ASKED_AT_ONCE = 16
"""Clients that are asked at the same time."""


class LeaseLink:
    """A `LinkUnit`.

    link: returns what the kernel says of the interface now.  table: of what was found there.
    book: of the server, for all interfaces.  found: returns the device of a lease.
    health: counts leases that are not reported.  now: seconds of the event loop's clock.
    """

    def __init__(  # what a unit is made of
        self,
        link: Callable[[], LanInterface],
        table: FoundTable,
        book: LeaseBook,
        found: Callable[[Lease], Found],
        health: Health,
        now: Callable[[], float],
    ) -> None:
        self._link, self._table, self._book, self._found = link, table, book, found
        self._health, self._now = health, now
        self._witnessed = WitnessedLink(link, table, self._recognise, BELIEVED, now)
        self._endpoint: object = None
        self._networks: Collection[Network] = ()
        self._doubted: deque[tuple[str, float]] = deque()
        self._waiting: set[str] = set()
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Work until cancelled."""
        self.relinked()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._witnessed.run())
            for _ in range(ASKED_AT_ONCE):
                group.create_task(self._prove())

    def relinked(self) -> None:
        """Ask again for all clients if the interface has other addresses, or is up again."""
        link = self._link()
        if (link.endpoint, link.networks) != (self._endpoint, self._networks):
            self._endpoint, self._networks = link.endpoint, link.networks
            self._doubt(self._book.all(), self._now() - BELIEVED)

    def learn(self, news: LeaseNews) -> None:
        """Report the clients of leases that were given or returned, and ask those of others."""
        self._doubt(news.found, self._now() - BELIEVED)
        for lease in filter(self._is_here, news.given):
            known = self._witnessed.witness.find(lease.address, self._link().name)
            if known is None or known.mac == lease.mac:
                self._report(lease)
            else:  # who had the address before, unless it is another device's
                self._doubt([lease], self._now())
        for lease in news.returned:
            self._table.part(Goodbye(lease.mac))

    def renew(self) -> None:
        """Ask all clients, and report again those that are there."""
        self._witnessed.renew()
        self._doubt(self._book.all(), self._now())

    async def verify(self, sighting: Sighting) -> Sighting | None:
        """Ask one client, at the addresses that it has now; None if it does not answer.

        Raises DiscoveryRetry if it cannot be asked.
        """
        leases = [one for one in self._book.of(sighting.key) if self._is_here(one)]
        if leases:
            addresses = tuple(one.address for one in leases[:MAX_ADDRESSES])
            return await self._witnessed.verify(
                Placed(self._found(leases[0]), addresses), sighting.at
            )
        known = Found(
            sighting.key, sighting.claims, sighting.attributes, sighting.label, valid_for=0.0
        )  # as it was seen last: it has no lease any more
        return await self._witnessed.verify(
            Placed(known, bare_addresses(sighting.addresses)), sighting.at
        )

    def _is_here(self, lease: Lease) -> bool:
        """Whether a lease is of a device on this interface."""
        return any(lease.address in one for one in self._networks)

    def _report(self, lease: Lease) -> None:
        if single_mac(lease.mac):
            self._witnessed.report(Placed(self._found(lease), self._places(lease)), self._now())
        else:
            self._health.drop("no-mac", interface=self._link().name, sender=lease.address)

    def _places(self, lease: Lease) -> tuple[str, ...]:
        """Return where the device of a lease is, and where by the newest of the other family."""
        others = (one.address for one in self._book.of(lease.mac) if self._is_here(one))
        other = next((one for one in others if (":" in one) != (":" in lease.address)), None)
        return in_order([lease.address, other] if other else [lease.address])

    def _recognise(self, one: Witnessed, witness: NeighbourWitness) -> Placed | None:
        """Return the client that a neighbour is: what has the lease of its address."""
        lease = self._book.at(str(one.address))
        if lease is None or lease.mac != one.mac:
            return None
        seen = witness.addresses(one.interface, one.mac)
        leased = [each for each in seen if (of := self._book.at(each)) and of.mac == one.mac]
        return Placed(self._found(lease), in_order(leased[:MAX_ADDRESSES]))

    def _doubt(self, leases: Iterable[Lease], since: float) -> None:
        """Have clients asked that were not seen since a moment of the event loop's clock."""
        for lease in filter(self._is_here, leases):
            if lease.address not in self._waiting:
                self._waiting.add(lease.address)
                self._doubted.append((lease.address, since))
        if self._doubted:
            self._wake.set()

    async def _prove(self) -> None:
        """Ask one client after another."""
        while True:
            while not self._doubted:
                self._wake.clear()
                await self._wake.wait()
            address, since = self._doubted.popleft()
            self._waiting.discard(address)
            lease = self._book.at(address)
            if lease is not None:
                await self._ask(lease, since)

    async def _ask(self, lease: Lease, since: float) -> None:
        try:
            is_there = await self._witnessed.is_there((lease.address,), lease.mac, since)
        except DiscoveryRetry:
            return  # the interface is down: once it is up, all are asked again
        if is_there:
            self._report(lease)
            return
        known = self._witnessed.witness.find(lease.address, self._link().name)
        cause = "not-there" if known is None or known.mac == lease.mac else "another-mac"
        self._health.drop(
            cause, interface=self._link().name, sender=lease.address, name=lease.hostname
        )
