"""A provisioning template: how the platform makes a device of a certificate, and its lint.  Pure.

`lint` reads a template, and returns every fault at once as a diagnostic, duplicate JSON keys among
them.  Sources: "Create a Provisioning Template" and "Bind Tags" of the IoTDA API reference;
"Functions" of its developer guide, by which "Ref" and "Fn::" belong to custom authentication, and
not here; the models ProvisioningTemplateBody, DeviceResource, TagRef and PolicyResource of the
vendor's management SDK.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias, TypeVar

from gatewayd.cloud.huawei import settings
from gatewayd.cloud.huawei.settings import Field
from gatewayd.cloud.huawei.subject import ATTRIBUTES, KNOWN

DEVICE = "resources.device"
POLICY = "resources.policy"


@dataclass(frozen=True, slots=True)
class Ref:
    """A reference to an attribute of the certificate's subject.

    parameter: its full name, a key of subject.ATTRIBUTES.
    """

    parameter: str


Value: TypeAlias = Ref | str


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag that the device gets."""

    key: Value
    value: Value


@dataclass(frozen=True, slots=True)
class ProvisioningTemplate:
    """A valid template, as `lint` returns it.

    parameters: the declared ones, by full name: a certificate must have all of them.
    name, description: "" where the text is the body alone.
    """

    parameters: tuple[str, ...]
    node_id: Ref
    product_id: Value
    device_id: Ref | None = None
    device_name: Ref | None = None
    tags: tuple[Tag, ...] = ()
    policy_ids: tuple[str, ...] = ()
    name: str = ""
    description: str = ""

    def fields(self) -> Iterator[tuple[str, Value]]:
        """Yield the last key and the value of each field of the device that is set; not tags."""
        for key in ("device_name", "device_id", "node_id", "product_id"):
            value: Value | None = getattr(self, key)
            if value is not None:
                yield key, value

    def references(self) -> frozenset[str]:
        """Return the parameters that are referred to."""
        tags = (part for tag in self.tags for part in (tag.key, tag.value))
        values = (*(value for _, value in self.fields()), *tags)
        return frozenset(value.parameter for value in values if isinstance(value, Ref))

    def body(self) -> dict[str, Any]:
        """Return the template_body, for JSON."""
        device: dict[str, Any] = {key: _raw(value) for key, value in self.fields()}
        if self.tags:
            device["tags"] = [
                {"tag_key": _raw(tag.key), "tag_value": _raw(tag.value)} for tag in self.tags
            ]
        resources: dict[str, Any] = {"device": device}
        if self.policy_ids:
            resources["policy"] = {"policy_ids": list(self.policy_ids)}
        declared = {parameter: {"type": "String"} for parameter in self.parameters}
        return {"parameters": declared, "resources": resources}

    def request(self) -> dict[str, Any]:
        """Return the request that creates the template, for JSON."""
        description = {"description": self.description} if self.description else {}
        return {"template_name": self.name, **description, "template_body": self.body()}


def _raw(value: Value) -> Any:  # noqa: ANN401  # whatever JSON holds
    return {"ref": value.parameter} if isinstance(value, Ref) else value


_SHOWN = 64
"""Characters of a value that a diagnostic shows."""


class DiagnosticKind(StrEnum):
    """What a diagnostic is about."""

    TOO_LARGE = "too-large"
    NOT_JSON = "not-json"
    WRONG_TYPE = "wrong-type"
    REPEATED_KEY = "repeated-key"
    UNKNOWN_KEY = "unknown-key"
    MISSING = "missing"
    UNKNOWN_PARAMETER = "unknown-parameter"
    WRONG_SPELLING = "wrong-spelling"  # of ref
    FUNCTION = "function"
    UNDECLARED = "undeclared"
    STATIC = "static"  # a text where only a reference is allowed
    ILLEGAL = "illegal"  # a text that its field does not allow
    TOO_MANY = "too-many"
    ATTRIBUTE_MISSING = "attribute-missing"
    ATTRIBUTE_REPEATED = "attribute-repeated"
    OTHERWISE = "otherwise"  # the template sets another value than desired
    CONFLICT = "conflict"  # one attribute would need two values
    UNREFERENCED = "unreferenced"
    UNWISE = "unwise"


WARNINGS = frozenset({DiagnosticKind.UNREFERENCED, DiagnosticKind.UNWISE})


@dataclass(frozen=True, slots=True)
class TemplateDiagnostic:
    """A diagnostic: what is wrong with a template, or a certificate, and where.

    place: the keys that lead there, as resources.device.node_id; "" for the whole.
    what: the fault, without the place.  remedy: what to do.
    parameter: the full name of the template's parameter concerned; "" for none.
    """

    kind: DiagnosticKind
    place: str
    what: str
    remedy: str = ""
    parameter: str = ""

    @property
    def fatal(self) -> bool:
        """Whether the template or certificate cannot be used so."""
        return self.kind not in WARNINGS

    def __str__(self) -> str:
        level = "error" if self.fatal else "warning"
        where = f"{self.place} " if self.place else ""
        return f"{level}: {where}{self.what}" + (f"; {self.remedy}" if self.remedy else "")


def fatal(diagnostics: Iterable[TemplateDiagnostic]) -> bool:
    """Whether any of the diagnostics is fatal."""
    return any(diagnostic.fatal for diagnostic in diagnostics)


def quoted(value: object) -> str:
    """Return a value as a diagnostic shows it: bounded and printable."""
    text = str(value)
    return ascii(text[:_SHOWN]) + "..." * (len(text) > _SHOWN)


MAX_BYTES = 64 << 10
"""Bytes of a template; the vendor names no bound, and one with all fields has 4 KiB."""


class NotTemplateJson(Exception):
    """The text is no JSON; `diagnostic` says where and why."""

    def __init__(self, diagnostic: TemplateDiagnostic) -> None:
        super().__init__(str(diagnostic))
        self.diagnostic = diagnostic


class _Object(dict[str, Any]):
    """A JSON object that remembers its duplicate keys."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        counts = Counter(key for key, _ in pairs)
        self.repeated = {key for key, count in counts.items() if count > 1}


def load(data: bytes) -> Any:  # noqa: ANN401  # whatever JSON holds
    """Return the value of a JSON text in UTF-8.  Raises NotTemplateJson."""
    if len(data) > MAX_BYTES:
        what = f"must have at most {MAX_BYTES} bytes"
        raise NotTemplateJson(TemplateDiagnostic(DiagnosticKind.TOO_LARGE, "", what))
    try:
        text = data.decode("utf-8-sig")
        return json.loads(text, object_pairs_hook=_Object, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        what = f"is not JSON: line {error.lineno}, column {error.colno}: {error.msg}"
    except UnicodeDecodeError as error:
        what = f"is not JSON: line {_line(data, error.start)}: not UTF-8"
    except ValueError as error:
        what = f"is not JSON: {error}"
    except RecursionError:
        what = "is not JSON: too deeply nested"
    raise NotTemplateJson(TemplateDiagnostic(DiagnosticKind.NOT_JSON, "", what))


def _no_constant(name: str) -> None:
    raise ValueError(f"it has no {name}")


def _line(data: bytes, offset: int) -> int:
    return data.count(b"\n", 0, offset) + 1


def duplicate_keys(value: object) -> Iterator[TemplateDiagnostic]:
    """Yield a finding for each duplicate key of the objects in a loaded value."""
    pending: list[tuple[str, object]] = [("", value)]
    while pending:
        place, one = pending.pop()
        if isinstance(one, list):
            pending += [(f"{place}[{index}]", part) for index, part in enumerate(one)]
        elif isinstance(one, _Object):
            pending += [(join(place, key), part) for key, part in one.items()]
            for key in sorted(one.repeated):
                what = f"has the key {quoted(key)} more than once"
                yield TemplateDiagnostic(
                    DiagnosticKind.REPEATED_KEY, place, what, "leave one of them"
                )


def join(place: str, key: str) -> str:
    """Return the place of a key in an object at a place; the key may hold anything."""
    shown = quoted(key).replace("'", "")
    return f"{place}.{shown}" if place else shown


_AS_REFERENCE = 'write {"ref": "<a declared parameter>"}'
_TYPES: Mapping[type, str] = {dict: "an object", list: "a list", str: "a text"}
_T = TypeVar("_T", dict[str, Any], list[Any], str)


@dataclass(slots=True)
class TemplateReader:
    """A reader of one template, which collects diagnostics.

    declared: its parameters.  used: those that are referred to.
    """

    diagnostics: list[TemplateDiagnostic]
    declared: Sequence[str] = ()
    used: set[str] = field(default_factory=set)

    def note(
        self, kind: DiagnosticKind, place: str, what: str, remedy: str = "", parameter: str = ""
    ) -> None:
        """Note a finding."""
        self.diagnostics.append(TemplateDiagnostic(kind, place, what, remedy, parameter))

    def keys(
        self,
        raw: Mapping[str, Any],
        place: str,
        required: Sequence[str],
        optional: Sequence[str] = (),
    ) -> None:
        """Note missing and unknown keys of an object."""
        for key in required:
            if key not in raw:
                self.note(DiagnosticKind.MISSING, join(place, key), "is missing")
        known = (*required, *optional)
        for key in raw:
            if key not in known:
                remedy = "known are " + ", ".join(known)
                self.note(DiagnosticKind.UNKNOWN_KEY, join(place, key), "is an unknown key", remedy)

    def take(self, raw: Mapping[str, Any], place: str, key: str, kind: type[_T]) -> _T | None:
        """Return the value of a key; None if it is missing, or not of this kind."""
        value = raw.get(key)
        if isinstance(value, kind):
            return value
        if key in raw:
            self.note(DiagnosticKind.WRONG_TYPE, join(place, key), f"must be {_TYPES[kind]}")
        return None

    def text(self, raw: Mapping[str, Any], key: str, rule: Field) -> str:
        """Return a text of the request; "" if there is none."""
        value = self.take(raw, "", key, str)
        return "" if value is None else self._static(value, key, rule)

    def value(self, raw: Mapping[str, Any], place: str, key: str, rule: Field) -> Value | None:
        """Return a text or a reference; None if there is neither."""
        value = raw.get(key)
        if isinstance(value, str):
            return self._static(value, join(place, key), rule)
        return self._reference(raw, join(place, key), key, "must be a text or a reference")

    def reference(self, raw: Mapping[str, Any], place: str, key: str) -> Ref | None:
        """Return a reference; None if there is none."""
        if isinstance(raw.get(key), str):
            what = "must be a reference, not a text"
            self.note(DiagnosticKind.STATIC, join(place, key), what, _AS_REFERENCE)
            return None
        return self._reference(raw, join(place, key), key, "must be a reference")

    def unreferenced(self) -> None:
        """Note the parameters that are not referred to."""
        remedy = "remove it, as a certificate must have every declared parameter"
        for parameter in self.declared:
            if parameter not in self.used:
                place, what = join("parameters", parameter), "is declared but not used"
                self.note(DiagnosticKind.UNREFERENCED, place, what, remedy, parameter)

    def _static(self, value: str, place: str, rule: Field) -> str:
        if fault := rule.fault(value):
            self.note(DiagnosticKind.ILLEGAL, place, f"is {quoted(value)}, and {fault}")
        return value

    def _reference(self, raw: Mapping[str, Any], place: str, key: str, what: str) -> Ref | None:
        value = raw.get(key)
        if not isinstance(value, dict):
            if key in raw:
                self.note(DiagnosticKind.WRONG_TYPE, place, what, _AS_REFERENCE)
            return None
        self.used |= {one for one in value.values() if isinstance(one, str)}
        if any(one.startswith("Fn::") for one in value):
            self.note(
                DiagnosticKind.FUNCTION,
                place,
                "has a function, which is not allowed here",
                _AS_REFERENCE,
            )
        elif "Ref" in value:
            self.note(
                DiagnosticKind.WRONG_SPELLING, place, 'has "Ref"', 'write "ref", in small letters'
            )
        elif set(value) != {"ref"} or not isinstance(value["ref"], str):
            self.note(DiagnosticKind.WRONG_TYPE, place, what, _AS_REFERENCE)
        else:
            return self._resolved(value["ref"], place)
        return None

    def _resolved(self, parameter: str, place: str) -> Ref:
        if parameter in self.declared:
            return Ref(parameter)
        what = f"refers to {quoted(parameter)}, which "
        if parameter in ATTRIBUTES:
            what, remedy = f"{what}is not declared", "add it to parameters"
            self.note(DiagnosticKind.UNDECLARED, place, what, remedy, parameter)
        else:
            what = f"{what}the platform does not know"
            self.note(DiagnosticKind.UNKNOWN_PARAMETER, place, what, KNOWN, parameter)
        return Ref(parameter)


BODY = "template_body"
REQUEST = ("template_name", BODY, "description")
MAX_POLICIES = 5
"""Policies that a device may have ("Device Topic Policies")."""

_POLICY_ID = re.compile(r"[A-Fa-f0-9]{24}")


@dataclass(frozen=True, slots=True)
class TemplateLint:
    """The result of a lint.  template: None if any finding is fatal."""

    template: ProvisioningTemplate | None
    diagnostics: tuple[TemplateDiagnostic, ...]


def lint(data: bytes) -> TemplateLint:
    """Read a template; return it with its diagnostics.

    data: JSON: the template_body alone, or the whole request that creates a template.
    """
    try:
        raw = load(data)
    except NotTemplateJson as error:
        return TemplateLint(None, (error.diagnostic,))
    read = TemplateReader(list(_duplicates(raw)))
    template = _template(read, raw)
    diagnostics = tuple(read.diagnostics)
    return TemplateLint(None if fatal(diagnostics) else template, diagnostics)


def _duplicates(raw: object) -> Iterator[TemplateDiagnostic]:
    for one in duplicate_keys(raw):
        yield dataclasses.replace(one, place=one.place.removeprefix(f"{BODY}."))


def _template(read: TemplateReader, raw: object) -> ProvisioningTemplate | None:
    """Return the template, which is valid only if no finding is fatal."""
    if not isinstance(raw, dict):
        read.note(DiagnosticKind.WRONG_TYPE, "", "must be an object")
        return None
    if not raw.keys() & set(REQUEST):
        return _body(read, raw)
    read.keys(raw, "", REQUEST[:2], REQUEST[2:])
    name = read.text(raw, "template_name", settings.TEMPLATE_NAME)
    description = read.text(raw, "description", settings.DESCRIPTION)
    body = read.take(raw, "", BODY, dict)
    found = None if body is None else _body(read, body)
    return found and dataclasses.replace(found, name=name, description=description)


def _body(read: TemplateReader, body: Mapping[str, Any]) -> ProvisioningTemplate | None:
    read.keys(body, "", ("parameters", "resources"))
    _declare(read, read.take(body, "", "parameters", dict) or {})
    resources = read.take(body, "", "resources", dict)
    if resources is None:
        return None
    read.keys(resources, "resources", ("device",), ("policy",))
    device = read.take(resources, "resources", "device", dict)
    found = None if device is None else _device(read, device)
    policies = _policies(read, read.take(resources, "resources", "policy", dict) or {})
    read.unreferenced()
    return found and dataclasses.replace(found, policy_ids=policies)


def _declare(read: TemplateReader, parameters: Mapping[str, Any]) -> None:
    read.declared = tuple(parameters)
    for parameter, value in parameters.items():
        place = join("parameters", parameter)
        if parameter not in ATTRIBUTES:
            what = "is a parameter that the platform does not know"
            read.note(DiagnosticKind.UNKNOWN_PARAMETER, place, what, KNOWN, parameter)
        if isinstance(value, dict):
            read.keys(value, place, ("type",))
            _type(read, value.get("type", "String"), join(place, "type"))
        else:
            read.note(DiagnosticKind.WRONG_TYPE, place, 'must be {"type": "String"}')


def _type(read: TemplateReader, value: object, place: str) -> None:
    if not isinstance(value, str) or value.lower() != "string":
        read.note(
            DiagnosticKind.WRONG_TYPE, place, f"is {quoted(value)}", 'the only type is "String"'
        )
    elif value != "String":
        read.note(DiagnosticKind.UNWISE, place, f"is {quoted(value)}", 'the format has "String"')


def _device(read: TemplateReader, device: Mapping[str, Any]) -> ProvisioningTemplate | None:
    optional = ("device_id", "device_name", "tags")
    read.keys(device, DEVICE, ("node_id", "product_id"), optional)
    node_id = read.reference(device, DEVICE, "node_id")
    product_id = read.value(device, DEVICE, "product_id", settings.PRODUCT_ID)
    device_id = read.reference(device, DEVICE, "device_id")
    device_name = read.reference(device, DEVICE, "device_name")
    tags = tuple(_tags(read, read.take(device, DEVICE, "tags", list) or []))
    if node_id is None or product_id is None:
        return None
    declared = tuple(read.declared)
    return ProvisioningTemplate(declared, node_id, product_id, device_id, device_name, tags)


def _tags(read: TemplateReader, tags: Sequence[Any]) -> Sequence[Tag]:
    place = f"{DEVICE}.tags"
    if len(tags) > settings.MAX_TAGS:
        what, remedy = f"has {len(tags)} tags", f"a device has at most {settings.MAX_TAGS}"
        read.note(DiagnosticKind.TOO_MANY, place, what, remedy)
    value = [tag for index, one in enumerate(tags) if (tag := _tag(read, one, f"{place}[{index}]"))]
    for key, count in Counter(tag.key for tag in value).items():
        if count > 1:
            shown = quoted(key.parameter if isinstance(key, Ref) else key)
            what, remedy = f"has {count} tags with the key {shown}", "a device has each key once"
            read.note(DiagnosticKind.ILLEGAL, place, what, remedy)
    return value


def _tag(read: TemplateReader, value: object, place: str) -> Tag | None:
    if not isinstance(value, dict):
        read.note(DiagnosticKind.WRONG_TYPE, place, "must be an object")
        return None
    read.keys(value, place, ("tag_key", "tag_value"))
    key = read.value(value, place, "tag_key", settings.TAG_KEY)
    value = read.value(value, place, "tag_value", settings.TAG_VALUE)
    return None if key is None or value is None else Tag(key, value)


def _policies(read: TemplateReader, policy: Mapping[str, Any]) -> tuple[str, ...]:
    read.keys(policy, POLICY, (), ("policy_ids",))
    place = f"{POLICY}.policy_ids"
    ids = read.take(policy, POLICY, "policy_ids", list) or []
    if len(ids) > MAX_POLICIES:
        what, remedy = f"has {len(ids)} policies", f"a device has at most {MAX_POLICIES}"
        read.note(DiagnosticKind.UNWISE, place, what, remedy)
    for index, one in enumerate(ids):
        here = f"{place}[{index}]"
        if not isinstance(one, str):
            read.note(DiagnosticKind.WRONG_TYPE, here, "must be a text")
        elif not _POLICY_ID.fullmatch(one):
            what, remedy = f"is {quoted(one)}", "a policy ID has 24 hexadecimal digits"
            read.note(DiagnosticKind.UNWISE, here, what, remedy)
    return tuple(one for one in ids if isinstance(one, str))
