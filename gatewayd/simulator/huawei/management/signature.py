"""The authentication of management requests: signatures and tokens.  Pure.

Sources: the vendor's guide "API Request Signing" (devg-apisign: SDK-HMAC-SHA256, and the errors of
wrong signatures), and the signer of its Python SDK (V11-HMAC-SHA256, whose key is derived by HKDF,
RFC 5869, from the date, the region and the service).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote, unquote

SKEW = 15 * 60
"""Seconds that a client's clock may be wrong."""
DERIVED_HOST = ".iotda-app."
"""The host of a single instance has this in its name, and takes derived keys only."""

_PLAIN, _DERIVED, _SERVICE = "SDK-HMAC-SHA256", "V11-HMAC-SHA256", "iotdm"
_DATE, _CONTENT, _UNSIGNED = "x-sdk-date", "x-sdk-content-sha256", "UNSIGNED-PAYLOAD"
_CLAIM = re.compile(
    rf"({_PLAIN} Access|{_DERIVED} Credential)=([^,\s]{{1,256}}), ?"
    r"SignedHeaders=([a-z0-9;-]{1,2048}), ?Signature=([0-9a-f]{64})"
)


class Unauthenticated(Exception):
    """A request without valid authentication.  message: that of the vendor's gateway."""

    def __init__(self, reason: str) -> None:
        self.message = f"Incorrect IAM authentication information: {reason}"
        super().__init__(self.message)


@dataclass(frozen=True, slots=True)
class SignedMessage:
    """A received request.

    target: path and query, still encoded.  headers: by their names in lower case.
    """

    method: str
    target: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def host(self) -> str:
        """The host name, in lower case, without a port."""
        return self.headers.get("host", "").partition(":")[0].lower()


@dataclass(frozen=True, slots=True)
class AuthorizationClaim:
    """The content of an Authorization header.

    scope: date, region and service of a derived key; "" of a plain one.
    """

    access_key: str
    scope: str
    signed: tuple[str, ...]
    signature: str

    @property
    def algorithm(self) -> str:
        """The name of the algorithm."""
        return _DERIVED if self.scope else _PLAIN

    def sign(self, message: SignedMessage, secret_key: str) -> str:
        """Return the right signature, in hexadecimal.  Raises KeyError for a missing header."""
        canonical = _canonical(message, self.signed)
        parts = [self.algorithm, message.headers[_DATE], *filter(None, [self.scope])]
        parts.append(hashlib.sha256(canonical).hexdigest())
        return _hmac(self._key(secret_key), "\n".join(parts).encode()).hex()

    def _key(self, secret_key: str) -> bytes:
        if not self.scope:
            return secret_key.encode()
        extracted = _hmac(self.access_key.encode(), secret_key.encode())
        return _hmac(extracted, self.scope.encode() + b"\x01").hex().encode()


@dataclass(frozen=True, slots=True)
class SignatureChecker:
    """A checker of signatures and tokens.

    credentials: secret keys by access key.  token: an alternative to signatures, or None.
    """

    credentials: Mapping[str, str] = field(repr=False)
    token: str | None = field(repr=False)

    def check(self, message: SignedMessage, regions: frozenset[str], now: float) -> None:
        """Check a request.  Raises Unauthenticated.

        regions: the valid ones of a derived key.  now: seconds since 1970.
        """
        if (shown := message.headers.get("x-auth-token")) is not None:
            if self.token is None or not _same(shown, self.token):
                raise Unauthenticated("decrypt token fail")
            return
        claim = read(message.headers.get("authorization", ""))
        if (secret_key := self.credentials.get(claim.access_key)) is None:
            raise Unauthenticated("Get secretKey failed, ak not exist")
        _check(claim, message, regions, now)
        if not _same(claim.sign(message, secret_key), claim.signature):
            raise Unauthenticated("verify aksk signature fail")


def read(header: str) -> AuthorizationClaim:
    """Read an Authorization header.  Raises Unauthenticated."""
    match = _CLAIM.fullmatch(header)
    if match is None:
        raise Unauthenticated("verify aksk signature fail, there is none")
    kind, who, names, signature = match.groups()
    access_key, _, scope = who.partition("/")
    if bool(scope) != kind.startswith(_DERIVED):
        raise Unauthenticated("verify aksk signature fail, bad scope")
    return AuthorizationClaim(access_key, scope, tuple(names.split(";")), signature)


def _check(
    claim: AuthorizationClaim, message: SignedMessage, regions: frozenset[str], now: float
) -> None:
    """Refuse a signature that is incomplete, too old, or for another request."""
    date, signed = message.headers.get(_DATE, ""), set(claim.signed)
    if not {"host", _DATE} <= signed <= set(message.headers):
        raise Unauthenticated("verify aksk signature fail, headers are missing")
    if abs(_seconds(date) - now) > SKEW:
        raise Unauthenticated("verify aksk signature fail, x-sdk-date is out of range")
    if claim.scope and claim.scope not in {f"{date[:8]}/{one}/{_SERVICE}" for one in regions}:
        raise Unauthenticated("verify aksk signature fail, bad scope")
    if not claim.scope and DERIVED_HOST in message.host:
        raise Unauthenticated("verify aksk signature fail, the key is not derived")
    if _CONTENT in signed and message.headers[_CONTENT] not in (_UNSIGNED, _hash(message.body)):
        raise Unauthenticated("verify aksk signature fail, another body")


def _seconds(date: str) -> float:
    """Parse yyyyMMdd'T'HHmmss'Z'; minus infinity for anything else."""
    try:
        return datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return float("-inf")


def _canonical(message: SignedMessage, signed: tuple[str, ...]) -> bytes:
    """Return the canonical form of a request, which is signed."""
    path, _, query = message.target.partition("?")
    pairs = sorted(parse_qsl(query, keep_blank_values=True))
    body = message.headers[_CONTENT] if message.body and _CONTENT in signed else _hash(message.body)
    lines = [
        message.method.upper(),
        quote(unquote(path), safe="/~").removesuffix("/") + "/",
        "&".join(f"{quote(key, safe='~')}={quote(value, safe='~')}" for key, value in pairs),
        *(f"{name}:{message.headers[name].strip()}" for name in signed),
        "",
        ";".join(signed),
        body,
    ]
    return "\n".join(lines).encode(errors="surrogateescape")


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def _same(one: str, other: str) -> bool:
    """Compare secrets in constant time."""
    escaped = "surrogateescape"
    return hmac.compare_digest(one.encode(errors=escaped), other.encode(errors=escaped))
