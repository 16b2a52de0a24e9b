"""KNXnet/IP: captured answers, hostile ones, and what xknx reads and writes of the same."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xknx.knxip import (
    HPAI,
    DescriptionRequest,
    KNXIPFrame,
    SearchRequest,
    SearchRequestExtended,
    SearchResponse,
)
from xknx.knxip.dib import DIBDeviceInformation, DIBSuppSVCFamilies

from gatewayd.device.identity import Claim
from gatewayd.discovery.probing.protocol import Datagram, Found, Own, UnreadableAnswer
from gatewayd.discovery.protocols.knx.discoverer import KnxProtocol
from gatewayd.discovery.protocols.knx.messages import (
    GROUP,
    PORT,
    description_request,
    parse_answer,
    search_requests,
)
from tests.support.reportable import assert_reportable

VECTORS = json.loads((Path(__file__).parent / "vectors/knx.json").read_text())
BY_ID = {one["id"]: bytes.fromhex(one["hex"]) for one in VECTORS}
ANSWERS = [one for one in VECTORS if "mac" in one["expect"]]
OWN = Own("10.0.0.1", 40000)
SENDER = "10.0.0.2"


def found(message: bytes, sender: str = SENDER) -> Found:
    (one,) = KnxProtocol().read(Datagram(message, sender, PORT))
    assert isinstance(one, Found)
    return one


def about(serial: str = "00a615000037", mac: str = "0022d1040037", name: bytes = b"Hall") -> bytes:
    """Return the block about a device."""
    return struct.pack(
        "!BBBBHH6s4s6s30s", 54, 1, 2, 0, 0x4000, 0, bytes.fromhex(serial), b"\xe0\0\x17\x0c",
        bytes.fromhex(mac), name,
    )  # fmt: skip


def answer(*blocks: bytes, service: int = 0x0204, size: int | None = None) -> bytes:
    body = b"".join(blocks)
    return struct.pack("!BBHH", 6, 0x10, service, 6 + len(body) if size is None else size) + body


@pytest.mark.parametrize("vector", ANSWERS, ids=lambda one: one["id"])
def test_a_captured_answer_shows_what_it_should(vector: Mapping[str, Any]) -> None:
    message, expected = bytes.fromhex(vector["hex"]), vector["expect"]
    one = found(message, expected["address"])
    claims = {(c.kind, c.value) for c in one.claims}
    assert claims == {
        (kind, expected[kind]) for kind in ("serial", "mac") if expected[kind] is not None
    }
    assert one.key == (expected["serial"] or expected["mac"])
    assert one.attributes["knx.name"] == one.label == expected["name"].strip()
    assert one.attributes["knx.mac"] == expected["mac"]
    assert one.port == expected.get("port", PORT)
    for key in ("medium", "individual_address"):
        if key in expected:
            assert one.attributes[f"knx.{key.replace('_', '-')}"] == expected[key]
    services = one.attributes["knx.services"].split()
    for service in ("routing", "tunnelling"):
        assert (service in services) == expected.get(service, True)


def test_the_serial_number_of_every_knxd_identifies_nothing() -> None:
    one = found(BY_ID["knxnet-ip-07"])
    assert one.claims == {Claim("mac", "knx", "ee2a32e7aac2")}
    assert "serial" not in one.attributes


def test_a_device_without_identity_goes_by_its_address() -> None:
    one = found(answer(about("000000000000", "000000000000")))
    assert not one.claims
    assert one.key == SENDER


def test_a_device_answers_a_search_and_a_description_under_one_key() -> None:
    families = bytes((10, 2, 2, 1, 3, 1, 4, 1, 5, 1))
    endpoint = struct.pack("!BB4sH", 8, 1, bytes((10, 0, 0, 2)), 3671)
    extended = bytes((6, 2, 9, 1, 4, 2))
    one, other, third = (
        found(answer(endpoint, about(), families, service=0x0202)),
        found(answer(about(), families)),
        found(answer(endpoint, about(), extended, families, service=0x020C)),
    )
    assert one == other == third


def test_what_an_answer_says_of_its_address_does_not_count() -> None:
    endpoint = struct.pack("!BB4sH", 8, 1, bytes((192, 0, 2, 9)), 40001)
    one = found(answer(endpoint, about(), service=0x0202))
    assert "192.0.2.9" not in str(one)
    assert one.port == 40001
    assert (
        found(answer(struct.pack("!BB4sH", 8, 1, b"\0" * 4, 0), about(), service=0x0202)).port
        == PORT
    )


def test_the_questions_are_those_that_xknx_makes() -> None:
    endpoint = HPAI(OWN.address, OWN.port)
    theirs = [
        KNXIPFrame.init_from_body(one(endpoint)).to_knx()
        for one in (SearchRequest, SearchRequestExtended)
    ]
    assert list(search_requests(OWN.address, OWN.port)) == theirs
    described = KNXIPFrame.init_from_body(DescriptionRequest(endpoint)).to_knx()
    assert description_request(OWN.address, OWN.port) == described
    assert BY_ID["knxnet-ip-08"] == search_requests(GROUP, PORT)[0]


def test_all_are_asked_by_multicast_and_one_at_its_address() -> None:
    protocol = KnxProtocol()
    probes = protocol.probes(b"", OWN)
    assert [(one.to, one.port, one.token) for one in probes] == [(GROUP, PORT, b"")] * 2
    (one,) = protocol.probe_of(SENDER, "00a615000037", b"", OWN)
    assert (one.to, one.port) == (SENDER, PORT)
    assert {p.payload[2:4] for p in (*probes, one)} == {
        b"\2\1",
        b"\2\x0b",
        b"\2\3",
    }  # no connection


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (b"", "truncated"),
        (b"\6\x10\2", "truncated"),
        (b"\6\x20" + answer(about())[2:], "no-knx"),
        (answer(about(), service=0x0201), "foreign-message"),
        (answer(about(), service=0x0206), "foreign-message"),
        (answer(b"", service=0x0202), "truncated"),
        (answer(b""), "truncated"),
        (answer(b"\0\1" + about()[2:]), "truncated"),
        (answer(b"\1\1" + about()), "truncated"),
        (answer(about()[:-1]), "truncated"),
        (answer(about(), size=20), "truncated"),
        (answer(*[b"\2\x55"] * 100, about()), "truncated"),
    ],
)
def test_what_is_no_answer_is_refused(message: bytes, cause: str) -> None:
    with pytest.raises(UnreadableAnswer) as refused:
        parse_answer(message)
    assert refused.value.cause == cause


def test_unknown_blocks_are_skipped_and_a_bad_one_ends_the_message() -> None:
    unknown, bad = b"\4\xfe\0\x83", b"\xff\2\4\1"
    one = parse_answer(answer(unknown, about(), bad))
    assert (one.serial, one.services) == ("00a615000037", ())


def test_hostile_names_are_escaped() -> None:
    evil = found(answer(about(name=b"\x1b]0;x\x07" + b"\x9f" * 24)))
    assert evil.attributes["knx.name"] == r"\x1b]0;x\x07" + r"\x9f" * 24
    assert found(answer(about(name=b"\0Hall"))).label == "KNX device 4.0.0"


@given(st.binary(max_size=120), st.sampled_from(ANSWERS), st.integers(0, 90))
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
    st.binary(min_size=6, max_size=6), st.binary(min_size=6, max_size=6), st.integers(0, 0xFFFF),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=30),
)  # fmt: skip
def test_xknx_reads_the_same(serial: bytes, mac: bytes, individual: int, name: str) -> None:
    block = bytearray(about(serial.hex(), mac.hex(), name.encode()))
    block[4:6] = individual.to_bytes(2, "big")
    endpoint = struct.pack("!BB4sH", 8, 1, bytes((10, 0, 0, 2)), 3671)
    message = answer(endpoint, bytes(block), bytes((6, 2, 4, 1, 5, 1)), service=0x0202)
    one = parse_answer(message)
    frame, _ = KNXIPFrame.from_knx(message)
    assert isinstance(frame.body, SearchResponse)
    device, families = frame.body.dibs
    assert isinstance(device, DIBDeviceInformation)
    assert isinstance(families, DIBSuppSVCFamilies)
    assert one.serial == device.serial_number.replace(":", "").lower()
    assert one.mac == device.mac_address.replace(":", "").lower()
    assert one.individual_address == str(device.individual_address)
    assert one.name == device.name
    assert [family.name.name for family in families.families] == ["TUNNELING", "ROUTING"]
    assert one.services == ("tunnelling", "routing")
