"""Signatures of calls to the simulated Alibaba cloud: version 1.0 of RPC style.  Pure.

Source: the vendor's pages "Signature method of RPC style" (help.aliyun.com/document_detail/315526)
and "Common error codes".
"""

from __future__ import annotations

import base64
import datetime as dt
import hmac
from collections.abc import Mapping
from urllib.parse import quote

VERSION = "2018-01-20"
"""Of the calls of the IoT Platform."""
TOLERANCE = 900.0
"""Seconds that a timestamp may be off, and that a nonce is remembered."""
MAX_NONCES = 10_000
_UNRESERVED = "-_.~"
_SIGNATURE = "Signature"
_NEEDED = (
    "Action", "Version", "AccessKeyId", "Timestamp",
    "SignatureMethod", "SignatureVersion", "SignatureNonce", _SIGNATURE,
)  # fmt: skip


class OpenApiRefused(Exception):
    """A call that is not answered as one.  status: of HTTP."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(code)
        self.status, self.code, self.message = status, code, message


def string_to_sign(method: str, parameters: Mapping[str, str]) -> str:
    """Return what is signed: all parameters but the signature, by name."""
    named = sorted((name, text) for name, text in parameters.items() if name != _SIGNATURE)
    joined = "&".join(f"{_encoded(name)}={_encoded(text)}" for name, text in named)
    return f"{method}&{_encoded('/')}&{_encoded(joined)}"


def signature(secret: str, text: str) -> str:
    """Return the HMAC-SHA1 of a text."""
    return base64.b64encode(hmac.digest(f"{secret}&".encode(), text.encode(), "sha1")).decode()


class OpenApiSignatures:
    """The check of signatures.

    credentials: secrets by access key.  tokens: security tokens by those keys that are temporary.
    """

    def __init__(
        self, credentials: Mapping[str, str], tokens: Mapping[str, str] | None = None
    ) -> None:
        self._credentials, self._tokens = credentials, tokens or {}
        self._nonces: dict[str, float] = {}

    def check(self, method: str, parameters: Mapping[str, str], now: float) -> None:
        """Check a call.  now: seconds since 1970.  Raises OpenApiRefused."""
        for name in _NEEDED:
            if not parameters.get(name):
                raise OpenApiRefused(400, f"Missing{name}", f"{name} is mandatory for this action.")
        if (secret := self._credentials.get(parameters["AccessKeyId"])) is None:
            raise OpenApiRefused(
                404, "InvalidAccessKeyId.NotFound", "Specified access key is not found."
            )
        self._check_token(parameters)
        if abs(_seconds(parameters["Timestamp"]) - now) > TOLERANCE:
            raise OpenApiRefused(
                400, "InvalidTimeStamp.Expired", "Specified time stamp or date value is expired."
            )
        how = parameters["SignatureMethod"], parameters["SignatureVersion"]
        text = string_to_sign(method, parameters)
        right = signature(secret, text)
        given = parameters[_SIGNATURE].encode()
        if how != ("HMAC-SHA1", "1.0") or not hmac.compare_digest(right.encode(), given):
            raise OpenApiRefused(
                400,
                "SignatureDoesNotMatch",
                "Specified signature is not matched with our calculation. "
                f"server string to sign is:{text}",
            )
        if parameters["Version"] != VERSION:
            raise OpenApiRefused(400, "InvalidVersion", "Specified parameter Version is not valid.")
        self._use(parameters["SignatureNonce"], now)

    def _check_token(self, parameters: Mapping[str, str]) -> None:
        """Check the security token of a temporary key; a lasting key has none."""
        given = parameters.get("SecurityToken", "")
        right = self._tokens.get(parameters["AccessKeyId"], "")
        if right and not given:
            raise OpenApiRefused(
                400, "MissingSecurityToken", "SecurityToken is mandatory for this action."
            )
        if not hmac.compare_digest(right.encode(), given.encode()):
            raise OpenApiRefused(
                400, "InvalidSecurityToken.Malformed", "Specified SecurityToken is malformed."
            )

    def _use(self, nonce: str, now: float) -> None:
        while self._nonces and next(iter(self._nonces.values())) + TOLERANCE < now:
            del self._nonces[next(iter(self._nonces))]
        if nonce in self._nonces or len(self._nonces) >= MAX_NONCES:
            raise OpenApiRefused(
                400, "SignatureNonceUsed", "Specified signature nonce was used already."
            )
        self._nonces[nonce] = now


def _encoded(text: str) -> str:
    return quote(text, safe=_UNRESERVED)


def _seconds(timestamp: str) -> float:
    """Return a time.  Raises OpenApiRefused."""
    try:
        return dt.datetime.strptime(timestamp, "%Y-%m-%dT%H:%M:%S%z").timestamp()
    except ValueError:
        raise OpenApiRefused(
            400,
            "InvalidTimeStamp.Format",
            "Specified time stamp or date value is not well formatted.",
        ) from None
