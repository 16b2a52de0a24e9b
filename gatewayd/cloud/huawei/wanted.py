"""Which subject a certificate needs for the template to make the wanted device of it.  Pure.

The inverse of preview.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gatewayd.cloud.huawei.findings import Finding, Kind, fatal, quoted
from gatewayd.cloud.huawei.names import default_device_id
from gatewayd.cloud.huawei.preview import Device, preview
from gatewayd.cloud.huawei.subject import ATTRIBUTES, KNOWN, PREFIX, Name, full_name, x509_name
from gatewayd.cloud.huawei.template import DEVICE, Ref, Template, Value

FIXED = "fixed"
"""The place of what the settings say of every subject."""


@dataclass(frozen=True, slots=True)
class Wanted:
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
class Chosen:
    """A subject, by the full names of the parameters, and the device that comes of it.

    values, device: empty and None if any finding is fatal.
    """

    values: Mapping[str, str]
    device: Device | None
    findings: tuple[Finding, ...]

    def x509_name(self) -> Name:
        """Return the subject as a certificate has it."""
        return x509_name(self.values)


def choose(template: Template, wanted: Wanted) -> Chosen:
    """Return the subject with which the template makes the wanted device, or why there is none."""
    chooser = _Chooser(template)
    chooser.settle(wanted)
    findings = chooser.findings
    if not fatal(findings):
        subject = {parameter: (value,) for parameter, value in chooser.values.items()}
        made = preview(template, subject)
        findings.extend(made.findings)
        if made.device is not None:
            return Chosen(chooser.values, made.device, tuple(findings))
    return Chosen({}, None, tuple(findings))


@dataclass(slots=True)
class _Chooser:
    """Settles the attributes one by one, and notes what contradicts.

    places: what settled each attribute.
    """

    template: Template
    values: dict[str, str] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def settle(self, wanted: Wanted) -> None:
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
            self._note(Kind.OTHERWISE, place, what, "take the template of that product")

    def _shared(self, parameter: str) -> None:
        """Note a device ID that all devices would have: each would take the place of the others."""
        place = self.places.get(parameter, "")
        if place in (FIXED, f"{DEVICE}.product_id"):
            what = (
                f"would be the same for all devices: {place} settles {ATTRIBUTES[parameter].short}"
            )
            remedy = "let the template refer to another attribute for it"
            self._note(Kind.CONFLICT, f"{DEVICE}.device_id", what, remedy, parameter)

    def _optional(self, key: str, ref: Ref | None, wanted: str, default: str) -> None:
        """Settle a field that the template need not have.  wanted: "" for any."""
        if ref is not None:
            self._set(ref.parameter, wanted or self.values.get(ref.parameter, default),
                      f"{DEVICE}.{key}")  # fmt: skip
        elif wanted and (key, wanted) != ("device_id", default):
            what = f"is not in the template, so it cannot be {quoted(wanted)}"
            self._note(Kind.OTHERWISE, f"{DEVICE}.{key}", what, "add it to the template")

    def _fixed(self, fixed: Mapping[str, str]) -> None:
        for word, text in fixed.items():
            try:
                self._set(full_name(word), text, FIXED)
            except KeyError:
                what = f"has {quoted(word)}, which no template knows"
                self._note(Kind.UNKNOWN_PARAMETER, FIXED, what, KNOWN)

    def _set(self, parameter: str, text: str, place: str) -> None:
        known = self.values.setdefault(parameter, text)
        first = self.places.setdefault(parameter, place)
        if known != text:
            short = ATTRIBUTES[parameter].short
            what = f"needs {quoted(text)} as {short}, but {first} needs {quoted(known)}"
            remedy = "let the template refer to different attributes, or ask for the same"
            self._note(Kind.CONFLICT, place, what, remedy, parameter)

    def _absent(self) -> None:
        for parameter in self.template.parameters:
            if parameter not in self.values:
                what = f"has no value: nothing says what {ATTRIBUTES[parameter].short} shall be"
                remedy = f"give one for {parameter.removeprefix(PREFIX)} among the fixed attributes"
                place = f"parameters.{parameter}"
                self._note(Kind.ATTRIBUTE_MISSING, place, what, remedy, parameter)

    def _bounds(self) -> None:
        for parameter, text in self.values.items():
            attribute, place = ATTRIBUTES[parameter], self.places[parameter]
            if fault := attribute.fault(text):
                what = f"needs {quoted(text)} as {attribute.short}, which {fault}"
                remedy = "let the template refer to another attribute"
                self._note(Kind.ILLEGAL, place, what, remedy, parameter)

    def _note(
        self, kind: Kind, place: str, what: str, remedy: str = "", parameter: str = ""
    ) -> None:
        self.findings.append(Finding(kind, place, what, remedy, parameter))
