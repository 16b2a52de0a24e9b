"""Who a device is, by what its SNMP agent says of it.  Pure.

Facts: RFC 3418 (system group), RFC 6933 (entPhysicalTable), RFC 3805 (prtGeneralSerialNumber),
RFC 1628 (upsIdent), RFC 2863 (ifPhysAddress); enterprise numbers of IANA.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gatewayd.device.identity import claim
from gatewayd.discovery.probing.protocol import Found
from gatewayd.discovery.protocols.snmp.ber import ObjectName
from gatewayd.discovery.protocols.snmp.messages import Value
from gatewayd.discovery.sanitize import escaped_attributes, is_clean, is_text

_MIB2: ObjectName = (1, 3, 6, 1, 2, 1)
_ENTERPRISES: ObjectName = (1, 3, 6, 1, 4, 1)
_ENTITY: ObjectName = (*_MIB2, 47, 1, 1, 1, 1)

DESCRIPTION: ObjectName = (*_MIB2, 1, 1, 0)  # sysDescr
OBJECT_ID: ObjectName = (*_MIB2, 1, 2, 0)  # sysObjectID
NAME: ObjectName = (*_MIB2, 1, 5, 0)  # sysName
SYSTEM: Sequence[ObjectName] = (DESCRIPTION, OBJECT_ID, NAME)
"""What every agent has."""

FIRMWARE: ObjectName = (*_ENTITY, 9, 1)  # entPhysicalFirmwareRev
SOFTWARE: ObjectName = (*_ENTITY, 10, 1)  # entPhysicalSoftwareRev
SERIAL: ObjectName = (*_ENTITY, 11, 1)  # entPhysicalSerialNum
MAKER: ObjectName = (*_ENTITY, 12, 1)  # entPhysicalMfgName
MODEL: ObjectName = (*_ENTITY, 13, 1)  # entPhysicalModelName
PRINTER_SERIAL: ObjectName = (*_MIB2, 43, 5, 1, 1, 17, 1)  # prtGeneralSerialNumber
UPS_MAKER: ObjectName = (*_MIB2, 33, 1, 1, 1, 0)  # upsIdentManufacturer
UPS_MODEL: ObjectName = (*_MIB2, 33, 1, 1, 2, 0)  # upsIdentModel
MACS: Sequence[ObjectName] = ((*_MIB2, 2, 2, 1, 6, 1), (*_MIB2, 2, 2, 1, 6, 2))  # ifPhysAddress
DETAILS: Sequence[ObjectName] = (
    SERIAL, MODEL, MAKER, SOFTWARE, FIRMWARE, PRINTER_SERIAL, UPS_MAKER, UPS_MODEL, *MACS,
)  # fmt: skip
"""What some have."""

NAMESPACE = "snmp"
_MAC = 6


def enterprise(values: Mapping[ObjectName, Value]) -> int | None:
    """Return the enterprise number of the agent's maker; None if it is not known."""
    name = values.get(OBJECT_ID)
    size = len(_ENTERPRISES)
    if isinstance(name, tuple) and name[:size] == _ENTERPRISES and len(name) > size:
        return name[size]
    return None


def found_agent(key: str, values: Mapping[ObjectName, Value], version: str, port: int) -> Found:
    """Return an agent as a device.  version: "1" or "2c"."""
    texts = {name: _text(value) for name, value in values.items()}
    number, object_id = enterprise(values), values.get(OBJECT_ID)
    named = {
        "snmp.version": version,
        "snmp.descr": texts.get(DESCRIPTION, ""),
        "snmp.name": texts.get(NAME, ""),
        "snmp.object-id": ".".join(map(str, object_id)) if isinstance(object_id, tuple) else "",
        "snmp.enterprise": "" if number is None else str(number),
        "snmp.software": texts.get(SOFTWARE, ""),
        "snmp.firmware": texts.get(FIRMWARE, ""),
        "vendor": texts.get(MAKER) or texts.get(UPS_MAKER, ""),
        "model": texts.get(MODEL) or texts.get(UPS_MODEL, ""),
        "serial": texts.get(SERIAL) or texts.get(PRINTER_SERIAL, ""),
    }
    namespace = NAMESPACE if number is None else f"{NAMESPACE}.{number}"
    serial = named["serial"]
    made = [claim("serial", namespace, serial) if is_clean(serial) else None]
    made += [claim("mac", NAMESPACE, _mac(values.get(name))) for name in MACS]
    return Found(
        key=key,
        claims=frozenset(one for one in made if one),
        attributes=escaped_attributes(named),
        label=named["snmp.name"] or named["model"] or named["snmp.descr"] or "SNMP agent",
        valid_for=0.0,
        port=port,
    )


def _text(value: Value) -> str:
    """Return the first line of a text; "" for what is none.

    Descriptions of some devices have several lines, which are longer than a value may be.
    """
    if not isinstance(value, bytes):
        return ""
    decoded = value.rstrip(b"\0").decode("utf-8", "replace")
    lines = decoded.strip().splitlines()
    return lines[0].strip() if lines and is_text(lines[0]) else ""


def _mac(value: Value | None) -> str:
    return value.hex() if isinstance(value, bytes) and len(value) == _MAC else ""
