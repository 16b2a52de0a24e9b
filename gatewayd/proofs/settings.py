"""The settings of proofs: where a device proves which key, and whose word on it counts.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from gatewayd.settings.declare import REQUIRED, FileUse, setting

MAX_FILES = 16
"""Files of CA certificates of one vendor."""

NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
"""What a table [proof.NAME] may be called: its name is a part of claims that are on record."""


class KeyKind(StrEnum):
    """What proves the key of a device."""

    TLS = "tls"  # a handshake with the certificate of its TLS server
    SSH = "ssh"  # a key exchange with the host key of its SSH server
    OPC_UA = "opc-ua"  # a secure channel with the certificate of its OPC UA server


class CertificateField(StrEnum):
    """Where a certificate has the identity of its device."""

    SERIAL = "serial"  # serialNumber of the subject (X.520; IEEE 802.1AR, 8.6)
    NAME = "name"  # commonName of the subject
    DNS = "dns"  # the only dNSName among the alternative names (RFC 5280, 4.2.1.6)
    URI = "uri"  # the only uniformResourceIdentifier there, as of OPC UA


@dataclass(frozen=True, slots=True)
class ProofSettings:
    """[proof.NAME]"""

    port: int = setting(
        REQUIRED, "TCP port at the device's own address where it proves its key", low=1, high=65535
    )
    kind: KeyKind = setting(
        KeyKind.TLS,
        "what proves its key: its TLS server, the host key of its SSH server, or the application "
        "certificate of its OPC UA server",
        choices=tuple(KeyKind),
    )  # fmt: skip
    ca_files: tuple[Path, ...] = setting(
        (),
        "files with the CA certificates of the vendor, PEM, to which the device's certificate has "
        "to lead; without any, its key is pinned, and no identity is proven",
        file=FileUse.LATER,
    )
    identity: CertificateField = setting(
        CertificateField.SERIAL,
        "where its certificate has its identity: the subject's serialNumber, the subject's "
        "commonName (name), or the only alternative name that is a DNS name or a URI",
        choices=tuple(CertificateField),
    )
    retry: float = setting(
        300.0, "longest wait until it is tried again where it failed", unit="s", low=10, high=86400
    )

    @property
    def proves_identity(self) -> bool:
        """Whether a proof is one of an identity; else it is one of a key alone."""
        return self.kind is not KeyKind.SSH and bool(self.ca_files)

    def problems(self) -> Iterator[str]:
        """Yield what is wrong."""
        if self.kind is KeyKind.SSH and self.ca_files:
            yield "a host key of SSH has no certificate: leave out ca_files"
        if len(self.ca_files) > MAX_FILES:
            yield f"more than {MAX_FILES} ca_files: put the certificates into fewer"
