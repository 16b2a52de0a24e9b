"""Modbus: captured answers, hostile ones, and what pymodbus writes of the same."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.pdu.mei_message import ReadDeviceInformationResponse

from gatewayd.device.identity import Claim
from gatewayd.discovery.probing.protocol import UnreadableAnswer
from gatewayd.discovery.protocols.modbus.identity import (
    SUNSPEC_REGISTERS,
    ModbusFacts,
    digits,
    found_unit,
    namespace,
    read_sunspec,
    text,
)
from gatewayd.discovery.protocols.modbus.messages import (
    HEADER,
    IdCode,
    Identification,
    ModbusException,
    ModbusHeader,
    check_header,
    identification_request,
    read_header,
    read_identification,
    read_registers,
    registers_request,
)

VECTORS = json.loads((Path(__file__).parent / "vectors/modbus.json").read_text())
BY_ID = {one["id"]: one for one in VECTORS}
NAMES = {
    "vendor": "modbus.vendor", "product": "modbus.product-code", "revision": "modbus.revision",
    "url": "modbus.url", "product_name": "modbus.product", "model": "modbus.model",
}  # fmt: skip


def pdu_of(one: dict[str, Any]) -> bytes:
    """Return the PDU of a vector, of which some have the header before it."""
    raw = bytes.fromhex(one["hex"])
    return raw if raw[0] == 0x2B else raw[HEADER:]


def found(facts: ModbusFacts, *, unit: int = 1, is_behind: bool = False) -> Any:
    return found_unit(f"10.0.0.7/{unit}", unit, facts, 502, is_behind=is_behind)


@pytest.mark.parametrize(
    "one", [one for one in VECTORS if "conformity" in one["expect"]], ids=lambda one: one["id"]
)
def test_a_captured_identification_is_read(one: dict[str, Any]) -> None:
    expected = one["expect"]
    answer = read_identification(pdu_of(one), 0)
    assert isinstance(answer, Identification)
    assert answer.level == expected["conformity"] & 0x7F
    assert answer.has_single is bool(expected["conformity"] & 0x80)
    assert answer.following is None
    attributes = found(ModbusFacts(answer.objects)).attributes
    shown = {key: value for key, value in expected.items() if key in NAMES}
    assert {key: attributes[NAMES[key]] for key in shown} == shown
    assert not found(ModbusFacts(answer.objects)).claims


def test_a_server_without_identity_has_answered_all_the_same() -> None:
    answer = read_identification(pdu_of(BY_ID["modbus-tcp-03"]), 0)
    assert answer == Identification(3, has_single=True, following=None, objects={})
    nameless = found(ModbusFacts())
    assert nameless.attributes == {"modbus.unit": "1"}
    assert nameless.label == "Modbus device"


def test_an_exception_is_read_as_one() -> None:
    raw = bytes.fromhex(BY_ID["modbus-tcp-04"]["hex"])
    header = read_header(raw[:HEADER])
    assert header == ModbusHeader(0, 1, 2)
    assert read_identification(raw[HEADER:], 0) == ModbusException(1)


def test_a_question_is_written_as_in_the_field() -> None:
    expected = BY_ID["modbus-tcp-05"]["expect"]
    made = identification_request(1, expected["unit"], IdCode.EXTENDED, expected["object"])
    captured = bytes.fromhex(BY_ID["modbus-tcp-05"]["hex"])  # a byte too long, and not answered
    assert made[HEADER - 1 :] == captured[HEADER - 1 : -1]
    assert made[:HEADER] == bytes.fromhex("0001000000050a")


@pytest.mark.parametrize(
    ("header", "cause"),
    [
        ("0001000000", "garbled"),
        ("00010001000601", "garbled"),
        ("00010000000201", "garbled"),
        ("0001000000ff01", "garbled"),
    ],
)
def test_a_bad_header_is_refused(header: str, cause: str) -> None:
    with pytest.raises(UnreadableAnswer) as caught:
        read_header(bytes.fromhex(header))
    assert caught.value.cause == cause


@pytest.mark.parametrize("header", [ModbusHeader(2, 1, 5), ModbusHeader(1, 2, 5)])
def test_an_answer_to_another_question_or_of_another_unit_is_refused(header: ModbusHeader) -> None:
    check_header(ModbusHeader(1, 1, 5), 1, 1)
    with pytest.raises(UnreadableAnswer):
        check_header(header, 1, 1)


@pytest.mark.parametrize(
    ("pdu", "cause"),
    [
        ("2b0e010000000100", "garbled"),
        ("2b0e0101000002000141", "garbled"),
        ("2b0e01010000010005416c", "garbled"),
        ("2b0d0101000000", "garbled"),
        ("2b0e", "garbled"),
        ("", "garbled"),
        ("ab", "garbled"),
    ],
)
def test_a_bad_identification_is_refused(pdu: str, cause: str) -> None:
    with pytest.raises(UnreadableAnswer) as caught:
        read_identification(bytes.fromhex(pdu), 0)
    assert caught.value.cause == cause


def test_the_rest_of_an_answer_begins_with_a_higher_object() -> None:
    answer = read_identification(bytes.fromhex("2b0e0283ff0302" + "000141" + "020142"), 0)
    assert isinstance(answer, Identification)
    assert (answer.following, answer.objects) == (3, {0: b"A", 2: b"B"})


@pytest.mark.parametrize("pdu", ["2b0e0101ff0001000141", "2b0e0101ff0000", "2b0e0101fe0500"])
def test_what_does_not_go_on_is_the_end(pdu: str) -> None:
    answer = read_identification(bytes.fromhex(pdu), 0)
    assert isinstance(answer, Identification)
    assert answer.following is None


@pytest.mark.parametrize("conformity", [0, 4, 0x7F, 0x80])
def test_a_level_that_there_is_not_is_the_lowest(conformity: int) -> None:
    answer = read_identification(bytes((0x2B, 0x0E, 1, conformity, 0, 0, 0)), 0)
    assert isinstance(answer, Identification)
    assert answer.level == 1


@given(st.binary(max_size=300), st.integers(0, 255))
def test_no_identification_is_more_than_refused(raw: bytes, asked: int) -> None:
    for pdu in (raw, b"\x2b\x0e\x01" + raw):
        try:
            answer = read_identification(pdu, asked)
        except UnreadableAnswer:
            continue
        if isinstance(answer, Identification):
            made = found(ModbusFacts(answer.objects))
            assert all(value.isprintable() for value in made.attributes.values())


@given(
    st.dictionaries(st.integers(0, 6), st.binary(min_size=1, max_size=30), max_size=7),
    st.booleans(),
)
def test_what_pymodbus_writes_is_read(objects: dict[int, bytes], has_more: bool) -> None:
    written = ReadDeviceInformationResponse(read_code=2, information=objects)
    answer = read_identification(b"\x2b" + written.encode(), 0)
    assert isinstance(answer, Identification)
    assert answer.objects == objects


def test_registers_are_read_as_many_as_were_asked_for() -> None:
    assert registers_request(7, 1, 40000, 2).hex() == "000700000006" + "01039c400002"
    assert read_registers(bytes.fromhex("030453756e53"), 2) == b"SunS"
    assert read_registers(bytes.fromhex("8302"), 2) == ModbusException(2)
    for pdu in ("030453756e", "0306" + "00" * 4, "040453756e53", "83", ""):
        with pytest.raises(UnreadableAnswer):
            read_registers(bytes.fromhex(pdu), 2)


def sunspec(block: str, *, mark: bytes = b"SunS", number: int = 1, length: int = 65) -> bytes:
    raw = mark + struct.pack(">HH", number, length) + bytes.fromhex(block)
    return raw[: 2 * SUNSPEC_REGISTERS]


def test_the_common_block_of_sunspec_is_read() -> None:
    vector = BY_ID["sunspec-01"]
    expected = vector["expect"]
    read = read_sunspec(sunspec(vector["hex"]))
    assert read == {
        "vendor": expected["manufacturer"], "model": expected["name"],
        "version": expected["version"], "serial": expected["serial"],
    }  # fmt: skip
    made = found(ModbusFacts(sunspec=read))
    assert made.claims == {Claim("serial", "modbus.acme-solar", "sn-test-0001")}
    assert made.attributes["model"] == "MODEL ZX-3"


@pytest.mark.parametrize("changed", [{"mark": b"Suns"}, {"number": 101}, {"length": 64}])
def test_what_is_not_the_common_block_is_not_read(changed: dict[str, Any]) -> None:
    assert not read_sunspec(sunspec(BY_ID["sunspec-01"]["hex"], **changed))
    assert not read_sunspec(sunspec(BY_ID["sunspec-01"]["hex"])[:-1])


def test_a_serial_number_is_of_its_vendor() -> None:
    made = found(ModbusFacts({0: b"Acme & Co. "}, serial="A-0042"))
    assert made.claims == {Claim("serial", "modbus.acme-co.", "a-0042")}
    assert made.attributes["serial"] == "A-0042"
    assert namespace("") == namespace("\u202e") == "modbus"


@pytest.mark.parametrize("serial", ["00000000", "12345678", "N/A", "A\u202e7", "A\n7", ""])
def test_a_serial_number_that_identifies_nothing_is_no_claim(serial: str) -> None:
    assert not found(ModbusFacts({0: b"Acme"}, serial=serial)).claims


def test_a_unit_behind_a_gateway_is_behind_it() -> None:
    behind = found(ModbusFacts({5: b"M1"}), unit=3, is_behind=True)
    assert behind.is_behind
    assert behind.label == "M1, unit 3"
    assert behind.attributes["modbus.unit"] == "3"


def test_texts_and_numbers_of_registers() -> None:
    assert text(b"AB-12\0\0junk") == "AB-12"
    assert text(b"AB-12   ") == "AB-12"
    assert text(b"\xff\xff") == ""
    assert digits(b"\0\1\0\2") == "65538"
    assert digits(b"\0\0") == digits(b"\xff\xff") == digits(b"") == ""


@given(st.binary(max_size=140))
def test_no_register_makes_an_attribute_that_does_not_print(raw: bytes) -> None:
    facts = ModbusFacts(serial=text(raw), sunspec=read_sunspec(sunspec((raw + bytes(140)).hex())))
    made = found(facts)
    assert all(value.isprintable() for value in made.attributes.values())
    assert all(one.value.isprintable() for one in made.claims)
