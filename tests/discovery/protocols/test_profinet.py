"""PROFINET's DCP: captured frames, hostile ones, and what scapy makes of the same."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import scapy.contrib.pnio  # noqa: F401  # Ether knows these frames from then on
from hypothesis import given
from hypothesis import strategies as st
from scapy.contrib.pnio_dcp import ProfinetDCP
from scapy.layers.l2 import Ether

from gatewayd.device.identity import Claim
from gatewayd.discovery.probing.protocol import UnreadableAnswer
from gatewayd.discovery.protocols.profinet import MAX_BLOCKS, read_answer
from gatewayd.discovery.raw_link.frames import answer_of, identify_all
from tests.support.reportable import assert_reportable

VECTORS = json.loads((Path(__file__).parent / "vectors/profinet.json").read_text())
ANSWERS = [one for one in VECTORS if "vendor_value" in one["expect"]]
ROLES = {1: "device", 2: "controller"}
TAGGED = b"\x81\x00"


def untagged(frame: bytes) -> bytes:
    """Return a frame as the kernel passes it on: without the tag of 802.1Q."""
    return frame[:12] + frame[16:] if frame[12:14] == TAGGED else frame


def frame_of(vector: Mapping[str, Any]) -> bytes:
    return untagged(bytes.fromhex(vector["hex"]))


@pytest.mark.parametrize("vector", ANSWERS, ids=lambda one: one["id"])
def test_an_answer_shows_the_device(vector: Mapping[str, Any]) -> None:
    expected = vector["expect"]
    found = read_answer(frame_of(vector))
    assert found.key == expected["mac"]
    assert found.claims == {Claim("mac", "profinet", expected["mac"])}
    shown = {
        "profinet.mac": expected["mac"],
        "profinet.name": expected["name"],
        "profinet.vendor-id": f"{expected['vendor_id']:04x}",
        "profinet.device-id": f"{expected['device_id']:04x}",
        "profinet.role": ROLES[expected["role"]],
        "profinet.address": expected["ip"],
        "model": expected["vendor_value"],
    }
    if expected.get("name_refused"):
        del shown["profinet.name"]
    assert found.attributes == shown
    assert found.label == shown.get("profinet.name", expected["vendor_value"])


def test_requests_are_no_answers() -> None:
    requests = [one for one in VECTORS if one["expect"].get("kind") == "identify-request"]
    assert len(requests) == 2
    for one in requests:
        with pytest.raises(UnreadableAnswer, match="not-an-answer"):
            read_answer(frame_of(one))


def test_the_question_is_the_captured_one_and_what_scapy_reads() -> None:
    (captured,) = (one for one in VECTORS if one["expect"].get("option") == "all")
    expected = bytes.fromhex(captured["hex"])
    made = identify_all(expected[6:12], captured["expect"]["xid"])
    # another number of moments in which to answer
    assert made[:22] + expected[22:24] + made[24:] == expected.ljust(60, b"\0")
    read = Ether(made)[ProfinetDCP]
    assert (read.service_id, read.service_type, read.option) == (5, 0, 0xFF)
    assert (read.xid, read.reserved) == (captured["expect"]["xid"], 0x80)


def answer(*blocks: bytes, mac: str = "000e8c010203") -> bytes:
    """Return an answer with blocks."""
    data = b"".join(blocks)
    head = struct.pack("!HHBBIHH", 0x8892, 0xFEFF, 5, 1, 7, 0, len(data))
    return bytes.fromhex("020000000001" + mac) + head + data


def named(name: bytes) -> bytes:
    """Return the block of a name, padded to an even length."""
    block = struct.pack("!BBHH", 2, 2, 2 + len(name), 0) + name
    return block + b"\0" * (len(block) % 2)


@pytest.mark.parametrize("vector", ANSWERS, ids=lambda one: one["id"])
def test_an_answer_is_read_as_scapy_reads_it(vector: Mapping[str, Any]) -> None:
    frame = frame_of(vector)
    blocks = {type(one).__name__: one for one in Ether(frame)[ProfinetDCP].dcp_blocks}
    shown = read_answer(frame).attributes
    identity, suite = blocks["DCPDeviceIDBlock"], blocks["DCPIPBlock"]
    assert int(shown["profinet.vendor-id"], 16) == identity.vendor_id
    assert int(shown["profinet.device-id"], 16) == identity.device_id
    assert shown["profinet.address"] == suite.ip
    assert shown["model"].encode() == blocks["DCPManufacturerSpecificBlock"].device_vendor_value
    if not vector["expect"].get("name_refused"):
        name = blocks["DCPNameOfStationBlock"].name_of_station
        assert shown["profinet.name"].encode() == name


def typed(text: bytes) -> bytes:
    """Return the block of a type of station."""
    return b"\2\1" + named(text)[2:]


@pytest.mark.parametrize("name", [b"", b"%n%n", b"a\0", b"-a", b"a" * 241, b"a b", b"\xff", b"a\n"])
def test_what_is_no_name_of_a_station_is_not_shown(name: bytes) -> None:
    found = read_answer(answer(named(name)))
    assert "profinet.name" not in found.attributes
    assert found.label == "PROFINET device 000e8c010203"


@pytest.mark.parametrize("suite", [b"", bytes(12), b"\x0a\0\0"])
def test_one_without_an_address_has_none(suite: bytes) -> None:
    block = struct.pack("!BBHH", 1, 2, 2 + len(suite), 0) + suite
    assert (
        "profinet.address" not in read_answer(answer(block + b"\0" * (len(block) % 2))).attributes
    )


@pytest.mark.parametrize(
    ("frame", "cause"),
    [
        (b"", "not-an-answer"),
        (answer()[:-1], "not-an-answer"),
        (answer(mac="010ecf000000"), "bad-mac"),  # a group
        (answer(mac="000000000000"), "bad-mac"),
        (answer(b"\x02\x02\x00"), "truncated"),
        (answer(b"\x02\x02\xff\xff"), "truncated"),
    ],
)
def test_what_is_no_answer_is_refused_with_a_cause(frame: bytes, cause: str) -> None:
    with pytest.raises(UnreadableAnswer) as refused:
        read_answer(frame)
    assert refused.value.cause == cause


def test_no_more_blocks_are_read_than_devices_send() -> None:
    empty = struct.pack("!BBH", 3, 12, 0)
    found = read_answer(answer(*[empty] * MAX_BLOCKS, named(b"late")))
    assert "profinet.name" not in found.attributes


def test_padding_behind_the_data_is_not_read() -> None:
    assert answer_of(answer(named(b"plc")).ljust(60, b"\0")) == (7, named(b"plc"))


@given(st.binary(max_size=300))
def test_nothing_but_a_refusal_comes_of_any_bytes(data: bytes) -> None:
    for frame in (data, answer(data), answer(named(data[:250])), answer(typed(data[:250]))):
        with suppress(UnreadableAnswer):
            assert_reportable(read_answer(frame))
