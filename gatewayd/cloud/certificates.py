"""Root certificates in a file: which they are, and when they are valid."""

from __future__ import annotations

import hashlib
import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatewayd.errors import ConfigError

MAX_BYTES = 4 << 20
"""Bytes of a file that is looked at; the roots of a whole system have a quarter of a MiB."""

_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----\s.+?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Root:
    """One certificate.

    name: common name of its subject, printable; "" if it has none.
    sha256: fingerprint, hexadecimal in upper case.
    starts, ends: seconds since the epoch between which it is valid.
    """

    name: str
    sha256: str
    starts: float
    ends: float

    def valid(self, now: float) -> bool:
        """Whether it is valid at a time."""
        return self.starts <= now <= self.ends


def read_roots(path: Path) -> tuple[Root, ...]:
    """Return the certificates in a PEM file that can vouch for others.  Blocks.

    Raises ConfigError: it cannot be read, or holds none.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path} is too large for a file of root certificates.")
    roots = tuple(parse_roots(data.decode("ascii", "replace")))
    if not roots:
        raise ConfigError(f"{path} holds no root certificate in the form PEM.")
    return roots


def parse_roots(pem: str) -> Iterator[Root]:
    """Yield the certificates in a text that can vouch for others; what is none is passed over."""
    for block in _BLOCK.finditer(pem):
        try:
            der = ssl.PEM_cert_to_DER_cert(block[0])
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(cadata=der)
        except (ValueError, ssl.SSLError):
            continue
        for facts in context.get_ca_certs():
            yield _root(der, facts)


def _root(der: bytes, facts: Mapping[str, Any]) -> Root:
    return Root(
        _name(facts),
        hashlib.sha256(der).hexdigest().upper(),
        *span(facts),
    )


def span(facts: Mapping[str, Any]) -> tuple[float, float]:
    """Return between which times a certificate is valid, as ssl tells of it: since the epoch."""
    return (
        float(ssl.cert_time_to_seconds(facts["notBefore"])),
        float(ssl.cert_time_to_seconds(facts["notAfter"])),
    )


def _name(facts: Mapping[str, Any]) -> str:
    """Return the common name, with what does not print left out: a file may hold anything."""
    for part in facts.get("subject", ()):
        for key, value in part:
            if key == "commonName":
                return "".join(filter(str.isprintable, str(value)))[:64]
    return ""
