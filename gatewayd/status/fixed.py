"""Objects that are there as long as the bus is: a path, an interface, a frozen view."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gatewayd.glib import Variant
from gatewayd.status.fleet import Fleet
from gatewayd.status.interfaces import Interface
from gatewayd.status.names import LOG_CONTROL, PROPERTIES_CHANGED, PROVIDER, SECRET_STORE, Place
from gatewayd.status.snapshot import ManagerView
from gatewayd.status.variants import properties_changed

FEATURES = (
    "object-manager", "paging", "join-window", "polkit", "secret-store", "providers",
    "log-control", "dump", "discover",
)  # fmt: skip
"""The property Features: clients look here for what later versions add."""

FIELDS: Mapping[str, Mapping[str, str]] = {
    SECRET_STORE: {
        "Backend": "backend", "Protection": "protection", "State": "state", "Why": "why",
        "NSecrets": "n_secrets", "KeyId": "key_id", "KeyCreatedTimestamp": "key_created",
        "RecoverySlots": "recovery_slots",
    },
    PROVIDER: {
        "Id": "id", "Kind": "kind", "Endpoint": "endpoint", "State": "state", "Reason": "reason",
        "Explanation": "explanation", "Remedy": "remedy", "NDevices": "n_devices",
        "NQueued": "n_queued", "CertificateExpiryTimestamp": "certificate_expiry",
    },
    LOG_CONTROL: {"LogLevel": "level", "LogTarget": "target", "SyslogIdentifier": "identifier"},
}  # fmt: skip
"""Property to field of the view, for each interface that has properties of a view alone."""

Read = Callable[[Any, str], object]


@dataclass(frozen=True, slots=True)
class Exported:
    """One interface of one object, to be served from the start to the end.

    view: what is shown of it at first; None where it has no properties.
    commands: the port of its methods; None where nobody can do them.
    provider: the cloud that it belongs to, for polkit; "" for none.
    """

    place: Place
    view: object
    commands: object = None
    provider: str = ""


class Fixed:
    """The properties of an exported interface, as they are and as they were told last.

    read: returns the value of a property of a view.
    """

    def __init__(self, exported: Exported, interface: Interface, read: Read) -> None:
        self.exported, self.view = exported, exported.view
        self._interface, self._read = interface, read
        self._told: dict[str, object] = {}

    def property(self, name: str) -> Variant:
        """Return the value of one property."""
        return Variant(self._interface.properties[name], self._read(self.view, name))

    def changed(self) -> Variant | None:
        """Return what PropertiesChanged has to tell, and take it as told; None for nothing."""
        now = {name: self._read(self.view, name) for name in self._interface.announced}
        names = [name for name, value in now.items() if self._told.get(name) != value]
        self._told = now
        if not names:
            return None
        return properties_changed(self._interface.name, {n: self.property(n) for n in names})

    def announce(self, emit: Callable[[str, str, Variant], None]) -> None:
        """Tell what has changed."""
        changed = self.changed()
        if changed is not None:
            emit(self.exported.place.path, PROPERTIES_CHANGED, changed)


def read_field(interface: str) -> Read:
    """Return what reads a property from the view of an interface."""
    fields = FIELDS.get(interface, {})
    return lambda view, name: getattr(view, fields[name])


def read_manager(fleet: Fleet) -> Read:
    """Return what reads a property of org.gatewayd1.Manager."""
    return lambda view, name: _MANAGER[name](view, fleet)


_MANAGER: Mapping[str, Callable[[ManagerView, Fleet], object]] = {
    "Version": lambda view, _: view.version,
    "Features": lambda _, __: FEATURES,
    "State": lambda view, _: view.state,
    "Protection": lambda view, _: view.protection,
    "Providers": lambda view, _: view.providers,
    "JoinState": lambda view, _: "open" if view.join_until else "closed",
    "JoinUntilTimestamp": lambda view, _: view.join_until,
    "NDevices": lambda _, fleet: len(fleet),
    "NPending": lambda _, fleet: fleet.counts().get("pending", 0),
    "NFailed": lambda _, fleet: fleet.counts().get("failed", 0),
    "Counters": lambda view, _: dict(view.counters),
    "StartTimestamp": lambda view, _: view.started,
}
