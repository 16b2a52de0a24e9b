"""A LAN of our own: a gateway with one interface, and hosts behind a bridge; needs root.

The thread of the test is the gateway, in a network namespace of its own.  Each host is another
namespace, where foreign programs may run.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.own_network import CLONE_NEWNET, await_running, enter

GATEWAY, GATEWAY_MAC = "10.77.0.1", "24:0a:c4:ff:00:01"
INTERFACE = "lan0"
"""The gateway's interface, and that of each host."""
END = 10.0
"""Seconds until a program is killed that does not end."""


@dataclass(frozen=True, slots=True)
class LanHost:
    """A host.  namespace: its name.  port: that of the bridge."""

    namespace: str
    port: str

    @property
    def inside(self) -> tuple[str, ...]:
        """What a command begins with that is to run on it."""
        return ("ip", "netns", "exec", self.namespace)

    def make(self) -> None:
        """Make it, without an interface."""
        _ip("netns", "add", self.namespace)
        _ip("-n", self.namespace, "link", "set", "lo", "up")

    def connect(self, mac: str, *addresses: str) -> None:
        """Bring its interface up."""
        _ip("-n", self.namespace, "link", "set", INTERFACE, "address", mac, "up")
        self.address(*addresses)

    def run(self, *command: str) -> str:
        """Run a command on it; return what it prints."""
        ended = subprocess.run(
            [*self.inside, *command], check=True, capture_output=True, text=True, timeout=30
        )
        return ended.stdout

    def address(self, *addresses: str) -> None:
        """Give it these addresses, with their prefixes, instead of those that it had."""
        self.run("ip", "addr", "flush", "dev", INTERFACE)
        for one in addresses:
            self.run("ip", "addr", "add", one, "dev", INTERFACE)

    def switch_off(self) -> None:
        """End it; the gateway's interface stays up."""
        for command in (
            ("-n", self.namespace, "link", "set", INTERFACE, "down"),  # the rest takes a moment
            ("netns", "del", self.namespace),
        ):
            subprocess.run(["ip", *command], check=False, capture_output=True, timeout=240)


class BridgedLan:
    """The LAN.  Its hosts are made by `host`."""

    def __init__(self) -> None:
        self.hosts: list[LanHost] = []

    def host(self, mac: str, *addresses: str) -> LanHost:
        """Connect a host.  mac: of its interface, with colons.  addresses: with their prefixes."""
        number = len(self.hosts)
        made = LanHost(f"host{number}-{os.getpid()}", f"port{number}")
        self.hosts.append(made)
        made.make()
        _ip("link", "add", made.port, "type", "veth",
            "peer", "name", INTERFACE, "netns", made.namespace)  # fmt: skip
        _ip("link", "set", made.port, "master", INTERFACE, "up")
        made.connect(mac, *addresses)
        _await_cable(made)
        return made

    def restart(self, host: LanHost) -> None:
        """Take the interface of a host down, and bring it up again."""
        for state in ("down", "up"):
            host.run("ip", "link", "set", INTERFACE, state)
        _await_cable(host)

    def address(self, *addresses: str) -> None:
        """Give the gateway these addresses, with their prefixes, instead of those that it had."""
        before = subprocess.run(
            ["ip", "-br", "-4", "addr", "show", "dev", INTERFACE],
            check=True, capture_output=True, text=True, timeout=240,
        ).stdout.split()[2:]  # fmt: skip
        for one in addresses:
            _ip("addr", "add", one, "dev", INTERFACE)
        for one in before:
            _ip("addr", "del", one, "dev", INTERFACE)

    def forget(self, stale: str) -> None:
        """Have the gateway's kernel believe a neighbour only as it does after a while."""
        _ip("neigh", "change", stale, "dev", INTERFACE, "nud", "stale")

    def write_neighbour(self, address: str, mac: str) -> None:
        """Write an entry into the gateway's neighbour table, as an operator may."""
        _ip("neigh", "replace", address, "lladdr", mac, "dev", INTERFACE, "nud", "permanent")

    def unplug(self) -> None:
        """Take the gateway's interface down."""
        _ip("link", "set", INTERFACE, "down")

    def has_link_local(self) -> bool:
        """Whether the gateway may use its link-local address by now."""
        shown = subprocess.run(
            ["ip", "-6", "addr", "show", "dev", INTERFACE, "scope", "link", "-tentative"],
            check=True, capture_output=True, text=True, timeout=240,
        )  # fmt: skip
        return "fe80:" in shown.stdout


def _await_cable(host: LanHost) -> None:
    for one in (host.port, INTERFACE):
        await_running(one)


@contextlib.contextmanager
def bridged_lan(*addresses: str) -> Iterator[BridgedLan]:
    """Enter a new network namespace, and leave it at the end.

    addresses: of the gateway, with their prefixes; 10.77.0.1/24 by default.
    """
    lan = BridgedLan()
    with own_namespace():
        try:
            _ip("link", "add", INTERFACE, "type", "bridge")
            _ip("link", "set", INTERFACE, "address", GATEWAY_MAC, "up")
            for one in addresses or (f"{GATEWAY}/24",):
                _ip("addr", "add", one, "dev", INTERFACE)
            yield lan
        finally:
            for host in lan.hosts:
                host.switch_off()


@contextlib.contextmanager
def cable(mac: str, *addresses: str) -> Iterator[LanHost]:
    """Enter a new network namespace, as a gateway with one cable, whose other end is a host's.

    Frames that a bridge would not pass on arrive there.  mac, addresses: of the host.
    """
    with own_namespace():
        host = LanHost(f"host-{os.getpid()}", "")
        try:
            host.make()
            _ip("link", "add", INTERFACE, "type", "veth",
                "peer", "name", INTERFACE, "netns", host.namespace)  # fmt: skip
            _ip("link", "set", INTERFACE, "address", GATEWAY_MAC, "up")
            _ip("addr", "add", f"{GATEWAY}/24", "dev", INTERFACE)
            host.connect(mac, *addresses)
            await_running(INTERFACE)
            yield host
        finally:
            host.switch_off()


@contextlib.contextmanager
def open_directory() -> Iterator[Path]:
    """Make a directory that programs of other users may read, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        directory.chmod(0o755)
        yield directory


@contextlib.contextmanager
def running(
    command: Sequence[str], environ: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command until the block ends.  environ: added to that of the tests."""
    with subprocess.Popen(
        command,
        env={**os.environ, **(environ or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()  # so that it cleans up
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(END)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with what it has started


@contextlib.contextmanager
def own_namespace() -> Iterator[None]:
    """Have this thread, and what it starts, be in a network namespace of its own meanwhile."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter()
        yield
    finally:
        _return_to(before)
        os.close(before)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, timeout=240)


def _return_to(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, f"not the network of before: {os.strerror(number)}")
