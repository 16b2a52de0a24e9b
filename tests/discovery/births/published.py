"""What devices publish, as recorded: the vectors, and births made like them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gatewayd.discovery.births.port import Birth, Dialect
from gatewayd.discovery.births.settings import BirthsSettings, DialectName

VECTORS: dict[str, dict[str, Any]] = {
    one["id"]: one
    for one in json.loads((Path(__file__).parent / "vectors" / "births.json").read_text())
}
ALL = BirthsSettings(doors=("plant",), dialects=tuple(DialectName), ask=True)


def payload_of(vector: dict[str, Any]) -> bytes:
    return bytes.fromhex(vector["hex"]) if "hex" in vector else vector["text"].encode()


def birth(topic: str, payload: object, *, retained: bool = False, at: float = 0.0) -> Birth:
    """Return a message.  payload: bytes, or what is written as JSON."""
    written = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return Birth("births", "plant", topic, written, retained, at)


def tasmota(number: int, **changed: object) -> tuple[str, dict[str, Any]]:
    """Return topic and payload of one of many devices."""
    mac = f"A0B7A5{number:06X}"
    config = json.loads(VECTORS["mqtt-tasmota-01"]["text"])
    config |= {"mac": mac, "t": f"plug{number}", "ft": "%prefix%/%topic%/", "dn": f"Plug {number}"}
    return f"tasmota/discovery/{mac}/config", config | changed


def dialect(dialects: tuple[Dialect, ...], name: str) -> Dialect:
    return next(one for one in dialects if one.name == name)
