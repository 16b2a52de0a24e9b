"""Messages are cut out of the stream of a bus by their headers, and those refused are left out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.dbus.glib import Gio, Variant
from gatewayd.dbus.relay.frames import (
    LEFT_OUT,
    MAX_HEADER,
    REFUSED,
    MessageHeader,
    MessageKind,
    MessageSieve,
    Piece,
    read_header,
)

EVE, OLGA = ":1.66", ":1.7"
ORDERS = (Gio.DBusMessageByteOrder.LITTLE_ENDIAN, Gio.DBusMessageByteOrder.BIG_ENDIAN)
NO_REPLY = Gio.DBusMessageFlags.NO_REPLY_EXPECTED


def call(
    sender: str = OLGA, body: Variant | None = None, order: object = ORDERS[0], flags: object = None
) -> bytes:
    """A call as GLib writes it."""
    made = Gio.DBusMessage.new_method_call("org.gatewayd1", "/org/gatewayd1", "org.x.Y", "Do")
    made.set_byte_order(order)
    made.set_serial(77)
    made.set_sender(sender)
    if flags is not None:
        made.set_flags(flags)
    if body is not None:
        made.set_body(body)
    return bytes(made.to_blob(Gio.DBusCapabilityFlags.UNIX_FD_PASSING))


def with_path(path: str) -> bytes:
    made = Gio.DBusMessage.new_method_call("org.gatewayd1", path, "org.x.Y", "Do")
    made.set_serial(78)
    made.set_body(Variant("(s)", ("x" * 100,)))
    return bytes(made.to_blob(Gio.DBusCapabilityFlags.NONE))


def parsed(blob: bytes) -> Gio.DBusMessage:
    return Gio.DBusMessage.new_from_blob(blob, Gio.DBusCapabilityFlags.NONE)


def all_of(sieve: MessageSieve, *chunks: bytes) -> bytes:
    return b"".join(piece.data for chunk in chunks for piece in sieve.feed(chunk))


def refusing(header: MessageHeader) -> str:
    return "Busy" if header.sender == EVE else ""


TEXTS = Variant("(uas)", (1, ["x", "yz"]))
SOME = [
    call(), call(body=TEXTS), call(body=Variant("(ay)", (b"x" * 5000,)), order=ORDERS[1]),
    call(body=Variant("(a{sv})", ({"a": Variant("b", True)},))), call(body=TEXTS, flags=NO_REPLY),
]  # fmt: skip


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("body", [None, TEXTS])
def test_a_header_says_what_glib_reads(order: object, body: Variant | None) -> None:
    blob = call(body=body, order=order)
    found, expected = read_header(blob), parsed(blob)
    size = 0 if body is None else len(blob) - expected.bytes_needed(blob[:16])
    assert found.sender == OLGA
    assert found.signature == expected.get_signature()
    assert found.serial == expected.get_serial()
    assert found.kind == MessageKind.CALL
    assert found.awaits_reply
    assert found.size >= size
    assert not found.descriptors


@given(cuts=st.lists(st.integers(1, 6000), max_size=12))
def test_what_is_let_on_is_as_it_came_however_it_is_cut(cuts: list[int]) -> None:
    stream, chunks = b"".join(SOME), []
    for cut in cuts:
        chunks.append(stream[:cut])
        stream = stream[cut:]
    sieve = MessageSieve(lambda _: "")
    assert all_of(sieve, *chunks, stream) == b"".join(SOME)
    assert not sieve.is_within_header


@given(cuts=st.lists(st.integers(1, 3000), max_size=12))
def test_a_refused_call_is_replaced_by_a_short_one(cuts: list[int]) -> None:
    large = call(EVE, Variant("(as)", (["x"] * 2000,)))
    stream, chunks = SOME[1] + large + SOME[3], []
    for cut in cuts:
        chunks.append(stream[:cut])
        stream = stream[cut:]
    passed = all_of(MessageSieve(refusing), *chunks, stream)
    assert passed.startswith(SOME[1])
    assert passed.endswith(SOME[3])
    short = parsed(passed[len(SOME[1]) : -len(SOME[3])])
    assert (short.get_sender(), short.get_serial()) == (EVE, 77)
    assert (short.get_interface(), short.get_member()) == (REFUSED, "Busy")
    assert short.get_body() is None


def test_of_a_refused_call_without_a_reply_nothing_goes_on() -> None:
    silent = call(EVE, TEXTS, flags=NO_REPLY)
    assert all_of(MessageSieve(refusing), SOME[0] + silent + SOME[1]) == SOME[0] + SOME[1]
    assert all_of(MessageSieve(lambda _: LEFT_OUT), SOME[0] + SOME[1]) == b""


@pytest.mark.parametrize("size", [MAX_HEADER, 200_000])
def test_a_message_with_an_endless_path_is_passed_over_unread(size: int) -> None:
    judged: list[MessageHeader] = []

    def judge(header: MessageHeader) -> str:
        judged.append(header)
        return ""

    sieve = MessageSieve(judge)
    stream = with_path("/" + "x" * size) + SOME[1]
    chunks = [stream[at : at + 4096] for at in range(0, len(stream), 4096)]
    assert all_of(sieve, *chunks) == SOME[1]
    assert len(judged) == 1


def test_descriptors_come_with_the_first_octets() -> None:
    made = Gio.DBusMessage.new_method_call("org.gatewayd1", "/x", "org.x.Y", "Do")
    made.set_serial(3)
    passed = Gio.UnixFDList.new()
    passed.append(0)
    made.set_unix_fd_list(passed)
    made.set_body(Variant("(h)", (0,)))
    blob = bytes(made.to_blob(Gio.DBusCapabilityFlags.UNIX_FD_PASSING))
    first, second = MessageSieve(lambda _: "").feed(blob)
    assert first.descriptors == 1
    assert second.descriptors == 0
    (nothing,) = MessageSieve(lambda _: LEFT_OUT).feed(blob)
    assert nothing == Piece(b"", 1, False)
    (short,) = MessageSieve(lambda _: "Busy").feed(blob)
    assert (short.descriptors, short.keeps_them) == (1, False)


@pytest.mark.parametrize("fields", [b"\7\1s\0\xff\xff\xff\x7f", b"\x63\1x\0" + bytes(4)])
def test_a_message_with_a_strange_header_is_passed_over(fields: bytes) -> None:
    strange = b"l\1\0\1" + b"\5\0\0\0" + bytes(4) + b"\x08\0\0\0" + fields + b"12345"
    assert all_of(MessageSieve(lambda _: ""), strange + SOME[1]) == SOME[1]
    with pytest.raises(ValueError, match="header"):
        read_header(strange)


def test_what_is_no_message_is_refused() -> None:
    with pytest.raises(ValueError, match="begins so"):
        all_of(MessageSieve(lambda _: ""), b"x" * 16)
