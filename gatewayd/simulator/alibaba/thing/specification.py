"""The model of a product, written in the vendor's Thing Specification Language (TSL).  Pure.

The level of the check is the vendor's default, "weak": identifiers and data types count, ranges do
not.  Sources: the vendor's pages "Supported data types" (help.aliyun.com/document_detail/358843),
"Device properties, events, and services" (89301), "Limits" (30527), and recorded replies of its
cloud, which list the faults of a report by property, beside the code 200.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_TEXT, MAX_ARRAY = 10_240, 512
"""Bytes of a text, and items of an array."""

UNKNOWN = "tsl parse: params not exist"
"""The fault of an identifier that the model lacks, in the vendor's words."""

_INT32 = range(-(2**31), 2**31)
_DATE = re.compile(r"[0-9]{1,20}")


@dataclass(frozen=True, slots=True)
class TslType:
    """A data type.

    kind: as the vendor names it.  members: of a struct.  item: of an array.  values: of an enum.
    """

    kind: str
    members: Mapping[str, TslType] = field(default_factory=dict)
    item: TslType | None = None
    values: frozenset[str] = frozenset()

    def fault(self, value: object) -> str | None:
        """Return what is wrong with a value; None if it fits."""
        return None if _FITS[self.kind](self, value) else f"tsl parse: {self.kind} is wanted"


@dataclass(frozen=True, slots=True)
class ThingModel:
    """The model of a product; without anything, that of a product that has none.

    settable: the properties that the cloud may set.
    events, services: the fields of each.  synchronous: the services that are called so.
    """

    properties: Mapping[str, TslType] = field(default_factory=dict)
    settable: frozenset[str] = frozenset()
    events: Mapping[str, Mapping[str, TslType]] = field(default_factory=dict)
    services: Mapping[str, Mapping[str, TslType]] = field(default_factory=dict)
    synchronous: frozenset[str] = frozenset()


def parse(tsl: Mapping[str, Any]) -> ThingModel:
    """Read a model as the console exports it.  Raises KeyError, TypeError, ValueError."""
    properties = {one["identifier"]: one for one in tsl.get("properties", ())}
    return ThingModel(
        {name: _type(one["dataType"]) for name, one in properties.items()},
        frozenset(name for name, one in properties.items() if "w" in one.get("accessMode", "rw")),
        {one["identifier"]: _fields(one.get("outputData", ())) for one in tsl.get("events", ())},
        {one["identifier"]: _fields(one.get("inputData", ())) for one in tsl.get("services", ())},
        frozenset(
            one["identifier"] for one in tsl.get("services", ()) if one.get("callType") == "sync"
        ),
    )


def faults(types: Mapping[str, TslType], values: Mapping[str, object]) -> dict[str, str]:
    """Return what is wrong with values, by identifier; {} if nothing is."""
    found = {
        name: types[name].fault(value) if name in types else UNKNOWN
        for name, value in values.items()
    }
    return {name: fault for name, fault in found.items() if fault}


def _fields(data: Iterable[Mapping[str, Any]]) -> dict[str, TslType]:
    return {one["identifier"]: _type(one["dataType"]) for one in data if "dataType" in one}


def _type(data: Mapping[str, Any]) -> TslType:
    """Read a data type.  Raises KeyError, TypeError, ValueError."""
    kind, specs = str(data["type"]), data.get("specs", {})
    if kind not in _FITS:
        raise ValueError(kind)
    if kind == "struct":
        return TslType(kind, _fields(specs))
    if kind == "array":
        return TslType(kind, item=_type(specs["item"]))
    return TslType(kind, values=frozenset(map(str, specs)) if kind == "enum" else frozenset())


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value in _INT32


def _is_struct(kind: TslType, value: object) -> bool:
    return isinstance(value, dict) and not faults(kind.members, value)


def _is_array(kind: TslType, value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= MAX_ARRAY
        and kind.item is not None
        and not any(map(kind.item.fault, value))
    )


_FITS: Mapping[str, Callable[[TslType, object], bool]] = {
    "int": lambda _, value: _is_int(value),
    # The page wants "at least one decimal place", which a JSON writer of a whole number leaves out.
    "float": lambda _, value: _is_int(value) or isinstance(value, float),
    "double": lambda _, value: _is_int(value) or isinstance(value, float),
    "text": lambda _, value: isinstance(value, str) and len(value.encode()) <= MAX_TEXT,
    "date": lambda _, value: isinstance(value, str) and _DATE.fullmatch(value) is not None,
    "bool": lambda _, value: _is_int(value) and value in (0, 1),
    "enum": lambda kind, value: _is_int(value) and str(value) in kind.values,
    "struct": _is_struct,
    "array": _is_array,
}
"""Kind of a data type, to whether a value is one."""
