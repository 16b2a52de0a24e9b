"""The discoverer of Modbus, against hosts on the loopback interface that answer well and badly."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gatewayd.device.identity import Claim
from gatewayd.discovery.polled.modbus import (
    MAX_ROUNDS,
    Modbus,
    ModbusSettings,
    RegisterFormat,
    SerialRegisters,
)
from gatewayd.discovery.protocols.modbus.messages import HEADER
from gatewayd.errors import ConfigError, DiscoveryRetry
from gatewayd.testing.contracts.discoverer import DiscovererTestbed, running
from gatewayd.testing.waiting import until
from tests.support.listed_hosts import HostsBed, TcpHosts, tcp_hosts
from tests.support.source_contract import SourceContract

pytestmark = pytest.mark.integration

FIRST, SECOND = "127.0.0.2", "127.0.0.3"
PACE = 0.02
"""Seconds between two visits, in tests."""


def identification(
    *objects: tuple[int, bytes], conformity: int = 0x83, more: bool = False, following: int = 0
) -> bytes:
    """Return an answer about a device."""
    listed = b"".join(bytes((number, len(raw))) + raw for number, raw in objects)
    return bytes((0x2B, 0x0E, 1, conformity, 0xFF * more, following, len(objects))) + listed


@dataclass
class ModbusHost:
    """A host.  answers: by unit, PDUs by the beginning of the question; "" is for the rest.

    asked: units and questions so far.
    """

    answers: Mapping[int, Mapping[str, bytes | Sequence[bytes]]]
    asked: list[tuple[int, bytes]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        while head := await reader.read(HEADER):
            transaction, _, length, unit = struct.unpack(">HHHB", head)
            pdu = await reader.readexactly(length - 1)
            self.asked.append((unit, pdu))
            answer = self._answer(unit, pdu)
            if answer:
                writer.write(struct.pack(">HHHB", transaction, 0, len(answer) + 1, unit) + answer)
                await writer.drain()

    def _answer(self, unit: int, pdu: bytes) -> bytes:
        answers = self.answers.get(unit, {})
        key = max((k for k in answers if pdu.hex().startswith(k)), key=len, default=None)
        return b"" if key is None else bytes(answers[key])  # type: ignore[arg-type]  # of bytes


METER = {1: {"2b": identification((0, b"Acme"), (1, b"PM"), (2, b"1.0"), conformity=1)}}


def discoverer(
    hosts: TcpHosts, *addresses: str, make: Callable[..., ModbusSettings] = ModbusSettings,
    **settings: object,
) -> Modbus:  # fmt: skip
    units = settings.pop("units", (1,))
    chosen = make(hosts=addresses or (FIRST,), units=units, port=hosts.port, **settings)
    return Modbus("meters", chosen, gap=PACE)


@asynccontextmanager
async def two_meters() -> AsyncIterator[HostsBed]:
    async with tcp_hosts() as hosts:
        for address in (FIRST, SECOND):
            await hosts.open(address, ModbusHost(METER).serve)

        async def garble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"\xff" * 100_000)

        async def hurt() -> None:
            await hosts.close(FIRST)
            await hosts.open(FIRST, garble)

        made = discoverer(hosts, FIRST, SECOND)
        yield HostsBed(made, 2, 64, hosts.silence, hurt)


class TestContract(SourceContract):
    def make_testbed(self) -> AbstractAsyncContextManager[DiscovererTestbed]:
        return two_meters()


async def test_a_unit_is_asked_by_one_connection_that_is_ended() -> None:
    host = ModbusHost(METER)
    async with tcp_hosts() as hosts:
        await hosts.open(FIRST, host.serve)
        made = discoverer(hosts)
        async with running(made) as sink:
            await until(lambda: bool(sink.seen) and hosts.ended == 1)
        assert (hosts.accepted, hosts.most_open) == (1, 1)
        assert host.asked == [(1, bytes.fromhex("2b0e0100"))]
        assert HEADER + len(host.asked[0][1]) == made.transmissions()[0].size
        (seen,) = sink.seen.values()
        assert (seen.key, seen.interface, seen.is_behind) == (f"{FIRST}/1", "lo", False)
        assert seen.attributes == {
            "source": "modbus", "interface": "lo", "address": FIRST, "port": str(hosts.port),
            "modbus.unit": "1", "modbus.vendor": "Acme", "modbus.product-code": "PM",
            "modbus.revision": "1.0", "vendor": "Acme", "model": "PM",
        }  # fmt: skip


async def test_regular_objects_are_asked_for_where_there_are_some() -> None:
    more = identification((0, b"A"), (1, b"B"), (2, b"C"), more=True, following=5, conformity=0x82)
    rest = identification((5, b"M1"), (6, b"hall 1"), conformity=0x82)
    host = ModbusHost({1: {
        "2b0e01": identification((0, b"A"), (1, b"B"), (2, b"C"), conformity=0x82),
        "2b0e0200": more, "2b0e0205": rest,
    }})  # fmt: skip
    async with tcp_hosts() as hosts:
        await hosts.open(FIRST, host.serve)
        async with running(discoverer(hosts)) as sink:
            await until(lambda: bool(sink.seen))
        (seen,) = sink.seen.values()
        assert (seen.label, seen.attributes["model"]) == ("hall 1", "M1")
        assert hosts.accepted == 1


async def test_the_rest_of_an_answer_is_asked_for_within_a_bound() -> None:
    endless = {
        f"2b0e01{n:02x}": identification((n, b"x"), more=True, following=n + 1) for n in range(99)
    }
    host = ModbusHost({1: endless})
    async with tcp_hosts() as hosts:
        await hosts.open(FIRST, host.serve)
        async with running(discoverer(hosts)) as sink:
            await until(lambda: bool(sink.seen))
        assert len(host.asked) == MAX_ROUNDS


@pytest.mark.parametrize(
    ("pdu", "dropped"),
    [
        ("ab01", {}),  # as most devices: nothing more is known than that one is there
        ("2b0e0183000000", {}),
        ("ab0a", {"no-such-unit": 1}),
        ("ab0b", {"no-such-unit": 1}),
        ("ab06", {"busy": 1}),
        ("2b0e01", {"garbled": 1}),
    ],
)
async def test_what_an_answer_means(pdu: str, dropped: Mapping[str, int]) -> None:
    async with tcp_hosts() as hosts:
        await hosts.open(FIRST, ModbusHost({1: {"2b": bytes.fromhex(pdu)}}).serve)
        made = discoverer(hosts)
        async with running(made) as sink:
            await until(lambda: bool(sink.seen) or bool(made.health.dropped))
        assert made.health.dropped == dropped
        assert len(sink.seen) == (not dropped)


async def test_a_unit_is_only_ever_read() -> None:
    everything = identification((0, b"Acme"), conformity=0x83)
    host = ModbusHost({1: {"2b": everything, "03": b"\x83\2"}})
    async with tcp_hosts() as hosts:
        await hosts.open(FIRST, host.serve)
        where = SerialRegisters(register=0)
        made = discoverer(hosts, serial_object=0x80, serial=where, sunspec=(40000, 50000, 0))
        async with running(made) as sink:
            await until(lambda: bool(sink.seen))
            await made.verify(sink.seen[f"{FIRST}/1"])
    assert {pdu[0] for _, pdu in host.asked} == {0x03, 0x2B}
    assert {pdu[:2] for _, pdu in host.asked if pdu[0] == 0x2B} == {b"\x2b\x0e"}


async def test_units_of_a_serial_line_are_devices_behind_their_gateway() -> None:
    meter, none = METER[1], {"": b"\xab\x0b"}
    host = ModbusHost({255: meter, 3: meter, 4: none, 5: meter, 6: meter})
    async with tcp_hosts() as hosts:
        await hosts.open(FIRST, host.serve)
        made = discoverer(hosts, units=(255, 3, 4, 5), serial_line=True)
        async with running(made) as sink:
            await until(lambda: hosts.ended == 4)
            await until(lambda: len(sink.seen) == 3)
            assert {key: one.is_behind for key, one in sink.seen.items()} == {
                f"{FIRST}/255": False, f"{FIRST}/3": True, f"{FIRST}/5": True,
            }  # fmt: skip
            known = await made.verify(sink.seen[f"{FIRST}/5"])
            assert known is not None
            assert known.attributes["modbus.unit"] == "5"
        assert {unit for unit, _ in host.asked} == {255, 3, 4, 5}  # and no other


@pytest.mark.parametrize("single", [True, False])
async def test_a_serial_number_is_in_an_object_of_the_vendor(single: bool) -> None:
    conformity = 0x83 if single else 0x03
    basic = identification((0, b"Acme"), conformity=conformity)
    wanted = identification((0x81, b"PM-0042"), conformity=conformity)
    question = "2b0e0481" if single else "2b0e0381"
    async with tcp_hosts() as hosts:
        await hosts.open(FIRST, ModbusHost({1: {"2b0e": basic, question: wanted}}).serve)
        async with running(discoverer(hosts, serial_object=0x81)) as sink:
            await until(lambda: bool(sink.seen))
        (seen,) = sink.seen.values()
        assert seen.claims == {Claim("serial", "modbus.acme", "pm-0042")}


@pytest.mark.parametrize(
    ("form", "raw", "serial"),
    [
        (RegisterFormat.TEXT, b"PM42", "pm42"),
        (RegisterFormat.NUMBER, b"\0\1\0\2", "65538"),
        (RegisterFormat.HEX, b"\0\x1b\x0d\x63", "001b0d63"),
        (RegisterFormat.HEX, b"\xff\xff\xff\xff", None),
    ],
)
async def test_a_serial_number_is_in_registers(
    form: RegisterFormat, raw: bytes, serial: str | None
) -> None:
    answers = {"2b": b"\xab\1", "0300640002": b"\3\4" + raw}
    where = SerialRegisters(register=100, count=2, format=form)
    async with tcp_hosts() as hosts:
        await hosts.open(FIRST, ModbusHost({1: answers}).serve)
        async with running(discoverer(hosts, serial=where)) as sink:
            await until(lambda: bool(sink.seen))
        (seen,) = sink.seen.values()
        assert [one.value for one in seen.claims] == ([serial] if serial else [])


async def test_a_device_without_these_registers_has_no_serial_number() -> None:
    host = ModbusHost({1: {"2b": b"\xab\1", "03": b"\x83\2"}})
    async with tcp_hosts() as hosts:
        await hosts.open(FIRST, host.serve)
        made = discoverer(hosts, serial=SerialRegisters(register=0), sunspec=(40000, 50000, 0))
        async with running(made) as sink:
            await until(lambda: bool(sink.seen))
        assert not next(iter(sink.seen.values())).claims
        assert [pdu.hex() for _, pdu in host.asked[1:]] == [
            "0300000010", "039c400044", "03c3500044", "0300000044",
        ]  # fmt: skip


async def test_the_map_of_sunspec_identifies_a_device(sunspec: bytes) -> None:
    host = ModbusHost({1: {"2b": b"\xab\1", "039c40": b"\x83\2", "03c350": b"\3\x88" + sunspec}})
    async with tcp_hosts() as hosts:
        await hosts.open(FIRST, host.serve)
        async with running(discoverer(hosts, sunspec=(40000, 50000, 0))) as sink:
            await until(lambda: bool(sink.seen))
        (seen,) = sink.seen.values()
        assert seen.claims == {Claim("serial", "modbus.acme-solar", "sn-test-0001")}
        assert len(host.asked) == 3


@pytest.fixture
def sunspec() -> bytes:
    path = Path(__file__).parent.parent / "protocols/vectors/modbus.json"
    (one,) = (one for one in json.loads(path.read_text()) if one["id"] == "sunspec-01")
    return (b"SunS" + struct.pack(">HH", 1, 65) + bytes.fromhex(one["hex"]))[:136]


async def test_a_host_that_closes_at_once_has_refused() -> None:
    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with tcp_hosts() as hosts:
        await hosts.open(FIRST, close)
        made = discoverer(hosts)
        async with running(made):
            await until(lambda: bool(made.health.dropped))
            await made.rescan()
            await made.rescan()
        assert made.health.dropped == {"refused": 1}
        assert hosts.accepted == 1


async def test_a_busy_device_cannot_be_verified_now() -> None:
    answers = dict(METER[1])
    async with tcp_hosts() as hosts:
        await hosts.open(FIRST, ModbusHost({1: answers}).serve)
        made = discoverer(hosts)
        async with running(made) as sink:
            await until(lambda: bool(sink.seen))
            answers["2b"] = b"\xab\6"
            with pytest.raises(DiscoveryRetry):
                await made.verify(next(iter(sink.seen.values())))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"units": ()}, "units must have at least one"),
        ({"units": (1, 2)}, "set serial_line = true"),
        ({"units": (1, 1), "serial_line": True}, "each once"),
        ({"units": tuple(range(65)), "serial_line": True}, "64 numbers"),
        ({"units": (1,), "sunspec": (0, 1, 2, 3)}, "sunspec may have 3"),
        ({"units": (1,), "probe_every": 60.0, "hosts": ("10.0.0.0/24",)}, "254 questions"),
    ],
)
def test_settings_with_a_problem_are_refused(settings: Mapping[str, object], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        Modbus("meters", ModbusSettings(**{"hosts": (FIRST,), **settings}))  # type: ignore[arg-type]  # of any type


def test_the_plan_has_what_is_sent() -> None:
    settings = ModbusSettings(hosts=("10.0.0.0/30",), units=(1,), sunspec=(40000,))
    first, second, _ = Modbus("meters", settings).transmissions()
    assert first.to == "each of 2 addresses of 10.0.0.0/30, port 502 by TCP, unit 1"
    assert (first.size, second.size) == (11, 12)
    assert second.purpose == "Read Holding Registers, function 3"
