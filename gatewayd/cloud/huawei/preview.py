"""What a template makes of a certificate, as the console's "Debug" shows it.  Pure.

Where the vendor's pages differ, the narrower reading holds: the certificate must have each
parameter that the template declares, referred to or not.  An attribute that comes twice is refused:
no page says which of the two counts.  Sources: "Self-Registration" of the IoTDA user guide; the
model ProvisioningTemplateBody of the vendor's management SDK; "Create a Device".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from gatewayd.cloud.huawei import names
from gatewayd.cloud.huawei.findings import Finding, Kind, fatal, quoted
from gatewayd.cloud.huawei.subject import ATTRIBUTES, Subject
from gatewayd.cloud.huawei.template import DEVICE, Ref, Template, Value

RULES: Mapping[str, names.Field] = {
    "node_id": names.NODE_ID,
    "product_id": names.PRODUCT_ID,
    "device_id": names.DEVICE_ID,
    "device_name": names.DEVICE_NAME,
    "tag_key": names.TAG_KEY,
    "tag_value": names.TAG_VALUE,
}
"""What each field of a template may come to."""


@dataclass(frozen=True, slots=True)
class Device:
    """What the platform would register.

    name: "" where the template sets none; what the platform then takes is not documented.
    tags: keys and values.
    """

    device_id: str
    node_id: str
    product_id: str
    name: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    policy_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Preview:
    """What comes of a template and a certificate.  device: None if any finding is fatal."""

    device: Device | None
    findings: tuple[Finding, ...]


def preview(template: Template, subject: Subject) -> Preview:
    """Apply a template to the subject of a certificate."""
    findings = list(_absences(template, subject))
    if findings:
        return Preview(None, tuple(findings))
    maker = _Maker({parameter: subject[parameter][0] for parameter in template.parameters})
    device = maker.device(template)
    return Preview(None if fatal(maker.findings) else device, tuple(maker.findings))


def _absences(template: Template, subject: Subject) -> Iterator[Finding]:
    for parameter in template.parameters:
        values, short = subject.get(parameter, ()), ATTRIBUTES[parameter].short
        place = f"parameters.{parameter}"
        if len(values) > 1:
            what = f"could be any of {len(values)}: the subject has {short} {len(values)} times"
            remedy = f"issue a certificate with one {short}"
            yield Finding(Kind.ATTRIBUTE_REPEATED, place, what, remedy, parameter)
        elif not any(values):
            what = f"has no value: the subject has no {short}"
            remedy = f"issue a certificate with {short}, or take the parameter out of the template"
            yield Finding(Kind.ATTRIBUTE_MISSING, place, what, remedy, parameter)


@dataclass(slots=True)
class _Maker:
    """Fills in the values, by parameter, and notes what does not fit."""

    values: Mapping[str, str]
    findings: list[Finding] = field(default_factory=list)

    def device(self, template: Template) -> Device:
        """Return the device; it is good only if no finding is fatal."""
        told = {key: self._fill(value, DEVICE, key) for key, value in template.fields()}
        default = names.default_device_id(told["product_id"], told["node_id"])
        return Device(
            told.get("device_id", default),
            told["node_id"],
            told["product_id"],
            told.get("device_name", ""),
            self._tags(template),
            template.policy_ids,
        )

    def _tags(self, template: Template) -> tuple[tuple[str, str], ...]:
        place = f"{DEVICE}.tags"
        tags = tuple(
            (
                self._fill(tag.key, f"{place}[{index}]", "tag_key"),
                self._fill(tag.value, f"{place}[{index}]", "tag_value"),
            )
            for index, tag in enumerate(template.tags)
        )
        for key, count in Counter(key for key, _ in tags).items():
            if count > 1:
                what = f"come to {count} tags with the key {quoted(key)}"
                self.findings.append(Finding(Kind.ILLEGAL, place, what, "use other keys"))
        return tags

    def _fill(self, value: Value, place: str, key: str) -> str:
        """Return the text of a value, and note whether the field takes it."""
        parameter = value.parameter if isinstance(value, Ref) else ""
        text = self.values[parameter] if isinstance(value, Ref) else value
        source = f" ({ATTRIBUTES[parameter].short} of the subject)" if parameter else ""
        rule, would = RULES[key], f"would be {quoted(text)}{source}, and "
        if fault := rule.fault(text):
            self._note(Kind.ILLEGAL, f"{place}.{key}", would + fault, parameter, text)
        elif advice := rule.advice(text):
            self._note(Kind.UNWISE, f"{place}.{key}", would + advice, parameter)
        return text

    def _note(self, kind: Kind, place: str, what: str, parameter: str, text: str = "") -> None:
        remedy = _remedy(text, parameter) if text else ""
        self.findings.append(Finding(kind, place, what, remedy, parameter))


def _remedy(text: str, parameter: str) -> str:
    if not parameter:
        return "change it in the template"
    short = ATTRIBUTES[parameter].short
    plain = "".join(c for c in text if c.isascii() and (c.isalnum() or c in "_-"))
    if plain and plain != text:
        return f"issue a certificate whose {short} is, say, {quoted(plain)}"
    return f"issue a certificate with another {short}, or refer to another attribute"
