"""What devices and gateways sign and send, and the secrets in the replies.  Pure.

The text that is signed runs names and values together without separators, names in alphabetical
order; the sign is its HMAC in hexadecimal.  Sub-devices sign the same texts.  Sources: "MQTT-based
dynamic registration", "Establish MQTT connections over TCP", "Register devices", "Manage
topological relationships" and "Connect or disconnect sub-devices" of the IoT Platform
documentation; that of product_register is in the vendor's C SDK.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from gatewayd.cloud.alibaba.alink import SubName
from gatewayd.cloud.alibaba.settings import (
    DEVICE_FIELD,
    PRODUCT_FIELD,
    SIGN_METHODS,
    AlibabaSettings,
)
from gatewayd.cloud.mqtt import Login
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret

MAX_SESSION_PACKET, MAX_REGISTRATION_PACKET = 257 * 1024, 16 * 1024
"""Bytes of a packet from the cloud: a message has 256 KB, and its topic 128 bytes ("Limits"); what
a registration pushes has some hundred bytes, with a token 1.4 KB at most."""


def register_content(name: CloudName, random: str) -> str:
    """Return what is signed to register, with the key productSecret."""
    return _run_together(deviceName=name.device, productKey=name.product, random=random)


def client_id_of(name: CloudName, settings: AlibabaSettings) -> str:
    """Return the part of a client id before the bars.  The same name has always the same."""
    own, place = settings.gateway, (name.product, name.device)
    if own is not None and own.client_id and (own.product, own.device) == place:
        return own.client_id
    text = settings.client_id.replace(PRODUCT_FIELD, name.product)
    return text.replace(DEVICE_FIELD, name.device)


def connect_content(name: CloudName, client_id: str, timestamp: str = "") -> str:
    """Return what is signed to log in, with the key deviceSecret.

    It is also what a gateway signs for a sub-device, to attach it or to log it in.
    client_id: in a CONNECT only the part before the first bar, for a sub-device all of it.
    timestamp: signed if, and only if, it is sent; for a sub-device it always is.
    """
    fields = {"clientId": client_id, "deviceName": name.device, "productKey": name.product}
    return _run_together(**fields, **({"timestamp": timestamp} if timestamp else {}))


def sign(method: str, key: Secret, content: str) -> str:
    """Return the HMAC in lower-case hexadecimal; `method` is one of SIGN_METHODS."""
    return hmac.new(key.reveal(), content.encode(), SIGN_METHODS[method]).hexdigest()


def _run_together(**fields: str) -> str:
    return "".join(name + value for name, value in sorted(fields.items()))


MAX_ANSWER = 4096
"""Bytes of a reply that are read; a real one has at most some hundred."""


def load(data: bytes) -> Mapping[str, object]:
    """Return a JSON object; an empty one for anything else."""
    if len(data) > MAX_ANSWER:
        return {}
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def names(fields: Mapping[str, object], name: CloudName) -> bool:
    """Whether these fields name this device."""
    return (fields.get("productKey"), fields.get("deviceName")) == (name.product, name.device)


def word(fields: Mapping[str, object], key: str, most: int = 64) -> str:
    """Return printable ASCII without spaces, 1 to `most` characters; "" for anything else.

    64: the size of the buffers of the vendor's C SDK.
    """
    value = fields.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= most:
        return ""
    return value if all("!" <= character <= "~" for character in value) else ""


RRPC = {"ext": "1"}
"""The option of a client that takes RRPCs on topics of its own ("Call custom topics")."""
REGISTER_TOPIC = "/ext/register"


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
    return _login(name, client_id_of(name, settings), options, password)


def connect_login(
    name: CloudName, secret: Secret, settings: AlibabaSettings, timestamp: str = ""
) -> Login:
    """Return what a CONNECT says to log in.

    secret: the deviceSecret.  timestamp: milliseconds since the epoch as text; "" sends none.
    """
    method, client = settings.sign_method, client_id_of(name, settings)
    options = {"securemode": "2", "signmethod": method}
    if timestamp:
        options["timestamp"] = timestamp
    options |= RRPC
    content = connect_content(name, client, timestamp)
    made = _login(name, client, options, sign(method, secret, content))
    return replace(made, clean_session=settings.clean_session)


def _login(name: CloudName, client: str, options: dict[str, str], password: str) -> Login:
    joined = ",".join(f"{key}={value}" for key, value in options.items())
    return Login(
        f"{client}|{joined}|",
        f"{name.device}&{name.product}",
        Secret(password.encode()),
    )


def parse_push(topic: str, payload: bytes, name: CloudName) -> Secret | None:
    """Return the deviceSecret issued to this device; None for any other message."""
    fields = load(payload)
    if topic != REGISTER_TOPIC or not names(fields, name):
        return None
    secret = word(fields, "deviceSecret")
    return Secret(secret.encode()) if secret else None


Entry: TypeAlias = Mapping[str, str]

SPELLING: Mapping[str, str] = {
    "hmacsha256": "hmacSha256",
    "hmacsha1": "hmacSha1",
    "hmacmd5": "hmacMd5",
}
"""A sign method, as a CONNECT spells it, to how these requests do."""


def sub_name(name: CloudName) -> SubName:
    """Return what the cloud calls a child."""
    return SubName(name.product, name.device)


def command_topics(device: SubName) -> tuple[str, ...]:
    """Return what is subscribed to for the commands of a device; few enough for one SUBSCRIBE.

    The first three are as the cloud subscribes devices to them ("Auto-subscribed topics", 197770).
    """
    own = f"{device.product}/{device.device}"
    return (
        f"/sys/{own}/thing/service/property/set",
        f"/sys/{own}/thing/service/+",
        f"/sys/{own}/rrpc/request/+",
        f"/ext/rrpc/+/sys/{own}/thing/service/+",
        f"/ext/rrpc/+/{own}/user/#",
        f"/{own}/user/#",
    )


def plain(name: SubName) -> Entry:
    """Return the entry of a child with its name alone."""
    return {"productKey": name.product, "deviceName": name.device}


def with_product_secret(name: CloudName, secret: Secret, method: str, random: str) -> Entry:
    """Return the entry of a child, signed with the secret of its product.

    random: letters and digits, other ones each time.
    """
    return {
        **plain(sub_name(name)),
        "random": random,
        "signMethod": SPELLING[method],
        "sign": sign(method, secret, register_content(name, random)),
    }


@dataclass(frozen=True, slots=True)
class ChildLogin:
    """What requests in the name of a child say of it, beside its own name.

    client_id: of the child.  timestamp: milliseconds since the epoch as text.
    clean_session: whether the cloud forgets what it has kept for the child, and keeps nothing.
    """

    client_id: str
    method: str
    timestamp: str
    clean_session: bool = True


def to_attach(name: CloudName, secret: Secret, login: ChildLogin) -> Entry:
    """Return the entry of a child for topo/add, signed with its own secret.

    The field of the sign method is written differently in a login: so the documentation has it.
    """
    return {**_signed(name, secret, login), "signmethod": SPELLING[login.method]}


def to_log_in(name: CloudName, secret: Secret, login: ChildLogin) -> Entry:
    """Return the entry of a child for a login, signed likewise."""
    return {
        **_signed(name, secret, login),
        "signMethod": SPELLING[login.method],
        "cleanSession": "true" if login.clean_session else "false",
    }


def issued(data: object) -> Mapping[SubName, Secret]:
    """Return the secrets in a list of the cloud; entries without a name or secret are left out."""
    found = {}
    for fields in _objects(data):
        name, secret = _name(fields), word(fields, "deviceSecret")
        if name and secret:
            found[name] = Secret(secret.encode())
    return found


def failures(data: object) -> Mapping[SubName, int]:
    """Return the codes in the list of those that product_register did not register."""
    found = {}
    for fields in _objects(data):
        detail = fields.get("errorDetail")
        code = detail.get("code") if isinstance(detail, dict) else None
        if (name := _name(fields)) and isinstance(code, int | str) and str(code).isdecimal():
            found[name] = int(str(code)[:_DIGITS])
    return found


def part(data: object, key: str) -> object:
    """Return one field of what should be an object; None where there is none."""
    return data.get(key) if isinstance(data, dict) else None


_DIGITS = 9


def _objects(data: object) -> Iterator[Mapping[str, object]]:
    for fields in data if isinstance(data, list) else [data]:
        if isinstance(fields, dict):
            yield fields


def _name(fields: Mapping[str, object]) -> SubName | None:
    product, device = fields.get("productKey"), fields.get("deviceName")
    if isinstance(product, str) and isinstance(device, str):
        return SubName(product, device)
    return None


def _signed(name: CloudName, secret: Secret, login: ChildLogin) -> Entry:
    content = connect_content(name, login.client_id, login.timestamp)
    return {
        **plain(sub_name(name)),
        "clientId": login.client_id,
        "timestamp": login.timestamp,
        "sign": sign(login.method, secret, content),
    }
