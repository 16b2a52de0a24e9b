"""The names of the D-Bus API, in one place."""

from __future__ import annotations

NAME = "org.gatewayd1"
ROOT = "/org/gatewayd1"
DEVICES = f"{ROOT}/device"
MANAGER = f"{NAME}.Manager"
DEVICE = f"{NAME}.Device"
OBJECT_MANAGER = "org.freedesktop.DBus.ObjectManager"
PROPERTIES_CHANGED = "org.freedesktop.DBus.Properties.PropertiesChanged"


def device_path(device: str) -> str:
    """Return the object path of a child, with its id escaped as sd_bus_path_encode(3) does."""
    return f"{DEVICES}/{encode(device)}"


def encode(label: str) -> str:
    """Escape a text as one element of an object path, as sd_bus_path_encode(3) does."""
    return "".join(_escape(i, byte) for i, byte in enumerate(label.encode())) or "_"


def _escape(position: int, byte: int) -> str:
    char = chr(byte)
    plain = char.isascii() and (char.isalpha() or (char.isdigit() and position > 0))
    return char if plain else f"_{byte:02x}"
