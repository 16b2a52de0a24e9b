"""Views as D-Bus values.  The costly ones are kept until the view changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from gatewayd.dbus.glib import GLib, Variant
from gatewayd.dbus.interfaces import Interface
from gatewayd.dbus.names import device_path
from gatewayd.device.identity import DeviceId
from gatewayd.device.views import DeviceView

ROW: Final = "(ssssto)"
ENTRY: Final = "{oa{sa{sv}}}"
EMPTY: Final = Variant("()", ())

MAKERS: Mapping[str, Callable[[Any], Variant]] = {
    "s": Variant.new_string,
    "o": Variant.new_object_path,
    "t": Variant.new_uint64,
    "u": Variant.new_uint32,
    "as": Variant.new_strv,
}
"""Makes a value of a type at a third of what PyGObject's `Variant(type, value)` costs."""

FIELDS: Mapping[str, str] = {
    "Id": "id", "Name": "name", "State": "state", "SubState": "substate", "Reason": "reason",
    "Explanation": "explanation", "Remedy": "remedy", "Protocol": "protocol", "Model": "model",
    "Vendor": "vendor", "Addresses": "addresses", "Identity": "identity", "Trust": "trust",
    "Admission": "admission", "Rule": "rule", "Provider": "provider", "CloudId": "cloud_id",
    "SecretState": "secret_state", "FirstSeenTimestamp": "first_seen",
    "LastSeenTimestamp": "last_seen", "StateChangeTimestamp": "state_changed",
    "RegisteredTimestamp": "registered", "ActivatedTimestamp": "activated",
    "Attempts": "attempts", "NextAttemptTimestamp": "next_attempt",
}  # fmt: skip
"""Property of org.gatewayd1.Device to field of `DeviceView`."""


def row_of(view: DeviceView) -> tuple[str, str, str, str, int, str]:
    """Return the row of a child in lists."""
    path = device_path(view.id)
    return view.id, view.state, view.provider, view.name, view.state_changed, path


class DeviceVariants:
    """Values of org.gatewayd1.Device.

    interface: has the properties and their types.
    """

    def __init__(self, interface: Interface) -> None:
        self._interface = interface
        self._rows: dict[DeviceId, Variant] = {}
        self._entries: dict[DeviceId, Variant] = {}

    def forget(self, device: DeviceId) -> None:
        """Drop what is kept of a child: its view has changed."""
        self._rows.pop(device, None)
        self._entries.pop(device, None)

    def has_entry(self, device: DeviceId) -> bool:
        """Whether `entries` would be cheap for this child."""
        return device in self._entries

    def property(self, view: DeviceView, name: str) -> Variant:
        """Return the value of one property."""
        return MAKERS[self._interface.properties[name]](getattr(view, FIELDS[name]))

    def properties(self, view: DeviceView) -> dict[str, Variant]:
        """Return all properties."""
        return {name: self.property(view, name) for name in self._interface.properties}

    def changed(self, before: DeviceView, now: DeviceView) -> dict[str, Variant]:
        """Return the announced properties that are not what they were."""
        names = [n for n, f in FIELDS.items() if getattr(before, f) != getattr(now, f)]
        return {n: self.property(now, n) for n in names if n in self._interface.announced}

    def rows(self, views: Iterable[DeviceView]) -> Variant:
        """Return an a(ssssto)."""
        return Variant.new_array(GLib.VariantType(ROW), [self._row(v) for v in views])

    def entries(self, views: Iterable[DeviceView]) -> Variant:
        """Return an a{oa{sa{sv}}}, the result of GetManagedObjects."""
        return Variant.new_array(GLib.VariantType(ENTRY), [self.entry(v) for v in views])

    def entry(self, view: DeviceView) -> Variant:
        """Return path, interface and properties of one child, as an {oa{sa{sv}}}."""
        if view.id not in self._entries:
            path = MAKERS["o"](device_path(view.id))
            self._entries[view.id] = _packed(Variant.new_dict_entry(path, self.interfaces(view)))
        return self._entries[view.id]

    def interfaces(self, view: DeviceView) -> Variant:
        """Return interface and properties of one child, as an a{sa{sv}}."""
        name = MAKERS["s"](self._interface.name)
        interface = Variant.new_dict_entry(name, table(self.properties(view)))
        return Variant.new_array(interface.get_type(), [interface])

    def describe(self, view: DeviceView) -> Variant:
        """Return an (a{sv}) with all properties, the path and the history."""
        history = [(step.at, step.event, step.state, step.text) for step in view.history]
        more = {
            "Path": Variant("o", device_path(view.id)),
            "History": Variant("a(tsss)", history),
        }
        return Variant("(a{sv})", (self.properties(view) | more,))

    def _row(self, view: DeviceView) -> Variant:
        if view.id not in self._rows:
            values = zip(ROW[1:-1], row_of(view), strict=True)
            self._rows[view.id] = _packed(Variant.new_tuple(*(MAKERS[t](v) for t, v in values)))
        return self._rows[view.id]


class PackedArguments(Sequence[Any]):
    """The arguments of a call, each unpacked when it is used: not before its sender may use it.

    before: values that precede them.  first: how many of the packed ones are left out.
    """

    def __init__(self, packed: Variant, before: Sequence[str] = (), first: int = 0) -> None:
        self._packed, self._before, self._first = packed, before, first

    def __len__(self) -> int:
        return len(self._before) + int(self._packed.n_children()) - self._first

    def __getitem__(self, position: int) -> Any:  # type: ignore[override]  # noqa: ANN401  # any
        """Return one argument."""
        if not 0 <= position < len(self):
            raise IndexError(position)
        if position < len(self._before):
            return self._before[position]
        return self._child(position).unpack()

    def texts(self) -> Iterator[str]:
        """Yield the arguments that are texts."""
        yield from self._before
        children = (self._child(i) for i in range(len(self._before), len(self)))
        yield from (child.get_string() for child in children if child.get_type_string() == "s")

    def _child(self, position: int) -> Variant:
        return self._packed.get_child_value(position - len(self._before) + self._first)


def table(values: Mapping[str, Variant]) -> Variant:
    """Return an a{sv}."""
    new_entry, new_variant = Variant.new_dict_entry, GLib.Variant.new_variant
    entries = [new_entry(MAKERS["s"](name), new_variant(v)) for name, v in values.items()]
    return Variant.new_array(GLib.VariantType("{sv}"), entries)


def properties_changed(interface: str, values: Mapping[str, Variant]) -> Variant:
    """Return the (sa{sv}as) of PropertiesChanged; there is at least one value."""
    return Variant.new_tuple(MAKERS["s"](interface), table(values), MAKERS["as"]([]))


def _packed(value: Variant) -> Variant:
    """Return the value as one block of bytes: sent by copying, and a tenth of the objects."""
    return Variant.new_from_bytes(value.get_type(), value.get_data_as_bytes(), True)  # trusted
