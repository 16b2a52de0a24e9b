"""Who a Modbus device is, by what was read of it.  Pure.

No standard object of Modbus identifies a device: vendor, product and revision are those of a type.
A serial number is in an object that the vendor has added, or in registers; an operator says where.
Facts: MODBUS Application Protocol Specification V1.1b3, 6.21; SunSpec Device Information Model
Specification, model 1 (github.com/sunspec/models, json/model_1.json).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from gatewayd.device.identity import claim
from gatewayd.discovery.probing.protocol import Found
from gatewayd.discovery.sanitize import escaped_attributes, is_clean, is_text

SUNSPEC_REGISTERS = 68
"""Registers of the mark, and of the common block up to its serial number."""

_OBJECTS = {
    0: "modbus.vendor", 1: "modbus.product-code", 2: "modbus.revision", 3: "modbus.url",
    4: "modbus.product", 5: "modbus.model", 6: "modbus.application",
}  # fmt: skip
"""The attributes that the standard objects become."""
_MARK = b"SunS"
_COMMON = 1
_LENGTHS = frozenset({65, 66})
"""Registers of the common block, without those of its number and its length."""
_POINTS = {"vendor": (4, 16), "model": (20, 16), "options": (36, 8), "version": (44, 8),
           "serial": (52, 16)}  # fmt: skip
"""First register and length of each text, from the mark on."""
NAMESPACE = "modbus"
MAX_VENDOR = 48
"""Characters of the vendor in a namespace."""
_NO_WORD = re.compile(r"[^a-z0-9.]+")


@dataclass(frozen=True, slots=True)
class ModbusFacts:
    """What was read of one unit.

    objects: bytes by number.  serial: of an object or of registers that an operator has named.
    sunspec: the texts of the common block, by "vendor", "model", "version" and "serial".
    """

    objects: Mapping[int, bytes] = field(default_factory=dict)
    serial: str = ""
    sunspec: Mapping[str, str] = field(default_factory=dict)


def text(raw: bytes) -> str:
    """Return the text in an object or in registers; "" for what is none.

    It ends with the first null, and is padded with blanks by many devices.
    """
    decoded = raw.partition(b"\0")[0].decode("utf-8", "replace").strip()
    return decoded if is_text(decoded) else ""


def digits(raw: bytes) -> str:
    """Return the whole number in registers, the highest byte first; "" for none, and for all ones,
    by which a register says that it is not there."""
    number = int.from_bytes(raw)
    return str(number) if number and raw.strip(b"\xff") else ""


def read_sunspec(raw: bytes) -> dict[str, str]:
    """Return the texts of the common block of SunSpec; nothing where there is none.

    raw: SUNSPEC_REGISTERS registers from an address on at which the map may begin.
    """
    model, length = int.from_bytes(raw[4:6]), int.from_bytes(raw[6:8])
    if len(raw) != 2 * SUNSPEC_REGISTERS or not raw.startswith(_MARK):
        return {}
    if model != _COMMON or length not in _LENGTHS:
        return {}
    found = {key: text(raw[2 * at : 2 * (at + size)]) for key, (at, size) in _POINTS.items()}
    return {key: value for key, value in found.items() if value}


def found_unit(key: str, unit: int, facts: ModbusFacts, port: int, *, is_behind: bool) -> Found:
    """Return one unit as a device.

    Without a serial number it has no claim of its own.  The kernel's MAC is added to one that is
    not behind a gateway to a serial line; that of one behind it is the gateway's.
    """
    objects = {number: text(raw) for number, raw in facts.objects.items()}
    vendor = facts.sunspec.get("vendor") or objects.get(0, "")
    product = facts.sunspec.get("model") or next(filter(None, map(objects.get, (5, 4, 1))), "")
    serial = facts.serial or facts.sunspec.get("serial", "")
    named = {name: objects.get(number, "") for number, name in _OBJECTS.items()}
    named |= {
        "modbus.unit": str(unit), "modbus.options": facts.sunspec.get("options", ""),
        "modbus.version": facts.sunspec.get("version", ""),
        "vendor": vendor, "model": product, "serial": serial,
    }  # fmt: skip
    made = claim("serial", namespace(vendor), serial) if is_clean(serial) else None
    shown = objects.get(6) or " ".join(filter(None, (vendor, product))) or "Modbus device"
    return Found(
        key=key,
        claims=frozenset({made} if made else ()),
        attributes=escaped_attributes(named),
        label=f"{shown}, unit {unit}" if is_behind else shown,
        valid_for=0.0,
        port=port,
        is_behind=is_behind,
    )


def namespace(vendor: str) -> str:
    """Return who assigns a serial number: the vendor, as the device writes it."""
    word = _NO_WORD.sub("-", vendor.lower())[:MAX_VENDOR].strip("-")
    return f"{NAMESPACE}.{word}" if word else NAMESPACE
