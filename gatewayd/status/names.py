"""The names of the D-Bus API, in one place."""

from __future__ import annotations

from typing import NamedTuple

from gatewayd.glib import PROPERTIES

NAME = "org.gatewayd1"
ROOT = "/org/gatewayd1"
DEVICES = f"{ROOT}/device"
PROVIDERS = f"{ROOT}/provider"
MANAGER = f"{NAME}.Manager"
DEVICE = f"{NAME}.Device"
SECRET_STORE = f"{NAME}.SecretStore"
PROVIDER = f"{NAME}.Provider"
AUTHORITY = f"{NAME}.Authority"
LOG_CONTROL = "org.freedesktop.LogControl1"
OBJECT_MANAGER = "org.freedesktop.DBus.ObjectManager"
PROPERTIES_CHANGED = f"{PROPERTIES}.PropertiesChanged"


class Place(NamedTuple):
    """One interface of one object."""

    path: str
    interface: str


GATEWAY = Place(ROOT, MANAGER)
STORE = Place(f"{ROOT}/secretstore", SECRET_STORE)
LOG = Place("/org/freedesktop/LogControl1", LOG_CONTROL)


def device_path(device: str) -> str:
    """Return the object path of a child, with its id escaped as sd_bus_path_encode(3) does."""
    return f"{DEVICES}/{encode(device)}"


def provider_path(name: str) -> str:
    """Return the object path of a cloud."""
    return f"{PROVIDERS}/{encode(name)}"


def encode(label: str) -> str:
    """Escape a text as one element of an object path, as sd_bus_path_encode(3) does."""
    return "".join(_escape(i, byte) for i, byte in enumerate(label.encode())) or "_"


def _escape(position: int, byte: int) -> str:
    char = chr(byte)
    plain = char.isascii() and (char.isalpha() or (char.isdigit() and position > 0))
    return char if plain else f"_{byte:02x}"
