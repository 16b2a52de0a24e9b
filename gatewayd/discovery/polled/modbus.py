"""The discoverer of Modbus TCP devices: it asks the units that an operator has listed.

No other unit is asked: behind a gateway to a serial line, each absent one holds up the line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from typing import ClassVar, TypeVar

from gatewayd.discovery.discoverer import Context
from gatewayd.discovery.probing.connection import HostConnection, connected
from gatewayd.discovery.probing.hosts import PollSettings, size_of
from gatewayd.discovery.probing.poller import (
    GAP,
    BusyAnswer,
    HostPoller,
    HostQuestion,
    HostVisit,
    device_key,
)
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
from gatewayd.discovery.protocols.modbus.messages import IdCode, Identification, ModbusException
from gatewayd.settings.declare import setting, table

T = TypeVar("T")

MAX_ROUNDS = 8
"""Answers that are read about the objects of one device."""
MAX_SUNSPEC = 3
"""Addresses at which the map of SunSpec may begin."""
BUDGET = 8192
"""Bytes that are read of one connection."""
MAX_UNITS = 64
"""Units of each host."""


class RegisterFormat(StrEnum):
    """How a serial number is written in registers."""

    TEXT = "text"  # two characters in each
    NUMBER = "number"  # one whole number, its highest byte first
    HEX = "hex"  # the digits of all bytes


@dataclass(frozen=True, slots=True)
class SerialRegisters:
    """[discovery.<name>.serial]  Where the devices have their serial number."""

    register: int = setting(
        -1, "number of the first holding register, from 0; -1 for none", low=-1, high=65_535
    )
    count: int = setting(16, "registers", low=1, high=modbus.MAX_REGISTERS)
    format: RegisterFormat = setting(
        RegisterFormat.TEXT,
        '"text" of two characters a register, a "number" with its highest byte first, or "hex"',
    )


@dataclass(frozen=True, slots=True)
class ModbusSettings(PollSettings):
    """[discovery.<name>] with kind = "modbus"."""

    units: tuple[int, ...] = setting(
        (),
        "numbers of the units that are asked at each host, one at least, and no others; 255 or 1 "
        "for devices that are on the network themselves",
        low=0,
        high=255,
    )
    serial_line: bool = setting(
        False,
        "whether the hosts are gateways to a serial line: each unit is a device of its own then",
    )
    port: int = setting(modbus.PORT, "TCP port", low=1, high=65_535)
    serial_object: int = setting(
        0,
        "number of the object, added by the vendor, in which the devices have their serial "
        "number; 0 for none",
        low=0,
        high=255,
    )
    sunspec: tuple[int, ...] = setting(
        (),
        "registers at which the map of SunSpec may begin, as [40000, 50000, 0]; its serial number "
        "identifies the devices",
        low=0,
        high=65_535,
    )
    serial: SerialRegisters = table(SerialRegisters)

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with the settings as a whole."""
        yield from super(ModbusSettings, self).problems()
        if not self.units:
            yield "units must have at least one: 255 for devices that are on the network themselves"
        if len(self.units) > MAX_UNITS or len(set(self.units)) < len(self.units):
            yield f"units may have {MAX_UNITS} numbers, each once"
        if len(self.units) > 1 and not self.serial_line:
            yield (
                "units has several, so the hosts must be gateways to a serial line: set "
                "serial_line = true, or leave one unit"
            )
        if len(self.sunspec) > MAX_SUNSPEC:
            yield f"sunspec may have {MAX_SUNSPEC} registers"
        yield from self.too_often(len(self.units) * sum(map(size_of, self.hosts)))


class ModbusUnits:
    """The units of all hosts, each asked by one connection with one question after another."""

    kind = "modbus"

    def __init__(self, settings: ModbusSettings) -> None:
        self._settings = settings
        self.parts: Sequence[str] = tuple(map(str, settings.units))
        self.questions: Sequence[HostQuestion] = tuple(self._questions())

    async def visit(self, address: str, part: str, context: Context) -> HostVisit:
        """Ask one unit, as `HostProtocol` says."""
        unit, settings = int(part), self._settings
        first = int(context.jitter() * 0xFFFF)
        async with connected(address, settings.port, BUDGET) as connection:
            asking = _UnitVisit(connection, unit, count(first))
            facts = await asking.facts(settings)
        is_behind = settings.serial_line and unit not in modbus.OWN_UNITS
        key = device_key(address, part)
        return HostVisit([found_unit(key, unit, facts, settings.port, is_behind=is_behind)])

    def _questions(self) -> Iterator[HostQuestion]:
        settings = self._settings
        units = ", ".join(self.parts)
        to = f"port {settings.port} by TCP, unit {units}"
        size = len(modbus.identification_request(0, 0, IdCode.BASIC, 0))
        yield HostQuestion(to, size, "Read Device Identification, function 43/14")
        if settings.sunspec or settings.serial.register >= 0:
            size = len(modbus.registers_request(0, 0, 0, 1))
            yield HostQuestion(to, size, "Read Holding Registers, function 3")


class _UnitVisit:
    """The questions to one unit over one connection.  transactions: their numbers."""

    def __init__(self, connection: HostConnection, unit: int, transactions: Iterator[int]) -> None:
        self._connection, self._unit, self._transactions = connection, unit, transactions
        self._left = MAX_ROUNDS

    async def facts(self, settings: ModbusSettings) -> ModbusFacts:
        """Return all that is asked for.  Raises OSError, UnreadableAnswer."""
        objects, level, has_single = await self._objects(IdCode.BASIC, 0)
        if level >= IdCode.REGULAR:
            more, _, _ = await self._objects(IdCode.REGULAR, 0)
            objects = more | objects
        serial = ""
        if (wanted := settings.serial_object) and level:
            serial = text((await self._vendor_object(wanted, level, has_single)).get(wanted, b""))
        if settings.serial.register >= 0 and not serial:
            serial = await self._serial(settings.serial)
        sunspec: dict[str, str] = {}
        for start in settings.sunspec:
            if sunspec := read_sunspec(await self._registers(start, SUNSPEC_REGISTERS)):
                break
        return ModbusFacts(objects, serial, sunspec)

    async def _objects(self, code: IdCode, first: int) -> tuple[dict[int, bytes], int, bool]:
        """Return objects, the level of conformity, and whether single objects can be asked for.

        Nothing, and level 0, where the unit refuses the question, as most do; and no more than
        MAX_ROUNDS answers have, for all questions together.
        """
        found: dict[int, bytes] = {}
        level, has_single, following = 0, False, first
        while self._left:
            answer = await self._identification(code, following)
            if answer is None:
                break
            found |= {number: raw for number, raw in answer.objects.items() if number not in found}
            level, has_single = answer.level, answer.has_single
            if answer.following is None or code is IdCode.SINGLE:
                break
            following = answer.following
        return found, level, has_single

    async def _vendor_object(self, wanted: int, level: int, has_single: bool) -> dict[int, bytes]:
        """Return the objects among which the wanted one is, if the unit has it."""
        if has_single:
            return (await self._objects(IdCode.SINGLE, wanted))[0]
        if level >= IdCode.EXTENDED:
            return (await self._objects(IdCode.EXTENDED, wanted))[0]
        return {}

    async def _identification(self, code: IdCode, first: int) -> Identification | None:
        self._left -= 1
        number = self._next()
        pdu = await self._asked(
            modbus.identification_request(number, self._unit, code, first), number
        )
        return _checked(modbus.read_identification(pdu, first))

    async def _serial(self, serial: SerialRegisters) -> str:
        raw = await self._registers(serial.register, serial.count)
        match serial.format:
            case RegisterFormat.TEXT:
                return text(raw)
            case RegisterFormat.NUMBER:
                return digits(raw)
            case RegisterFormat.HEX:
                return raw.hex() if digits(raw) else ""

    async def _registers(self, address: int, size: int) -> bytes:
        """Return registers, two bytes each; nothing where the unit has none there."""
        number = self._next()
        request = modbus.registers_request(number, self._unit, address, size)
        pdu = await self._asked(request, number)
        return _checked(modbus.read_registers(pdu, size)) or b""

    async def _asked(self, request: bytes, number: int) -> bytes:
        """Return the PDU of the answer to one question."""
        await self._connection.send(request)
        header = modbus.read_header(await self._connection.receive(modbus.HEADER))
        modbus.check_header(header, number, self._unit)
        return await self._connection.receive(header.length)

    def _next(self) -> int:
        return next(self._transactions) & 0xFFFF


def _checked(answer: T | ModbusException) -> T | None:
    """Return an answer; None if the unit does not know the question.

    Raises UnreadableAnswer if there is no such unit, BusyAnswer if it cannot answer now.
    """
    if not isinstance(answer, ModbusException):
        return answer
    if answer.code in modbus.ABSENT:
        raise UnreadableAnswer("no-such-unit")
    if answer.code in modbus.BUSY:
        raise BusyAnswer("busy")
    return None


class Modbus(HostPoller):
    """The discoverer.  gap: as of `HostPoller`.  Raises ConfigError."""

    port_version: ClassVar[str] = "1.0"
    Settings: ClassVar[type] = ModbusSettings

    def __init__(self, name: str, settings: ModbusSettings, *, gap: float = GAP) -> None:
        super().__init__(name, settings, ModbusUnits(settings), gap=gap)
