"""The server's half of MQTT 3.1.1, against bytes from the standard, and against any bytes."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.simulator.mqtt import codec
from gatewayd.simulator.mqtt.codec import MalformedPacket, Parser, decode
from gatewayd.simulator.mqtt.packets import (
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Puback,
    Publish,
    Subscribe,
    Unsubscribe,
)

CONNECT = bytes.fromhex("10 15 00 04 4d515454 04 c2 003c 0002 6964 0001 75 0002 7077")
OF_MQTT_3_1 = bytes.fromhex("10 0f 00 06 4d5149736470 03 02 0000 0001 69")
WITH_WILL = bytes.fromhex("10 17 00 06 4d5149736470 03 06 0000 0001 69 0001 74 0003 627965")
SUBSCRIBE = bytes.fromhex("82 0c 000a 0003 612f62 01 0001 63 02")  # figure 3.23
UNSUBSCRIBE = bytes.fromhex("a2 05 000a 0001 63")
PUBLISH = bytes.fromhex("32 08 0003 612f62 000a 21")
STREAM = CONNECT + SUBSCRIBE + PUBLISH + UNSUBSCRIBE + bytes.fromhex("4002 000a c000 e000")
PACKETS: list[Packet] = [
    Connect("MQTT", 4, "id", 60, True, "u", b"pw"),
    Subscribe(10, (("a/b", 1), ("c", 2))),
    Publish("a/b", b"!", 1, 10),
    Unsubscribe(10, ("c",)),
    Puback(10),
    Pingreq(),
    Disconnect(),
]


def test_packets_of_a_session() -> None:
    assert list(Parser().feed(STREAM)) == PACKETS


@given(st.lists(st.integers(1, 7), max_size=len(STREAM)))
def test_a_stream_may_be_cut_anywhere(sizes: list[int]) -> None:
    parser, at = Parser(), 0
    packets: list[Packet] = []
    for size in [*sizes, len(STREAM)]:
        packets += parser.feed(STREAM[at : at + size])
        at += size
    assert packets == PACKETS


def test_the_older_level_is_known() -> None:
    assert list(Parser().feed(OF_MQTT_3_1)) == [Connect("MQIsdp", 3, "i", 0, True)]


@pytest.mark.parametrize(
    "packet",
    [
        WITH_WILL,
        bytes.fromhex("31 06 0003 612f62 21"),  # a retained message
        bytes.fromhex("33 08 0003 612f62 000a 21"),  # likewise, with QoS 1
        bytes.fromhex("34 08 0003 612f62 000a 21"),  # QoS 2
    ],
)
def test_what_the_vendors_do_not_offer(packet: bytes) -> None:
    """Pages: alibabacloud.com/help/en/iot/user-guide/mqtt-protocol; iot_01_00111 of Huawei."""
    with pytest.raises(MalformedPacket):
        list(Parser().feed(packet))


def test_of_an_unknown_level_only_the_level_is_read() -> None:
    [connect] = Parser().feed(bytes.fromhex("10 0a 0004 4d515454 05 ffffff"))
    assert connect == Connect("MQTT", 5)
    assert not Connect("MQTT", 5).known
    assert "pw" not in repr(PACKETS[0])


def test_what_is_encoded() -> None:
    assert codec.connack(5) == bytes.fromhex("20 02 00 05")
    assert codec.puback(10) == bytes.fromhex("40 02 000a")
    assert codec.suback(10, [1, 0x80]) == bytes.fromhex("90 04 000a 01 80")
    assert codec.unsuback(10) == bytes.fromhex("b0 02 000a")
    assert codec.publish("a/b", b"!", 1, 10) == PUBLISH
    assert codec.publish("a/b", b"!") == bytes.fromhex("30 06 0003 612f62 21")


@pytest.mark.parametrize("size", [0, 124, 125, 16_380, 16_381, 2_097_148, 2_097_149])
def test_every_length_of_a_length(size: int) -> None:
    payload = b"x" * size  # at the borders of one, two, three and four bytes (table 2.4)
    assert list(Parser().feed(codec.publish("t", payload))) == [Publish("t", payload)]


@pytest.mark.parametrize(
    "packet",
    [
        "10 0c 0004 4d515454 04 03 0000 0000",  # reserved connect flag
        "10 0c 0004 4d515454 04 08 0000 0000",  # will QoS without a will
        "10 0c 0004 4d515454 04 1e 0000 0000",  # will QoS 3
        "10 0c 0004 4d515454 04 40 0000 0000",  # password without a user name
        "10 0d 0004 4d515454 04 02 0000 0000 00",  # bytes left over
        "10 0d 0004 4d515454 04 02 0000 0001 00",  # U+0000
        "10 0d 0004 4d515454 04 02 0000 0001 ff",  # no UTF-8
        "10 0f 0004 4d515454 04 02 0000 0003 eda080",  # a surrogate
        "10 0c 0004 4d515454 04 02 0000 0009",  # ends too early
        "11 0c 0004 4d515454 04 02 0000 0000",  # flags of CONNECT
        "80 06 000a 0001 63 00",  # flags of SUBSCRIBE
        "82 02 000a",  # no filter
        "82 06 000a 0001 63 03",  # QoS 3
        "82 06 0000 0001 63 00",  # packet identifier 0
        "82 05 000a 0000 00",  # empty filter
        "a2 02 000a",  # no filter
        "34 07 0003 612f62 000a",  # QoS 2
        "36 07 0003 612f62 000a",  # QoS 3
        "38 05 0003 612f62",  # a duplicate of QoS 0
        "30 05 0003 612f23",  # a wildcard
        "30 02 0000",  # empty topic
        "20 02 0000",  # what only a server sends
        "f0 00",  # no such packet
        "c0 01 00",  # PINGREQ with a body
        "30 ff ff ff ff",  # a length of five bytes
        "30 ff ff ff 7f",  # larger than is taken
    ],
)
def test_what_the_standard_forbids(packet: str) -> None:
    with pytest.raises(MalformedPacket):
        list(Parser(limit=1_000).feed(bytes.fromhex(packet)))


def test_the_limit_is_that_of_the_remaining_length() -> None:
    assert list(Parser(limit=8).feed(PUBLISH)) == [PACKETS[2]]
    with pytest.raises(MalformedPacket):
        list(Parser(limit=7).feed(PUBLISH[:2]))


@given(st.binary(max_size=300))
def test_any_bytes_are_packets_or_malformed(data: bytes) -> None:
    with contextlib.suppress(MalformedPacket):
        list(Parser(limit=200).feed(data))


@given(st.integers(0, 255), st.binary(max_size=60))
def test_any_body_is_a_packet_or_malformed(header: int, body: bytes) -> None:
    with contextlib.suppress(MalformedPacket):
        assert decode(header, body)


@given(st.integers(0, len(STREAM) - 1), st.integers(0, 255))
def test_a_wrong_byte_is_noticed_or_harmless(at: int, byte: int) -> None:
    damaged = STREAM[:at] + bytes((byte,)) + STREAM[at + 1 :]
    with contextlib.suppress(MalformedPacket):
        list(Parser(limit=200).feed(damaged))
