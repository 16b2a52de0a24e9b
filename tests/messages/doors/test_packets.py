"""Packets of MQTT 5 and 3.1.1: as the standards write them, and as no broker may send them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.messages.doors.packets import (
    MAX_PACKET,
    MAX_PAYLOAD,
    V5,
    V311,
    BrokerError,
    ConnackPacket,
    ConnectPacket,
    DisconnectPacket,
    Packet,
    PacketParser,
    PingrespPacket,
    PubackPacket,
    PublishPacket,
    PublishProperties,
    SubackPacket,
    disconnect,
    puback,
    publish,
    subscribe,
    unsubscribe,
)


def parsed(data: bytes, version: int = V5, step: int = 1 << 20) -> list[Packet]:
    """Return all packets in some bytes, received so many at a time."""
    parser, found = PacketParser(version), []
    for first in range(0, len(data), step):
        parser.feed(data[first : first + step])
        while (packet := parser.next()) is not None:
            found.append(packet)
    return found


def length(number: int) -> bytes:
    encoded = b""
    while True:
        number, digit = divmod(number, 128)
        encoded += bytes((digit | (128 if number else 0),))
        if not number:
            return encoded


def sized(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


# What a door sends.


def test_connect_keeps_the_session_for_ever() -> None:
    assert ConnectPacket("gatewayd", "gatewayd", b"pw").encode(V5) == bytes.fromhex(
        "10 30 0004 4d515454 05 c0 003c"  # MQTT, level 5, user name and password, no clean start
        "0d 11 ffffffff 21 00c8 27 00111800"
        "0008 6761746577617964 0008 6761746577617964 0002 7077"
    )


def test_connect_of_3_1_1_has_no_properties() -> None:
    assert ConnectPacket("g", keepalive=5).encode(V311) == bytes.fromhex(
        "10 0d 0004 4d515454 04 00 0005 0001 67"
    )


def test_subscribe_asks_for_no_retained_messages() -> None:
    assert subscribe(V5, 7, ["a/#"]) == bytes.fromhex("82 09 0007 00 0003 612f23 21")
    assert subscribe(V311, 7, ["a/#"]) == bytes.fromhex("82 08 0007 0003 612f23 01")


def test_unsubscribe() -> None:
    assert unsubscribe(V5, 7, ["a/#"]) == bytes.fromhex("a2 08 0007 00 0003 612f23")
    assert unsubscribe(V311, 7, ["a/#"]) == bytes.fromhex("a2 07 0007 0003 612f23")
    assert parsed(bytes.fromhex("b0 04 0007 00 11")) == [SubackPacket(7, (0x11,))]
    assert parsed(bytes.fromhex("b0 02 0007"), V311) == [SubackPacket(7, ())]


def test_publish_repeats_correlation_data() -> None:
    assert publish(V5, 1, "t", b"stored", properties=PublishProperties(b"x")) == bytes.fromhex(
        "32 10 0001 74 0001 04 09 0001 78 73746f726564"
    )
    assert publish(V311, 1, "t", b"", retained=True) == bytes.fromhex("33 05 0001 74 0001")


def test_short_packets() -> None:
    assert puback(258) == bytes.fromhex("40 02 0102")
    assert disconnect(V5) == disconnect(V311, 0x82) == bytes.fromhex("e0 00")
    assert disconnect(V5, 0x82) == bytes.fromhex("e0 01 82")


# What a broker sends.


CONNACK = bytes.fromhex("20 12 01 00 0f 13 001e 21 0014 27 00010000 25 00 2a 00")
PUBLISH = (
    bytes((0x3B,)) + length(7 + 24 + 2)
    + sized(b"a/b") + (9).to_bytes(2, "big")
    + bytes((23,)) + b"\x08" + sized(b"r/x") + b"\x09" + sized(b"\x00\xff") + b"\x26" + sized(b"k")
    + sized(b"vv") + b"\x01\x00" + b"\x0b\x05"
    + b"hi"
)  # fmt: skip


@pytest.mark.parametrize("step", [1, 2, 7, 1 << 20])
def test_packets_are_read_however_they_arrive(step: int) -> None:
    data = CONNACK + PUBLISH + bytes.fromhex("40 04 0001 10 00 90 04 0002 00 80 d0 00 e0 01 8e")
    assert parsed(data, V5, step) == [
        ConnackPacket(0, True, 30, 20, 0x10000),
        PublishPacket("a/b", b"hi", 9, True, True, "r/x", b"\x00\xff"),
        PubackPacket(1, 16),
        SubackPacket(2, (0x80,)),
        PingrespPacket(),
        DisconnectPacket(0x8E),
    ]


def test_packets_of_3_1_1() -> None:
    data = bytes.fromhex("20 02 01 00 30 04 0001 74 78 32 05 0001 74 0003 90 03 0001 01 40 02 0001")
    assert parsed(data, V311) == [
        ConnackPacket(0, session_present=True),
        PublishPacket("t", b"x"),
        PublishPacket("t", b"", 3),
        SubackPacket(1, (1,)),
        PubackPacket(1),
    ]


def test_a_broker_of_3_1_1_refuses_mqtt_5_in_its_own_form() -> None:
    assert parsed(bytes.fromhex("20 02 00 01")) == [ConnackPacket(1)]


def test_a_topic_that_is_no_text_costs_the_message_only() -> None:
    assert parsed(bytes.fromhex("30 04 0001 ff 00 30 04 0001 74 00")) == [
        PublishPacket("", b""),
        PublishPacket("t", b""),
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("34 05 0001 74 0001 00", "QoS 2"),
        ("36 05 0001 74 0001 00", "QoS 2"),
        ("32 06 0001 74 0000 00", "identifier of 0"),
        ("30 07 0001 74 03 23 0001", "topic alias"),
        ("30 06 0001 74 02 7f 00", "unknown property"),
        ("30 08 0001 74 04 0100 0101", "comes twice"),
        ("30 03 0009 74", "ends too early"),
        ("30 04 0001 74 05", "ends too early"),
        ("30 ff ff ff ff 7f", "malformed length"),
        ("30 08 0001 74 ff ff ff ff 01", "malformed length"),
        ("20 06 00 00 03 21 0000", "receive maximum"),
        ("40 02 0000", "identifier of 0"),
        ("41 02 0001", "reserved flags"),
        ("d0 01 00", "PINGRESP"),
        ("00 00", "no broker may send"),
        ("10 00", "no broker may send"),
        ("50 02 0001", "no broker may send"),
        ("82 02 0001", "no broker may send"),
        ("f0 00", "no broker may send"),
        ("20 01 00", "ends too early"),
    ],
)
def test_what_no_broker_may_send_ends_the_connection(text: str, fault: str) -> None:
    with pytest.raises(BrokerError, match=fault):
        parsed(bytes.fromhex(text))


def test_a_broker_of_3_1_1_sends_no_disconnect() -> None:
    with pytest.raises(BrokerError):
        parsed(bytes.fromhex("e0 00"), V311)


# Large packets.


@pytest.mark.parametrize("step", [1000, 65536, 1 << 21])
@pytest.mark.parametrize("size", [MAX_PAYLOAD + 1, MAX_PACKET + 1, 3 * MAX_PACKET])
def test_a_message_that_is_too_large_is_passed_over(size: int, step: int) -> None:
    body = sized(b"t") + b"\x00\x05" + b"\x00" + bytes(size)
    data = b"\x3a" + length(len(body)) + body + bytes.fromhex("d0 00")
    assert parsed(data, V5, step) == [
        PublishPacket("t", b"", 5, repeated=True, too_large=True),
        PingrespPacket(),
    ]


def test_a_parser_keeps_no_more_than_a_packet() -> None:
    parser = PacketParser(V5)
    parser.feed(b"\x32" + length(200_000_000) + sized(b"t") + b"\x00\x05")
    assert parser.next() == PublishPacket("t", b"", 5, too_large=True)
    for _ in range(100):
        parser.feed(bytes(65536))
        assert parser.next() is None
    assert len(parser._buffer) <= 65536


def test_any_other_packet_that_is_too_large_ends_the_connection() -> None:
    with pytest.raises(BrokerError, match="too large"):
        parsed(b"\x40" + length(MAX_PACKET + 1))


# Anything.


@given(st.binary(max_size=200), st.sampled_from([V5, V311]), st.integers(1, 200))
def test_any_bytes_are_packets_or_a_fault(data: bytes, version: int, step: int) -> None:
    try:
        parsed(data, version, step)
    except BrokerError:
        return


@given(
    st.lists(st.tuples(st.sampled_from([0x30, 0x32, 0x3A, 0x40, 0x90, 0x20, 0xE0]),
                       st.binary(max_size=60)), max_size=6),
    st.sampled_from([V5, V311]),
)  # fmt: skip
def test_packets_of_any_content_are_read_alike_in_pieces(
    packets: list[tuple[int, bytes]], version: int
) -> None:
    data = b"".join(bytes((header,)) + length(len(body)) + body for header, body in packets)

    def outcome(step: int) -> object:
        try:
            return parsed(data, version, step)
        except BrokerError as error:
            return str(error)

    assert outcome(1) == outcome(1 << 20)


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=50),
    st.binary(max_size=300),
    st.integers(1, 65535),
    st.binary(max_size=50),
    st.booleans(),
)
def test_what_is_written_is_read(
    topic: str, payload: bytes, packet: int, correlation: bytes, retained: bool
) -> None:
    for version in (V5, V311):
        data = publish(
            version,
            packet,
            topic,
            payload,
            retained=retained,
            properties=PublishProperties(correlation),
        )
        expected = PublishPacket(
            topic, payload, packet, retained=retained,
            correlation=correlation if version == V5 else b"",
        )  # fmt: skip
        assert parsed(data, version, 3) == [expected]
