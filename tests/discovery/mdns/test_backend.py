"""What stands between a library, the kernel and the tracker."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from contextlib import suppress
from ipaddress import ip_interface
from socket import SO_BINDTODEVICE, SOL_SOCKET

import pytest

from gatewayd.discovery.kernel.interfaces import LanInterface
from gatewayd.discovery.mdns.backend import PacketJudge, finish
from gatewayd.discovery.mdns.sockets import GROUP4, guard
from gatewayd.discovery.mdns.traffic import PacketVerdict
from gatewayd.discovery.mdns.zeroconf_backend import (
    PacketFilter,
    freshness,
    harden,
)


class Tripping(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.lost = asyncio.Event()

    def datagram_received(self, data: bytes, addr: object) -> None:
        if data == b"bad":
            raise UnicodeDecodeError("utf-8", data, 0, 1, "hostile")
        self.taken.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()


ANY = "0.0.0.0"  # noqa: S104  # bound to `lo` before anything is received
LO = LanInterface("lo", 1, True, (ip_interface("127.0.0.1/8"),))


def judge(_: str, packet: bytes) -> PacketVerdict:
    return {b"question": PacketVerdict.QUERY, b"noise": PacketVerdict.LINK_FLOOD}.get(
        packet, PacketVerdict.PASS
    )


def forget() -> None:
    """The library remembers nothing."""


class Drops(list[str]):
    """What was dropped, by cause, and whose it was; and whose all packets were."""

    def __init__(self) -> None:
        super().__init__()
        self.senders: list[str] = []
        self.seen: list[str] = []

    def note(self, cause: str, *, sender: str) -> None:
        self.append(cause)
        self.senders.append(sender)


def filtering(
    protocol: asyncio.DatagramProtocol,
    drops: Drops,
    link: LanInterface | None = LO,
    judged: PacketJudge | None = None,
) -> PacketFilter:
    """A filter before a protocol; without a link, of what is sent to the group."""
    return PacketFilter(
        protocol,
        interface="lo",
        on_link=link.networks if link else None,
        watch=lambda _, sender: drops.seen.append(sender[0]),
        judge=judged or judge,
        drop=drops.note,
        tidy=forget,
    )


async def test_a_packet_that_the_library_trips_over_is_counted() -> None:
    drops = Drops()
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        Tripping, local_addr=("127.0.0.1", 0)
    )
    seen: list[bytes] = []
    harden(
        transport, LO, lambda data, _: seen.append(data), judge, drops.note,
        lambda: drops.append("tidied"),
    )  # fmt: skip
    assert isinstance(transport.get_protocol(), PacketFilter)
    bound = transport.get_extra_info("socket").getsockopt(SOL_SOCKET, SO_BINDTODEVICE, 16)
    assert bound == b"lo\0"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for data in (b"bad", b"good"):
            sender.sendto(data, transport.get_extra_info("sockname"))
    while not protocol.taken:
        await asyncio.sleep(0)
    assert protocol.taken == [b"good"]
    assert drops == ["packet-failed", "tidied", "tidied"]
    assert drops.senders == ["127.0.0.1"]
    assert seen == [b"bad", b"good"]
    transport.close()
    await protocol.lost.wait()


async def test_a_packet_from_elsewhere_is_counted_and_not_passed_on() -> None:
    drops = Drops()
    protocol = Tripping()
    filter_, seen = filtering(protocol, drops), drops.seen
    for source in ("192.0.2.7", "127.1.0.9", "10.0.0.1"):
        filter_.datagram_received(source.encode(), (source, 5353))
    assert protocol.taken == [b"127.1.0.9"]
    assert drops == ["off-link", "off-link"]
    assert drops.senders == ["192.0.2.7", "10.0.0.1"]
    assert seen == ["192.0.2.7", "127.1.0.9", "10.0.0.1"]


async def test_what_is_sent_to_the_group_came_from_the_link_whatever_its_sender() -> None:
    drops = Drops()
    senders: list[str] = []

    def note(sender: str, _: bytes) -> PacketVerdict:
        senders.append(sender)
        return PacketVerdict.PASS

    filter_ = filtering(Tripping(), drops, link=None, judged=note)
    for address in ("192.0.2.7", "::ffff:169.254.7.7", "2001:db8::1"):
        filter_.datagram_received(b"", (address, 5353))
    filter_.datagram_received(b"", ("fe80::7", 5353, 0, 1))  # type: ignore[arg-type]  # of IPv6
    assert drops == []
    assert senders == ["192.0.2.7", "169.254.7.7", "2001:db8::1", "fe80::7%lo"] == drops.seen


@pytest.mark.parametrize(
    ("family", "bound", "to", "received"),
    [
        (socket.AF_INET, ANY, "127.0.0.1", False),
        (socket.AF_INET, ANY, GROUP4, True),
        (socket.AF_INET6, "::", "127.0.0.1", False),
        (socket.AF_INET6, "::", "::1", False),
        (socket.AF_INET6, "::", GROUP4, True),
        (socket.AF_INET, "127.0.0.1", "127.0.0.1", True),
    ],
)
def test_a_socket_of_no_address_receives_what_is_sent_to_the_group_alone(
    family: socket.AddressFamily, bound: str, to: str, received: bool
) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as receiver:
        receiver.bind((bound, 0))
        assert guard(receiver, LO) is (bound != "127.0.0.1")
        sent_by = socket.AF_INET6 if ":" in to else socket.AF_INET
        with socket.socket(sent_by, socket.SOCK_DGRAM) as sender:
            if sent_by == socket.AF_INET:
                lo = socket.inet_aton("127.0.0.1")
                sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, lo)
            sender.sendto(b"packet", (to, receiver.getsockname()[1]))
        receiver.setblocking(False)  # on `lo`, what was sent has arrived
        packets = []
        with suppress(BlockingIOError):
            packets.append(receiver.recv(100))
        assert packets == [b"packet"] * received


@pytest.mark.parametrize(
    ("family", "bound"),
    [(socket.AF_INET, ANY), (socket.AF_INET6, "::"), (socket.AF_INET, "127.0.0.1")],
)
def test_what_has_arrived_before_the_filter_is_dropped(
    family: socket.AddressFamily, bound: str
) -> None:
    """It may have been sent to this host alone, or have come by another interface."""
    with socket.socket(family, socket.SOCK_DGRAM) as receiver:
        receiver.bind((bound, 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(3):
                sender.sendto(b"early", ("127.0.0.1", receiver.getsockname()[1]))
        guard(receiver, LO)
        with pytest.raises(BlockingIOError):
            receiver.recv(100, socket.MSG_DONTWAIT)


async def test_what_the_judge_drops_is_not_passed_on_and_counted_unless_it_is_usual() -> None:
    drops = Drops()
    protocol = Tripping()
    filter_ = filtering(protocol, drops)
    for data in (b"question", b"noise", b"answer"):
        filter_.datagram_received(data, ("127.1.0.9", 5353))
    assert (protocol.taken, drops) == ([b"answer"], ["link-flood"])


async def test_what_must_be_finished_is_finished_though_cancelled() -> None:
    go, done = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await go.wait()
        done.set()

    task = asyncio.create_task(finish(work()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    go.set()
    with suppress(asyncio.CancelledError):
        await task
    assert done.is_set()
    assert task.cancelled()


@pytest.mark.parametrize(
    ("records", "fresh"),
    [([], (0.0, 0.0)), ([(5.0, 60.0)], (5.0, 60.0)), ([(5.0, 100.0), (10.0, 60.0)], (10.0, 95.0))],
)
def test_freshness(records: list[tuple[float, float]], fresh: tuple[float, float]) -> None:
    assert freshness(records) == fresh


WITHOUT_RIGHTS = ("setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw")
BOUND_BEFORE = """
import socket
from tests.discovery.mdns.test_backend import LO, guard
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
    receiver.bind(("", 0))
    assert guard(receiver, LO)
"""


def test_a_socket_that_its_address_has_bound_to_the_interface_needs_no_rights() -> None:
    """As one of a link-local address: who binds it again needs CAP_NET_RAW, which no helper has."""
    without = WITHOUT_RIGHTS if os.geteuid() == 0 else ()
    subprocess.run([*without, sys.executable, "-c", BOUND_BEFORE], check=True, timeout=240)
