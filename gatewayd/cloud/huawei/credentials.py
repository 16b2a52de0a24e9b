"""What a device says of itself when it connects.  Pure.

Source: "MQTT Connection Authentication" of the IoTDA API reference.
"""

from __future__ import annotations

import datetime as dt
import hmac
import re

from gatewayd.cloud.login import Login
from gatewayd.device.secret import Secret

_SECRET = re.compile(rb"[A-Za-z0-9_-]{8,32}")
_ITSELF = 0
"""The second part of a client id: the id before it is a device's own."""


def certificate_login(device_id: str, now: float, *, check_timestamp: bool = False) -> Login:
    """Return what a CONNECT says where the certificate proves who the device is.

    now: seconds since the epoch.  check_timestamp: as for `secret_login`.
    """
    return _login(device_id, _hour(now), Secret(b""), check_timestamp=check_timestamp)


def secret_login(
    device_id: str, secret: Secret, now: float, *, check_timestamp: bool = False
) -> Login:
    """Return what a CONNECT says to log in with a secret.

    now: seconds since the epoch; client id and password are of the same hour, read once.
    check_timestamp: whether the platform compares that hour with its own clock.
    """
    hour = _hour(now)
    password = keyed_hash(hour.encode(), secret.reveal())
    return _login(device_id, hour, Secret(password.encode()), check_timestamp=check_timestamp)


def keyed_hash(key: bytes, message: bytes) -> str:
    """Return what the platform calls HmacSHA256: lower-case hexadecimal, 64 digits."""
    return hmac.new(key, message, "sha256").hexdigest()


def secret_fault(secret: Secret) -> str:
    """Return what the secret of a device must be and is not; "" if it is ("Create a Device")."""
    if _SECRET.fullmatch(secret.reveal()):
        return ""
    return "must be 8 to 32 characters: letters, digits, _ and -"


def _hour(now: float) -> str:
    return dt.datetime.fromtimestamp(now, tz=dt.UTC).strftime("%Y%m%d%H")


def _login(device_id: str, hour: str, password: Secret, *, check_timestamp: bool) -> Login:
    client_id = f"{device_id}_{_ITSELF}_{int(check_timestamp)}_{hour}"
    return Login(client_id, device_id, password)
