"""The settings of mDNS discovery."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gatewayd.discovery.mdns.records import service
from gatewayd.errors import ConfigError
from gatewayd.settings import grammar
from gatewayd.settings.declare import REQUIRED, setting


@dataclass(frozen=True, slots=True)
class MdnsSettings:
    """[discovery.<name>] with kind = "mdns".  The bounds hold for each interface."""

    interfaces: tuple[str, ...] = setting(
        REQUIRED,
        "names of the network interfaces to listen on; an uplink only where devices are on it, too",
        grammar=grammar.interface,
    )
    types: tuple[str, ...] = setting(
        REQUIRED, 'DNS-SD service types to look for, as "_gatewayd-child._tcp"'
    )
    rescan_every: float = setting(
        300.0,
        "time between two rescans of the LAN, give or take a tenth",
        unit="s",
        low=10,
        high=86400,
    )
    max_entries: int = setting(
        2000,
        "names kept; those that no rule matches leave first, then the oldest",
        low=1,
        high=100_000,
    )
    resolve_in_flight: int = setting(
        64, "names that a rule could match, resolved at the same time", low=1, high=1000
    )
    resolve_queue: int = setting(
        256, "such names that may wait; the oldest are dropped", low=1, high=10_000
    )
    strangers_in_flight: int = setting(
        4, "names that no rule matches, resolved at the same time", low=1, high=100
    )
    strangers_queue: int = setting(
        64, "such names that may wait; the oldest are dropped", low=1, high=10_000
    )
    flood_limit: int = setting(
        3000,
        "distinct names, or as many times 2.8 kB of records, after which what was received is "
        "discarded, and the LAN is asked again",
        low=10,
        high=1_000_000,
    )

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with the settings as a whole."""
        yield from grammar.at_least_one("interfaces", self.interfaces, "those that children are on")
        wanted = "the services that children announce"
        yield from grammar.at_least_one("types", self.types, wanted)
        for one in self.types:
            try:
                service(one)
            except ConfigError as error:
                yield str(error)
