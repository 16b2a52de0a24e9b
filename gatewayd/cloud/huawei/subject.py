"""The subject of a certificate, by the names under which a template knows its attributes.

Sources: the parameters in the model ProvisioningTemplateBody of the vendor's management SDK; the
bounds and types of attributes in X.520 and RFC 5280, appendix A.

What is found wrong with a template or a certificate, as data.  Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from cryptography import x509
from cryptography.x509.oid import NameOID

from gatewayd.cloud.ca.certificates import UNREADABLE
from gatewayd.errors import ConfigError

MAX_BYTES = 64 << 10
"""Bytes of a certificate file; a chain of five has a tenth of it."""

PREFIX = "iotda::certificate::"
_UNBOUNDED = 256  # X.520 sets no bound; no field of a device takes more
_PRINTABLE = re.compile(r"[A-Za-z0-9 '()+,./:=?-]*")

Name: TypeAlias = x509.Name
Subject: TypeAlias = Mapping[str, tuple[str, ...]]
"""Each value of each attribute that a template may ask for, by the parameter's full name."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute of the subject that a template may refer to.

    parameter: the template's name for it.  short: what certificate tools call it.
    shortest, longest: bytes in UTF-8: X.520 counts characters, but not all libraries do.
    printable: whether it is a PrintableString, which has neither
    underscore nor at sign.
    """

    parameter: str
    short: str
    oid: x509.ObjectIdentifier
    longest: int
    shortest: int
    printable: bool

    def fault(self, text: str) -> str:
        """Return what the text must be to stand in a certificate, and is not; "" if it is."""
        if not text.isprintable():  # so it can be encoded, too
            return "must hold nothing but what prints"
        if not self.shortest <= len(text.encode()) <= self.longest:
            exactly = self.shortest == self.longest
            bound = "exactly" if exactly else f"{self.shortest} to"
            return f"must be {bound} {self.longest} bytes long"
        if self.printable and not _PRINTABLE.fullmatch(text):
            return "must be letters, digits, spaces and '()+,-./:=? (a PrintableString)"
        return ""


def _attribute(word: str, short: str, oid: x509.ObjectIdentifier, longest: int) -> Attribute:
    shortest = 2 if oid == NameOID.COUNTRY_NAME else 1
    printable = oid in (NameOID.COUNTRY_NAME, NameOID.DN_QUALIFIER, NameOID.SERIAL_NUMBER)
    return Attribute(PREFIX + word, short, oid, longest, shortest, printable)


ATTRIBUTES: Mapping[str, Attribute] = {
    attribute.parameter: attribute
    for attribute in (
        _attribute("country", "C", NameOID.COUNTRY_NAME, 2),
        _attribute("organization", "O", NameOID.ORGANIZATION_NAME, 64),
        _attribute("organizational_unit", "OU", NameOID.ORGANIZATIONAL_UNIT_NAME, 64),
        _attribute("distinguished_name_qualifier", "dnQualifier", NameOID.DN_QUALIFIER, _UNBOUNDED),
        _attribute("state_name", "ST", NameOID.STATE_OR_PROVINCE_NAME, 128),
        _attribute("common_name", "CN", NameOID.COMMON_NAME, 64),
        _attribute("serial_number", "serialNumber", NameOID.SERIAL_NUMBER, 64),
    )
}
"""All that a template may refer to, by the parameter's full name, in the vendor's order.
serialNumber is the attribute, not the number of the certificate."""
KNOWN = "known are " + ", ".join(ATTRIBUTES)
"""A remedy for a parameter that is none."""


def full_name(word: str) -> str:
    """Return the full name of a parameter of which the last word, or all, is given.

    Raises KeyError.
    """
    return ATTRIBUTES[PREFIX + word.removeprefix(PREFIX)].parameter


def read_certificate(data: bytes) -> x509.Certificate:
    """Return the first certificate in a PEM text, which is the device's own in a chain.

    Raises ConfigError.
    """
    if len(data) > MAX_BYTES:
        raise ConfigError(f"A certificate file has at most {MAX_BYTES} bytes.")
    try:
        certificate = x509.load_pem_x509_certificate(data)
        subject_of(certificate.subject)
    except UNREADABLE:
        raise ConfigError(
            'It holds no certificate in the form PEM ("-----BEGIN CERTIFICATE-----").'
        ) from None
    return certificate


def subject_of(name: Name) -> Subject:
    """Return what a template can see of a subject; a value that is not text is passed over."""
    return {
        parameter: tuple(_texts(name.get_attributes_for_oid(attribute.oid)))
        for parameter, attribute in ATTRIBUTES.items()
    }


def _texts(found: Iterable[x509.NameAttribute]) -> Iterable[str]:
    return (one.value for one in found if isinstance(one.value, str))


def x509_name(values: Mapping[str, str]) -> Name:
    """Return the subject with these values, by the parameters' full names.

    Raises ValueError for a value that its attribute cannot hold (`Attribute.fault`).
    """
    for parameter, value in values.items():
        if fault := ATTRIBUTES[parameter].fault(value):
            raise ValueError(f"{parameter} {fault}")
    return x509.Name(
        x509.NameAttribute(attribute.oid, values[parameter])
        for parameter, attribute in ATTRIBUTES.items()
        if parameter in values
    )


_SHOWN = 64
"""Characters of a value that are shown."""


class DiagnosticKind(StrEnum):
    """What a finding is about."""

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
    STATIC = "static"  # a text where only a reference may be
    ILLEGAL = "illegal"  # a text that its field does not take
    TOO_MANY = "too-many"
    ATTRIBUTE_MISSING = "attribute-missing"
    ATTRIBUTE_REPEATED = "attribute-repeated"
    OTHERWISE = "otherwise"  # the template settles it, and not as wanted
    CONFLICT = "conflict"  # one attribute would need two values
    UNREFERENCED = "unreferenced"
    UNWISE = "unwise"


WARNINGS = frozenset({DiagnosticKind.UNREFERENCED, DiagnosticKind.UNWISE})


@dataclass(frozen=True, slots=True)
class TemplateDiagnostic:
    """One finding.

    place: the keys that lead there, as resources.device.node_id; "" for the whole.
    what: what is wrong there, without the place.  remedy: what to do.
    parameter: the full name of the template's parameter that is concerned; "" for none.
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


def fatal(findings: Iterable[TemplateDiagnostic]) -> bool:
    """Whether any of the findings is."""
    return any(finding.fatal for finding in findings)


def quoted(value: object) -> str:
    """Return a value as it may stand in a finding: bounded, and nothing that does not print."""
    text = str(value)
    return ascii(text[:_SHOWN]) + "..." * (len(text) > _SHOWN)
