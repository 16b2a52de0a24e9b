"""What lldpd knows of the neighbour on each cable: the JSON of `lldpcli show neighbors details`.

LLDP is IEEE 802.1AB; a switch passes none of it on.  lldpcli (1.0.16, 1.0.18) writes JSON in two
forms, and both are read: `-f json0` has a list at each place, `-f json` where there are several.

Pure: of text from the LAN, bounded here and sanitised where it is reported.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gatewayd.device.identity import mac as single_mac
from gatewayd.discovery.probing.protocol import UnreadableAnswer

MAX_NEIGHBOURS = 256
"""Neighbours that are read: a port has one, unless a hub is between."""
MAX_TEXT = 255
"""Characters of one text."""
MAX_LIST = 8
"""Capabilities, and addresses, of one neighbour."""
_MAX_TTL = 65_535  # seconds: 16 bits

_INVENTORY = ("hardware", "firmware", "software", "serial", "manufacturer", "model", "asset")
"""What LLDP-MED (ANSI/TIA-1057) has of a device, as lldpcli names it."""


@dataclass(frozen=True, slots=True)
class LldpNeighbour:
    """A neighbour, as it describes itself.

    interface: of this gateway.  chassis_type: "mac", "ip", "local", ...; chassis: the id.
    mac: the chassis id if that is the MAC of a single device, 12 hex digits; "" if not.
    ttl: seconds for which it may be believed; 0 if it says none.
    addresses: for its management.  inventory: of LLDP-MED, as far as there is any.
    """

    interface: str
    chassis_type: str
    chassis: str
    mac: str = ""
    name: str = ""
    description: str = ""
    port: str = ""
    port_description: str = ""
    ttl: int = 0
    addresses: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    inventory: Mapping[str, str] = field(default_factory=dict)


def neighbours(content: bytes) -> Iterator[LldpNeighbour]:
    """Yield the neighbours that a report names.  Raises UnreadableAnswer for one that is none."""
    try:
        report = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UnreadableAnswer("bad-json") from error
    if not isinstance(report, dict) or "lldp" not in report:
        raise UnreadableAnswer("no-report")
    count = 0
    for top in _tables(report["lldp"]):
        for name, entry in _named(top.get("interface")):
            count += 1
            if count > MAX_NEIGHBOURS:
                return
            found = _neighbour(name, entry)
            if found is not None:
                yield found


def _neighbour(interface: str, entry: Mapping[str, Any]) -> LldpNeighbour | None:
    system, chassis = next(iter(_named(entry.get("chassis"))), ("", {}))
    (kind, value), port = _identifier(chassis), _first(entry.get("port"))
    if not interface or not value:
        return None
    ttl = _text(port.get("ttl"))
    inventory = _first(_first(entry.get("lldp-med")).get("inventory"))
    return LldpNeighbour(
        interface=interface,
        chassis_type=kind,
        chassis=value,
        mac=single_mac(value) if kind == "mac" else "",
        name=_text(chassis.get("name")) or system,
        description=_text(chassis.get("descr")),
        port=_identifier(port)[1],
        port_description=_text(port.get("descr")),
        ttl=min(int(ttl), _MAX_TTL) if ttl.isascii() and ttl.isdigit() else 0,
        addresses=_texts(chassis.get("mgmt-ip")),
        capabilities=tuple(
            _text(one.get("type"))
            for one in _tables(chassis.get("capability"))
            if one.get("enabled") is True
        )[:MAX_LIST],
        inventory={key: text for key in _INVENTORY if (text := _text(inventory.get(key)))},
    )


def _named(value: object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield name and content of what may be named by its key, by its "name", or by nothing.

    Of `{"lan0": {…}}` the key is the name; an object with "id" or "name" is the content itself.
    """
    for one in _tables(value):
        if "id" in one or "name" in one:
            yield _text(one.get("name")), one
            continue
        for name, content in one.items():
            for each in _tables(content):
                yield name[:MAX_TEXT], each


def _identifier(table: Mapping[str, Any]) -> tuple[str, str]:
    """Return type and value of an id."""
    found = _first(table.get("id"))
    return _text(found.get("type")), _text(found.get("value"))


def _tables(value: object) -> Iterator[Mapping[str, Any]]:
    """Yield the objects of a list, or the object that stands for a list of one."""
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, dict):
            yield one


def _first(value: object) -> Mapping[str, Any]:
    return next(_tables(value), {})


def _texts(value: object) -> tuple[str, ...]:
    """Return texts, each by itself or as the "value" of an object."""
    found = (
        one.get("value") if isinstance(one, dict) else one
        for one in (value if isinstance(value, list) else [value])
    )
    return tuple(one[:MAX_TEXT] for one in found if isinstance(one, str) and one)[:MAX_LIST]


def _text(value: object) -> str:
    return next(iter(_texts(value)), "")
