"""The interfaces that are served, parsed once from the XML files beside this module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from gatewayd.glib import Gio
from gatewayd.status.names import (
    AUTHORITY,
    DEVICE,
    LOG_CONTROL,
    MANAGER,
    OBJECT_MANAGER,
    PROVIDER,
    SECRET_STORE,
)

SERVED = (MANAGER, DEVICE, SECRET_STORE, PROVIDER, AUTHORITY, LOG_CONTROL, OBJECT_MANAGER)

EMITS = "org.freedesktop.DBus.Property.EmitsChangedSignal"


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface.

    info: as GLib wants it for registering objects.
    properties: name to signature.
    announced: the properties whose changes are told by PropertiesChanged.
    answers: method to the signature of what it returns, as "(so)".
    handles: method to the positions of the file descriptors among its arguments.
    """

    name: str
    info: Any
    properties: Mapping[str, str]
    announced: frozenset[str]
    answers: Mapping[str, str]
    handles: Mapping[str, tuple[int, ...]]


def load(name: str) -> Interface:
    """Parse the file of one interface."""
    xml = resources.files(__package__).joinpath(f"{name}.xml").read_text(encoding="utf-8")
    (info,) = Gio.DBusNodeInfo.new_for_xml(xml).interfaces
    return Interface(
        name=info.name,
        info=info,
        properties={p.name: p.signature for p in info.properties},
        announced=frozenset(p.name for p in info.properties if _annotation(p, EMITS) == "true"),
        answers={m.name: _tuple(m.out_args) for m in info.methods},
        handles={m.name: _handles(m.in_args) for m in info.methods},
    )


def load_all() -> Mapping[str, Interface]:
    """Parse all that are served, by name."""
    return {name: load(name) for name in SERVED}


def _annotation(info: Any, key: str) -> str:  # noqa: ANN401  # GLib's
    return next((a.value for a in info.annotations if a.key == key), "true")


def _tuple(arguments: Any) -> str:  # noqa: ANN401  # GLib's
    return "(" + "".join(a.signature for a in arguments) + ")"


def _handles(arguments: Any) -> tuple[int, ...]:  # noqa: ANN401  # GLib's
    return tuple(i for i, a in enumerate(arguments) if a.signature == "h")
