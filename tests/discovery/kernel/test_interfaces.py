"""The interfaces of the kernel: its messages, and what follows from a change."""

from __future__ import annotations

import ipaddress
import socket
import struct
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.discovery.kernel.interfaces import (
    DELETED_ADDRESS,
    DELETED_LINK,
    MAX_ADDRESSES,
    MAX_LINKS,
    NEW_ADDRESS,
    NEW_LINK,
    InterfaceTable,
    LanInterface,
    parse_addresses,
    parse_links,
)

UP, RUNNING = 0x1, 0x40
TENTATIVE, OPTIMISTIC, FAILED = 0x40, 0x04, 0x08


def _message(kind: int, body: bytes, attributes: dict[int, bytes]) -> bytes:
    for key, value in attributes.items():
        body += struct.pack("=HH", 4 + len(value), key) + value + b"\0" * (-len(value) % 4)
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


def link(
    index: int, name: str = "lan0", *, kind: int = NEW_LINK, flags: int = UP | RUNNING,
    family: int = 0,
) -> bytes:  # fmt: skip
    """One message on an interface, as the kernel writes it."""
    return _message(
        kind, struct.pack("=BxHiII", family, 1, index, flags, 0), {3: name.encode() + b"\0"}
    )


def address(
    index: int, text: str, *, kind: int = NEW_ADDRESS, flags: int = 0, peer: str = "",
    made: int = 7,
) -> bytes:  # fmt: skip
    """One message on an address."""
    one = ipaddress.ip_interface(text)
    family = socket.AF_INET if one.version == 4 else socket.AF_INET6
    body = struct.pack("=BBBBi", family, one.network.prefixlen, flags & 0xFF, 0, index)
    found = {1: (ipaddress.ip_address(peer) if peer else one.ip).packed}
    if peer or one.version == 4:
        found[2] = one.ip.packed
    times = struct.pack("=IIII", 0xFFFFFFFF, 0xFFFFFFFF, made, made + 5)
    return _message(kind, body, found | {6: times, 8: struct.pack("=I", flags)})


class Kernel:
    """A table, and how often it has said that something has changed."""

    def __init__(self, *names: str) -> None:
        self.changes = 0
        self.table = InterfaceTable(names or ("lan0",), self._count)

    def _count(self) -> None:
        self.changes += 1

    def says(self, *packets: bytes) -> LanInterface:
        self.table.learn(b"".join(packets))
        return self.table.link("lan0")

    def dumps(self, *packets: bytes) -> LanInterface:
        self.table.restart()
        self.table.learn(b"".join(packets))
        self.table.complete()
        return self.table.link("lan0")


def addresses(one: LanInterface) -> list[str]:
    return list(map(str, one.addresses))


def test_an_interface_with_its_addresses() -> None:
    one = Kernel().dumps(
        link(2), address(2, "10.77.0.1/16"), address(2, "192.0.2.1/24"),
        address(2, "2001:db8::1/64"), address(2, "fe80::1/64"), address(3, "10.88.0.1/24"),
    )  # fmt: skip
    assert addresses(one) == [
        "10.77.0.1/16", "192.0.2.1/24", "2001:db8::1/64", "fe80::1/64",
    ]  # fmt: skip
    assert (one.ipv4, one.ipv6, one.index) == ("10.77.0.1", "fe80::1", 2)
    assert one.is_usable
    assert one.is_alone


def test_the_own_end_of_a_tunnel_is_the_address() -> None:
    one = Kernel().dumps(link(2), address(2, "10.0.0.1/32", peer="10.0.0.2"))
    assert addresses(one) == ["10.0.0.1/32"]


@pytest.mark.parametrize(
    ("flags", "usable"),
    [(0, True), (TENTATIVE, False), (TENTATIVE | OPTIMISTIC, True), (FAILED, False)],
)
def test_an_address_that_is_still_in_doubt_cannot_be_used(flags: int, usable: bool) -> None:
    kernel = Kernel()
    kernel.dumps(link(2), address(2, "fe80::1/64"))
    assert kernel.says(address(2, "fe80::1/64", flags=flags)).is_usable is usable


@pytest.mark.parametrize("flags", [0, UP, RUNNING])
def test_an_interface_that_is_down_or_has_no_carrier_cannot_be_used(flags: int) -> None:
    one = Kernel().dumps(link(2, flags=flags), address(2, "10.77.0.1/16"))
    assert not one.is_usable
    assert one.endpoint == LanInterface("lan0").endpoint


def test_what_sockets_are_bound_to_changes_with_index_and_address_alone() -> None:
    kernel = Kernel()
    before = kernel.dumps(link(2), address(2, "10.77.0.1/16")).endpoint
    assert kernel.says(address(2, "192.0.2.1/24")).endpoint == before
    assert kernel.says(address(2, "192.0.2.1/24", kind=DELETED_ADDRESS)).endpoint == before
    kernel.says(address(2, "10.77.0.1/16", kind=DELETED_ADDRESS))
    assert kernel.says(address(2, "10.77.0.1/24")).endpoint == before
    assert kernel.says(address(2, "fe80::1/64")).endpoint != before
    kernel.says(link(2, kind=DELETED_LINK))
    assert kernel.says(link(3), address(3, "10.77.0.1/16")).endpoint != before


def test_a_deleted_interface_is_gone_and_a_renamed_one_is_another() -> None:
    kernel = Kernel("lan0", "lan1")
    kernel.dumps(link(2), address(2, "10.77.0.1/16"))
    assert kernel.says(link(2, "lan1")) == LanInterface("lan0")
    assert kernel.table.link("lan1").ipv4 == "10.77.0.1"
    kernel.says(link(2, kind=DELETED_LINK))
    assert kernel.table.link("lan1") == LanInterface("lan1")


def test_what_a_bridge_says_of_its_port_is_not_said_of_the_interface() -> None:
    kernel = Kernel()
    before = kernel.dumps(link(2), address(2, "10.77.0.1/16"))
    assert kernel.says(link(2, kind=DELETED_LINK, family=socket.AF_BRIDGE)) == before


def test_a_port_with_the_address_of_its_bridge_is_not_alone() -> None:
    kernel = Kernel()
    assert not kernel.dumps(
        link(2), link(3, "port0"), address(2, "fe80::1/64"), address(3, "fe80::1/64")
    ).is_alone
    assert kernel.says(address(3, "fe80::1/64", kind=DELETED_ADDRESS)).is_alone


def test_only_changes_of_what_is_asked_for_are_said() -> None:
    kernel = Kernel()
    kernel.dumps(link(2), address(2, "10.77.0.1/16"))
    assert kernel.changes == 1
    kernel.says(link(3, "docker0"), address(3, "172.17.0.1/16"), link(2))
    assert kernel.changes == 1
    kernel.says(link(2, flags=UP))
    assert kernel.changes == 2


def test_while_all_is_read_again_what_was_known_is_shown() -> None:
    """Or an overrun would close all sockets."""
    kernel = Kernel()
    before = kernel.dumps(link(2), address(2, "10.77.0.1/16"))
    kernel.table.restart()
    assert kernel.says(link(2)) == before
    kernel.says(address(2, "10.77.0.1/16"))
    kernel.table.complete()
    assert kernel.changes == 1
    assert kernel.dumps(link(2)) != before


def test_an_interface_that_was_made_again_is_another_though_no_event_said_so() -> None:
    """With the index and the addresses of before, after events were lost."""
    kernel = Kernel()
    before = kernel.dumps(link(2), address(2, "10.77.0.1/16"), address(2, "fe80::1/64"))
    same = kernel.dumps(link(2), address(2, "10.77.0.1/16"), address(2, "fe80::1/64"))
    assert same.endpoint == before.endpoint
    again = (
        link(2), address(2, "10.77.0.1/16", made=9), address(2, "fe80::1/64", made=9),
        address(2, "192.0.2.1/24"),
    )  # fmt: skip
    assert kernel.dumps(*again).endpoint != before.endpoint
    changes = kernel.changes
    kernel.says(link(2, kind=DELETED_LINK), *again, address(2, "10.77.0.1/16", made=12))
    assert kernel.changes == changes + 1, "though it was never seen to be gone"


def test_the_table_is_bounded_and_what_is_asked_for_has_room() -> None:
    kernel = Kernel()
    many = [link(n, f"veth{n}") for n in range(10, 10 + 2 * MAX_LINKS)]
    one = kernel.dumps(
        *many, link(2), *(address(2, f"10.0.{n}.1/24") for n in range(2 * MAX_ADDRESSES))
    )
    assert one.is_usable
    assert len(one.addresses) == MAX_ADDRESSES


@given(st.binary(max_size=300))
def test_any_bytes_are_borne(raw: bytes) -> None:
    for packet in (raw, struct.pack("=IHHII", 16 + len(raw), NEW_LINK, 0, 0, 0) + raw,
                   struct.pack("=IHHII", 16 + len(raw), NEW_ADDRESS, 0, 0, 0) + raw):  # fmt: skip
        Kernel().dumps(packet)


@given(st.lists(st.tuples(st.integers(0, 90), st.integers(0, 255)), max_size=6))
def test_any_change_of_a_message_is_borne(changes: list[tuple[int, int]]) -> None:
    packet = bytearray(link(2) + address(2, "fe80::1/64"))
    for at, value in changes:
        packet[at] = value
    assert len([*parse_links(bytes(packet)), *parse_addresses(bytes(packet))]) <= 2


FOLLOW = """
import asyncio, subprocess
from gatewayd.discovery.kernel.interfaces import InterfaceTable
from gatewayd.testing.waiting import until

def ip(*words):
    subprocess.run(["ip", *words], check=True)

async def main():
    restarts = 0
    class Counted(InterfaceTable):
        def restart(self):
            nonlocal restarts
            restarts += 1
            super().restart()
    shown = asyncio.Event()
    table = Counted(("lan0",), shown.set)
    task = asyncio.create_task(table.run())
    await shown.wait()
    link = lambda: table.link("lan0")
    assert not link().index
    ip("link", "add", "port0", "type", "veth", "peer", "name", "far0")
    ip("link", "set", "far0", "up")
    ip("link", "set", "port0", "name", "lan0")
    await until(lambda: link().index)
    ip("addr", "add", "10.77.0.1/16", "dev", "lan0")
    assert not link().is_usable
    ip("link", "set", "lan0", "up")
    await until(lambda: link().is_usable and link().ipv4 == "10.77.0.1")
    ip("link", "set", "far0", "down")
    await until(lambda: not link().is_running)
    ip("link", "set", "far0", "up")
    await until(lambda: link().ipv6.startswith("fe80::"))
    first = link().index
    ip("link", "set", "lan0", "down")
    ip("link", "set", "lan0", "name", "port0")
    ip("link", "add", "lan0", "type", "bridge")
    ip("link", "set", "port0", "master", "lan0")
    ip("link", "set", "port0", "up")
    ip("link", "set", "lan0", "up")
    ip("addr", "add", "192.168.9.1/24", "dev", "lan0")
    await until(lambda: link().is_usable and link().ipv4 == "192.168.9.1")
    assert link().index != first
    ip("link", "del", "lan0")
    await until(lambda: not link().index)
    # More changes than the socket holds, while this loop does not read: all is read again.
    lines = "".join(f"link add v{n} type bridge\\nlink del v{n}\\n" for n in range(400))
    lines += "link set port0 name lan0\\nlink set lan0 up\\n"
    subprocess.run(["ip", "-batch", "-"], input=lines, text=True, check=True)
    await until(lambda: link().is_usable)
    assert link().index == first
    assert restarts > 1
    # Made again between two changes that are lost, with its index and its addresses.
    await until(lambda: link().ipv4 == "10.77.0.1")
    before = link()
    lines = "".join(f"link add v{n} type bridge\\nlink del v{n}\\n" for n in range(400))
    lines += "link del lan0\\n"
    lines += f"link add lan0 index {first} type veth peer name far0\\nlink set far0 up\\n"
    lines += "link set lan0 up\\naddr add 10.77.0.1/16 dev lan0\\n"
    subprocess.run(["ip", "-batch", "-"], input=lines, text=True, check=True)
    await until(lambda: link().is_usable and link().made[:1] != before.made[:1])
    assert link().index == first
    assert link().endpoint != before.endpoint
    task.cancel()

asyncio.run(main())
"""


@pytest.mark.namespace
def test_changes_are_followed_in_a_namespace() -> None:
    subprocess.run(["unshare", "--net", sys.executable, "-c", FOLLOW], check=True, timeout=240)


def test_networks_of_interfaces() -> None:
    own = ipaddress.ip_interface("10.7.0.1/16"), ipaddress.ip_interface("fe80::1/64")
    link = LanInterface("lan0", 2, True, own)
    inside = ("10.7.255.9", "fe80::2")
    outside = ("10.8.0.1", "fe80:0:0:1::2", "::a07:1")
    assert all(any(one in net for net in link.networks) for one in inside)
    assert not any(one in net for one in outside for net in link.networks)
    assert not LanInterface("lan0").networks
