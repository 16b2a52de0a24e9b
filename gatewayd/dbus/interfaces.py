"""The interfaces that are served, parsed from the XML files beside this module."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

from gatewayd.dbus.glib import Gio
from gatewayd.dbus.names import (
    AUTHORITY,
    BROKER,
    CREDENTIALS,
    DEVICE,
    LOG_CONTROL,
    MANAGER,
    MESSAGES,
    OBJECT_MANAGER,
    PROVIDER,
    SECRET_STORE,
    SITE,
)

SERVED: Final = (
    MANAGER, DEVICE, SECRET_STORE, PROVIDER, AUTHORITY, MESSAGES, BROKER, CREDENTIALS, SITE,
    LOG_CONTROL, OBJECT_MANAGER,
)  # fmt: skip

EMITS_CHANGED: Final = "org.freedesktop.DBus.Property.EmitsChangedSignal"


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface, as its XML file describes it.

    info: the parsed description with which GLib registers objects.
    properties: name to signature.
    announced: the properties whose changes PropertiesChanged reports.
    results: method to the signature of what it returns, as "(so)".
    descriptors: method to the positions of the file descriptors among its arguments.
    """

    name: str
    info: Any
    properties: Mapping[str, str]
    announced: frozenset[str]
    results: Mapping[str, str]
    descriptors: Mapping[str, tuple[int, ...]]


def load(name: str) -> Interface:
    """Parse the file of one interface."""
    (info,) = Gio.DBusNodeInfo.new_for_xml(read_xml(name)).interfaces
    return Interface(
        name=info.name,
        info=info,
        properties={p.name: p.signature for p in info.properties},
        announced=frozenset(p.name for p in info.properties if _emits_changed(p) == "true"),
        results={m.name: _signature(m.out_args) for m in info.methods},
        descriptors={m.name: _descriptors(m.in_args) for m in info.methods},
    )


def load_all() -> Mapping[str, Interface]:
    """Parse all interfaces that are served, by name."""
    return {name: load(name) for name in SERVED}


def read_xml(name: str) -> str:
    """Return the file of one interface."""
    return resources.files(__package__).joinpath(f"{name}.xml").read_text(encoding="utf-8")


def _emits_changed(info: Gio.DBusPropertyInfo) -> str:
    return next((a.value for a in info.annotations if a.key == EMITS_CHANGED), "true")


def _signature(arguments: Iterable[Gio.DBusArgInfo]) -> str:
    return "(" + "".join(a.signature for a in arguments) + ")"


def _descriptors(arguments: Iterable[Gio.DBusArgInfo]) -> tuple[int, ...]:
    return tuple(i for i, a in enumerate(arguments) if a.signature == "h")
