"""A network of the site: each gateway, each etcd and the plant in a namespace of its own, one LAN.

They meet at a bridge in one more namespace, where this thread is meanwhile.  What is cut is cut
there, silently: both ends see nothing but that nothing comes.  Needs root.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass

from gatewayd.simulator.site import run
from tests.support.bridged_lan import own_namespace
from tests.support.own_network import await_running

BRIDGE = "site0"
HERE = "10.77.0.254"
"""The address of this process."""
INTERFACE = "lan0"
PLANT = "plant"
LAN, CLOUD = "10.77.0.", "10.88.0."
"""How the addresses of each host begin: on the LAN, and on the way to the cloud."""
CHILDREN = "10.77.32.0/19"
"""The addresses of the children."""
ETCD_PORT = 2379
COUNTERS = {"dport": "to_etcd", "sport": "from_etcd"}
_TABLE = "soak"


@dataclass(frozen=True, slots=True)
class SiteHost:
    """A host of the site.  number: the last byte of its addresses."""

    name: str
    number: int

    @property
    def namespace(self) -> str:
        """The name of its network namespace."""
        return f"soak{os.getpid()}-{self.name}"

    @property
    def port(self) -> str:
        """Its port at the bridge."""
        return f"port{self.number}"

    @property
    def inside(self) -> Sequence[str]:
        """What a command begins with that is to run on it."""
        return ("ip", "netns", "exec", self.namespace)

    @property
    def lan(self) -> str:
        """Its address on the LAN."""
        return f"{LAN}{self.number}"

    @property
    def cloud(self) -> str:
        """Its address on the way to the cloud."""
        return f"{CLOUD}{self.number}"


class SiteNetwork:
    """The network, made by `site_network`.  hosts: by name."""

    def __init__(self, names: Collection[str]) -> None:
        self.hosts: Mapping[str, SiteHost] = {
            name: SiteHost(name, number) for number, name in enumerate(names, 1)
        }
        self._cuts: dict[str, Sequence[str]] = {}

    async def make(self) -> None:
        """Make bridge, namespaces and cables.  Raises RuntimeError."""
        await run("ip", "link", "add", BRIDGE, "type", "bridge", "mcast_snooping", "0")
        await run("ip", "addr", "add", f"{HERE}/16", "dev", BRIDGE)
        await run("ip", "link", "set", BRIDGE, "up")
        for host in self.hosts.values():
            await self._connect(host)
        for host in self.hosts.values():
            await_running(host.port)
        inside = self.hosts[PLANT].inside  # its children speak from addresses of their own
        await run(*inside, "ip", "route", "add", "local", CHILDREN, "dev", "lo")
        await self._write_rules()

    async def _connect(self, host: SiteHost) -> None:
        name, port = host.namespace, host.port
        await run("ip", "netns", "add", name)
        await run("ip", "-n", name, "link", "set", "lo", "up")
        await run("ip", "link", "add", port, "type", "veth", "peer", "name", INTERFACE,
                  "netns", name)  # fmt: skip
        await run("ip", "-n", name, "link", "set", INTERFACE, "addrgenmode", "none")
        for address in (host.lan, host.cloud):
            await run("ip", "-n", name, "addr", "add", f"{address}/16", "dev", INTERFACE)
        await run("ip", "-n", name, "link", "set", INTERFACE, "up")
        await run("ip", "-n", name, "route", "add", "default", "dev", INTERFACE)
        await run("ip", "link", "set", port, "master", BRIDGE, "up")

    async def close(self) -> None:
        """Remove all of it."""
        for host in self.hosts.values():
            with contextlib.suppress(RuntimeError):
                await run("ip", "netns", "del", host.namespace)
        for command in (f"nft delete table bridge {_TABLE}", f"ip link del {BRIDGE}"):
            with contextlib.suppress(RuntimeError):
                await run(*command.split())

    # Cuts.

    async def cut(self, name: str, first: str, others: Collection[str]) -> None:
        """Let nothing pass between an address and some others.  name: to heal it by."""
        both = f"{{ {', '.join(others)} }}"
        self._cuts[name] = (
            f"ip saddr {first} ip daddr {both} drop",
            f"ip saddr {both} ip daddr {first} drop",
        )
        await self._write_rules()

    async def heal(self, name: str) -> None:
        """Let it pass again."""
        self._cuts.pop(name, None)
        await self._write_rules()

    async def _write_rules(self) -> None:
        """Write the rules of all cuts, and of what is counted, in one step."""
        dropped = "".join(f"{rule}; " for cut in self._cuts.values() for rule in cut)
        counted = "".join(
            f"tcp {end} {ETCD_PORT} counter name {name}; " for end, name in COUNTERS.items()
        )
        made = "".join(f"counter {name} {{ }}; " for name in COUNTERS.values())
        table = f"table bridge {_TABLE}"
        hook = "type filter hook forward priority 0"
        await run(
            "nft",
            f"{table} {{ {made}chain pass {{ {hook}; }}; }}; flush chain bridge {_TABLE} pass; "
            f"{table} {{ chain pass {{ {dropped}{counted}}}; }}",
        )

    async def etcd_bytes(self) -> int:
        """Return the bytes that gateways and etcd have exchanged, as Ethernet counts them."""
        text = await run("nft", "-j", "list", "counters", "table", "bridge", _TABLE)
        listed = json.loads(text)["nftables"]
        return sum(one["counter"]["bytes"] for one in listed if "counter" in one)


@contextlib.asynccontextmanager
async def site_network(names: Collection[str]) -> AsyncIterator[SiteNetwork]:
    """Make the network of these hosts, with the plant, until the block ends."""
    network = SiteNetwork((*names, PLANT))
    with own_namespace():
        try:
            await network.make()
            yield network
        finally:
            await network.close()
