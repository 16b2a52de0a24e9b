"""The credentials in a CONNECT to the Alibaba cloud, and the check of their signature.  Pure.

Sources: the vendor's pages "MQTT-based dynamic registration" (help.aliyun.com/document_detail/
132111.html), "Establish MQTT connections over TCP" (73742) and its table of CONNACK codes (148610).
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from gatewayd.simulator.mqtt.packets import Connect


class ConnackCode(IntEnum):
    """CONNACK return codes, as the vendor uses them."""

    ACCEPTED = 0
    PROTOCOL_VERSION = 1
    IDENTIFIER_REJECTED = 2  # an option is missing or malformed, or there is no TLS
    SERVER_UNAVAILABLE = 3  # try later; also a keep-alive out of range
    BAD_CREDENTIALS = 4
    NOT_AUTHORIZED = 5


class AlibabaAuthType(StrEnum):
    """The purpose of a CONNECT: the option authType, which a login leaves out."""

    REGISTER = "register"
    REGISTER_UNLISTED = "regnwl"
    LOGIN = ""
    LOGIN_UNLISTED = "connwl"


REGISTRATIONS = frozenset({AlibabaAuthType.REGISTER, AlibabaAuthType.REGISTER_UNLISTED})

METHODS: Mapping[str, str] = {"hmacmd5": "md5", "hmacsha1": "sha1", "hmacsha256": "sha256"}
"""Option signmethod → digest."""

_SECURE_MODES: Mapping[tuple[AlibabaAuthType, bool], frozenset[str]] = {
    (AlibabaAuthType.REGISTER, True): frozenset({"2"}),
    # The page's table says -2, the vendor's own SDKs send 2.
    (AlibabaAuthType.REGISTER_UNLISTED, True): frozenset({"2", "-2"}),
    (AlibabaAuthType.LOGIN, True): frozenset({"2"}),
    (AlibabaAuthType.LOGIN, False): frozenset({"3"}),
    (AlibabaAuthType.LOGIN_UNLISTED, True): frozenset({"-2"}),
}
"""Purpose and TLS → the accepted values of securemode.  Only a login may go without TLS."""

KEEP_ALIVE = range(30, 1201)
"""The keep-alive of a login, in seconds; that of a registration is not checked."""

_MAX_CLIENT_ID = 64
_SERVED = ("_ss", "1")


class AlibabaConnectRefused(Exception):
    """A refusal of a CONNECT, with the CONNACK code."""

    def __init__(self, code: ConnackCode) -> None:
        super().__init__(code.name)
        self.code = code


@dataclass(frozen=True, slots=True)
class ConnectRequest:
    """A parsed CONNECT.

    client_id: the part before the first bar; it alone is signed.
    password: as sent; a hexadecimal HMAC, or the token of a device registered without creation.
    """

    auth_type: AlibabaAuthType
    client_id: str
    product_key: str
    device_name: str
    options: Mapping[str, str]
    password: str = field(repr=False)

    @property
    def name(self) -> tuple[str, str]:
        """The device: productKey and deviceName."""
        return self.product_key, self.device_name

    @property
    def served(self) -> bool:
        """Whether it asks for everything without subscriptions."""
        return self.options.get(_SERVED[0]) == _SERVED[1]

    @property
    def extended(self) -> bool:
        """Whether it takes RRPCs on topics of their own ("Call custom topics", 90570)."""
        option = self.options.get("ext", "")
        return option.isdecimal() and int(option) & 1 == 1

    @property
    def registers(self) -> bool:
        """Whether it requests a secret, not a session."""
        return self.auth_type in REGISTRATIONS

    @property
    def text(self) -> str:
        """The signed text."""
        names = {"deviceName": self.device_name, "productKey": self.product_key}
        if self.registers:
            names["random"] = self.options["random"]
        else:
            names["clientId"] = self.client_id
            if (timestamp := self.options.get("timestamp")) is not None:
                names["timestamp"] = timestamp
        return _concatenated(names)

    def signed_with(self, key: str) -> bool:
        """Whether the password is the HMAC under this key; hexadecimal in either case."""
        digest = METHODS[self.options.get("signmethod", "hmacmd5")]
        return _is_hmac(key, self.text, digest, self.password)


def signed(key: str, fields: Mapping[str, str], digest: str, sign: str) -> bool:
    """Whether these fields are signed with a key.  sign: hexadecimal in either case."""
    return _is_hmac(key, _concatenated(fields), digest, sign)


def method_of(name: str) -> str | None:
    """Return the digest of a signing method in lower case; None for one that is not simulated.

    Those without "hmac", which some pages list, are not, as no page defines them.
    """
    return METHODS.get(name)


def is_served(product: str, server_name: str | None, hosts: Collection[str]) -> bool:
    """Whether the instance with these hosts answers for a product at the name a client asked for.

    A client may ask for none (RFC 6066, 3): the vendor's SDK for Node.js does not.  Another region,
    or another instance, has its own server, which does not know the product ("Manage endpoints",
    document_detail/147356).
    hosts: may hold `{product}`, as the endpoints of old public instances hold the productKey.
    """
    if server_name is None:
        return True
    return server_name.lower() in {host.format(product=product).lower() for host in hosts}


def served(client_id: str) -> bool:
    """Whether a client id asks for everything without subscriptions, as SDKs of the vendor do."""
    _, _, options = client_id.partition("|")
    return "=".join(_SERVED) in options.strip("|").split(",")


def _concatenated(fields: Mapping[str, str]) -> str:
    """Return the text to sign: names in alphabetical order, each followed by its value."""
    return "".join(name + fields[name] for name in sorted(fields))


def _is_hmac(key: str, text: str, digest: str, sign: str) -> bool:
    right = hmac.new(key.encode(), text.encode(), digest).hexdigest()
    return hmac.compare_digest(right.encode(), sign.lower().encode())


def understand(connect: Connect, *, tls: bool, instance_id: str = "") -> ConnectRequest:
    """Parse a CONNECT.  Raises AlibabaConnectRefused where the vendor's table of codes says so.

    instance_id: the cloud instance's own; a client may leave it out, not name another.
    """
    if not connect.known:
        raise AlibabaConnectRefused(ConnackCode.PROTOCOL_VERSION)
    client_id, options = _client_id(connect.client_id)
    auth_type = _auth_type(options, tls=tls)
    if options.get("instanceId", instance_id) != instance_id:
        raise AlibabaConnectRefused(ConnackCode.IDENTIFIER_REJECTED)
    if auth_type not in REGISTRATIONS and connect.keepalive not in KEEP_ALIVE:
        raise AlibabaConnectRefused(ConnackCode.SERVER_UNAVAILABLE)
    device_name, bar, product_key = connect.username.partition("&")
    if not (device_name and bar and product_key) or "&" in product_key:
        raise AlibabaConnectRefused(ConnackCode.BAD_CREDENTIALS)
    password = connect.password.decode("ascii", "replace")
    return ConnectRequest(auth_type, client_id, product_key, device_name, options, password)


def _client_id(text: str) -> tuple[str, Mapping[str, str]]:
    """Split `id|name=value,…|`.  SDKs of the vendor leave a comma at the end."""
    client_id, *rest = text.split("|")
    if not 1 <= len(client_id) <= _MAX_CLIENT_ID or len(rest) != 2 or rest[1]:  # noqa: PLR2004  # two bars
        raise AlibabaConnectRefused(ConnackCode.IDENTIFIER_REJECTED)
    pairs = [pair.partition("=") for pair in rest[0].split(",") if pair]
    options = {name: value for name, _, value in pairs}
    if len(options) < len(pairs) or not all(name and value for name, value in options.items()):
        raise AlibabaConnectRefused(ConnackCode.IDENTIFIER_REJECTED)
    return client_id, options


def _auth_type(options: Mapping[str, str], *, tls: bool) -> AlibabaAuthType:
    try:
        auth_type = AlibabaAuthType(options.get("authType", ""))
    except ValueError:
        raise AlibabaConnectRefused(ConnackCode.IDENTIFIER_REJECTED) from None
    needed = {"securemode"} | ({"random", "signmethod"} if auth_type in REGISTRATIONS else set())
    if (
        not needed <= options.keys()
        or options["securemode"] not in _SECURE_MODES.get((auth_type, tls), ())
        or options.get("signmethod", "hmacmd5") not in METHODS
    ):
        raise AlibabaConnectRefused(ConnackCode.IDENTIFIER_REJECTED)
    return auth_type
