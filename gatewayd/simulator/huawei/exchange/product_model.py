"""The model of a product: what its devices may report, and what may be demanded of them.  Pure.

What does not fit is discarded, and the device learns nothing of it.  Sources: "Device Reporting
Properties" (usermanual-iothub/iot_01_0326: a model is required, and the data must match it), and
the models ServiceCapability, ServiceProperty, ServiceCommand and ServiceEvent of the vendor's
management SDK.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias, TypeVar

from gatewayd.simulator.huawei.platform import fields
from gatewayd.simulator.huawei.platform.errors import IotdaCode, PlatformError

MAX_SERVICES, MAX_MEMBERS = 500, 500
"""Services of a product; properties or commands of a service (productdesc-iothub/iot_04_0010)."""
MAX_MODEL = 500 * 1024
"""Bytes of a model, as JSON (likewise)."""
_MAX_TEXT = 4_096
"""Characters of a text whose property names no length."""
_INT, _LONG = 1 << 31, 1 << 63
_NUMBER = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,15})?")
_DATE_TIME = re.compile(r"\d{8}T\d{6}Z|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


class DataType(StrEnum):
    """The type of a property or parameter."""

    INT = "int"
    LONG = "long"
    DECIMAL = "decimal"
    STRING = "string"
    DATE_TIME = "DateTime"
    JSON_OBJECT = "jsonObject"
    ENUM = "enum"
    BOOLEAN = "boolean"
    STRING_LIST = "string list"


class DiscardReason(StrEnum):
    """Why something that a device has sent, or that it shall do, does not fit."""

    UNKNOWN_SERVICE = "unknown-service"
    UNKNOWN_PROPERTY = "unknown-property"
    UNKNOWN_COMMAND = "unknown-command"
    UNKNOWN_EVENT = "unknown-event"
    UNKNOWN_PARAMETER = "unknown-parameter"
    MISSING = "missing-parameter"
    VALUE = "unfit-value"
    READ_ONLY = "not-writable"
    MALFORMED = "malformed"
    TOO_LARGE = "too-large"
    TOO_MANY = "too-many-children"
    NOT_A_CHILD = "not-a-child"
    FROZEN = "frozen"


@dataclass(frozen=True, slots=True)
class Misfit:
    """One thing that does not fit.  what: as "climate.temperature"."""

    reason: DiscardReason
    what: str

    def __str__(self) -> str:
        return f"{self.reason}: {self.what}"


@dataclass(frozen=True, slots=True)
class ModelField:
    """A property, or a parameter of a command.

    choices: of an enum.  least, most: of a number, None for no limit.  length: of a text.
    writable: whether the platform may set it.
    """

    name: str
    data_type: DataType
    required: bool = False
    choices: frozenset[str] = frozenset()
    least: float | None = None
    most: float | None = None
    length: int = _MAX_TEXT
    writable: bool = True

    def fits(self, value: object) -> bool:
        """Whether a JSON value is valid here."""
        return _TYPES[self.data_type](self, value)


@dataclass(frozen=True, slots=True)
class ModelService:
    """A service: properties, and commands and events with their parameters, by name."""

    service_id: str
    properties: Mapping[str, ModelField]
    commands: Mapping[str, Mapping[str, ModelField]]
    events: Mapping[str, Mapping[str, ModelField]]


@dataclass(frozen=True, slots=True)
class ProductModel:
    """A model: the services of a product, by service_id.  One without services fits nothing."""

    services: Mapping[str, ModelService] = field(default_factory=dict)

    def sort(
        self, service_id: str, properties: Mapping[str, object]
    ) -> tuple[dict[str, object], list[Misfit]]:
        """Divide reported properties into those that fit, and the rest with its reasons."""
        if (service := self.services.get(service_id)) is None:
            return {}, [Misfit(DiscardReason.UNKNOWN_SERVICE, service_id)]
        fit, rest = dict[str, object](), list[Misfit]()
        for name, value in properties.items():
            known = service.properties.get(name)
            if known is None:
                rest.append(Misfit(DiscardReason.UNKNOWN_PROPERTY, f"{service_id}.{name}"))
            elif not known.fits(value):
                rest.append(Misfit(DiscardReason.VALUE, f"{service_id}.{name}"))
            else:
                fit[name] = value
        return fit, rest

    def settable(self, service_id: str, properties: Mapping[str, object]) -> list[Misfit]:
        """Return what keeps the platform from setting properties."""
        _, rest = self.sort(service_id, properties)
        service = self.services.get(service_id)
        known = service.properties if service else {}
        return rest + [
            Misfit(DiscardReason.READ_ONLY, f"{service_id}.{name}")
            for name in properties
            if name in known and not known[name].writable
        ]

    def command(self, service_id: str, name: str, paras: Mapping[str, object]) -> list[Misfit]:
        """Return what keeps the platform from sending a command."""
        if (service := self.services.get(service_id)) is None:
            return [Misfit(DiscardReason.UNKNOWN_SERVICE, service_id)]
        if (wanted := service.commands.get(name)) is None:
            return [Misfit(DiscardReason.UNKNOWN_COMMAND, f"{service_id}.{name}")]
        return _misfits(f"{service_id}.{name}", wanted, paras)

    def event(self, service_id: str, name: str, paras: Mapping[str, object]) -> list[Misfit]:
        """Return why an event of a device is discarded."""
        if (service := self.services.get(service_id)) is None:
            return [Misfit(DiscardReason.UNKNOWN_SERVICE, service_id)]
        if (wanted := service.events.get(name)) is None:
            return [Misfit(DiscardReason.UNKNOWN_EVENT, f"{service_id}.{name}")]
        return _misfits(f"{service_id}.{name}", wanted, paras)


def _misfits(
    whole: str, wanted: Mapping[str, ModelField], paras: Mapping[str, object]
) -> list[Misfit]:
    """Return which parameters are missing, unknown or unfit.  whole: what has them."""
    found = [
        Misfit(DiscardReason.MISSING, f"{whole}.{para.name}")
        for para in wanted.values()
        if para.required and para.name not in paras
    ]
    for para, value in paras.items():
        if para not in wanted:
            found.append(Misfit(DiscardReason.UNKNOWN_PARAMETER, f"{whole}.{para}"))
        elif not wanted[para].fits(value):
            found.append(Misfit(DiscardReason.VALUE, f"{whole}.{para}"))
    return found


def read(capabilities: object) -> ProductModel:
    """Read a product's service_capabilities, as JSON has them.  Raises PlatformError."""
    if not isinstance(capabilities, Sequence) or isinstance(capabilities, str):
        raise _wrong("service_capabilities")
    if len(json.dumps(capabilities, ensure_ascii=False).encode()) > MAX_MODEL:
        raise _wrong("service_capabilities")
    services = _unique(capabilities, _service, "service_id", MAX_SERVICES)
    return ProductModel(services)


_T = TypeVar("_T")
_Json: TypeAlias = Mapping[str, object]


def _unique(listed: object, read_one: Callable[[_Json], _T], key: str, most: int) -> dict[str, _T]:
    """Read the objects of a list by their names, none of which comes twice; none for null."""
    listed = [] if listed is None else listed
    if not isinstance(listed, Sequence) or isinstance(listed, str) or len(listed) > most:
        raise _wrong(key)
    found = dict[str, _T]()
    for one in listed:
        name = one.get(key) if isinstance(one, Mapping) else None
        if not isinstance(name, str) or name in found:
            raise _wrong(key)
        found[name] = read_one(one)
    return found


def _service(one: _Json) -> ModelService:
    def command(sent: _Json) -> Mapping[str, ModelField]:
        fields.check("member_name", sent["command_name"])
        return _unique(sent.get("paras"), _parameter, "para_name", MAX_MEMBERS)

    def event(sent: _Json) -> Mapping[str, ModelField]:
        fields.check("event_type", sent["event_type"])
        return _unique(sent.get("paras"), _parameter, "para_name", MAX_MEMBERS)

    return ModelService(
        fields.check("service_id", one["service_id"]),
        _unique(one.get("properties"), _property, "property_name", MAX_MEMBERS),
        _unique(one.get("commands"), command, "command_name", MAX_MEMBERS),
        _unique(one.get("events"), event, "event_type", MAX_MEMBERS),
    )


def _property(one: _Json) -> ModelField:
    method = one.get("method") or "RW"
    if method not in ("RWE", "RW", "RE", "WE", "E", "W", "R"):
        raise _wrong("method")
    return _field(one, "property_name", writable="W" in str(method))


def _parameter(one: _Json) -> ModelField:
    return _field(one, "para_name", writable=True)


def _field(one: _Json, key: str, *, writable: bool) -> ModelField:
    choices, length = one.get("enum_list") or [], one.get("max_length") or _MAX_TEXT
    if not isinstance(choices, list) or not isinstance(length, int):
        raise _wrong(key)
    try:
        data_type = DataType(str(one.get("data_type")))
    except ValueError:
        raise _wrong("data_type") from None
    return ModelField(
        fields.check("member_name", one[key]),
        data_type,
        one.get("required") is True,
        frozenset(map(str, choices)),
        _limit(one.get("min")),
        _limit(one.get("max")),
        length,
        writable,
    )


def _limit(text: object) -> float | None:
    """Read a limit, which the vendor writes as text."""
    if text in (None, ""):
        return None
    if not _NUMBER.fullmatch(str(text)):
        raise _wrong("min, max")
    return float(str(text))


def _wrong(name: str) -> PlatformError:
    return PlatformError(IotdaCode.INVALID_INPUT, f"({name})")


def _between(one: ModelField, value: float) -> bool:
    low = one.least is None or value >= one.least
    return low and (one.most is None or value <= one.most)


def _whole(bound: int) -> Callable[[ModelField, object], bool]:
    def fits(one: ModelField, value: object) -> bool:
        return type(value) is int and -bound <= value < bound and _between(one, value)

    return fits


def _decimal(one: ModelField, value: object) -> bool:
    return type(value) in (int, float) and _between(one, float(str(value)))


def _text(one: ModelField, value: object) -> bool:
    return isinstance(value, str) and len(value) <= one.length


def _texts(one: ModelField, value: object) -> bool:
    return isinstance(value, list) and all(_text(one, each) for each in value)


_TYPES: Mapping[DataType, Callable[[ModelField, object], bool]] = {
    DataType.INT: _whole(_INT),
    DataType.LONG: _whole(_LONG),
    DataType.DECIMAL: _decimal,
    DataType.STRING: _text,
    DataType.DATE_TIME: lambda _, value: (
        isinstance(value, str) and _DATE_TIME.fullmatch(value) is not None
    ),
    DataType.JSON_OBJECT: lambda _, value: isinstance(value, dict),
    DataType.ENUM: lambda one, value: isinstance(value, str) and value in one.choices,
    DataType.BOOLEAN: lambda _, value: isinstance(value, bool),
    DataType.STRING_LIST: _texts,
}
"""Type → whether a JSON value is of it."""
