"""What is wrong with a provisioning template: all of it at once.  Pure.

Sources: those of template.py; "Bind Tags" of the IoTDA API reference; "Functions" of its developer
guide, by which "Ref" and "Fn::" belong to custom authentication, and not here.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gatewayd.cloud.huawei import names
from gatewayd.cloud.huawei.findings import Finding, Kind, fatal, quoted
from gatewayd.cloud.huawei.subject import ATTRIBUTES, KNOWN
from gatewayd.cloud.huawei.template import DEVICE, POLICY, Ref, Tag, Template
from gatewayd.cloud.huawei.template_reader import Reader
from gatewayd.cloud.huawei.template_text import Unreadable, join, load, repeated

BODY = "template_body"
REQUEST = ("template_name", BODY, "description")
MAX_POLICIES = 5
"""Policies that a device may have ("Device Topic Policies")."""

_POLICY_ID = re.compile(r"[A-Fa-f0-9]{24}")


@dataclass(frozen=True, slots=True)
class Linted:
    """What a text holds.  template: None if any finding is fatal."""

    template: Template | None
    findings: tuple[Finding, ...]


def lint(data: bytes) -> Linted:
    """Read a template, and tell all that is wrong with it.

    data: JSON: the template_body alone, or the whole request that creates a template.
    """
    try:
        raw = load(data)
    except Unreadable as error:
        return Linted(None, (error.finding,))
    read = Reader(list(_repeated(raw)))
    template = _template(read, raw)
    findings = tuple(read.findings)
    return Linted(None if fatal(findings) else template, findings)


def _repeated(raw: object) -> Iterator[Finding]:
    for one in repeated(raw):
        yield dataclasses.replace(one, place=one.place.removeprefix(f"{BODY}."))


def _template(read: Reader, raw: object) -> Template | None:
    """Return the template; it is good only if no finding is fatal."""
    if not isinstance(raw, dict):
        read.note(Kind.WRONG_TYPE, "", "must be an object")
        return None
    if not raw.keys() & set(REQUEST):
        return _body(read, raw)
    read.keys(raw, "", REQUEST[:2], REQUEST[2:])
    name = read.text(raw, "template_name", names.TEMPLATE_NAME)
    description = read.text(raw, "description", names.DESCRIPTION)
    body = read.take(raw, "", BODY, dict)
    found = None if body is None else _body(read, body)
    return found and dataclasses.replace(found, name=name, description=description)


def _body(read: Reader, body: Mapping[str, Any]) -> Template | None:
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


def _declare(read: Reader, parameters: Mapping[str, Any]) -> None:
    read.declared = tuple(parameters)
    for parameter, told in parameters.items():
        place = join("parameters", parameter)
        if parameter not in ATTRIBUTES:
            what = "is no parameter that the platform knows"
            read.note(Kind.UNKNOWN_PARAMETER, place, what, KNOWN, parameter)
        if isinstance(told, dict):
            read.keys(told, place, ("type",))
            _type(read, told.get("type", "String"), join(place, "type"))
        else:
            read.note(Kind.WRONG_TYPE, place, 'must be {"type": "String"}')


def _type(read: Reader, told: object, place: str) -> None:
    if not isinstance(told, str) or told.lower() != "string":
        read.note(Kind.WRONG_TYPE, place, f"is {quoted(told)}", 'the only type is "String"')
    elif told != "String":
        read.note(Kind.UNWISE, place, f"is {quoted(told)}", 'the format has "String"')


def _device(read: Reader, device: Mapping[str, Any]) -> Template | None:
    optional = ("device_id", "device_name", "tags")
    read.keys(device, DEVICE, ("node_id", "product_id"), optional)
    node_id = read.reference(device, DEVICE, "node_id")
    product_id = read.value(device, DEVICE, "product_id", names.PRODUCT_ID)
    device_id = read.reference(device, DEVICE, "device_id")
    device_name = read.reference(device, DEVICE, "device_name")
    tags = tuple(_tags(read, read.take(device, DEVICE, "tags", list) or []))
    if node_id is None or product_id is None:
        return None
    declared = tuple(read.declared)
    return Template(declared, node_id, product_id, device_id, device_name, tags)


def _tags(read: Reader, tags: Sequence[Any]) -> Sequence[Tag]:
    place = f"{DEVICE}.tags"
    if len(tags) > names.MAX_TAGS:
        what, remedy = f"has {len(tags)} tags", f"a device has at most {names.MAX_TAGS}"
        read.note(Kind.TOO_MANY, place, what, remedy)
    told = [tag for index, one in enumerate(tags) if (tag := _tag(read, one, f"{place}[{index}]"))]
    for key, count in Counter(tag.key for tag in told).items():
        if count > 1:
            shown = quoted(key.parameter if isinstance(key, Ref) else key)
            what, remedy = f"has {count} tags with the key {shown}", "a device has each key once"
            read.note(Kind.ILLEGAL, place, what, remedy)
    return told


def _tag(read: Reader, told: object, place: str) -> Tag | None:
    if not isinstance(told, dict):
        read.note(Kind.WRONG_TYPE, place, "must be an object")
        return None
    read.keys(told, place, ("tag_key", "tag_value"))
    key = read.value(told, place, "tag_key", names.TAG_KEY)
    value = read.value(told, place, "tag_value", names.TAG_VALUE)
    return None if key is None or value is None else Tag(key, value)


def _policies(read: Reader, policy: Mapping[str, Any]) -> tuple[str, ...]:
    read.keys(policy, POLICY, (), ("policy_ids",))
    place = f"{POLICY}.policy_ids"
    ids = read.take(policy, POLICY, "policy_ids", list) or []
    if len(ids) > MAX_POLICIES:
        what, remedy = f"has {len(ids)} policies", f"a device has at most {MAX_POLICIES}"
        read.note(Kind.UNWISE, place, what, remedy)
    for index, one in enumerate(ids):
        here = f"{place}[{index}]"
        if not isinstance(one, str):
            read.note(Kind.WRONG_TYPE, here, "must be a text")
        elif not _POLICY_ID.fullmatch(one):
            what, remedy = f"is {quoted(one)}", "the id of a policy has 24 hexadecimal digits"
            read.note(Kind.UNWISE, here, what, remedy)
    return tuple(one for one in ids if isinstance(one, str))
