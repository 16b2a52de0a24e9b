"""What gatewayctl --json prints: the fields of each object, documented and checked.

Names are those of the D-Bus properties where a field is one; times are microseconds since the
epoch, 0 for never.  A command prints one object a line.  gatewayctl-json(5) is made from the
tables of the commands, and a test validates what each prints against them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, TypeAlias

from gatewayd.dbus.interfaces import load

Record: TypeAlias = Mapping[str, Any]
"""One object that a command returns: values by the names of their fields."""


class FieldKind(StrEnum):
    """What a field holds."""

    TEXT = "text"
    NUMBER = "number"
    FLAG = "true or false"
    TEXTS = "list of texts"
    OBJECT = "object"
    OBJECTS = "list of objects"


@dataclass(frozen=True, slots=True)
class JsonField:
    """One field.  optional: whether it may be missing."""

    name: str
    kind: FieldKind
    meaning: str
    optional: bool = False


def text(name: str, meaning: str) -> JsonField:
    """Return a field that holds a text."""
    return JsonField(name, FieldKind.TEXT, meaning)


def number(name: str, meaning: str) -> JsonField:
    """Return a field that holds a number."""
    return JsonField(name, FieldKind.NUMBER, meaning)


def flag(name: str, meaning: str) -> JsonField:
    """Return a field that is true or false."""
    return JsonField(name, FieldKind.FLAG, meaning)


def texts(name: str, meaning: str) -> JsonField:
    """Return a field that holds a list of texts."""
    return JsonField(name, FieldKind.TEXTS, meaning)


def anything(name: str, meaning: str, kind: FieldKind = FieldKind.OBJECT) -> JsonField:
    """Return a field that holds an object, or a list of them."""
    return JsonField(name, kind, meaning)


def maybe(*fields: JsonField) -> tuple[JsonField, ...]:
    """Return fields that may be missing."""
    return tuple(replace(one, optional=True) for one in fields)


DONE: Sequence[JsonField] = (flag("Done", "true: the command has done what it says"),)
"""What a command prints that returns nothing."""
PEM: Sequence[JsonField] = (text("Certificates", "certificates as PEM, one after the other"),)
"""What a command prints that returns certificates."""
ERROR: Sequence[JsonField] = (
    text("Error", "the kind of error: a D-Bus name, or a word"),
    text("Message", "what failed, why, and what to do"),
)
"""What any command prints last that fails; the exit status is 1, or 2 for wrong usage."""

_SIGNATURES: Mapping[str, FieldKind] = {
    "s": FieldKind.TEXT, "o": FieldKind.TEXT, "b": FieldKind.FLAG, "as": FieldKind.TEXTS,
    "a{st}": FieldKind.OBJECT, "a{sv}": FieldKind.OBJECT,
    "a(ssstua{st})": FieldKind.OBJECTS,
}  # fmt: skip


def of_interface(name: str) -> tuple[JsonField, ...]:
    """Return the fields that are the properties of an interface."""
    found = load(name).properties.items()
    return tuple(
        JsonField(prop, _kind(signature), f"property of {name}") for prop, signature in found
    )


def _kind(signature: str) -> FieldKind:
    if signature in ("t", "u", "x", "i", "q"):
        return FieldKind.NUMBER
    return _SIGNATURES.get(signature) or (
        FieldKind.OBJECTS if signature.startswith("a(") else FieldKind.OBJECT
    )


def faults(record: Record, fields: Sequence[JsonField]) -> Iterator[str]:
    """Yield what of an object is not as it is documented."""
    known = {one.name: one for one in fields}
    for name in record.keys() - known.keys():
        yield f"{name} is not documented"
    for one in fields:
        if one.name not in record:
            yield from () if one.optional else (f"{one.name} is missing",)
        elif not _fits(record[one.name], one.kind):
            yield f"{one.name} is no {one.kind}"


def _fits(value: object, kind: FieldKind) -> bool:
    match kind:
        case FieldKind.TEXT:
            return isinstance(value, str)
        case FieldKind.NUMBER:
            return isinstance(value, int | float) and not isinstance(value, bool)
        case FieldKind.FLAG:
            return isinstance(value, bool)
        case FieldKind.TEXTS:
            return _is_list(value, str)
        case FieldKind.OBJECTS:
            return _is_list(value, Mapping, list, tuple)
        case _:
            return value is None or isinstance(value, Mapping)


def _is_list(value: object, *kinds: type) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(one, kinds) for one in value)


def table(fields: Iterable[JsonField]) -> Iterator[tuple[str, str, str]]:
    """Yield name, kind and meaning of each field, for a manual."""
    for one in fields:
        yield one.name, f"{one.kind}{', may be missing' if one.optional else ''}", one.meaning
