"""SNMP and its encoding: captured answers, and hostile ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.device.identity import Claim
from gatewayd.discovery.probing.protocol import UnreadableAnswer
from gatewayd.discovery.protocols.snmp import ber, identity
from gatewayd.discovery.protocols.snmp.ber import ObjectName
from gatewayd.discovery.protocols.snmp.identity import (
    DESCRIPTION,
    DETAILS,
    MACS,
    MAKER,
    MODEL,
    NAME,
    OBJECT_ID,
    PRINTER_SERIAL,
    SERIAL,
    SYSTEM,
    UPS_MAKER,
    UPS_MODEL,
    found_agent,
)
from gatewayd.discovery.protocols.snmp.messages import (
    MAX_DATAGRAM,
    RESPONSE,
    SnmpVersion,
    Value,
    get_request,
    read_answer,
)

VECTORS = json.loads((Path(__file__).parent / "vectors/snmp.json").read_text())
NUMBERS = {"snmp-01": 0x26, "snmp-03": 0x09584E45}
"""The numbers of the questions that were captured."""
NAMES = st.lists(st.integers(0, ber.MAX_NUMBER), min_size=1, max_size=20).map(
    lambda rest: (1, 3, *rest)
)


def answer(
    values: Mapping[ObjectName, bytes], *, number: int = 5, version: int = 1, status: int = 0
) -> bytes:
    """Return an answer.  values: elements by name."""
    pairs = (ber.element(0x30, ber.object_name(k) + v) for k, v in values.items())
    bindings = ber.element(0x30, b"".join(pairs))
    head = b"".join(map(ber.integer, (number, status, 0)))
    pdu = ber.element(RESPONSE, head + bindings)
    whole = ber.integer(version) + ber.element(4, b"public") + pdu
    return ber.element(0x30, whole)


def octets(raw: bytes) -> bytes:
    return ber.element(ber.OCTETS, raw)


@pytest.mark.parametrize("one", VECTORS, ids=lambda one: one["id"])
def test_a_captured_answer_is_read(one: dict[str, Any]) -> None:
    expected, raw = one["expect"], bytes.fromhex(one["hex"])
    name = tuple(map(int, expected["oid"].split(".")))
    read = read_answer(raw, SnmpVersion(expected["version"]), NUMBERS[one["id"]], [name])
    value = read.values[name]
    shown = value.decode() if isinstance(value, bytes) else ".".join(map(str, value))  # type: ignore[arg-type]  # a name
    assert (read.status, shown) == (0, expected["value"])
    assert identity.enterprise(read.values) == expected.get("enterprise")


def test_a_question_is_read_by_its_own_rules() -> None:
    request = get_request(SnmpVersion.V2C, b"public", 5, [NAME])
    assert request.hex() == (
        "302602010104067075626c6963a019020105020100020100"
        "300e300c06082b060102010105000500"
    )  # fmt: skip


@given(st.integers(-(1 << 63), (1 << 64) - 1))
def test_an_integer_is_read_as_it_was_written(number: int) -> None:
    (content,) = ber.read_sequence(ber.integer(number), ber.INTEGER)
    assert ber.read_integer(content) == number


@given(NAMES)
def test_a_name_is_read_as_it_was_written(name: ObjectName) -> None:
    (content,) = ber.read_sequence(ber.object_name(name), ber.OBJECT)
    assert ber.read_object_name(content) == name


@given(st.sampled_from([0, 1, 2]), st.integers(0, 39))
def test_the_first_two_numbers_are_one(first: int, second: int) -> None:
    (content,) = ber.read_sequence(ber.object_name((first, second)), ber.OBJECT)
    assert ber.read_object_name(content) == (first, second)


@pytest.mark.parametrize("size", [0, 127, 128, 255, 256, 65_535])
def test_a_length_has_one_to_three_bytes(size: int) -> None:
    assert ber.read_elements(ber.element(4, bytes(size))) == [(4, bytes(size))]


@pytest.mark.parametrize(
    "content",
    [
        "", "2b86", "2b" + "80" * 5 + "01", "2b" + "ff" * 5 + "7f", "2b9080808000",
        "2b" + "01" * 128, "90808080ffff7f",
    ],
)  # fmt: skip
def test_a_name_that_is_too_long_is_refused(content: str) -> None:
    with pytest.raises(UnreadableAnswer):
        ber.read_object_name(bytes.fromhex(content))


@pytest.mark.parametrize(
    ("raw", "cause"),
    [
        ("30", "garbled"),
        ("3003020101aa", "garbled"),
        ("3080", "garbled"),
        ("30830000020500", "garbled"),
        ("308200", "garbled"),
        ("04020500", "garbled"),
        ("3000", "garbled"),
        ("3000" * 65, "endless"),
        ("00" * (MAX_DATAGRAM + 1), "endless"),
    ],
)
def test_a_bad_message_is_refused(raw: str, cause: str) -> None:
    with pytest.raises(UnreadableAnswer) as caught:
        read_answer(bytes.fromhex(raw), SnmpVersion.V2C, 5, SYSTEM)
    assert caught.value.cause == cause


def test_what_was_not_asked_for_does_not_count() -> None:
    raw = answer({NAME: octets(b"switch"), MODEL: octets(b"X1")})
    assert read_answer(raw, SnmpVersion.V2C, 5, [NAME]).values == {NAME: b"switch"}
    for version, number in ((SnmpVersion.V2C, 6), (SnmpVersion.V1, 5)):
        with pytest.raises(UnreadableAnswer):
            read_answer(raw, version, number, [NAME])


@pytest.mark.parametrize("tag", [0x80, 0x81, 0x82, ber.NULL])
def test_an_object_that_is_not_there_has_no_value(tag: int) -> None:
    raw = answer({SERIAL: ber.element(tag, b""), MODEL: octets(b"X1")})
    assert read_answer(raw, SnmpVersion.V2C, 5, DETAILS).values == {MODEL: b"X1"}


def test_an_error_is_of_the_whole_answer() -> None:
    raw = answer({SERIAL: ber.element(ber.NULL, b"")}, version=0, status=2)
    read = read_answer(raw, SnmpVersion.V1, 5, [SERIAL])
    assert (read.status, read.values) == (2, {})


@given(st.binary(max_size=200))
def test_no_message_is_more_than_refused(raw: bytes) -> None:
    message = ber.integer(1) + octets(b"public") + ber.element(RESPONSE, raw)
    bindings = b"".join(map(ber.integer, (5, 0, 0))) + ber.element(0x30, raw)
    inner = ber.integer(1) + octets(b"public") + ber.element(RESPONSE, bindings)
    for datagram in (raw, ber.element(0x30, message), ber.element(0x30, inner)):
        try:
            read = read_answer(datagram, SnmpVersion.V2C, 5, SYSTEM)
        except UnreadableAnswer:
            continue
        assert set(read.values) <= set(SYSTEM)


CISCO = (1, 3, 6, 1, 4, 1, 9, 1, 1)
SWITCH: dict[ObjectName, Value] = {
    DESCRIPTION: b"Demo IOS Software\r\nTechnical Support: none\r\n", OBJECT_ID: CISCO,
    NAME: b"switch-7", SERIAL: b"FOC1234X56Y", MODEL: b"WS-1", MAKER: b"Demo",
    MACS[0]: bytes.fromhex("001b0d6384c0"), MACS[1]: b"",
}  # fmt: skip


def test_an_agent_is_a_device() -> None:
    made = found_agent("10.0.0.7", SWITCH, "2c", 161)
    assert made.claims == {
        Claim("serial", "snmp.9", "foc1234x56y"), Claim("mac", "snmp", "001b0d6384c0"),
    }  # fmt: skip
    assert made.attributes == {
        "snmp.version": "2c", "snmp.descr": "Demo IOS Software", "snmp.name": "switch-7",
        "snmp.object-id": "1.3.6.1.4.1.9.1.1", "snmp.enterprise": "9", "vendor": "Demo",
        "model": "WS-1", "serial": "FOC1234X56Y",
    }  # fmt: skip
    assert (made.label, made.is_behind) == ("switch-7", False)


def test_a_printer_and_a_ups_have_objects_of_their_own() -> None:
    printer = found_agent("a", {OBJECT_ID: CISCO, PRINTER_SERIAL: b"PR0042"}, "1", 161)
    assert printer.claims == {Claim("serial", "snmp.9", "pr0042")}
    ups = found_agent("a", {UPS_MAKER: b"Acme", UPS_MODEL: b"U 1500"}, "1", 161)
    assert (ups.attributes["vendor"], ups.attributes["model"]) == ("Acme", "U 1500")
    assert ups.label == "U 1500"


def test_a_serial_number_of_no_known_enterprise_is_of_all() -> None:
    made = found_agent("a", {OBJECT_ID: (1, 3, 6, 1, 4, 1), SERIAL: b"A-77"}, "1", 161)
    assert made.claims == {Claim("serial", "snmp", "a-77")}


@given(st.dictionaries(st.sampled_from([*SYSTEM, *DETAILS]), st.binary(max_size=300)))
def test_no_value_makes_what_does_not_print(values: dict[ObjectName, Value]) -> None:
    made = found_agent("a", values, "2c", 161)
    assert all(value.isprintable() for value in made.attributes.values())
    assert all(one.value.isprintable() for one in made.claims)
