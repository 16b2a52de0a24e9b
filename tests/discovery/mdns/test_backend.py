"""What stands between a library, the kernel and the tracker."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from socket import SO_BINDTODEVICE, SOL_SOCKET

import pytest

from gatewayd.discovery.mdns.backend import finish, ipv4
from gatewayd.discovery.mdns.traffic import PacketVerdict
from gatewayd.discovery.mdns.zeroconf_backend import PacketFilter, freshness, harden, network


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


def judge(_: str, packet: bytes) -> PacketVerdict:
    return {b"question": PacketVerdict.QUERY, b"noise": PacketVerdict.LINK_FLOOD}.get(
        packet, PacketVerdict.PASS
    )


def forget() -> None:
    """The library remembers nothing."""


class Drops(list[str]):
    """What was dropped, by cause, and whose it was."""

    def __init__(self) -> None:
        super().__init__()
        self.senders: list[str] = []

    def note(self, cause: str, *, sender: str) -> None:
        self.append(cause)
        self.senders.append(sender)


async def test_a_packet_that_the_library_trips_over_is_counted() -> None:
    drops = Drops()
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        Tripping, local_addr=("127.0.0.1", 0)
    )
    seen: list[bytes] = []
    harden(
        transport, "lo", lambda data, _: seen.append(data), judge, drops.note,
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
    seen: list[str] = []
    filter_ = PacketFilter(
        protocol, network("lo"), lambda _, addr: seen.append(addr[0]), judge, drops.note, forget
    )
    for source in ("192.0.2.7", "127.1.0.9", "10.0.0.1"):
        filter_.datagram_received(source.encode(), (source, 5353))
    assert protocol.taken == [b"127.1.0.9"]
    assert drops == ["off-link", "off-link"]
    assert drops.senders == ["192.0.2.7", "10.0.0.1"]
    assert seen == ["192.0.2.7", "127.1.0.9", "10.0.0.1"]


async def test_what_the_judge_drops_is_not_passed_on_and_counted_unless_it_is_usual() -> None:
    drops = Drops()
    protocol = Tripping()
    filter_ = PacketFilter(protocol, network("lo"), lambda *_: None, judge, drops.note, forget)
    for data in (b"question", b"noise", b"answer"):
        filter_.datagram_received(data, ("127.1.0.9", 5353))
    assert (protocol.taken, drops) == ([b"answer"], ["link-flood"])


def test_networks_of_interfaces() -> None:
    loopback = network("lo")
    assert loopback is not None
    hosts = ("127.0.0.1", "127.255.0.9", "126.255.255.255", "128.0.0.0")
    assert [host in loopback for host in hosts] == [True, True, False, False]
    assert network("nosuch0") is None


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


def test_addresses_of_interfaces() -> None:
    assert ipv4("lo") == "127.0.0.1"
    assert ipv4("nosuch0") is None
    assert ipv4("a name that is far too long for an interface") is None


@pytest.mark.parametrize(
    ("records", "fresh"),
    [([], (0.0, 0.0)), ([(5.0, 60.0)], (5.0, 60.0)), ([(5.0, 100.0), (10.0, 60.0)], (10.0, 95.0))],
)
def test_freshness(records: list[tuple[float, float]], fresh: tuple[float, float]) -> None:
    assert freshness(records) == fresh
