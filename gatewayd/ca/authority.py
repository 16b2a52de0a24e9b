"""A certificate authority for devices: its key and its certificate, in memory only.

Making one, and whatever it signs, blocks: run it off the event loop.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.x509.oid import NameOID

from gatewayd.ca import certificates
from gatewayd.ca.certificates import Validity
from gatewayd.ca.keys import Key, PublicKey, algorithm_of, key_pem, make_key, read_key
from gatewayd.device.secret import Secret
from gatewayd.errors import InvalidArgs
from gatewayd.runtime.text import without_unprintable

PROOF_DAYS = 30
"""Days for which a proof of possession is valid."""

_CODE = re.compile(r"[\x21-\x7e]{1,64}")  # X.520 gives a common name 64 characters


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority: a public certificate, and its private key."""

    certificate: x509.Certificate
    _key: Key = field(repr=False)

    @property
    def span(self) -> Validity:
        """Between which times it is valid."""
        return Validity.of(self.certificate)

    @property
    def pem(self) -> str:
        """Its certificate."""
        return certificates.to_pem(self.certificate)

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of its certificate."""
        return certificates.fingerprint(self.certificate)

    @property
    def subject(self) -> str:
        """Its name (RFC 4514), printable."""
        return without_unprintable(self.certificate.subject.rfc4514_string())

    @property
    def algorithm(self) -> str:
        """The algorithm of its key: one of keys.ALGORITHMS."""
        return algorithm_of(self._key.public_key())

    @property
    def can_revoke(self) -> bool:
        """Whether its certificate permits it to sign lists of what is revoked (4.2.1.3)."""
        usage = [e.value for e in self.certificate.extensions if isinstance(e.value, x509.KeyUsage)]
        return all(one.crl_sign for one in usage)

    def secret(self) -> Secret:
        """Return key and certificate, PEM, for the secret store."""
        return Secret(key_pem(self._key) + self.pem.encode("ascii"))

    def sign(self, subject: x509.Name, key: PublicKey, days: int, now: float) -> x509.Certificate:
        """Issue a client certificate, which ends no later than the authority's own.

        now: seconds since the epoch.
        """
        span = Validity.days(days, now)
        return certificates.leaf(subject, key, span, self.certificate, self._key)

    def sign_server(
        self, names: Sequence[str], key: PublicKey, days: int, now: float
    ) -> x509.Certificate:
        """Issue the certificate of a server, which ends no later than the authority's own.

        names: host names and IP addresses.  now: seconds since the epoch.
        """
        span = Validity.days(days, now)
        return certificates.server_leaf(names, key, span, self.certificate, self._key)

    def revoke(self, serials: Iterable[int]) -> bytes:
        """Return the list of certificates that are no longer valid, PEM; valid as long as it.

        For who always has the newest list, as on the same machine: a list that ends would have all
        certificates refused.
        """
        return certificates.revocation_list(serials, self.span, self.certificate, self._key)

    def prove(self, code: str, now: float) -> x509.Certificate:
        """Return a proof of possession of the key: a certificate whose common name is the code.

        Raises InvalidArgs for what cannot be a code.
        """
        if not _CODE.fullmatch(code):
            raise InvalidArgs("A code has 1 to 64 printable ASCII characters, without spaces")
        passing = make_key("rsa-2048" if self.algorithm.startswith("rsa") else "ec-p256")
        name = certificates.common_name(code)
        return self.sign(name, passing.public_key(), PROOF_DAYS, now)


_NAMES: Mapping[str, tuple[x509.ObjectIdentifier, int]] = {
    "country": (NameOID.COUNTRY_NAME, 2),
    "state": (NameOID.STATE_OR_PROVINCE_NAME, 128),
    "organization": (NameOID.ORGANIZATION_NAME, 64),
    "organizational-unit": (NameOID.ORGANIZATIONAL_UNIT_NAME, 64),
    "common-name": (NameOID.COMMON_NAME, 64),
}
"""The fields of an authority's subject, and how many characters each may have (X.520)."""

_COUNTRY = re.compile("[A-Z]{2}")


def authority_name(words: Mapping[str, str]) -> x509.Name:
    """Return a subject.  words: by the keys of the table above.  Raises InvalidArgs."""
    for name, word in words.items():
        if not (0 < len(word) <= _NAMES[name][1] and word.isprintable()):
            raise InvalidArgs(f"{name} must be 1 to {_NAMES[name][1]} printable characters")
    if not _COUNTRY.fullmatch(words.get("country", "CN")):
        raise InvalidArgs("country must be a code of two capital letters (ISO 3166)")
    return x509.Name(
        x509.NameAttribute(oid, words[name]) for name, (oid, _) in _NAMES.items() if name in words
    )


def make_authority(subject: x509.Name, algorithm: str, days: int, now: float) -> Authority:
    """Make a root authority.

    algorithm: one of keys.ALGORITHMS.  now: seconds since the epoch.
    """
    return make_root(subject, algorithm, Validity.days(days, now))


def make_root(subject: x509.Name, algorithm: str, span: Validity) -> Authority:
    """Make a root authority for a period.  algorithm: one of keys.ALGORITHMS."""
    key = make_key(algorithm)
    return Authority(certificates.self_signed(subject, key, span), key)


def read_authority(secret: Secret) -> Authority:
    """Return the authority whose key and certificate a PEM text holds.

    Where there are several certificates, it is the one of the key.
    Raises InvalidArgs, whose message does not quote the text.
    """
    pem = secret.reveal()
    if len(pem) > certificates.MAX_BYTES:
        raise InvalidArgs(f"A CA has at most {certificates.MAX_BYTES} bytes")
    key, found = read_key(pem), certificates.read_certificates(pem)
    if not found:
        raise InvalidArgs("The certificate of the CA is missing: add it in PEM form")
    for certificate in found:
        if certificates.belongs_to(certificate, key):
            _check(certificate)
            return Authority(certificate, key)
    raise InvalidArgs("The private key does not belong to the certificate")


def _check(certificate: x509.Certificate) -> None:
    """Raise InvalidArgs for a certificate that is no authority's (RFC 5280, 4.2.1.3, 4.2.1.9).

    Also for one with parts that cannot be read, which would be needed later.
    """
    try:
        found = certificate.extensions
        basic = found.get_extension_for_class(x509.BasicConstraints).value
        usage = next((e.value for e in found if isinstance(e.value, x509.KeyUsage)), None)
        named, _ = list(certificate.subject), Validity.of(certificate)
    except (x509.ExtensionNotFound, *certificates.UNREADABLE):
        raise InvalidArgs(
            "The certificate has no readable mark of a CA (basicConstraints)"
        ) from None
    if not named:
        raise InvalidArgs(
            "The certificate has no subject, which a CA needs as the issuer of others"
        )
    if not basic.ca:
        raise InvalidArgs("The certificate is not that of a CA (basicConstraints)")
    if usage is not None and not usage.key_cert_sign:
        raise InvalidArgs("The certificate does not permit its key to sign others (keyUsage)")
