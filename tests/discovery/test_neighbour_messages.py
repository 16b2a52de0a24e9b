"""What the kernel tells of neighbours, and what nobody may make of it."""

from __future__ import annotations

import ipaddress
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.discovery.neighbours import (
    DELETED,
    NEW,
    PERMANENT,
    REACHABLE,
    STALE,
    Neighbour,
    dump_request,
    parse,
)

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
def test_a_packet_that_was_cut_tells_nothing_wrong(length: int) -> None:
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


def test_the_request_is_a_dump_of_all_families() -> None:
    assert struct.unpack("=IHHIIBxxxiHBB", dump_request())[:3] == (28, 30, 0x301)
