"""The device of a template and a subject, and the inverse: the subject for a desired device.  Pure.

`preview` shows what a template makes of a certificate, as the console's "Debug" does.
`solve_subject` finds the subject with which a template makes the desired device.

Where the vendor's pages differ, the narrower reading holds: the certificate must have each
parameter that the template declares, referred to or not.  A repeated attribute is refused: no page
says which value counts.  Sources: "Self-Registration" of the IoTDA user guide; the model
ProvisioningTemplateBody of the vendor's management SDK; "Create a Device".
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
    Name,
    Subject,
    full_name,
    x509_name,
)
from gatewayd.cloud.huawei.template import (
    DEVICE,
    DiagnosticKind,
    ProvisioningTemplate,
    Ref,
    TemplateDiagnostic,
    Value,
    fatal,
    quoted,
)

RULES: Mapping[str, settings.Field] = {
    "node_id": settings.NODE_ID,
    "product_id": settings.PRODUCT_ID,
    "device_id": settings.DEVICE_ID,
    "device_name": settings.DEVICE_NAME,
    "tag_key": settings.TAG_KEY,
    "tag_value": settings.TAG_VALUE,
}
"""The rule of each field of the device."""


@dataclass(frozen=True, slots=True)
class ProvisionedDevice:
    """The device that the platform would register.

    name: "" where the template sets none; what the platform uses then is not documented.
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
    """The result of a template and a certificate.  device: None if any finding is fatal."""

    device: ProvisionedDevice | None
    diagnostics: tuple[TemplateDiagnostic, ...]


def preview(template: ProvisioningTemplate, subject: Subject) -> Preview:
    """Apply a template to the subject of a certificate."""
    diagnostics = list(_missing_values(template, subject))
    if diagnostics:
        return Preview(None, tuple(diagnostics))
    maker = _DeviceBuilder({parameter: subject[parameter][0] for parameter in template.parameters})
    device = maker.device(template)
    return Preview(None if fatal(maker.diagnostics) else device, tuple(maker.diagnostics))


def _missing_values(
    template: ProvisioningTemplate, subject: Subject
) -> Iterator[TemplateDiagnostic]:
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
    """A builder of the device from values, by parameter; it collects diagnostics."""

    values: Mapping[str, str]
    diagnostics: list[TemplateDiagnostic] = field(default_factory=list)

    def device(self, template: ProvisioningTemplate) -> ProvisionedDevice:
        """Return the device, which is valid only if no finding is fatal."""
        values = {key: self._fill(value, DEVICE, key) for key, value in template.fields()}
        default = settings.default_device_id(values["product_id"], values["node_id"])
        return ProvisionedDevice(
            values.get("device_id", default),
            values["node_id"],
            values["product_id"],
            values.get("device_name", ""),
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
                what = f"would be {count} tags with the key {quoted(key)}"
                self.diagnostics.append(
                    TemplateDiagnostic(DiagnosticKind.ILLEGAL, place, what, "use other keys")
                )
        return tags

    def _fill(self, value: Value, place: str, key: str) -> str:
        """Return the text of a value, and note whether its field allows it."""
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
        self.diagnostics.append(TemplateDiagnostic(kind, place, what, remedy, parameter))


def _remedy(text: str, parameter: str) -> str:
    if not parameter:
        return "change it in the template"
    short = ATTRIBUTES[parameter].short
    plain = "".join(c for c in text if c.isascii() and (c.isalnum() or c in "_-"))
    if plain and plain != text:
        return f"issue a certificate whose {short} is, say, {quoted(plain)}"
    return f"issue a certificate with another {short}, or refer to another attribute"


FIXED = "fixed"
"""The place of the attributes that the settings fix for every subject."""


@dataclass(frozen=True, slots=True)
class DesiredDevice:
    """The device to be registered.

    device_id: "" for the platform's choice.  name: "" for any.
    fixed: further attributes of the subject, by the last word of the template's parameter, or all
    of it, as {"country": "CN"}; they are added even if the template does not refer to them.
    """

    node_id: str
    product_id: str
    device_id: str = ""
    name: str = ""
    fixed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SolvedSubject:
    """The subject for a desired device, by the parameters' full names, and that device.

    values, device: empty and None if any finding is fatal.
    """

    values: Mapping[str, str]
    device: ProvisionedDevice | None
    diagnostics: tuple[TemplateDiagnostic, ...]

    def x509_name(self) -> Name:
        """Return the subject in its X.509 form."""
        return x509_name(self.values)


def solve_subject(template: ProvisioningTemplate, desired: DesiredDevice) -> SolvedSubject:
    """Return the subject with which the template makes the desired device, or why there is none."""
    solver = _SubjectSolver(template)
    solver.solve(desired)
    diagnostics = solver.diagnostics
    if not fatal(diagnostics):
        subject = {parameter: (value,) for parameter, value in solver.values.items()}
        made = preview(template, subject)
        diagnostics.extend(made.diagnostics)
        if made.device is not None:
            return SolvedSubject(solver.values, made.device, tuple(diagnostics))
    return SolvedSubject({}, None, tuple(diagnostics))


@dataclass(slots=True)
class _SubjectSolver:
    """A solver that sets the attributes one by one; it collects contradictions as diagnostics.

    places: where the value of each attribute comes from.
    """

    template: ProvisioningTemplate
    values: dict[str, str] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    diagnostics: list[TemplateDiagnostic] = field(default_factory=list)

    def solve(self, desired: DesiredDevice) -> None:
        """Set all attributes: first those without an alternative, then those with a default."""
        template, default = self.template, default_device_id(desired.product_id, desired.node_id)
        self._require("node_id", template.node_id, desired.node_id)
        self._require("product_id", template.product_id, desired.product_id)
        self._set_fixed(desired.fixed)
        if template.device_id and not desired.device_id:
            self._check_shared(template.device_id.parameter)
        self._set_optional("device_id", template.device_id, desired.device_id, default)
        self._set_optional("device_name", template.device_name, desired.name, desired.node_id)
        self._note_missing()
        self._check_bounds()

    def _require(self, key: str, value: Value, text: str) -> None:
        place = f"{DEVICE}.{key}"
        if isinstance(value, Ref):
            self._set(value.parameter, text, place)
        elif value != text:
            what = f"is {quoted(value)} in the template, but {quoted(text)} is required"
            self._note(DiagnosticKind.OTHERWISE, place, what, "use the template of that product")

    def _check_shared(self, parameter: str) -> None:
        """Note a device ID that all devices would share: each would replace the others."""
        place = self.places.get(parameter, "")
        if place in (FIXED, f"{DEVICE}.product_id"):
            what = f"would be the same for all devices: {place} sets {ATTRIBUTES[parameter].short}"
            remedy = "let the template refer to another attribute for it"
            self._note(DiagnosticKind.CONFLICT, f"{DEVICE}.device_id", what, remedy, parameter)

    def _set_optional(self, key: str, ref: Ref | None, desired: str, default: str) -> None:
        """Set a field that the template need not have.  desired: "" for any."""
        if ref is not None:
            self._set(ref.parameter, desired or self.values.get(ref.parameter, default),
                      f"{DEVICE}.{key}")  # fmt: skip
        elif desired and (key, desired) != ("device_id", default):
            what = f"is not in the template, so it cannot be {quoted(desired)}"
            self._note(DiagnosticKind.OTHERWISE, f"{DEVICE}.{key}", what, "add it to the template")

    def _set_fixed(self, fixed: Mapping[str, str]) -> None:
        for word, text in fixed.items():
            try:
                self._set(full_name(word), text, FIXED)
            except KeyError:
                what = f"has {quoted(word)}, which no template can refer to"
                self._note(DiagnosticKind.UNKNOWN_PARAMETER, FIXED, what, KNOWN)

    def _set(self, parameter: str, text: str, place: str) -> None:
        known = self.values.setdefault(parameter, text)
        first = self.places.setdefault(parameter, place)
        if known != text:
            short = ATTRIBUTES[parameter].short
            what = f"needs {quoted(text)} as {short}, but {first} needs {quoted(known)}"
            remedy = "let the template refer to different attributes, or require the same value"
            self._note(DiagnosticKind.CONFLICT, place, what, remedy, parameter)

    def _note_missing(self) -> None:
        for parameter in self.template.parameters:
            if parameter not in self.values:
                what = f"has no value: nothing sets {ATTRIBUTES[parameter].short}"
                remedy = f"set {parameter.removeprefix(PREFIX)} among the fixed attributes"
                place = f"parameters.{parameter}"
                self._note(DiagnosticKind.ATTRIBUTE_MISSING, place, what, remedy, parameter)

    def _check_bounds(self) -> None:
        for parameter, text in self.values.items():
            attribute, place = ATTRIBUTES[parameter], self.places[parameter]
            if fault := attribute.fault(text):
                what = f"needs {quoted(text)} as {attribute.short}, which {fault}"
                remedy = "let the template refer to another attribute"
                self._note(DiagnosticKind.ILLEGAL, place, what, remedy, parameter)

    def _note(
        self, kind: DiagnosticKind, place: str, what: str, remedy: str = "", parameter: str = ""
    ) -> None:
        self.diagnostics.append(TemplateDiagnostic(kind, place, what, remedy, parameter))
