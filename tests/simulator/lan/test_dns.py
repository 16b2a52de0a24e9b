"""DNS messages: what is written is read again, and nothing that is read can do harm."""

from __future__ import annotations

import contextlib
import socket
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zeroconf._dns import DNSPointer, DNSQuestion, DNSService
from zeroconf._protocol.incoming import DNSIncoming
from zeroconf._protocol.outgoing import DNSOutgoing

from gatewayd.simulator.lan import records
from gatewayd.simulator.lan.child import fleet
from gatewayd.simulator.lan.dns import (
    AAAA,
    ANY,
    MAX_JUMPS,
    PTR,
    RESPONSE,
    SRV,
    TXT,
    A,
    Address6Data,
    AddressData,
    DnsMessage,
    DnsQuestion,
    DnsRecord,
    MalformedDns,
    Name,
    OpaqueData,
    PointerData,
    SrvData,
    TextData,
    decode,
    encode,
    fold,
    is_response,
    name,
)

QUESTION = bytes(4) + b"\0\1" + bytes(6)  # a header that announces one

u16, u32 = st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)
families = st.integers(0, 0x7FFF)
names: st.SearchStrategy[Name] = st.lists(st.binary(min_size=1, max_size=63), max_size=3).map(tuple)
addresses6 = st.binary(min_size=16, max_size=16).map(partial(socket.inet_ntop, socket.AF_INET6))
datas = st.one_of(
    st.builds(AddressData, st.ip_addresses(v=4).map(str)),
    st.builds(Address6Data, addresses6),
    st.builds(PointerData, names),
    st.builds(TextData, st.lists(st.binary(max_size=255), max_size=2).map(tuple)),
    st.builds(SrvData, u16, u16, u16, names),
    st.builds(
        OpaqueData,
        u16.filter(lambda kind: kind not in (A, AAAA, PTR, TXT, SRV)),
        st.binary(max_size=300),
    ),
)
sections = st.lists(
    st.builds(DnsRecord, names, datas, u32, st.booleans(), families), max_size=3
).map(tuple)
questions = st.lists(st.builds(DnsQuestion, names, u16, st.booleans(), families), max_size=3)
messages = st.builds(
    DnsMessage, questions.map(tuple), sections, sections, sections, flags=u16, id=u16
)


@given(messages)
def test_what_is_written_is_read_again(message: DnsMessage) -> None:
    packet = encode(message)
    assert decode(packet) == message
    assert is_response(packet) == (message.flags >= 0x8000)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_malformed(packet: bytes) -> None:
    read_or_refuse(packet)


@given(messages, st.lists(st.tuples(st.integers(0, 999), st.integers(0, 255)), max_size=8))
def test_a_damaged_message_is_read_or_malformed(
    message: DnsMessage, damage: list[tuple[int, int]]
) -> None:
    packet = bytearray(encode(message))
    for at, byte in damage:
        packet[at % len(packet)] = byte
    read_or_refuse(bytes(packet))


def read_or_refuse(packet: bytes) -> None:
    with contextlib.suppress(MalformedDns):
        assert isinstance(decode(packet), DnsMessage)


def chained(jumps: int) -> bytes:
    """A message whose last name takes as many jumps, from pointer to pointer, to a label."""
    start = 12 + 11
    data = b"\1a\0" + (0xC000 | start).to_bytes(2)
    for i in range(jumps - 2):
        data += (0xC000 | start + 3 + 2 * i).to_bytes(2)
    last = (0xC000 | start + len(data) - 2).to_bytes(2)
    fixed = (999).to_bytes(2) + b"\0\1" + bytes(4)
    first = b"\0" + fixed + len(data).to_bytes(2) + data
    return bytes(6) + b"\0\2" + bytes(4) + first + last + fixed + bytes(2)


def test_a_name_takes_a_bounded_number_of_jumps() -> None:
    assert decode(chained(MAX_JUMPS)).answers[1].name == (b"a",)
    with pytest.raises(MalformedDns, match="too long"):
        decode(chained(MAX_JUMPS + 1))


@pytest.mark.parametrize(
    ("packet", "why"),
    [
        (b"", "too early"),
        (bytes(4) + b"\xff" * 8, "too early"),
        (QUESTION + b"\xc0\x0c\0\1\0\1", "pointer"),
        (QUESTION + b"\xc0\xff\0\1\0\1", "pointer"),
        (QUESTION + b"\1a\xc0\x0c\0\1\0\1", "too long"),
        (QUESTION + b"\x41" + b"a" * 65 + b"\0\0\1\0\1", "pointer"),
        (QUESTION + (b"\x3f" + b"a" * 63) * 4 + b"\0\0\1\0\1", "too long"),
        (QUESTION + b"\1a", "too early"),
        (bytes(6) + b"\0\1" + bytes(4) + b"\0\0\1\0\1\0\0\0\0\0\5abcde", "not as long"),
        (bytes(6) + b"\0\1" + bytes(4) + b"\0\0\x10\0\1\0\0\0\0\0\2\5abcde", "not as long"),
        (bytes(9001), "message is too long"),
    ],
)
def test_what_is_refused_on_reading(packet: bytes, why: str) -> None:
    with pytest.raises(MalformedDns, match=why):
        decode(packet)


@pytest.mark.parametrize(
    "record",
    [
        DnsRecord((b"",), TextData(()), 1),
        DnsRecord((b"a" * 64,), TextData(()), 1),
        DnsRecord((b"a" * 63,) * 4, TextData(()), 1),
        DnsRecord((), TextData((b"a" * 256,)), 1),
        DnsRecord((), TextData((b"a" * 255,) * 36), 1),
        DnsRecord((), OpaqueData(999, bytes(70_000)), 1),
        DnsRecord((), AddressData("localhost"), 1),
        DnsRecord((), SrvData(0, 0, 65_536, ()), 1),
        DnsRecord((), TextData(()), -1),
    ],
)
def test_what_is_refused_on_writing(record: DnsRecord) -> None:
    with pytest.raises(MalformedDns):
        encode(DnsMessage(answers=(record,)))


def test_names_are_equal_whatever_the_case_of_ascii() -> None:
    assert fold(name("_HTTP._tcp.Local")) == name("_http._tcp.local")
    assert fold(("É".encode(),)) != fold(("é".encode(),))


def test_repeated_names_are_written_once() -> None:
    child = fleet(1, seed=1)[0]
    packet = encode(records.announcement(child))
    assert packet.count(b"_gatewayd-child") == 1
    assert packet.count(child.instance.encode()) == 1


def test_zeroconf_reads_what_we_write() -> None:
    child = fleet(1, seed=1)[0]
    received = DNSIncoming(encode(records.announcement(child)))
    assert received.valid
    answers = (
        received.answers() if callable(received.answers) else received.answers
    )  # newer: a method
    found = {type(record).__name__: record for record in answers}
    assert set(found) == {"DNSPointer", "DNSService", "DNSText", "DNSAddress"}
    service = found["DNSService"]
    assert isinstance(service, DNSService)
    assert (service.server, service.port) == (f"{child.host}.local.", child.port)
    assert service.unique
    pointer = found["DNSPointer"]
    assert isinstance(pointer, DNSPointer)
    assert pointer.alias == f"{child.instance}.{child.service}."


def test_we_read_what_zeroconf_writes() -> None:
    service = "_x._tcp.local."
    out = DNSOutgoing(0)
    question = DNSQuestion(service, PTR, 1)
    question.unicast = True
    out.add_question(question)
    out.add_answer_at_time(DNSPointer(service, PTR, 1, 4500, f"one.{service}"), 0)
    read = decode(out.packets()[0])
    assert read.questions == (DnsQuestion(name(service), PTR, unicast=True),)
    assert read.answers == (DnsRecord(name(service), PointerData(name(f"one.{service}")), 4500),)
    assert not read.flags & RESPONSE


def test_a_question_for_anything_asks_for_every_kind() -> None:
    child = fleet(1, seed=1)[0]
    pointer, service, text, address = records.records(child)
    assert records.asked(child, [DnsQuestion(service.name, ANY)]) == (service, text)
    assert records.asked(child, [DnsQuestion(fold(address.name), A)]) == (address,)
    assert records.asked(child, [DnsQuestion(pointer.name, A)]) == ()
    assert records.asked(child, [DnsQuestion(pointer.name, PTR, family=3)]) == ()
