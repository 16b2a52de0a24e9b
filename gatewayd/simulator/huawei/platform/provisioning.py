"""Provisioning: the device that a template makes of a certificate; the console's "Debug".  Pure.

Sources: the vendor's user guide "Device self-registration" (usermanual-iothub/iot_01_0115), and the
models CreateProvisioningTemplate, DeviceResource and TagRef of its management SDK.  Where the two
disagree on the parameters that a certificate must have, the stricter holds: all declared ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gatewayd.simulator.huawei.platform import fields
from gatewayd.simulator.huawei.x509 import CertificateInfo

PARAMETERS: Mapping[str, str] = {
    "iotda::certificate::country": "2.5.4.6",
    "iotda::certificate::organization": "2.5.4.10",
    "iotda::certificate::organizational_unit": "2.5.4.11",
    "iotda::certificate::distinguished_name_qualifier": "2.5.4.46",
    "iotda::certificate::state_name": "2.5.4.8",
    "iotda::certificate::common_name": "2.5.4.3",
    "iotda::certificate::serial_number": "2.5.4.5",
}
"""Parameter → attribute of the certificate's subject (X.520)."""

MAX_TAGS, MAX_POLICIES = 10, 5
_REFERENCES, _OPTIONAL = ("node_id", "device_id", "device_name"), ("device_id", "device_name")


class TemplateFault(StrEnum):
    """A fault of a template, a certificate, or the two together."""

    STRUCTURE = "template.structure"
    UNKNOWN_PARAMETER = "template.unknown_parameter"
    PARAMETER_TYPE = "template.parameter_type"
    UNDECLARED_REFERENCE = "template.undeclared_reference"
    STATIC_NOT_ALLOWED = "template.static_not_allowed"
    MISSING_PARAMETER = "cert.missing_parameter"
    AMBIGUOUS_PARAMETER = "cert.ambiguous_parameter"
    ILLEGAL_VALUE = "value.illegal"


class BadTemplate(Exception):
    """A template or a certificate is unusable.  subject: the parameter, or the field."""

    def __init__(self, fault: TemplateFault, subject: str) -> None:
        super().__init__(f"{fault}:{subject}")
        self.fault, self.subject = fault, subject

    @property
    def text(self) -> str:
        """Fault and subject, with a colon between them."""
        return str(self)


class BadCertificate(BadTemplate):
    """A certificate does not fit the template."""


@dataclass(frozen=True, slots=True)
class ParsedDevice:
    """The device that would be registered.  tags: with the keys tag_key and tag_value."""

    node_id: str
    product_id: str
    device_id: str
    device_name: str | None
    tags: tuple[Mapping[str, str], ...]
    policy_ids: tuple[str, ...]


def check_body(body: object) -> None:
    """Check the body of a template.  Raises BadTemplate."""
    parameters, device, policy_ids = _parts(body)
    for name, declared in parameters.items():
        if name not in PARAMETERS:
            raise BadTemplate(TemplateFault.UNKNOWN_PARAMETER, name)
        if not isinstance(declared, dict) or str(declared.get("type")).lower() != "string":
            raise BadTemplate(TemplateFault.PARAMETER_TYPE, name)
    for name in _REFERENCES:
        if name in device or name not in _OPTIONAL:
            _check_value(name, device.get(name), parameters, static=False)
    _check_value("product_id", device.get("product_id"), parameters, static=True)
    for tag in _tags(device):
        for name in ("tag_key", "tag_value"):
            _check_value(name, tag.get(name), parameters, static=True)
    if len(policy_ids) > MAX_POLICIES or not all(isinstance(one, str) for one in policy_ids):
        raise BadTemplate(TemplateFault.STRUCTURE, "policy_ids")


def preparse(body: object, certificate: CertificateInfo) -> ParsedDevice:
    """Return the device that a certificate makes.  Raises BadTemplate, BadCertificate."""
    check_body(body)
    parameters, device, policy_ids = _parts(body)
    values = {name: _attribute(certificate, name) for name in parameters}

    def resolve(name: str, value: object) -> str:
        text = value if isinstance(value, str) else values[_reference(name, value)]
        if not fields.fits(name, text):
            raise BadCertificate(TemplateFault.ILLEGAL_VALUE, name)
        return text

    found = {name: resolve(name, device[name]) for name in _REFERENCES if name in device}
    product_id = resolve("product_id", device["product_id"])
    default = f"{product_id}_{found['node_id']}"
    return ParsedDevice(
        found["node_id"],
        product_id,
        found.get("device_id", default),
        found.get("device_name"),
        tuple(
            {name: resolve(name, tag[name]) for name in ("tag_key", "tag_value")}
            for tag in _tags(device)
        ),
        tuple(policy_ids),
    )


def _parts(body: object) -> tuple[Mapping[str, object], Mapping[str, object], Sequence[str]]:
    """Return parameters, device, and ids of policies."""
    resources = _object(_object(body, "template_body").get("resources"), "resources")
    policy = _object(resources.get("policy") or {}, "policy")
    ids = policy.get("policy_ids") or []
    if not isinstance(ids, list):
        raise BadTemplate(TemplateFault.STRUCTURE, "policy_ids")
    parameters = _object(_object(body, "template_body").get("parameters"), "parameters")
    return parameters, _without_nulls(_object(resources.get("device"), "device")), ids


def _object(value: object, name: str) -> Mapping[str, object]:
    if isinstance(value, dict):
        return value
    raise BadTemplate(TemplateFault.STRUCTURE, name)


def _without_nulls(device: Mapping[str, object]) -> Mapping[str, object]:
    """Leave out null values, which an SDK may write for optional fields."""
    return {name: value for name, value in device.items() if value is not None}


def _tags(device: Mapping[str, object]) -> list[Mapping[str, object]]:
    tags = device.get("tags", [])
    if not isinstance(tags, list) or len(tags) > MAX_TAGS:
        raise BadTemplate(TemplateFault.STRUCTURE, "tags")
    return [_object(tag, "tags") for tag in tags]


def _check_value(
    name: str, value: object, parameters: Mapping[str, object], *, static: bool
) -> None:
    """Check a reference, or a static text where the vendor allows one."""
    if isinstance(value, str):
        if not static:
            raise BadTemplate(TemplateFault.STATIC_NOT_ALLOWED, name)
        if not fields.fits(name, value):
            raise BadTemplate(TemplateFault.ILLEGAL_VALUE, name)
        return
    reference = _reference(name, value)
    if reference not in parameters:
        raise BadTemplate(TemplateFault.UNDECLARED_REFERENCE, reference)


def _reference(name: str, value: object) -> str:
    """Return the parameter of a reference.  "Ref", "Fn::…": for authentication templates only."""
    if isinstance(value, dict) and set(value) == {"ref"} and isinstance(value["ref"], str):
        return value["ref"]
    raise BadTemplate(TemplateFault.STRUCTURE, name)


def _attribute(certificate: CertificateInfo, parameter: str) -> str:
    """Return the one value of a parameter.  The vendor does not say which of several counts."""
    values = [one for one in certificate.subject.get(PARAMETERS[parameter], ()) if one]
    if not values:
        raise BadCertificate(TemplateFault.MISSING_PARAMETER, parameter)
    if len(values) > 1:
        raise BadCertificate(TemplateFault.AMBIGUOUS_PARAMETER, parameter)
    return values[0]
