"""What a template makes of a certificate, as the console's "Debug" shows it.  Pure.

Where the vendor's pages differ, the narrower reading holds: the certificate must have each
parameter that the template declares, referred to or not.  An attribute that comes twice is refused:
no page says which of the two counts.  Sources: "Self-Registration" of the IoTDA user guide; the
model ProvisioningTemplateBody of the vendor's management SDK; "Create a Device".

Which subject a certificate needs for the template to make the wanted device of it.  Pure.

The inverse of preview.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from gatewayd.cloud.huawei import settings
from gatewayd.cloud.huawei.settings import default_device_id
from gatewayd.cloud.huawei.subject import (
    ATTRIBUTES,
    KNOWN,
    PREFIX,
    DiagnosticKind,
    Name,
    Subject,
    TemplateDiagnostic,
    fatal,
    full_name,
    quoted,
    x509_name,
)
from gatewayd.cloud.huawei.template import DEVICE, ProvisioningTemplate, Ref, Value

RULES: Mapping[str, settings.Field] = {
    "node_id": settings.NODE_ID,
    "product_id": settings.PRODUCT_ID,
    "device_id": settings.DEVICE_ID,
    "device_name": settings.DEVICE_NAME,
    "tag_key": settings.TAG_KEY,
    "tag_value": settings.TAG_VALUE,
}
"""What each field of a template may come to."""


@dataclass(frozen=True, slots=True)
class ProvisionedDevice:
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

    device: ProvisionedDevice | None
    findings: tuple[TemplateDiagnostic, ...]


def preview(template: ProvisioningTemplate, subject: Subject) -> Preview:
    """Apply a template to the subject of a certificate."""
    findings = list(_absences(template, subject))
    if findings:
        return Preview(None, tuple(findings))
    maker = _DeviceBuilder({parameter: subject[parameter][0] for parameter in template.parameters})
    device = maker.device(template)
    return Preview(None if fatal(maker.findings) else device, tuple(maker.findings))


def _absences(template: ProvisioningTemplate, subject: Subject) -> Iterator[TemplateDiagnostic]:
    for parameter in template.parameters:
        values, short = subject.get(parameter, ()), ATTRIBUTES[parameter].short
        place = f"parameters.{parameter}"
        if len(values) > 1:
            what = f"could be any of {len(values)}: the subject has {short} {len(values)} times"
            remedy = f"issue a certificate with one {short}"
            yield TemplateDiagnostic(
                DiagnosticKind.ATTRIBUTE_REPEATED, place, what, remedy, parameter
            )
        elif not any(values):
            what = f"has no value: the subject has no {short}"
            remedy = f"issue a certificate with {short}, or take the parameter out of the template"
            yield TemplateDiagnostic(
                DiagnosticKind.ATTRIBUTE_MISSING, place, what, remedy, parameter
            )


@dataclass(slots=True)
class _DeviceBuilder:
    """Fills in the values, by parameter, and notes what does not fit."""

    values: Mapping[str, str]
    findings: list[TemplateDiagnostic] = field(default_factory=list)

    def device(self, template: ProvisioningTemplate) -> ProvisionedDevice:
        """Return the device; it is good only if no finding is fatal."""
        told = {key: self._fill(value, DEVICE, key) for key, value in template.fields()}
        default = settings.default_device_id(told["product_id"], told["node_id"])
        return ProvisionedDevice(
            told.get("device_id", default),
            told["node_id"],
            told["product_id"],
            told.get("device_name", ""),
            self._tags(template),
            template.policy_ids,
        )

    def _tags(self, template: ProvisioningTemplate) -> tuple[tuple[str, str], ...]:
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
                self.findings.append(
                    TemplateDiagnostic(DiagnosticKind.ILLEGAL, place, what, "use other keys")
                )
        return tags

    def _fill(self, value: Value, place: str, key: str) -> str:
        """Return the text of a value, and note whether the field takes it."""
        parameter = value.parameter if isinstance(value, Ref) else ""
        text = self.values[parameter] if isinstance(value, Ref) else value
        source = f" ({ATTRIBUTES[parameter].short} of the subject)" if parameter else ""
        rule, would = RULES[key], f"would be {quoted(text)}{source}, and "
        if fault := rule.fault(text):
            self._note(DiagnosticKind.ILLEGAL, f"{place}.{key}", would + fault, parameter, text)
        elif advice := rule.advice(text):
            self._note(DiagnosticKind.UNWISE, f"{place}.{key}", would + advice, parameter)
        return text

    def _note(
        self, kind: DiagnosticKind, place: str, what: str, parameter: str, text: str = ""
    ) -> None:
        remedy = _remedy(text, parameter) if text else ""
        self.findings.append(TemplateDiagnostic(kind, place, what, remedy, parameter))


def _remedy(text: str, parameter: str) -> str:
    if not parameter:
        return "change it in the template"
    short = ATTRIBUTES[parameter].short
    plain = "".join(c for c in text if c.isascii() and (c.isalnum() or c in "_-"))
    if plain and plain != text:
        return f"issue a certificate whose {short} is, say, {quoted(plain)}"
    return f"issue a certificate with another {short}, or refer to another attribute"


FIXED = "fixed"
"""The place of what the settings say of every subject."""


@dataclass(frozen=True, slots=True)
class DesiredDevice:
    """The device that is to be registered.

    device_id: "" for that which the platform would choose.  name: "" for any.
    fixed: further attributes of the subject, by the last word of the template's parameter, or all
    of it: as {"country": "CN"}; those of which the template knows nothing are added all the same.
    """

    node_id: str
    product_id: str
    device_id: str = ""
    name: str = ""
    fixed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SolvedSubject:
    """A subject, by the full names of the parameters, and the device that comes of it.

    values, device: empty and None if any finding is fatal.
    """

    values: Mapping[str, str]
    device: ProvisionedDevice | None
    findings: tuple[TemplateDiagnostic, ...]

    def x509_name(self) -> Name:
        """Return the subject as a certificate has it."""
        return x509_name(self.values)


def solve_subject(template: ProvisioningTemplate, wanted: DesiredDevice) -> SolvedSubject:
    """Return the subject with which the template makes the wanted device, or why there is none."""
    chooser = _SubjectSolver(template)
    chooser.settle(wanted)
    findings = chooser.findings
    if not fatal(findings):
        subject = {parameter: (value,) for parameter, value in chooser.values.items()}
        made = preview(template, subject)
        findings.extend(made.findings)
        if made.device is not None:
            return SolvedSubject(chooser.values, made.device, tuple(findings))
    return SolvedSubject({}, None, tuple(findings))


@dataclass(slots=True)
class _SubjectSolver:
    """Settles the attributes one by one, and notes what contradicts.

    places: what settled each attribute.
    """

    template: ProvisioningTemplate
    values: dict[str, str] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    findings: list[TemplateDiagnostic] = field(default_factory=list)

    def settle(self, wanted: DesiredDevice) -> None:
        """Settle all: first what must be so, then what has a default."""
        template, default = self.template, default_device_id(wanted.product_id, wanted.node_id)
        self._value("node_id", template.node_id, wanted.node_id)
        self._value("product_id", template.product_id, wanted.product_id)
        self._fixed(wanted.fixed)
        if template.device_id and not wanted.device_id:
            self._shared(template.device_id.parameter)
        self._optional("device_id", template.device_id, wanted.device_id, default)
        self._optional("device_name", template.device_name, wanted.name, wanted.node_id)
        self._absent()
        self._bounds()

    def _value(self, key: str, value: Value, text: str) -> None:
        place = f"{DEVICE}.{key}"
        if isinstance(value, Ref):
            self._set(value.parameter, text, place)
        elif value != text:
            what = f"is {quoted(value)} in the template, where {quoted(text)} is wanted"
            self._note(DiagnosticKind.OTHERWISE, place, what, "take the template of that product")

    def _shared(self, parameter: str) -> None:
        """Note a device ID that all devices would have: each would take the place of the others."""
        place = self.places.get(parameter, "")
        if place in (FIXED, f"{DEVICE}.product_id"):
            what = (
                f"would be the same for all devices: {place} settles {ATTRIBUTES[parameter].short}"
            )
            remedy = "let the template refer to another attribute for it"
            self._note(DiagnosticKind.CONFLICT, f"{DEVICE}.device_id", what, remedy, parameter)

    def _optional(self, key: str, ref: Ref | None, wanted: str, default: str) -> None:
        """Settle a field that the template need not have.  wanted: "" for any."""
        if ref is not None:
            self._set(ref.parameter, wanted or self.values.get(ref.parameter, default),
                      f"{DEVICE}.{key}")  # fmt: skip
        elif wanted and (key, wanted) != ("device_id", default):
            what = f"is not in the template, so it cannot be {quoted(wanted)}"
            self._note(DiagnosticKind.OTHERWISE, f"{DEVICE}.{key}", what, "add it to the template")

    def _fixed(self, fixed: Mapping[str, str]) -> None:
        for word, text in fixed.items():
            try:
                self._set(full_name(word), text, FIXED)
            except KeyError:
                what = f"has {quoted(word)}, which no template knows"
                self._note(DiagnosticKind.UNKNOWN_PARAMETER, FIXED, what, KNOWN)

    def _set(self, parameter: str, text: str, place: str) -> None:
        known = self.values.setdefault(parameter, text)
        first = self.places.setdefault(parameter, place)
        if known != text:
            short = ATTRIBUTES[parameter].short
            what = f"needs {quoted(text)} as {short}, but {first} needs {quoted(known)}"
            remedy = "let the template refer to different attributes, or ask for the same"
            self._note(DiagnosticKind.CONFLICT, place, what, remedy, parameter)

    def _absent(self) -> None:
        for parameter in self.template.parameters:
            if parameter not in self.values:
                what = f"has no value: nothing says what {ATTRIBUTES[parameter].short} shall be"
                remedy = f"give one for {parameter.removeprefix(PREFIX)} among the fixed attributes"
                place = f"parameters.{parameter}"
                self._note(DiagnosticKind.ATTRIBUTE_MISSING, place, what, remedy, parameter)

    def _bounds(self) -> None:
        for parameter, text in self.values.items():
            attribute, place = ATTRIBUTES[parameter], self.places[parameter]
            if fault := attribute.fault(text):
                what = f"needs {quoted(text)} as {attribute.short}, which {fault}"
                remedy = "let the template refer to another attribute"
                self._note(DiagnosticKind.ILLEGAL, place, what, remedy, parameter)

    def _note(
        self, kind: DiagnosticKind, place: str, what: str, remedy: str = "", parameter: str = ""
    ) -> None:
        self.findings.append(TemplateDiagnostic(kind, place, what, remedy, parameter))
