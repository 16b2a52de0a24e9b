"""Packets are judged by their headers, before anything of them is kept; and a path is watched."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.network.mqtt_rules import (
    ANSWER_TIME,
    MAX_PACKET,
    KeepAlive,
    KeepAliveStep,
    PacketError,
    is_answered,
    packet_size,
)

WAIT, PING, GIVE_UP = KeepAliveStep.WAIT, KeepAliveStep.PING, KeepAliveStep.GIVE_UP


def encoded(length: int) -> bytes:
    """Remaining length, MQTT 3.1.1, 2.2.3."""
    data = bytearray()
    while True:
        length, digit = divmod(length, 128)
        data.append(digit | (0x80 if length else 0))
        if not length:
            return bytes(data)


def later(data: bytes, limit: int = MAX_PACKET) -> int | None:
    """Return the size of a packet that is not the first."""
    return packet_size(data, limit, first=False)


@given(st.integers(3, MAX_PACKET - 5), st.binary(max_size=8))
def test_the_size_is_that_of_header_and_body(length: int, rest: bytes) -> None:
    header = b"\x30" + encoded(length)
    assert later(header + rest) == len(header) + length


@given(st.integers(3, MAX_PACKET - 5), st.data())
def test_a_header_cut_short_has_no_size_yet(length: int, data: st.DataObject) -> None:
    header = b"\x30" + encoded(length)
    cut = data.draw(st.integers(0, len(header) - 1))
    assert later(header[:cut]) is None


@given(st.binary(max_size=8), st.booleans())
def test_whatever_comes_is_a_size_or_refused(data: bytes, first: bool) -> None:
    try:
        size = packet_size(data, first=first)
    except PacketError:
        return
    assert size is None or 2 <= size <= MAX_PACKET


@pytest.mark.parametrize(("length", "limit"), [
    (MAX_PACKET, MAX_PACKET), (268_435_455, MAX_PACKET), (4096, 4096),
])  # fmt: skip
def test_a_packet_that_is_too_large_is_refused_by_its_header(length: int, limit: int) -> None:
    with pytest.raises(PacketError, match="too large"):
        later(b"\x30" + encoded(length), limit)


def test_a_length_of_five_bytes_is_refused() -> None:
    with pytest.raises(PacketError, match="malformed"):
        later(b"\x30\xff\xff\xff\xff\x01")


@pytest.mark.parametrize(("header", "refused"), [(0x30, False), (0x32, False), (0x34, True)])
def test_messages_of_qos_2_are_refused(header: int, refused: bool) -> None:
    if refused:
        with pytest.raises(PacketError, match="QoS 2"):
            later(bytes([header]))
    else:
        assert later(bytes([header, 5])) == 7


@pytest.mark.parametrize("kind", range(16))
def test_a_server_sends_some_kinds_only(kind: int) -> None:
    """MQTT 3.1.1, 2.2.1: the direction of each packet; none of QoS 2 is ours."""
    lengths = {3: 3, 4: 2, 9: 3, 11: 2, 13: 0}
    packet = bytes([kind << 4, lengths.get(kind, 2)])
    if kind in lengths:
        assert later(packet) == 2 + lengths[kind]
    else:
        with pytest.raises(PacketError):
            later(packet)


@pytest.mark.parametrize("packet", [b"\x20\x02", b"\x41\x02", b"\x92\x03", b"\xd8\x00"])
def test_a_second_connack_and_reserved_flags_are_refused(packet: bytes) -> None:
    with pytest.raises(PacketError):
        later(packet)


@pytest.mark.parametrize("packet", [
    b"\x20\x03", b"\x30\x02", b"\x40\x03", b"\x90\x02", b"\x90\xff\x7f", b"\xb0\x00", b"\xd0\x01",
])  # fmt: skip
def test_a_length_that_its_kind_cannot_have_is_refused(packet: bytes) -> None:
    with pytest.raises(PacketError, match="length"):
        packet_size(packet, first=packet[0] == 0x20)


def test_the_first_packet_is_a_connack() -> None:
    assert packet_size(b"\x20\x02", first=True) == 4
    with pytest.raises(PacketError, match="CONNACK"):
        packet_size(b"\xd0\x00", first=True)


def test_only_messages_of_qos_1_are_answered() -> None:
    assert [kind for kind in range(256) if is_answered(kind)] == [
        0x30 | flags for flags in range(16) if flags & 2
    ]


# The keep-alive.


@given(
    interval=st.integers(1, 1200),
    talk=st.lists(st.tuples(st.floats(0, 500), st.booleans()), max_size=20),
)
def test_a_dead_path_is_noticed_soon_after_the_keepalive(
    interval: int, talk: list[tuple[float, bool]]
) -> None:
    """Whatever was sent and received before; and the cloud is never kept waiting for longer."""
    alive, now, received, sent = KeepAlive(interval, 0.0), 0.0, 0.0, 0.0
    for pause, inward in talk:
        target = now + pause
        while alive.due() <= target:  # the cloud answers all pings of this time
            now = max(now, alive.due())
            assert alive.step(now) is PING
            assert now - sent <= interval
            sent = received = now
            alive.send(now)
            alive.receive(now)
        now = target
        if inward:
            received = now
            alive.receive(now)
        else:
            sent = now
            alive.send(now)
    now = max(now, alive.due())  # from here on, it is dead
    assert alive.step(now) is PING
    alive.send(now)
    assert alive.step(now) is WAIT
    now = alive.due()
    assert alive.step(now) is GIVE_UP
    assert now - received <= interval + ANSWER_TIME


def test_sending_alone_does_not_put_off_the_ping() -> None:
    alive = KeepAlive(60, 0.0)
    for second in range(54):
        alive.send(second)
        assert alive.step(second) is WAIT
    assert alive.step(55) is PING


def test_whatever_is_received_answers_a_ping() -> None:
    alive = KeepAlive(60, 0.0)
    assert alive.step(55) is PING
    alive.send(55)
    alive.receive(64)
    assert alive.step(66) is WAIT
    assert alive.step(110) is PING
