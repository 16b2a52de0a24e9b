"""Network namespaces of our own: a gateway, and children behind one cable."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator

GATEWAY, CHILDREN = "10.77.0.1", "10.77.0.2"
NETWORK = "10.77.1.0/24"
FORGED = "10.77.2.0/24"
"""Addresses that an attacker uses besides its own."""


@contextlib.contextmanager
def namespaces() -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Yield the command prefixes of the gateway's namespace and of the children's; needs root."""
    names = (f"gw-{os.getpid()}", f"children-{os.getpid()}")
    try:
        for name in names:
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", names[0], "link", "add", "lan0", "type", "veth",
            "peer", "name", "lan0", "netns", names[1])  # fmt: skip
        for name, address in zip(names, (GATEWAY, CHILDREN), strict=True):
            _ip("-n", name, "addr", "add", f"{address}/16", "dev", "lan0")
            _ip("-n", name, "link", "set", "lan0", "up")
            _ip("-n", name, "route", "add", "default", "dev", "lan0")
        for network in (NETWORK, FORGED):  # each child speaks from an address of its own
            _ip("-n", names[1], "route", "add", "local", network, "dev", "lo")
        yield _inside(names[0]), _inside(names[1])
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def _inside(name: str) -> tuple[str, ...]:
    return ("ip", "netns", "exec", name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
