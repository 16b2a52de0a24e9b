"""The settings of sources that ask listed hosts, and the hosts that they list."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from gatewayd.settings import grammar
from gatewayd.settings.declare import REQUIRED, setting

MAX_HOSTS = 4096
"""Addresses that a source may ask, all networks together: at one a second, they take an hour."""
LONGEST_ROUND = 86_400
"""Seconds between two rounds, at most."""

_BOTH = 2
"""A network of so many addresses or fewer has hosts at all of them (RFC 3021; RFC 6164)."""
_V6 = 6
_NO_HOSTS = {4: 2, _V6: 1}
"""Addresses of a larger one that are no host's, by the version of IP."""


@dataclass(frozen=True, slots=True)
class PollSettings:
    """[discovery.<name>] of a source that asks listed hosts."""

    hosts: tuple[str, ...] = setting(
        REQUIRED,
        "IP addresses of the devices, as 192.0.2.7, and networks of which each address is asked, "
        "as 192.0.2.16/28; nothing else is asked",
        grammar=grammar.network,
    )
    probe_every: float = setting(
        300.0,
        "time between two rounds of questions to all hosts, give or take a tenth",
        unit="s",
        low=60,
        high=LONGEST_ROUND,
    )

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with the settings as a whole."""
        yield from grammar.at_least_one("hosts", self.hosts, "an address of a device")
        if (count := sum(map(size_of, self.hosts))) > MAX_HOSTS:
            yield f"hosts has {count} addresses, and may have {MAX_HOSTS}: name smaller networks"
        if not all(map(_are_hosts, self.hosts)):
            yield "hosts must be those of devices: leave out multicast and reserved addresses"
        if any(map(_lacks_interface, self.hosts)):
            yield "hosts has a link-local address without its interface: write it as fe80::7%lan0"

    def too_often(self, questions: int) -> Iterator[str]:
        """Yield a problem if a round takes longer than the time between two.

        questions: of a round, a second each.
        """
        if questions > LONGEST_ROUND:
            yield f"a round has {questions} questions, one a second: name fewer hosts"
        elif questions > self.probe_every:
            yield (
                f"a round has {questions} questions, one a second: set probe_every to {questions} "
                "or more, or name fewer hosts"
            )


def size_of(listed: str) -> int:
    """Return how many addresses an entry of `hosts` stands for; 0 if it is invalid."""
    if "%" in listed:  # a link-local address with its interface
        return 1
    try:
        network = ip_network(listed)
    except ValueError:
        return 0
    count = network.num_addresses
    return count if count <= _BOTH else count - _NO_HOSTS[network.version]


def _are_hosts(listed: str) -> bool:
    """Whether an entry of `hosts` stands for nothing that no host can have."""
    if "%" in listed:
        return True
    try:
        network = ip_network(listed)
    except ValueError:
        return True  # it is invalid, and refused as such
    return not (network.is_multicast or network.is_unspecified or network.is_reserved)


def _lacks_interface(listed: str) -> bool:
    """Whether an entry of `hosts` is link-local (RFC 4291, 2.5.6), on no interface's link."""
    if "%" in listed:
        return False
    with contextlib.suppress(ValueError):  # it is invalid, and refused as such
        network = ip_network(listed)
        return network.version == _V6 and network.is_link_local
    return False


def addresses_of(hosts: Iterable[str]) -> tuple[str, ...]:
    """Return the addresses that are asked, each once, in the order in which they are listed.

    hosts: of which there are no more than MAX_HOSTS addresses.
    """
    found: dict[str, None] = {}
    for listed in hosts:
        if "%" in listed:
            found[str(ip_address(listed))] = None
            continue
        network = ip_network(listed)
        one = network.num_addresses == 1
        found |= dict.fromkeys(map(str, [network[0]] if one else network.hosts()))
    return tuple(found)
