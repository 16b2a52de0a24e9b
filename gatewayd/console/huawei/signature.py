"""How requests to Huawei Cloud are signed: SDK-HMAC-SHA256, and V11-HMAC-SHA256 with a derived key.

Sources: the vendor's guide "API Request Signing" (devg-apisign), and the signer of its Python SDK
(huaweicloudsdkcore), whose derived key is HKDF (RFC 5869) of date, region and service.  Pure.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote, unquote

from gatewayd.console.access_key import AccessKey

PLAIN, DERIVED = "SDK-HMAC-SHA256", "V11-HMAC-SHA256"
DATE = "X-Sdk-Date"
SERVICE = "iotdm"
"""What a derived key of IoTDA is for."""


def target(path: str, query: Mapping[str, str]) -> str:
    """Return path and query as they are sent and signed.

    path: its variables encoded by `segment`.  query: plain text, by the names of its parameters.
    """
    pairs = [f"{segment(name)}={segment(value)}" for name, value in sorted(query.items())]
    return "?".join(filter(None, (path, "&".join(pairs))))


def segment(text: str) -> str:
    """Return a text as it stands in a path or a query: all but unreserved characters encoded
    (RFC 3986, 2.3).
    """
    return quote(text, safe="~")


def moment(now: float) -> str:
    """Return seconds since 1970 as the field X-Sdk-Date has them."""
    return datetime.fromtimestamp(int(now), UTC).strftime("%Y%m%dT%H%M%SZ")


def authorization(
    method: str, target: str, fields: Mapping[str, str], body: bytes, key: AccessKey, region: str
) -> str:
    """Return the field Authorization, which signs a request with all of these fields.

    target: as `target` returns it.  fields: with Host and X-Sdk-Date.
    region: that of a derived key, which an instance's own host wants; "" for a plain one.
    """
    lower = {name.lower(): value.strip() for name, value in fields.items()}
    date, names = lower[DATE.lower()], ";".join(sorted(lower))
    path, _, query = target.partition("?")
    signed = quote(unquote(path), safe="/~")  # an encoded slash is signed as one that divides
    lines = [
        method,
        signed if signed.endswith("/") else f"{signed}/",
        query,
        *(f"{name}:{lower[name]}" for name in sorted(lower)),
        "",
        names,
        hashlib.sha256(body).hexdigest(),
    ]
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    secret = key.secret.reveal()
    if not region:
        signature = _hmac(secret, f"{PLAIN}\n{date}\n{digest}").hex()
        return f"{PLAIN} Access={key.id}, SignedHeaders={names}, Signature={signature}"
    scope = f"{date[:8]}/{region}/{SERVICE}"
    extracted = hmac.digest(key.id.encode(), secret, "sha256")
    derived = _hmac(extracted, f"{scope}\x01").hex().encode()
    signature = _hmac(derived, f"{DERIVED}\n{date}\n{scope}\n{digest}").hex()
    return f"{DERIVED} Credential={key.id}/{scope}, SignedHeaders={names}, Signature={signature}"


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
