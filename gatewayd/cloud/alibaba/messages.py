"""The fields of a CONNECT, and the push with the secret.  Pure.

Source: "MQTT-based dynamic registration" of the IoT Platform documentation.
"""

from __future__ import annotations

import re

from gatewayd.cloud.alibaba import answers
from gatewayd.cloud.alibaba.settings import AlibabaSettings
from gatewayd.cloud.alibaba.signing import connect_content, register_content, sign
from gatewayd.cloud.login import Login
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret

DEVICE_NAME = re.compile(r"[A-Za-z0-9_@.:-]{4,32}")  # error code 6280
REGISTER_TOPIC = "/ext/register"


def client_id(name: CloudName) -> str:
    """Return the part of the client id before the bars: free to choose, at most 64 characters."""
    return f"{name.product}.{name.device}"


def register_login(
    name: CloudName, secret: Secret, settings: AlibabaSettings, random: str
) -> Login:
    """Return what a CONNECT says to register.

    secret: the productSecret.  random: letters and digits, other ones each time.
    """
    options = {
        "securemode": str(settings.securemode_register),
        "authType": "register",
        "random": random,
        "signmethod": settings.sign_method,
    }
    if settings.instance_id:
        options["instanceId"] = settings.instance_id
    password = sign(settings.sign_method, secret, register_content(name, random))
    return _login(name, options, password)


def connect_login(name: CloudName, secret: Secret, method: str, timestamp: str = "") -> Login:
    """Return what a CONNECT says to log in.

    secret: the deviceSecret.  timestamp: milliseconds since the epoch as text; "" sends none.
    """
    options = {"securemode": "2", "signmethod": method}
    if timestamp:
        options["timestamp"] = timestamp
    content = connect_content(name, client_id(name), timestamp)
    return _login(name, options, sign(method, secret, content))


def _login(name: CloudName, options: dict[str, str], password: str) -> Login:
    told = ",".join(f"{key}={value}" for key, value in options.items())
    return Login(
        f"{client_id(name)}|{told}|",
        f"{name.device}&{name.product}",
        Secret(password.encode()),
    )


def parse_push(topic: str, payload: bytes, name: CloudName) -> Secret | None:
    """Return the deviceSecret issued to this device; None for any other message."""
    told = answers.load(payload)
    if topic != REGISTER_TOPIC or not answers.names(told, name):
        return None
    secret = answers.word(told, "deviceSecret")
    return Secret(secret.encode()) if secret else None
