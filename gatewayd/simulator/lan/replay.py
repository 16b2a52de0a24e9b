"""gatewayd-simulator --replay FILE: a recording is played, with its times, in the senders' names.

To send from the addresses of others takes CAP_NET_RAW, as root has it in a network namespace.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import socket
import struct
import subprocess
import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from gatewayd.simulator.lan.recording import (
    MalformedRecording,
    RecordedDatagram,
    RecordedLine,
    read_recording,
)

PORT: Final = 5353
GROUPS: Final = {4: "224.0.0.251", 6: "ff02::fb"}
MAX_PORTS: Final = 64
"""Ports that datagrams are sent from."""
MAX_FAULTS: Final = 5
"""Faults that are printed."""
MAX_SPEED: Final = 1000.0
LOOPBACK: Final = "lo"
SECONDS_OF_IP: Final = 10.0

# Numbers of Linux that Python 3.11 has no names for: ip(7), ipv6(7), linux/in6.h.
_IP_PKTINFO, _IP_TRANSPARENT, _IPV6_TRANSPARENT = 8, 19, 75


@dataclass(slots=True)
class ReplayCount:
    """What has become of the events.

    sent: datagrams.  left_out: those without data, and the gateway's own.
    applied: events of the kernel that were carried out.  failed: what could not be.
    faults: the first of these, when and why.
    """

    sent: int = 0
    left_out: int = 0
    applied: int = 0
    failed: int = 0
    faults: list[str] = field(default_factory=list)

    def fail(self, at: float, error: OSError) -> None:
        """Count an event that could not be played."""
        self.failed += 1
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(f"{at:.3f} s: {error.strerror or error}")

    def __str__(self) -> str:
        counts = {"sent": self.sent, "left out": self.left_out, "applied": self.applied}
        counts |= {"failed": self.failed} if self.failed else {}
        return ", ".join(f"{number} {what}" for what, number in counts.items())


class ReplaySockets:
    """The sockets that send in the names of others, on one interface."""

    def __init__(self, interface: str) -> None:
        self._interface, self._index = interface, socket.if_nametoindex(interface)
        self._opened: dict[tuple[int, int], socket.socket] = {}

    def close(self) -> None:
        """Close them all."""
        for one in self._opened.values():
            one.close()

    def send(self, one: RecordedDatagram) -> None:
        """Send a datagram to its group, from its sender's address and port.  Raises OSError."""
        sender = ipaddress.ip_address(one.sender)
        opened = self._socket(sender.version, one.port or PORT)
        if sender.version == 4:  # noqa: PLR2004  # IPv4
            about = struct.pack("@i4s4x", self._index, sender.packed)
            extra = (socket.IPPROTO_IP, _IP_PKTINFO, about)
            opened.sendmsg([one.data], [extra], 0, (one.to or GROUPS[4], one.to_port or PORT))
            return
        about = struct.pack("@16si", sender.packed, self._index)
        extra = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, about)
        to = (one.to or GROUPS[6], one.to_port or PORT, 0, self._index)
        opened.sendmsg([one.data], [extra], 0, to)

    def _socket(self, version: int, port: int) -> socket.socket:
        if (version, port) not in self._opened:
            if len(self._opened) >= MAX_PORTS:
                raise OSError("there are more than 64 ports")
            make = _socket_of_ipv4 if version == 4 else _socket_of_ipv6  # noqa: PLR2004  # IPv4
            self._opened[version, port] = make(port, self._index)
        return self._opened[version, port]


def _socket_of_ipv4(port: int, index: int) -> socket.socket:
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        one.setsockopt(socket.IPPROTO_IP, _IP_TRANSPARENT, 1)
        one.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        one.setsockopt(
            socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("@4s4si", b"", b"", index)
        )
        _bind(one, ("", port))
    except OSError:
        one.close()
        raise
    return one


def _socket_of_ipv6(port: int, index: int) -> socket.socket:
    one = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    try:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.setsockopt(socket.IPPROTO_IPV6, _IPV6_TRANSPARENT, 1)
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        _bind(one, ("::", port))
    except OSError:
        one.close()
        raise
    return one


def _bind(one: socket.socket, address: tuple[str, int]) -> None:
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    one.bind(address)


class ReplayedInterfaces:
    """What the kernel said of the gateway's interfaces, one event after the other."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, int, tuple[str, ...]]] = {}
        self.own: set[str] = set()

    def commands(self, line: RecordedLine) -> Iterator[Sequence[str]]:
        """Yield the words of ip(8) that make the change; none for the first event of an interface.

        One that was made again is set down, which makes its sockets as deaf.
        Raises MalformedRecording.
        """
        name, index, running = line.interface, line.number("index", 1 << 31), line.number(
            "running", 1)  # fmt: skip
        addresses = tuple(_interface_address(one) for one in line.text("addresses").split())
        self.own |= {one.partition("/")[0] for one in addresses}
        before = self._known.get(name)
        self._known[name] = (index, running, addresses)
        if before is None:
            return
        was, ran, had = before
        if (ran and not running) or was != index:
            yield "link", "set", "dev", name, "down"
        yield from (("address", "delete", one, "dev", name) for one in had if one not in addresses)
        yield from (("address", "add", one, "dev", name) for one in addresses if one not in had)
        if running and (not ran or was != index):
            yield "link", "set", "dev", name, "up"


def _interface_address(text: str) -> str:
    try:
        return str(ipaddress.ip_interface(text))
    except ValueError as error:
        raise MalformedRecording("addresses holds what is none") from error


async def play(
    lines: Iterator[RecordedLine],
    send: Callable[[RecordedDatagram], None],
    apply: Callable[[Sequence[str]], None],
    speed: float,
) -> ReplayCount:
    """Play events, each at its time.  Raises MalformedRecording, OSError.

    send: sends a datagram; apply: carries out an event of the kernel.  Both raise OSError, which is
    counted.  speed: how much faster than they were recorded.
    """
    count, interfaces = ReplayCount(), ReplayedInterfaces()
    clock = asyncio.get_running_loop().time
    began = clock()
    for line in lines:
        await asyncio.sleep(max(began + line.at / speed - clock(), 0))
        if line.kind == "interface":
            for words in interfaces.commands(line):
                _count(count, line.at, partial(apply, words), "applied")
        elif line.kind == "datagram":
            one = RecordedDatagram.of(line)
            if one.data and one.sender not in interfaces.own:
                _count(count, line.at, partial(send, one), "sent")
            else:
                count.left_out += 1
    return count


def _count(count: ReplayCount, at: float, act: Callable[[], None], what: str) -> None:
    """Do what an event says, and count it."""
    try:
        act()
    except OSError as error:
        count.fail(at, error)
    else:
        setattr(count, what, getattr(count, what) + 1)


def _apply_in(namespace: str) -> Callable[[Sequence[str]], None]:
    """Return what carries out words of ip(8) in a namespace; "" to leave them out."""

    def apply(words: Sequence[str]) -> None:
        if not namespace:
            raise OSError("an event of the kernel needs --gateway")
        command = ("ip", "-n", namespace, *words)
        ran = subprocess.run(command, capture_output=True, timeout=SECONDS_OF_IP, check=False)  # noqa: S603  # words of a checked recording
        if ran.returncode:
            raise OSError(" ".join(ran.stderr.decode(errors="replace").split())[:200])

    return apply


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed <= MAX_SPEED:
        raise ArgumentTypeError(f"must be a number above 0, at most {MAX_SPEED:.0f}")
    return speed


def _arguments(words: Sequence[str]) -> Namespace:
    parser = argparse.ArgumentParser(prog="gatewayd-simulator", description=__doc__)
    add = parser.add_argument
    add("--replay", type=Path, metavar="FILE", required=True, help="the recording")
    help_ = f"the interface to send on (default: {LOOPBACK})"
    add("--on", default=LOOPBACK, metavar="INTERFACE", help=help_)
    help_ = "how much faster than it was recorded (default: 1)"
    add("--speed", type=_speed, default=1.0, metavar="N", help=help_)
    help_ = "the network namespace whose interfaces change as recorded"
    add("--gateway", default="", metavar="NAMESPACE", help=help_)
    return parser.parse_args(words)


def main(words: Sequence[str]) -> int:
    """Play a recording; print what has become of it, and return the exit status."""
    options = _arguments(words)
    try:
        with options.replay.open("rb") as file, ExitStack() as stack:
            sockets = ReplaySockets(options.on)
            stack.callback(sockets.close)
            apply = _apply_in(options.gateway)
            count = asyncio.run(play(read_recording(file), sockets.send, apply, options.speed))
    except MalformedRecording as error:
        return _failed(f"{options.replay} is no recording: {error}")
    except OSError as error:
        where = error.filename or options.on
        return _failed(f"{where}: {error.strerror or error}. Check the options")
    except KeyboardInterrupt:
        return 130
    print(f"{count}.")
    for one in count.faults:
        print(f"Failed at {one}", file=sys.stderr)
    if count.failed and not count.sent:
        return _failed("nothing was sent. Run it as root, in a network namespace")
    return 0


def _failed(why: str) -> int:
    print(f"gatewayd-simulator: {why}", file=sys.stderr)
    return 1
