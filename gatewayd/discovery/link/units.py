"""The units of a discoverer, one for each of its interfaces, which the kernel's events reach."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Generic, Protocol, TypeVar

from gatewayd.discovery.kernel.interfaces import InterfaceTable, LanInterface
from gatewayd.errors import DiscoveryRetry
from gatewayd.runtime.tasks import cancel_and_wait

NONE_YET = 2.0
"""Seconds until an interface is looked for again, where none can be used."""
FORBIDDEN = 15.0
"""Seconds until the kernel is asked again, where it does not show its interfaces."""


class LinkUnit(Protocol):
    """What a discoverer does on one interface."""

    async def run(self) -> None:
        """Work whenever the interface is usable, until cancelled."""

    def relinked(self) -> None:
        """Process a change of any interface."""


U = TypeVar("U", bound=LinkUnit)

MakeUnit = Callable[[str, Callable[[], LanInterface]], U]
"""Makes the unit of an interface.  The second argument returns what the kernel says of it now."""


class LinkUnits(Generic[U]):
    """The units, while they run.  name: of the discoverer.  interfaces: their names."""

    def __init__(self, name: str, interfaces: Collection[str]) -> None:
        self._name, self._names = name, tuple(dict.fromkeys(interfaces))
        self._units: dict[str, U] = {}
        self._is_running = False

    def __iter__(self) -> Iterator[U]:
        return iter(self._units.values())

    def on(self, interface: str) -> U | None:
        """Return the unit of an interface; None if there is none.

        Raises DiscoveryRetry while it is about to be made.
        """
        unit = self._units.get(interface)
        if unit is None and self._is_running:
            raise DiscoveryRetry(f"{self._name} does not listen there yet", NONE_YET)
        return unit

    async def run(self, make: MakeUnit[U], load: Callable[[], object] | None = None) -> None:
        """Make the units and run them, until cancelled.

        load: called before the first is made; it may block.
        Raises DiscoveryRetry if no interface is up and has an address.
        """
        known = asyncio.Event()
        links = InterfaceTable(self._names, partial(self._relinked, known))
        self._is_running = True
        following = asyncio.create_task(self._follow(links), name=f"{self._name}/interfaces")
        working = asyncio.create_task(self._work(links, known, make, load), name=self._name)
        try:
            await asyncio.wait((following, working), return_when=asyncio.FIRST_COMPLETED)
            for one in (following, working):
                if one.done():
                    one.result()
        finally:
            await cancel_and_wait((following, working))
            self._units, self._is_running = {}, False

    def _relinked(self, known: asyncio.Event) -> None:
        known.set()
        for one in self._units.values():
            one.relinked()

    async def _follow(self, links: InterfaceTable) -> None:
        try:
            await links.run()
        except OSError as error:
            raise DiscoveryRetry(
                f"{self._name}: the kernel does not show its interfaces: {error.strerror}; allow "
                "AF_NETLINK under RestrictAddressFamilies of the unit",
                after=FORBIDDEN,
            ) from error

    async def _work(
        self,
        links: InterfaceTable,
        known: asyncio.Event,
        make: MakeUnit[U],
        load: Callable[[], object] | None,
    ) -> None:
        if load is not None:
            await asyncio.to_thread(load)
        await known.wait()
        if not any(links.link(one).is_usable for one in self._names):
            names = ", ".join(self._names)
            raise DiscoveryRetry(
                f"{self._name}: none of {names} is up and has an address; bring one up, "
                "or name others under interfaces",
                after=NONE_YET,
            )
        self._units = {one: make(one, partial(links.link, one)) for one in self._names}
        async with asyncio.TaskGroup() as group:
            for interface, unit in self._units.items():
                group.create_task(unit.run(), name=f"{self._name}/{interface}")
