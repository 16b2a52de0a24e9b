"""Packets are cut before paho sees them, and nothing oversized is kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.cloud.paho_socket import MAX_PACKET, PacketError, packet_size


def encoded(length: int) -> bytes:
    """Remaining length, MQTT 3.1.1, 2.2.3."""
    data = bytearray()
    while True:
        length, digit = divmod(length, 128)
        data.append(digit | (0x80 if length else 0))
        if not length:
            return bytes(data)


@given(st.integers(0, MAX_PACKET - 5), st.binary(max_size=8))
def test_the_size_is_that_of_header_and_body(length: int, rest: bytes) -> None:
    header = b"\x30" + encoded(length)
    assert packet_size(header + rest) == len(header) + length


@given(st.integers(0, MAX_PACKET - 5), st.data())
def test_a_header_cut_short_has_no_size_yet(length: int, data: st.DataObject) -> None:
    header = b"\x30" + encoded(length)
    cut = data.draw(st.integers(0, len(header) - 1))
    assert packet_size(header[:cut]) is None


@pytest.mark.parametrize("length", [MAX_PACKET, 268_435_455])
def test_a_packet_that_is_too_large_is_refused_by_its_header(length: int) -> None:
    with pytest.raises(PacketError, match="too large"):
        packet_size(b"\x30" + encoded(length))


def test_a_length_of_five_bytes_is_refused() -> None:
    with pytest.raises(PacketError, match="malformed"):
        packet_size(b"\x30\xff\xff\xff\xff\x01")


@pytest.mark.parametrize(("header", "refused"), [(0x30, False), (0x32, False), (0x34, True)])
def test_messages_of_qos_2_are_refused(header: int, refused: bool) -> None:
    if refused:
        with pytest.raises(PacketError, match="QoS 2"):
            packet_size(bytes([header]))
    else:
        assert packet_size(bytes([header, 0])) == 2
