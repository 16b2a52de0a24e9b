"""EtherNet/IP: captured answers, hostile ones, and what pycomm3 reads of the same."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycomm3.custom_types import ListIdentityObject

from gatewayd.device.identity import Claim
from gatewayd.discovery.probing.protocol import Datagram, Found, Own, UnreadableAnswer
from gatewayd.discovery.protocols.ethernet_ip.discoverer import EthernetIpProtocol
from gatewayd.discovery.protocols.ethernet_ip.messages import (
    HEADER,
    LONGEST,
    CipIdentity,
    body_size,
    list_identity,
    parse_identity,
)
from tests.support.reportable import assert_reportable

VECTORS = json.loads((Path(__file__).parent / "vectors/ethernet_ip.json").read_text())
BY_ID = {one["id"]: bytes.fromhex(one["hex"]) for one in VECTORS}
ANSWERS = [one for one in VECTORS if "vendor_id" in one["expect"]]
TOKEN = bytes.fromhex("0000a1a2a3a4a5a6")
SENDER = "10.0.0.2"
OWN = Own("10.0.0.1", 40000)
ITEM = HEADER + 2 + 4
"""Where an identity begins."""
NAME = ITEM + 33


def token_of(message: bytes) -> bytes:
    """Return the context of a captured message, as if we had sent it."""
    return message[12:20]


def answer(body: bytes, *, command: int = 0x63, status: int = 0, token: bytes = TOKEN) -> bytes:
    return struct.pack("<HHII8sI", command, len(body), 0, status, token, 0) + body


def identity(
    name: bytes = b"Widget", *, serial: int = 0x00524D8E, length: int | None = None
) -> bytes:
    """Return an item of an identity.  length: what it says of its name."""
    size = len(name) if length is None else length
    about = struct.pack("<H16xHHHBBHIB", 1, 5, 12, 58, 4, 3, 48, serial, size) + name + b"\3"
    return struct.pack("<HH", 0x0C, len(about)) + about


def found(message: bytes, sender: str = SENDER) -> Found:
    (one,) = EthernetIpProtocol().read(Datagram(message, sender, 44818, asked=(token_of(message),)))
    assert isinstance(one, Found)
    return one


@pytest.mark.parametrize("vector", ANSWERS, ids=lambda one: one["id"])
def test_a_captured_answer_shows_what_it_should(vector: Mapping[str, Any]) -> None:
    message, expected = bytes.fromhex(vector["hex"]), vector["expect"]
    one = parse_identity(message, [token_of(message)])
    names = {"vendor_id", "device_type", "product_code", "revision", "product"} & set(expected)
    assert {key: getattr(one, key) for key in names} == {key: expected[key] for key in names}
    assert f"{one.serial:08x}" == expected["serial"]


def test_the_identity_is_the_serial_number_of_its_vendor() -> None:
    one = found(BY_ID["ethernet-ip-02"])
    assert one.claims == {Claim("serial", "enip.1", "00524d8e")}
    assert one.key == "1 00524d8e"
    assert dict(one.attributes) == {
        "model": "1756-ENBT/A",
        "serial": "00524d8e",
        "enip.vendor-id": "1",
        "enip.device-type": "12",
        "enip.product-code": "58",
        "enip.revision": "4.3",
    }
    assert (one.label, one.port, one.is_behind) == ("1756-ENBT/A", 44818, False)


@pytest.mark.parametrize("serial", [0, 0x006C061A, 0xFFFFFFFF, 0x12345678])
def test_a_serial_number_that_many_show_identifies_nothing(serial: int) -> None:
    one = found(answer(b"\1\0" + identity(serial=serial)))
    assert not one.claims
    assert one.key == f"{SENDER} 5.12.58"
    assert "serial" not in one.attributes


def test_the_question_is_the_one_of_a_scanner_with_a_context_of_ours() -> None:
    captured = BY_ID["ethernet-ip-01"]
    ours = list_identity(TOKEN, 0.5)
    assert (ours[:12], ours[20:]) == (captured[:12], captured[20:])
    assert token_of(ours) == b"\xf4\x01" + TOKEN[2:]  # 500 ms
    assert token_of(list_identity(TOKEN, 2.0)) == b"\xd0\x07" + TOKEN[2:]


def test_all_are_asked_by_broadcast_and_one_at_its_address() -> None:
    protocol = EthernetIpProtocol()
    (all_,) = protocol.probes(TOKEN, OWN)
    one, again = protocol.probe_of(SENDER, "1 00524d8e", TOKEN, OWN)
    assert again == replace(one, after=0.5)
    assert (all_.to, all_.port, all_.token) == ("broadcast", 44818, TOKEN)
    assert (one.to, one.port, one.token) == (SENDER, 44818, TOKEN)
    assert len(all_.payload) == len(one.payload) == HEADER


def test_an_item_that_says_it_is_shorter_is_read_to_the_end_of_the_message() -> None:
    whole = bytearray(answer(b"\1\0" + identity(b"PowerFlex 753")))
    whole[ITEM - 2 : ITEM] = struct.pack("<H", 40)
    assert parse_identity(bytes(whole), [TOKEN]).product == "PowerFlex 753"


@pytest.mark.parametrize("missing", [1, 2, 7])
def test_what_is_missing_of_the_name_is_no_fault(missing: int) -> None:
    whole = answer(b"\1\0" + identity(b"Widget"))
    cut = parse_identity(whole[:-missing], [TOKEN])
    assert cut.product == b"Widget"[: 7 - missing].decode()
    assert cut.serial == 0x00524D8E


def test_other_items_may_come_first() -> None:
    other = struct.pack("<HH", 0x0086, 6) + b"\0" * 6
    assert parse_identity(answer(b"\2\0" + other + identity()), [TOKEN]).product == "Widget"


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (b"", "truncated"),
        (answer(b"")[:-1], "truncated"),
        (answer(b""), "truncated"),
        (answer(b"\1\0"), "truncated"),
        (answer(b"\0\0" + identity()), "no-identity"),
        (answer(b"\xff\xff" + struct.pack("<HH", 1, 0) * 500), "no-identity"),
        (answer(b"\1\0" + identity()[:36]), "truncated"),
        (answer(b"\1\0" + identity(), command=0x65), "foreign-message"),
        (answer(b"\1\0" + identity(), status=1), "foreign-message"),
        (answer(b"\1\0" + identity(), token=b"01234567"), "unasked"),
        (list_identity(TOKEN, 0.5), "truncated"),
    ],
)
def test_what_is_no_answer_is_refused(message: bytes, cause: str) -> None:
    with pytest.raises(UnreadableAnswer) as refused:
        parse_identity(message, [TOKEN])
    assert refused.value.cause == cause


def test_hostile_names_are_escaped_or_left_out() -> None:
    evil = found(answer(b"\1\0" + identity(b"\x1b[31mPLC\x9f\n")))
    assert evil.attributes["model"] == r"\x1b[31mPLC\x9f\n"
    assert "model" not in found(answer(b"\1\0" + identity(b"\x01" * 255))).attributes


def test_by_tcp_no_more_is_read_than_an_identity_can_have() -> None:
    assert body_size(BY_ID["ethernet-ip-02"][:HEADER]) == len(BY_ID["ethernet-ip-02"]) - HEADER
    with pytest.raises(UnreadableAnswer, match="oversized"):
        body_size(struct.pack("<HHII8sI", 0x63, LONGEST, 0, 0, TOKEN, 0))


@given(st.binary(max_size=200), st.sampled_from(ANSWERS), st.integers(0, 90))
def test_no_message_does_more_than_be_refused(
    junk: bytes, vector: Mapping[str, Any], at: int
) -> None:
    seed = bytes.fromhex(vector["hex"])
    for message in (junk, seed[:at] + junk, seed[:at] + junk + seed[at + len(junk) :]):
        try:
            one = found(message)
        except UnreadableAnswer:
            continue
        assert_reportable(one)


@given(
    st.builds(
        CipIdentity,
        vendor_id=st.integers(0, 0xFFFF),
        device_type=st.integers(0, 0xFFFF),
        product_code=st.integers(0, 0xFFFF),
        revision=st.tuples(st.integers(0, 255), st.integers(0, 255)).map("{0[0]}.{0[1]}".format),
        serial=st.integers(0, 0xFFFFFFFF),
        product=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=32),
    )
)
def test_pycomm3_reads_the_same(one: CipIdentity) -> None:
    major, minor = map(int, one.revision.split("."))
    about = struct.pack(
        "<H16xHHHBBHIB", 1, one.vendor_id, one.device_type, one.product_code, major, minor, 0,
        one.serial, len(one.product),
    ) + one.product.encode() + b"\3"  # fmt: skip
    message = answer(b"\1\0" + struct.pack("<HH", 0x0C, len(about)) + about)
    assert parse_identity(message, [TOKEN]) == one
    theirs = ListIdentityObject.decode(message[HEADER + 2 :])
    assert theirs["serial"] == f"{one.serial:08x}"
    assert (theirs["product_code"], theirs["product_name"]) == (one.product_code, one.product)
    assert theirs["revision"] == {"major": major, "minor": minor}
