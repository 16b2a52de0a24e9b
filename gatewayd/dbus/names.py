"""The names of the D-Bus API: interfaces, object paths, and what stands at which path."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

NAME: Final = "org.gatewayd1"
BUS: Final = "org.freedesktop.DBus"
ROOT: Final = "/org/gatewayd1"
DEVICES: Final = f"{ROOT}/device"
PROVIDERS: Final = f"{ROOT}/provider"

MANAGER: Final = f"{NAME}.Manager"
DEVICE: Final = f"{NAME}.Device"
SECRET_STORE: Final = f"{NAME}.SecretStore"
PROVIDER: Final = f"{NAME}.Provider"
AUTHORITY: Final = f"{NAME}.Authority"
MESSAGES: Final = f"{NAME}.Messages"
BROKER: Final = f"{NAME}.Broker"
CREDENTIALS: Final = f"{NAME}.Credentials"
SITE: Final = f"{NAME}.Site"
LOG_CONTROL: Final = "org.freedesktop.LogControl1"
OBJECT_MANAGER: Final = "org.freedesktop.DBus.ObjectManager"
PROPERTIES: Final = "org.freedesktop.DBus.Properties"
PROPERTIES_CHANGED: Final = f"{PROPERTIES}.PropertiesChanged"


class ObjectInterface(NamedTuple):
    """One interface of one object."""

    path: str
    interface: str


GATEWAY: Final = ObjectInterface(ROOT, MANAGER)
STORE: Final = ObjectInterface(f"{ROOT}/secretstore", SECRET_STORE)
OUTBOX: Final = ObjectInterface(f"{ROOT}/messages", MESSAGES)
OWN_BROKER: Final = ObjectInterface(f"{ROOT}/broker", BROKER)
HANDED_OVER: Final = ObjectInterface(f"{ROOT}/credentials", CREDENTIALS)
OWN_SITE: Final = ObjectInterface(f"{ROOT}/site", SITE)
LOG: Final = ObjectInterface("/org/freedesktop/LogControl1", LOG_CONTROL)


def device_path(device: str) -> str:
    """Return the object path of a child."""
    return f"{DEVICES}/{encode(device)}"


@lru_cache(maxsize=128)
def device_of(path: str) -> str:
    """Return the id of the child at an object path, which `device_path` has made; "" for any other.

    It is computed where it is asked for: the paths of 10,000 children are 1.4 MB.
    """
    label = path.removeprefix(f"{DEVICES}/")
    return "" if label == path else _ESCAPED.sub(_byte, label.encode()).decode(errors="replace")


def provider_path(name: str) -> str:
    """Return the object path of a cloud."""
    return f"{PROVIDERS}/{encode(name)}"


def encode(label: str) -> str:
    """Escape a text as one element of an object path, as sd_bus_path_encode(3) does."""
    bare = label.replace("-", "")
    if bare.isalnum() and bare.isascii() and not label[0].isdigit():  # as the id of each child
        return label.replace("-", "_2d")
    return _TO_ESCAPE.sub(_escaped, label) or "_"


_TO_ESCAPE: Final = re.compile(r"\A[0-9]|[^A-Za-z0-9]")


_ESCAPED: Final = re.compile(rb"_([0-9a-f]{2})")


def _byte(match: re.Match[bytes]) -> bytes:
    return bytes((int(match[1], 16),))


def _escaped(match: re.Match[str]) -> str:
    return _code(match[0])


@lru_cache(maxsize=128)
def _code(character: str) -> str:
    """Return how one character is escaped: mostly the dash in the id of each child."""
    return "".join(f"_{byte:02x}" for byte in character.encode())
