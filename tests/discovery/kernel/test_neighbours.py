"""The kernel's neighbour table: its messages, and what they corroborate."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from socket import if_nametoindex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.admission.policy.patterns import parse_predicate
from gatewayd.device.identity import Claim, Trust, claim
from gatewayd.discovery.device_table import with_facts
from gatewayd.discovery.discoverer import MAX_ATTRIBUTES, Context, Health, Sighting, Sink
from gatewayd.discovery.kernel.neighbours import (
    DELETED,
    MAX_ADDRESSES,
    NEW,
    PERMANENT,
    REACHABLE,
    STALE,
    Neighbour,
    NeighbourTable,
    parse,
)
from gatewayd.testing.waiting import until
from tests.support.cable import CHILD, INTERFACE, Cable, laid
from tests.support.household import household
from tests.support.tasks import in_background

MAC = "240ac40c2f91"
INCOMPLETE, FAILED, NOARP = 0x01, 0x20, 0x40


def message(  # the fields of one message
    address: str,
    *,
    kind: int = NEW,
    state: int = REACHABLE,
    mac: str = MAC,
    interface: int = 2,
    family: int | None = None,
) -> bytes:
    """One message as the kernel writes it."""
    one = ipaddress.ip_address(address)
    own = socket.AF_INET if one.version == 4 else socket.AF_INET6
    body = struct.pack("=BxxxiHBB", own if family is None else family, interface, state, 0, 1)
    for key, value in ((1, one.packed), (2, bytes.fromhex(mac)), (3, b"\1\2\3\4\5")):
        if value:
            body += struct.pack("=HH", 4 + len(value), key) + value
            body += b"\0" * (-len(body) % 4)
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


def parsed(packet: bytes) -> list[Neighbour]:
    return list(parse(packet))


@pytest.mark.parametrize("address", ["192.0.2.7", "fe80::1"])
@pytest.mark.parametrize("state", [REACHABLE, STALE, PERMANENT])
def test_a_known_neighbour(address: str, state: int) -> None:
    known = Neighbour(2, ipaddress.ip_address(address), MAC)
    assert parsed(message(address, state=state)) == [known]


@pytest.mark.parametrize("state", [0, INCOMPLETE, FAILED, NOARP])
def test_a_neighbour_that_is_not_reached_has_no_mac(state: int) -> None:
    assert [one.mac for one in parsed(message("192.0.2.7", state=state))] == [""]


def test_a_deleted_neighbour_has_no_mac() -> None:
    assert [one.mac for one in parsed(message("192.0.2.7", kind=DELETED))] == [""]


@pytest.mark.parametrize("mac", ["", "24", "240ac40c2f9100", "00" * 20])
def test_what_is_no_mac_is_none(mac: str) -> None:
    assert [one.mac for one in parsed(message("192.0.2.7", mac=mac))] == [""]


def test_several_messages_in_one_packet() -> None:
    packet = message("192.0.2.1") + message("fe80::1") + struct.pack("=IHHIIi", 20, 3, 0, 1, 0, 0)
    assert [str(one.address) for one in parsed(packet)] == ["192.0.2.1", "fe80::1"]


def test_an_address_of_another_family_is_left_out() -> None:
    assert parsed(message("192.0.2.1", family=socket.AF_INET6)) == []
    assert parsed(message("192.0.2.1", family=7)) == []


@given(st.integers(0, 60))
def test_a_packet_that_was_cut_yields_nothing(length: int) -> None:
    whole = message("192.0.2.7")
    assert parsed(whole[: min(length, len(whole) - 1)]) == []


@given(st.binary(max_size=300))
def test_any_bytes_are_borne(raw: bytes) -> None:
    for one in parse(raw):
        assert len(one.mac) in (0, 12)


@given(st.lists(st.tuples(st.integers(0, 70), st.integers(0, 255)), max_size=6))
def test_any_change_of_a_message_is_borne(changes: list[tuple[int, int]]) -> None:
    packet = bytearray(message("fe80::1") * 2)
    for at, value in changes:
        packet[at] = value
    assert len(parsed(bytes(packet))) <= 2


LO = if_nametoindex("lo")
SIGHTING = Sighting(
    source="mdns/lo",
    key="k",
    at=0.0,
    valid_for=60.0,
    interface="lo",
    addresses=("192.0.2.7",),
    port=None,
    claims=frozenset(),
    attributes={"source": "mdns"},
    label="k",
)
SEEN = Claim("mac", "l2", MAC)


def neighbours(*messages: bytes, limit: int = 10) -> NeighbourTable:
    table = NeighbourTable(limit)
    table.learn(b"".join(messages))
    return table


def claiming(mac: str) -> Sighting:
    one = claim("mac", "_x._tcp", mac)
    assert one
    return replace(SIGHTING, claims=frozenset({one}))


def test_a_mac_is_known_by_address_and_interface() -> None:
    table = neighbours(message("192.0.2.7", interface=LO), message("fe80::1", interface=LO))
    assert table.mac_of("192.0.2.7", "lo") == MAC
    assert table.mac_of("FE80:0::1", "lo") == MAC
    assert table.mac_of("fe80::1%lo", "lo") == MAC
    assert table.mac_of("192.0.2.8", "lo") is None
    assert table.mac_of("192.0.2.7", "nosuch0") is None
    assert table.mac_of("192.0.2.7", "") is None
    assert table.mac_of("no address", "lo") is None


def test_addresses_are_known_by_mac() -> None:
    packets = (message(one, interface=LO) for one in ("192.0.2.7", "fe80::1", "2001:db8::1"))
    table = neighbours(*packets, message("192.0.2.8", interface=LO, mac="240ac4000001"))
    assert table.addresses_of(MAC) == ["192.0.2.7", "fe80::1%lo", "2001:db8::1"]
    assert table.addresses_of("240ac4000002") == []


def test_a_router_with_many_addresses_is_cut_short() -> None:
    many = (message(f"192.0.2.{n}", interface=LO) for n in range(2 * MAX_ADDRESSES))
    table = neighbours(*many, limit=100)
    assert len(table.addresses_of(MAC)) == MAX_ADDRESSES


def test_a_mac_is_forgotten_with_its_neighbour() -> None:
    known = message("192.0.2.7", interface=LO)
    for end in (
        message("192.0.2.7", interface=LO, kind=29),
        message("192.0.2.7", interface=LO, state=0x20),
    ):
        assert neighbours(known, end).mac_of("192.0.2.7", "lo") is None


def test_the_table_is_bounded_and_the_oldest_leave() -> None:
    table = neighbours(*(message(f"192.0.2.{i}", interface=LO) for i in range(5)), limit=3)
    assert [table.mac_of(f"192.0.2.{i}", "lo") for i in range(5)] == [None, None, MAC, MAC, MAC]


def test_two_layers_that_agree_corroborate() -> None:
    seen = neighbours(message("192.0.2.7", interface=LO)).corroborate(claiming(MAC))
    assert seen.trust is Trust.CORROBORATED
    assert SEEN in seen.claims
    assert seen.attributes == {"source": "mdns", "mac": MAC}


@pytest.mark.parametrize("mac", [MAC, "24:0a:c4:00:00:01"])
def test_what_is_corroborated_is_only_at_addresses_that_the_kernel_has_seen(mac: str) -> None:
    """A host may announce an address of another network beside its own, and rules match that."""
    base = claiming(mac)
    where = {"address": "10.0.0.5"}
    announced = replace(base, addresses=("10.0.0.5", "192.0.2.7"), attributes=where)
    seen = neighbours(message("192.0.2.7", interface=LO)).corroborate(announced)
    shown = with_facts(seen.attributes, seen.addresses)
    matched = parse_predicate("subnet", ["10.0.0.0/24"]).holds(shown)
    assert matched is (seen.trust is Trust.CLAIMED) is (mac != MAC)
    assert parse_predicate("address", ["192.0.2.7"]).holds(shown)
    assert seen.addresses == announced.addresses


@pytest.mark.parametrize("announced", [SIGHTING, claiming("24:0a:c4:00:00:01")])
def test_without_agreement_the_kernels_mac_is_only_noted(announced: Sighting) -> None:
    seen = neighbours(message("192.0.2.7", interface=LO)).corroborate(announced)
    assert seen.trust is Trust.CLAIMED
    assert seen.claims == announced.claims | {SEEN}


def test_the_kernel_does_not_agree_with_itself() -> None:
    table = neighbours(message("192.0.2.7", interface=LO))
    assert table.corroborate(table.corroborate(SIGHTING)).trust is Trust.CLAIMED


def test_trust_is_never_lowered() -> None:
    listed = replace(claiming(MAC), trust=Trust.LISTED)
    table = neighbours(message("192.0.2.7", interface=LO))
    assert table.corroborate(listed).trust is Trust.LISTED


@pytest.mark.parametrize("macs", ["", "24:0a:c4:00:00:02", f"{MAC} 24:0a:c4:00:00:01"])
def test_nothing_changes_where_the_kernel_knows_nothing_or_two_things(macs: str) -> None:
    own = filter(None, (claim("mac", "_x._tcp", one) for one in macs.split()))
    announced = replace(SIGHTING, claims=frozenset(own), addresses=("192.0.2.7", "192.0.2.8"))
    assert neighbours().corroborate(announced) is announced
    other = message("192.0.2.8", interface=LO, mac="240ac4000001")
    assert neighbours(message("192.0.2.7", interface=LO), other).corroborate(announced) is announced


def test_a_strange_address_beside_the_own_one_takes_nothing_from_a_device() -> None:
    """A stranger that answers with a device's key from the other family has its address added."""
    announced = replace(
        claiming(MAC), addresses=("fe80::8", "192.0.2.7"), attributes={"address": "fe80::8"}
    )
    other = message("fe80::8", interface=LO, mac="240ac4000001")
    seen = neighbours(message("192.0.2.7", interface=LO), other).corroborate(announced)
    assert seen.trust is Trust.CORROBORATED
    assert seen.claims == announced.claims | {SEEN}
    shown = with_facts(seen.attributes, seen.addresses)
    assert (shown["address"], shown["addresses"]) == ("192.0.2.7", "192.0.2.7")


def test_what_a_device_is_behind_proves_nothing_of_it() -> None:
    behind = replace(claiming(MAC), is_behind=True)
    assert neighbours(message("192.0.2.7", interface=LO)).corroborate(behind) is behind


def test_a_mac_that_belongs_to_no_device_is_no_evidence() -> None:
    for mac in ("000000000000", "ffffffffffff"):
        table = neighbours(message("192.0.2.7", interface=LO, mac=mac))
        assert table.corroborate(SIGHTING) is SIGHTING


def test_the_attributes_stay_bounded() -> None:
    full = replace(SIGHTING, attributes={f"k{i}": "" for i in range(MAX_ATTRIBUTES)})
    seen = neighbours(message("192.0.2.7", interface=LO)).corroborate(full)
    assert seen.attributes == full.attributes
    assert SEEN in seen.claims


def test_it_is_said_once_who_is_at_an_address() -> None:
    found: list[str] = []
    table = NeighbourTable(10, found.append)
    table.learn(message("192.0.2.7") * 2 + message("fe80::1", state=STALE))
    assert found == ["192.0.2.7", "fe80::1"]
    table.learn(message("192.0.2.7", state=FAILED) + message("fe80::1", mac="240ac4000001"))
    assert found == ["192.0.2.7", "fe80::1", "fe80::1"]


def arp() -> dict[tuple[str, str], str]:
    """Return the IPv4 neighbours by another interface of the kernel: proc(5), /proc/net/arp."""
    rows = (line.split() for line in Path("/proc/net/arp").read_text().splitlines()[1:])
    return {(ip, dev): mac.replace(":", "") for ip, _, flags, mac, _, dev in rows if flags == "0x2"}


@pytest.mark.integration
async def test_the_kernel_is_followed_without_any_rights() -> None:
    table = NeighbourTable()
    known = arp()
    async with in_background(table.run()):
        await until(lambda: all(table.mac_of(*where) == mac for where, mac in known.items()))


FOLLOW = """
import asyncio, subprocess, sys
from gatewayd.discovery.kernel.neighbours import NeighbourTable
from gatewayd.testing.waiting import until

def ip(*words):
    subprocess.run(["ip", *words], check=True)

async def main():
    ip("link", "add", "v0", "type", "veth", "peer", "name", "v1")
    ip("link", "set", "v0", "up")
    add = ("lladdr", "24:0a:c4:0c:2f:91", "dev", "v0")
    ip("neigh", "add", "192.0.2.7", *add)
    table = NeighbourTable()
    task = asyncio.create_task(table.run())
    await until(lambda: table.mac_of("192.0.2.7", "v0") == "240ac40c2f91")
    ip("neigh", "add", "fe80::7", *add)
    await until(lambda: table.mac_of("fe80::7", "v0") == "240ac40c2f91")
    ip("neigh", "del", "192.0.2.7", "dev", "v0")
    await until(lambda: table.mac_of("192.0.2.7", "v0") is None)
    task.cancel()

asyncio.run(main())
"""


@pytest.mark.namespace
def test_changes_are_followed_in_a_namespace() -> None:
    subprocess.run(["unshare", "--net", sys.executable, "-c", FOLLOW], check=True, timeout=240)


class SeenOnce:
    """A discoverer that has seen one device, once."""

    name = "once"

    def __init__(self, sighting: Sighting) -> None:
        self.health, self._sighting = Health(), sighting

    async def run(self, context: Context, sink: Sink) -> None:
        sink.sight(replace(self._sighting, at=context.now()))
        await asyncio.Event().wait()

    async def verify(self, sighting: Sighting) -> Sighting | None:
        return sighting

    async def rescan(self) -> None:
        """It never looks again."""


@pytest.fixture
def cable() -> Iterator[Cable]:
    with laid() as one:
        yield one


@pytest.mark.namespace
async def test_a_device_is_corroborated_as_soon_as_the_kernel_has_asked_it(cable: Cable) -> None:
    """Its sighting comes before anything is sent to it, and no other follows."""
    cable.far_ip("link", "set", INTERFACE, "address", "24:0a:c4:0c:2f:91")
    once = replace(claiming(MAC), source="once/lan0", interface=INTERFACE, addresses=(CHILD,))
    async with household(SeenOnce(once)) as home:
        claimed = await home.shows(lambda one: one.trust is Trust.CLAIMED)
        assert SEEN not in claimed.claims
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_port:
            any_port.sendto(b"", (CHILD, 9))
        proven = await home.shows(lambda one: one.trust is Trust.CORROBORATED)
        assert SEEN in proven.claims
