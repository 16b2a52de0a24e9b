"""Client ids and passwords in the Huawei platform's format.  Pure.

Source: the vendor's page on MQTT CONNECT (api-iothub/iot_06_v5_3009).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass

MAX_LENGTH = 256
_FORMAT = re.compile(r"([A-Za-z0-9_-]{1,128})_0_([01])_([0-9]{10})")


@dataclass(frozen=True, slots=True)
class ClientId:
    """A client id.  checked: whether the hour is compared.  hour: YYYYMMDDHH, UTC."""

    device_id: str
    checked: bool
    hour: str


def read(text: str) -> ClientId | None:
    """Read a client id; None if it is in another format."""
    if len(text) > MAX_LENGTH or (found := _FORMAT.fullmatch(text)) is None:
        return None
    return ClientId(found[1], found[2] == "1", found[3])


def password(secret: str, hour: str) -> str:
    """Return the password of a device with this secret: the hour is the key."""
    return hmac.new(hour.encode(), secret.encode(), hashlib.sha256).hexdigest()


def proves(given: bytes, secret: str, hour: str) -> bool:
    """Whether a password was made of a secret."""
    return hmac.compare_digest(given, password(secret, hour).encode())
