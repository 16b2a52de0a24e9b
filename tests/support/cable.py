"""A cable between two network namespaces: the gateway's, and one for what is at its other end.

The test itself, with its event loop, is at the gateway's end; needs root.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

from tests.support.own_network import CLONE_NEWNET, await_running

INTERFACE = "lan0"
GATEWAY, CHILD = "10.77.0.1", "10.77.0.2"
MOVED = "10.77.0.9"
"""Where what is at the other end is once it has moved."""
GATEWAY6, CHILD6 = "fe80::77:1", "fe80::77:2"
BROADCAST = "10.77.255.255"

_numbers = count()


@dataclass(frozen=True)
class Cable:
    """A cable.  far: the name of the namespace at its other end."""

    far: str

    @property
    def prefix(self) -> tuple[str, ...]:
        """What runs a command at the other end."""
        return ("ip", "netns", "exec", self.far)

    @contextmanager
    def at_the_far_end(self) -> Iterator[None]:
        """Open sockets at the other end, until the block ends; nothing may be awaited in it."""
        with _namespace() as here:
            there = os.open(f"/run/netns/{self.far}", os.O_RDONLY)
            try:
                _enter(there)
                yield
            finally:
                _enter(here)
                os.close(there)

    def ip(self, *arguments: str) -> None:
        """Run ip at this end."""
        subprocess.run(["ip", *arguments], check=True)

    def far_ip(self, *arguments: str) -> None:
        """Run ip at the other end."""
        subprocess.run(["ip", "-n", self.far, *arguments], check=True)

    def move(self) -> None:
        """Give the other end another address: MOVED in place of CHILD."""
        self.far_ip("addr", "del", f"{CHILD}/16", "dev", INTERFACE)
        self.far_ip("addr", "add", f"{MOVED}/16", "broadcast", BROADCAST, "dev", INTERFACE)


@contextmanager
def laid() -> Iterator[Cable]:
    """Lay a cable: this thread has its one end, until the block ends."""
    name = f"far-{os.getpid()}-{next(_numbers)}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    with _namespace() as before:
        try:
            _unshare()
            one = Cable(name)
            one.ip("link", "set", "lo", "up")
            one.ip("link", "add", INTERFACE, "type", "veth", "peer", INTERFACE, "netns", name)
            for ip, address, address6 in (
                (one.ip, GATEWAY, GATEWAY6),
                (one.far_ip, CHILD, CHILD6),
            ):
                ip("link", "set", INTERFACE, "addrgenmode", "none")
                ip("addr", "add", f"{address}/16", "broadcast", BROADCAST, "dev", INTERFACE)
                ip("link", "set", INTERFACE, "up")
                ip("addr", "add", f"{address6}/64", "dev", INTERFACE, "nodad")
            one.far_ip("link", "set", "lo", "up")
            await_running(INTERFACE)
            with one.at_the_far_end():
                await_running(INTERFACE)
            yield one
        finally:
            _enter(before)
            subprocess.run(["ip", "netns", "del", name], check=True)


@contextmanager
def _namespace() -> Iterator[int]:
    """Yield a descriptor of this thread's namespace."""
    descriptor = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _unshare() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "no network namespace")


def _enter(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "the namespace cannot be entered")
