"""The subject of a certificate, by the names under which a template knows its attributes.

Sources: the parameters in the model ProvisioningTemplateBody of the vendor's management SDK; the
bounds and types of attributes in X.520 and RFC 5280, appendix A.
Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from cryptography import x509
from cryptography.x509.oid import NameOID

from gatewayd.ca.certificates import UNREADABLE
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

    parameter: the template's name for it.  short: that of certificate tools.
    shortest, longest: bytes in UTF-8: X.520 counts characters, but not all libraries do.
    printable: whether it is a PrintableString, which has neither underscore nor at sign.
    """

    parameter: str
    short: str
    oid: x509.ObjectIdentifier
    longest: int
    shortest: int
    printable: bool

    def fault(self, text: str) -> str:
        """Return what keeps a text out of a certificate; "" if nothing."""
        if not text.isprintable():  # so it can be encoded, too
            return "must have only printable characters"
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
"""The attributes that a template may refer to, by the parameter's full name, in the vendor's order.
serialNumber is the attribute, not the number of the certificate."""
KNOWN = "known are " + ", ".join(ATTRIBUTES)
"""The remedy for an unknown parameter."""


def full_name(word: str) -> str:
    """Return the full name of a parameter.  word: its last word, or all of it.

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
            'There is no certificate in PEM form ("-----BEGIN CERTIFICATE-----").'
        ) from None
    return certificate


def subject_of(name: Name) -> Subject:
    """Return what a template can refer to in a subject; a value that is not text is left out."""
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
