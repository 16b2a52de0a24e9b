"""Network namespaces of our own: a gateway, and children behind one cable."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator

GATEWAY, CHILDREN = "10.77.0.1", "10.77.0.2"
GATEWAY6, CHILDREN6 = "fd77::1", "fd77::2"
LINK_LOCAL = ("fe80::77:1", "fe80::77:2")
NETWORK6 = "fd77:1::/64"
NETWORK = "10.77.1.0/24"
FORGED = "10.77.2.0/24"
"""Addresses that an attacker uses besides its own."""


@contextlib.contextmanager
def namespaces(*, ipv6: bool = False) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Yield the command prefixes of the gateway's namespace and of the children's; needs root.

    ipv6: the cable has addresses of IPv6 alone; else, of IPv4, and the link-local ones of IPv6.
    """
    names = (f"gw-{os.getpid()}", f"children-{os.getpid()}")
    try:
        for name in names:
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", names[0], "link", "add", "lan0", "type", "veth",
            "peer", "name", "lan0", "netns", names[1])  # fmt: skip
        own = (f"{GATEWAY6}/64", f"{CHILDREN6}/64") if ipv6 else (f"{GATEWAY}/16", f"{CHILDREN}/16")
        for name, address, link_local in zip(names, own, LINK_LOCAL, strict=True):
            # The kernel would check its own addresses of IPv6 for a second or two, and only then
            # would they be usable: sockets would be opened again in the middle of a test.
            _ip("-n", name, "link", "set", "lan0", "addrgenmode", "none")
            _ip("-n", name, "addr", "add", address, "dev", "lan0", *(("nodad",) if ipv6 else ()))
            _ip("-n", name, "link", "set", "lan0", "up")
            _ip("-n", name, "addr", "add", f"{link_local}/64", "dev", "lan0", "nodad")
            _ip("-n", name, *(("-6",) if ipv6 else ()), "route", "add", "default", "dev", "lan0")
        for network in () if ipv6 else (NETWORK, FORGED):  # each speaks from an address of its own
            _ip("-n", names[1], "route", "add", "local", network, "dev", "lo")
        yield _inside(names[0]), _inside(names[1])
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


UPLINK, UPLINK_PEER = "10.88.0.1", "10.88.0.2"


def second_cable(gateway: str, children: str) -> None:
    """Lay another cable, uplink0, between two namespaces, as to an uplink."""
    _ip("-n", gateway, "link", "add", "uplink0", "type", "veth",
        "peer", "name", "uplink0", "netns", children)  # fmt: skip
    for namespace, address in ((gateway, UPLINK), (children, UPLINK_PEER)):
        _ip("-n", namespace, "addr", "add", f"{address}/24", "dev", "uplink0")
        _ip("-n", namespace, "link", "set", "uplink0", "up")


def _inside(name: str) -> tuple[str, ...]:
    return ("ip", "netns", "exec", name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
