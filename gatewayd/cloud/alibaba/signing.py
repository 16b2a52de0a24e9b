"""What is signed, and how.  Pure.

The text that is signed runs names and values together without separators, names in alphabetical
order; the sign is its HMAC in hexadecimal.  Sub-devices sign the same texts.  Sources: "MQTT-based
dynamic registration", "Establish MQTT connections over TCP", "Manage topological relationships"
and "Connect or disconnect sub-devices" of the IoT Platform documentation.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret

METHODS: Mapping[str, str] = {"hmacsha256": "sha256", "hmacsha1": "sha1", "hmacmd5": "md5"}
"""The cloud's names of the sign methods, the best first, to those of hashlib."""


def register_content(name: CloudName, random: str) -> str:
    """Return what is signed to register, with the key productSecret."""
    return _run_together(deviceName=name.device, productKey=name.product, random=random)


def connect_content(name: CloudName, client_id: str, timestamp: str = "") -> str:
    """Return what is signed to log in, with the key deviceSecret.

    It is also what a gateway signs for a sub-device, to attach it or to log it in.
    client_id: in a CONNECT only the part before the first bar, for a sub-device all of it.
    timestamp: signed if, and only if, it is sent; for a sub-device it always is.
    """
    fields = {"clientId": client_id, "deviceName": name.device, "productKey": name.product}
    return _run_together(**fields, **({"timestamp": timestamp} if timestamp else {}))


def sign(method: str, key: Secret, content: str) -> str:
    """Return the HMAC in lower-case hexadecimal; `method` is one of METHODS."""
    return hmac.new(key.reveal(), content.encode(), METHODS[method]).hexdigest()


def _run_together(**fields: str) -> str:
    return "".join(name + value for name, value in sorted(fields.items()))
