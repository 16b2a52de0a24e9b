"""Views as D-Bus values.  The costly ones are kept while an answer of all children is made.

GLib makes a value of many small ones, and each costs a call from Python.  So those of children are
serialised here at once; a test compares each type with what GLib makes.  The format:
docs.gtk.org/glib, "GVariant serialization".  A value is padded to its alignment within what
contains it.  Where the end of a member of variable size does not follow from its place, it is
listed behind the members.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from itertools import accumulate, starmap
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
    "Conflict": "conflict", "ConflictWith": "rivals",
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
        self._entries: dict[DeviceId, bytes] = {}

    def forget(self, device: DeviceId) -> None:
        """Drop what is kept of a child: its view has changed."""
        self._entries.pop(device, None)

    def forget_all(self) -> None:
        """Drop what is kept of all children: no answer is made of it now."""
        self._entries.clear()

    def has_entry(self, device: DeviceId) -> bool:
        """Whether `entries` would be cheap for this child."""
        return device in self._entries

    def property(self, view: DeviceView, name: str) -> Variant:
        """Return the value of one property."""
        return MAKERS[self._interface.properties[name]](getattr(view, FIELDS[name]))

    def properties(self, view: DeviceView) -> dict[str, Variant]:
        """Return all properties."""
        return {name: self.property(view, name) for name in self._interface.properties}

    def changed(self, before: DeviceView, now: DeviceView) -> Variant | None:
        """Return the (sa{sv}as) of PropertiesChanged; None where nothing announced has changed."""
        names = [
            name
            for name, field in FIELDS.items()
            if getattr(before, field) != getattr(now, field) and name in self._interface.announced
        ]
        if not names:
            return None
        interface = pack_text(self._interface.name)
        members = (("s", interface), ("a{sv}", self._packed(now, names)), ("as", b""))
        return variant("(sa{sv}as)", pack_structure(members))

    def rows(self, views: Iterable[DeviceView]) -> Variant:
        """Return an a(ssssto)."""
        return variant(f"a{ROW}", pack_array(map(pack_row, views), 8))

    def entries(self, views: Iterable[DeviceView]) -> Variant:
        """Return an a{oa{sa{sv}}}, the result of GetManagedObjects."""
        return variant(f"a{ENTRY}", pack_array((self.entry(view) for view in views), 8))

    def entry(self, view: DeviceView) -> bytes:
        """Return path, interface and properties of one child, as an {oa{sa{sv}}}."""
        if view.id not in self._entries:
            self._entries[view.id] = self._make_entry(view)
        return self._entries[view.id]

    def added(self, view: DeviceView) -> Variant:
        """Return the (oa{sa{sv}}) of InterfacesAdded."""
        return variant("(oa{sa{sv}})", self._make_entry(view))  # both are laid out alike

    def describe(self, view: DeviceView, more: Mapping[str, Variant]) -> Variant:
        """Return an (a{sv}) with all properties, the path, the history and the sightings.

        more: further entries.
        """
        history = [(step.at, step.event, step.state, step.text) for step in view.history]
        around = {
            "Path": Variant("o", device_path(view.id)),
            "History": Variant("a(tsss)", history),
            "Sightings": Variant("aa{ss}", list(map(dict, view.sightings))),
        }
        return Variant("(a{sv})", ({**self.properties(view), **around, **more},))

    def _make_entry(self, view: DeviceView) -> bytes:
        every = self._packed(view, self._interface.properties)
        interface = (("s", pack_text(self._interface.name)), ("a{sv}", every))
        interfaces = pack_array((pack_structure(interface),), 8)
        path = pack_text(device_path(view.id))
        return pack_structure((("o", path), ("a{sa{sv}}", interfaces)))

    def _packed(self, view: DeviceView, names: Iterable[str]) -> bytes:
        """Return some properties of one child, as an a{sv}."""
        kinds = self._interface.properties
        return pack_properties((name, kinds[name], getattr(view, FIELDS[name])) for name in names)


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


def variant(kind: str, data: bytes) -> Variant:
    """Return a value of a type that was made as bytes, and is sent by copying them."""
    return Variant.new_from_bytes(_type_of(kind), GLib.Bytes.new(data), True)  # trusted


@cache
def _type_of(kind: str) -> GLib.VariantType:
    """Return a type.  Those that are sent are few."""
    return GLib.VariantType(kind)


def texts(kind: str, *values: str) -> Variant:
    """Return a tuple of strings and object paths, as "(sos)": GLib's own way takes four times as
    long."""
    members = zip(kind.strip("()"), map(pack_text, values), strict=True)
    return variant(kind, pack_structure(tuple(members)))


_ALIGNMENT: Final = {
    "s": 1, "o": 1, "as": 1, "u": 4, "t": 8, "v": 8, "a{sv}": 8, "a{sa{sv}}": 8,
}  # fmt: skip
_FIXED: Final = ("u", "t")
"""The types whose values all have one size."""

_WIDTHS: Final = ((1, 0xFF), (2, 0xFFFF), (4, 0xFFFF_FFFF), (8, 0xFFFF_FFFF_FFFF_FFFF))
_PADDING: Final = tuple(bytes(length) for length in range(8))


def pack_text(value: str) -> bytes:
    """Return a string, or an object path.  Raises ValueError where it has a NUL or a surrogate."""
    if "\0" in value:
        raise ValueError("a D-Bus string has no NUL")
    return value.encode() + b"\0"


def pack_texts(values: Iterable[str]) -> bytes:
    """Return an as."""
    return pack_array((pack_text(value) for value in values), 1)


PACK: Final[dict[str, Callable[[Any], bytes]]] = {
    "s": pack_text,
    "o": pack_text,
    "u": struct.Struct("=I").pack,
    "t": struct.Struct("=Q").pack,
    "as": pack_texts,
}
"""Makes a value of a type that a property has."""


def pack_row(view: DeviceView) -> bytes:
    """Return the row of a child in lists: as `pack_structure` makes it, in half the time."""
    *names, changed, path = row_of(view)
    packed = [pack_text(name) for name in names]
    texts = b"".join(packed)
    body = texts + _PADDING[-len(texts) % 8] + PACK["t"](changed) + pack_text(path)
    return _framed(bytearray(body), [*accumulate(map(len, packed))][::-1])


def pack_structure(members: Sequence[tuple[str, bytes]]) -> bytes:
    """Return a tuple or a dictionary entry, with type and bytes of each member.

    At least one member is of variable size.
    """
    body, ends, last = bytearray(), list[int](), len(members) - 1
    for position, (kind, data) in enumerate(members):
        body += _PADDING[-len(body) % _ALIGNMENT[kind]]
        body += data
        if kind not in _FIXED and position < last:
            ends.append(len(body))
    ends.reverse()
    return _framed(body, ends)


def pack_array(elements: Iterable[bytes], alignment: int) -> bytes:
    """Return an array of elements of variable size, of this alignment."""
    body, ends = bytearray(), list[int]()
    for element in elements:
        body += _PADDING[-len(body) % alignment]
        body += element
        ends.append(len(body))
    return _framed(body, ends)


def pack_properties(values: Iterable[tuple[str, str, Hashable]]) -> bytes:
    """Return an a{sv} of the name, type and value of each.  Names and types are few."""
    return pack_array(starmap(_property, values), 8)


@lru_cache(maxsize=256)
def _property(name: str, kind: str, value: Hashable) -> bytes:
    """Return an {sv}: the name, padded, the v with its type behind the value, the name's end.

    Most children have most values in common, as their states and empty texts.
    """
    padded, type_string, end = _around(name, kind)
    return _framed(bytearray(padded + PACK[kind](value) + type_string), (end,))


@cache
def _around(name: str, kind: str) -> tuple[bytes, bytes, int]:
    packed = pack_text(name)
    return packed + _PADDING[-len(packed) % 8], b"\0" + kind.encode(), len(packed)


def _framed(body: bytearray, ends: Sequence[int]) -> bytes:
    """Append the ends, each in as few bytes as suffice for the whole."""
    if count := len(ends):
        width = next(w for w, most in _WIDTHS if len(body) + count * w <= most)
        for end in ends:
            body += end.to_bytes(width, sys.byteorder)
    return bytes(body)
