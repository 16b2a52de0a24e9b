"""The simulator's end of a WebSocket refuses what a client may not send."""

from __future__ import annotations

import pytest

from gatewayd.simulator.mqtt.codec import MalformedPacket
from gatewayd.simulator.mqtt.websocket import MAX_FRAME, MAX_HEAD, WebSocketEnd

REQUEST = (
    b"GET /mqtt HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n"
    b"Sec-WebSocket-Version: 13\r\n\r\n"
)


def test_an_upgrade_proves_that_it_was_understood() -> None:
    sent: list[bytes] = []
    end = WebSocketEnd(sent.append)
    for byte in REQUEST:
        assert end.receive(bytes([byte])) == b""
    (answer,) = sent
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer
    assert end.receive(bytes.fromhex("828537fa213d7f9f4d5158")) == b"Hello"


@pytest.mark.parametrize(("before", "after", "status"), [
    (b"/mqtt", b"/", b"404"), (b": mqtt", b": amqp", b"400"), (b": 13", b": 8", b"426"),
    (b"websocket", b"h2c", b"426"),
])  # fmt: skip
def test_another_request_is_refused(before: bytes, after: bytes, status: bytes) -> None:
    sent: list[bytes] = []
    with pytest.raises(MalformedPacket):
        WebSocketEnd(sent.append).receive(REQUEST.replace(before, after, 1))
    assert sent[0].startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize("frame", [
    b"\x82\x01x", b"\x81\x80\0\0\0\0", b"\x82\xff" + (MAX_FRAME + 1).to_bytes(8) + bytes(4),
])  # fmt: skip
def test_a_bad_frame_is_refused(frame: bytes) -> None:
    end = WebSocketEnd(lambda _: None)
    end.receive(REQUEST)
    with pytest.raises(MalformedPacket):
        end.receive(frame)


def test_a_request_without_an_end_is_refused() -> None:
    with pytest.raises(MalformedPacket):
        WebSocketEnd(lambda _: None).receive(b"GET " + b"x" * MAX_HEAD)
