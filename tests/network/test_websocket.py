"""WebSocket, pure: the upgrade, frames of ours, and whatever a server may send."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.network.http_head import HttpError, HttpHead, parse_head
from gatewayd.network.mqtt_rules import PacketError
from gatewayd.network.websocket import (
    MAX_CONTROL,
    FrameDecoder,
    Opcode,
    accept_of,
    check_upgrade,
    frame,
    upgrade_request,
)

NONCE = b"the sample nonce"  # of the RFC
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
GOOD = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Accept: " + ACCEPT + b"\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
)
BINARY, PING, CLOSE = Opcode.BINARY, Opcode.PING, Opcode.CLOSE


def head(answer: bytes) -> HttpHead:
    found = parse_head(answer)
    assert found is not None
    return found


def test_the_proof_is_that_of_the_rfc() -> None:
    assert accept_of(NONCE) == ACCEPT


def test_the_request_asks_for_mqtt() -> None:
    lines = upgrade_request("cloud.example", 8443, "/mqtt?a=b", NONCE).split(b"\r\n")
    assert lines[:2] == [b"GET /mqtt?a=b HTTP/1.1", b"Host: cloud.example:8443"]
    assert b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==" in lines
    assert b"Sec-WebSocket-Protocol: mqtt" in lines
    assert b"Host: cloud.example" in upgrade_request("cloud.example", 443, "/", NONCE).split(
        b"\r\n"
    )


def test_the_request_names_an_address_in_brackets() -> None:
    assert b"\r\nHost: [2001:db8::7]:8443\r\n" in upgrade_request(
        "2001:db8::7", 8443, "/mqtt", NONCE
    )


def test_an_upgrade_is_accepted_without_the_subprotocol_too() -> None:
    check_upgrade(head(GOOD), NONCE)
    check_upgrade(head(GOOD.replace(b"Sec-WebSocket-Protocol: mqtt\r\n", b"")), NONCE)


@pytest.mark.parametrize(("before", "after"), [
    (b"101", b"200"), (b"101", b"403"), (b"WebSocket", b"h2c"), (b"Upgrade: WebSocket\r\n", b""),
    (b"keep-alive, Upgrade", b"keep-alive"), (b"Connection: keep-alive, Upgrade\r\n", b""),
    (ACCEPT, ACCEPT.lower()), (b"Sec-WebSocket-Accept", b"X"), (b": mqtt", b": amqp"),
    (b": mqtt", b": mqtt\r\nSec-WebSocket-Protocol: mqtt"),
    (b": mqtt", b": mqtt\r\nSec-WebSocket-Extensions: permessage-deflate"),
])  # fmt: skip
def test_no_upgrade_is_refused(before: bytes, after: bytes) -> None:
    with pytest.raises(HttpError):
        check_upgrade(head(GOOD.replace(before, after, 1)), NONCE)


def test_a_frame_is_masked_as_in_the_rfc() -> None:
    """The example of 5.7, as a binary one."""
    assert frame(BINARY, b"Hello", bytes.fromhex("37fa213d")) == bytes.fromhex(
        "828537fa213d7f9f4d5158"
    )


@pytest.mark.parametrize(("length", "header"), [
    (0, "8280"), (125, "82fd"), (126, "82fe007e"), (65535, "82feffff"),
    (65536, "82ff0000000000010000"),
])  # fmt: skip
def test_the_length_of_a_frame(length: int, header: str) -> None:
    made = frame(BINARY, bytearray(length), b"\x01\x02\x03\x04")
    start = len(header) // 2
    assert made[:start] == bytes.fromhex(header)
    assert made[start:] == b"\x01\x02\x03\x04" + (b"\x01\x02\x03\x04" * (length // 4 + 1))[:length]


def plain(opcode: int, payload: bytes, *, final: bool = True) -> bytes:
    """A frame as a server sends it."""
    length = len(payload)
    size = bytes([length]) if length < 126 else b"\x7e" + length.to_bytes(2)
    return bytes([opcode | (0x80 if final else 0)]) + size + payload


CONTROL = st.tuples(st.sampled_from((PING, Opcode.PONG)), st.binary(max_size=MAX_CONTROL))


@given(
    st.lists(st.lists(st.binary(max_size=300), min_size=1, max_size=4), max_size=4),
    CONTROL,
    st.lists(st.integers(1, 50), min_size=1, max_size=20),
)
def test_messages_in_any_pieces_are_put_together(
    messages: list[list[bytes]], control: tuple[Opcode, bytes], cuts: list[int]
) -> None:
    """With a control frame between any two fragments, which does not disturb them."""
    sent = b""
    for fragments in messages:
        last = len(fragments) - 1
        for at, piece in enumerate(fragments):
            sent += plain(BINARY if at == 0 else 0, piece, final=at == last) + plain(*control)
    decoder, payload, controls = FrameDecoder(), b"", []
    while sent:
        size = cuts[0]
        cuts = cuts[1:] + cuts[:1]
        for opcode, piece in decoder.feed(sent[:size]):
            if opcode is BINARY:
                payload += piece
            else:
                controls.append((opcode, piece))
        sent = sent[size:]
    assert payload == b"".join(piece for fragments in messages for piece in fragments)
    assert controls == [control] * sum(map(len, messages))


@pytest.mark.parametrize("came", [
    plain(1, b"text"), plain(3, b""), plain(11, b""), plain(0, b"no message began"),
    b"\xc2\x00", b"\xa2\x00", b"\x92\x00",  # reserved bits
    plain(PING, b"", final=False), b"\x89\x7e\x00\x7e", b"\x88\x7f" + bytes(8),
    b"\x82\x81\x00\x00\x00\x00x",  # masked
    b"\x82\x7f" + b"\xff" * 8,
    plain(BINARY, b"a", final=False) + plain(BINARY, b"b"),
])  # fmt: skip
def test_what_no_server_may_send_is_refused(came: bytes) -> None:
    with pytest.raises(PacketError):
        list(FrameDecoder().feed(came))
    with pytest.raises(PacketError):
        _feed_single_bytes(came)


def _feed_single_bytes(came: bytes) -> None:
    decoder = FrameDecoder()
    for byte in came:
        list(decoder.feed(bytes([byte])))


def test_an_empty_control_frame_is_yielded() -> None:
    assert list(FrameDecoder().feed(plain(PING, b"") + plain(CLOSE, b""))) == [
        (PING, b""),
        (CLOSE, b""),
    ]


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_and_nothing_grows(came: bytes) -> None:
    decoder = FrameDecoder()
    with contextlib.suppress(PacketError):
        for _ in decoder.feed(came * 10):
            pass
    assert len(decoder._header) + len(decoder._control) <= 10 + MAX_CONTROL
