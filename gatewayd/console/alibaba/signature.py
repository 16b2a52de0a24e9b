"""Signatures of requests to Alibaba Cloud's API: RPC style, version 1.0.  Pure.

Source: the vendor's page "Signature method of RPC style" (help.aliyun.com/document_detail/315526)
and its Python SDK, aliyun-python-sdk-core 2.16.1, whose signatures are those of the tests.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

from gatewayd.console.access_key import AccessKey
from gatewayd.device.secret import Secret

METHOD, VERSION = "HMAC-SHA1", "1.0"
API_VERSION = "2018-01-20"
"""That of the IoT Platform's calls."""

_SIGNATURE = "Signature"
_UNRESERVED = "-_.~"
"""What is not encoded, besides letters and digits (RFC 3986, 2.3)."""


@dataclass(frozen=True, slots=True)
class RequestTime:
    """What makes a request the only one.  now: seconds since 1970.  nonce: random bytes."""

    now: float
    nonce: bytes


def signed_query(
    method: str, query: Mapping[str, str], form: Mapping[str, str], key: AccessKey, at: RequestTime
) -> dict[str, str]:
    """Return the query of a request with all that each request has, and its signature.

    method: of HTTP.  query, form: its own parameters, not encoded yet.
    """
    whole = {**query, **common_parameters(key, at.now, at.nonce)}
    text = string_to_sign(method, {**whole, **form})
    return {**whole, _SIGNATURE: signature(key.secret, text)}


def encoded(text: str) -> str:
    """Return a text in percent-encoding, as it is signed: a space is %20, an asterisk %2A."""
    return quote(text, safe=_UNRESERVED)


def encoded_query(parameters: Mapping[str, str]) -> str:
    """Return parameters as a query, or as a form, in their order."""
    return "&".join(f"{encoded(name)}={encoded(text)}" for name, text in parameters.items())


def common_parameters(key: AccessKey, now: float, nonce: bytes) -> dict[str, str]:
    """Return what each request has beside its own parameters, without the signature.

    now: seconds since 1970.  nonce: random bytes, which no other request has.
    A security token is one of them: it is sent, and never shown.
    """
    found = {
        "Format": "JSON",
        "Version": API_VERSION,
        "AccessKeyId": key.id,
        "SignatureMethod": METHOD,
        "Timestamp": timestamp(now),
        "SignatureVersion": VERSION,
        "SignatureNonce": nonce.hex(),
    }
    if key.token is not None:
        found["SecurityToken"] = key.token.reveal().decode("ascii")
    return found


def timestamp(now: float) -> str:
    """Return a time as it is signed: UTC, to the second.  now: seconds since 1970."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def string_to_sign(method: str, parameters: Mapping[str, str]) -> str:
    """Return what is signed: the method and all parameters, of query and form, by name.

    method: of HTTP.  parameters: not encoded yet; a signature among them is left out.
    """
    named = {name: parameters[name] for name in sorted(parameters) if name != _SIGNATURE}
    return f"{method}&{encoded('/')}&{encoded(encoded_query(named))}"


def signature(secret: Secret, text: str) -> str:
    """Return the HMAC-SHA1 of a text (RFC 2104), in base64.  secret: of the access key."""
    digest = hmac.digest(secret.reveal() + b"&", text.encode(), "sha1")
    return base64.b64encode(digest).decode("ascii")
