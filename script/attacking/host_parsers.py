"""Parsers of what listed hosts answer when they are asked: Modbus, SNMP, OPC UA, and the kernel."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

from gatewayd.discovery.kernel import routes
from gatewayd.discovery.probing.protocol import UnreadableAnswer
from gatewayd.discovery.protocols.modbus import messages as modbus
from gatewayd.discovery.protocols.modbus.identity import (
    SUNSPEC_REGISTERS,
    ModbusFacts,
    digits,
    found_unit,
    read_sunspec,
    text,
)
from gatewayd.discovery.protocols.opc_ua import messages as opc_ua
from gatewayd.discovery.protocols.opc_ua.identity import found_server, ports_of
from gatewayd.discovery.protocols.opc_ua.messages import UaChannel
from gatewayd.discovery.protocols.snmp import messages as snmp
from gatewayd.discovery.protocols.snmp.identity import DESCRIPTION, DETAILS, OBJECT_ID, found_agent
from gatewayd.discovery.protocols.snmp.messages import SnmpVersion
from script.attacking.fuzzer import Parser

VECTORS = Path(__file__).parents[2] / "tests/discovery/protocols/vectors"
HOST = "10.77.0.2"
NUMBER = 0x26
"""Of the question that a captured agent answers."""
CHANNEL = UaChannel(6, 14)
"""Of the captured server."""


def host_parsers() -> Iterator[Parser]:
    """Yield all of them."""
    yield from _of_modbus()
    yield from _of_snmp()
    yield from _of_opc_ua()
    yield Parser(
        "route of the kernel", lambda data: routes.outgoing(data, 1),
        [struct.pack("=IHHII", 36, routes.NEW_ROUTE, 0, 1, 0) + bytes(12) + b"\x08\0\4\0\2\0\0\0"],
        (), (b"\x08\0\4\0", b"\x18\0\0\0\x02\0"),
    )  # fmt: skip


def _captured(name: str) -> dict[str, bytes]:
    vectors = json.loads((VECTORS / f"{name}.json").read_text())
    return {one["id"]: bytes.fromhex(one["hex"]) for one in vectors}


def _of_modbus() -> Iterator[Parser]:
    found = _captured("modbus")
    frames = [found[f"modbus-tcp-0{number}"] for number in (2, 3, 4)]
    yield Parser(
        "answer of a Modbus unit", _modbus, frames, (UnreadableAnswer,),
        (b"\x2b\x0e", b"\xff", b"\xab\x0b", b"\x83\x02", b"\x81\x07PM-0042"),
    )  # fmt: skip
    yield Parser(
        "registers of a Modbus unit", _registers,
        [b"SunS\0\1\0\x41" + found["sunspec-01"], b"\0\1\0\2", b"PM42\0"],
        (), (b"SunS", b"\0\1\0\x42", b"\xff\xff", b"\0" * 32),
    )  # fmt: skip


def _modbus(data: bytes) -> object:
    header = modbus.read_header(data[: modbus.HEADER])
    modbus.check_header(header, header.transaction, header.unit)
    answer = modbus.read_identification(data[modbus.HEADER :], data[0])
    if isinstance(answer, modbus.ModbusException):
        return answer
    facts = ModbusFacts(answer.objects, text(answer.objects.get(0x81, b"")))
    return found_unit("k", header.unit, facts, modbus.PORT, is_behind=bool(data[0] & 1))


def _registers(data: bytes) -> object:
    raw = data[: 2 * SUNSPEC_REGISTERS]
    facts = ModbusFacts({}, text(raw) or digits(raw), read_sunspec(raw))
    return found_unit("k", 1, facts, modbus.PORT, is_behind=False)


def _of_snmp() -> Iterator[Parser]:
    found = _captured("snmp")
    yield Parser(
        "answer of an SNMP agent", _snmp, list(found.values()), (UnreadableAnswer,),
        (b"\x30\x82", b"\x06\x08\x2b\x06\x01\x02\x01\x01\x02\0", b"\x04\x82\xff\xff", b"\x80\0",
         b"\x9f\xff\xff\xff\x7f", b"\xa2\x81", b"\x02\x09"),
    )  # fmt: skip


def _snmp(data: bytes) -> object:
    names = (DESCRIPTION, OBJECT_ID, *DETAILS)
    version = SnmpVersion(data[5] % 2) if len(data) > 5 else SnmpVersion.V1
    answer = snmp.read_answer(data, version, NUMBER, names)
    return found_agent("k", answer.values, "1", snmp.PORT)


def _of_opc_ua() -> Iterator[Parser]:
    captured = _captured("opc_ua")
    whole = captured["opc-ua-01"]
    message = whole[opc_ua.HEADER + 16 :]
    words = (b"\xff\xff\xff\xff", b"\x01\0\xaf\x01", b"\0\0\0\x80", b"opc.tcp://[", b"\x30\x82",
             b"\x03\0\0\0", b"\1\0\0\0")  # fmt: skip
    yield Parser(
        "chunk of OPC UA", _chunk, [whole, captured["opc-ua-02"], *_greetings()],
        (UnreadableAnswer,),
        (*words, b"MSGC", b"ERRF", b"OPNF", b"ACKF"),
    )  # fmt: skip
    yield Parser("endpoints of OPC UA", _endpoints, [message], (UnreadableAnswer,), words)
    header, server = message[4:28], message[78:300]
    yield Parser(
        "servers of OPC UA", _servers,
        [b"\1\0\xa9\1" + header + b"\1\0\0\0" + server, b"\1\0\xa9\1" + header + b"\0\0\0\0"],
        (UnreadableAnswer,), words,
    )  # fmt: skip


def _greetings() -> Iterator[bytes]:
    """Yield what a server answers before it is asked for anything (OPC UA 10000-6, 6.7 and 7.1)."""
    yield b"ACKF" + struct.pack("<6I", 28, 0, 65535, 65535, 65535, 5)
    head = struct.pack("<IiiiII", 6, -1, -1, -1, 1, 1)
    response = (
        b"\1\0\xc1\1" + struct.pack("<qII", 0, 1, 0) + b"\0" + struct.pack("<i", 0) + b"\0\0\0"
    )
    body = head + response + struct.pack("<IIIqI", 0, 6, 14, 0, 60_000)
    yield b"OPNF" + struct.pack("<I", opc_ua.HEADER + len(body)) + body


def _chunk(data: bytes) -> object:
    header = opc_ua.read_header(data[: opc_ua.HEADER])
    body = data[opc_ua.HEADER :]
    if header.kind == b"OPN":
        return opc_ua.read_channel(header, body)
    if header.kind in (b"ACK", b"ERR"):
        opc_ua.read_hello_answer(header, body)
        return header
    return opc_ua.MessageReader(CHANNEL, 2).add(header, body)


def _endpoints(data: bytes) -> object:
    return found_server("k", opc_ua.PORT, opc_ua.read_endpoints(data))


def _servers(data: bytes) -> object:
    return list(ports_of(opc_ua.read_servers(data), HOST))
