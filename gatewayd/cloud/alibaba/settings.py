"""The settings of one Alibaba Cloud account, its endpoint, and the root certificate there.  Pure.

Sources: "Manage endpoints" of the IoT Platform documentation; the fingerprint of GlobalSign's
root as Debian's package ca-certificates ships it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from gatewayd.cloud.outbound import OutboundSettings
from gatewayd.runtime.text import plain_hex
from gatewayd.settings import grammar
from gatewayd.settings.declare import REQUIRED, FileUse, given_credential, given_file, setting

SIGN_METHODS: Mapping[str, str] = {"hmacsha256": "sha256", "hmacsha1": "sha1", "hmacmd5": "md5"}
"""The cloud's names of the sign methods, the best first, to those of hashlib."""

DOMAIN = ".aliyuncs.com"
OLD_REGIONS = (
    "cn-shanghai",
    "ap-southeast-1",
    "ap-northeast-1",
    "us-west-1",
    "eu-central-1",
    "us-east-1",
)
"""The regions with old public instances."""


class AlibabaInstance(StrEnum):
    """What an endpoint belongs to."""

    OLD_PUBLIC = "an old public instance"
    NEW = "a new public or an enterprise instance"  # their names look alike
    CUSTOM = "a host of the customer's own"


@dataclass(frozen=True, slots=True)
class AlibabaRoot:
    """A root certificate of the vendor's endpoints.

    sha256: fingerprint of the certificate, hexadecimal in upper case.  ports: where it is needed.
    published: where to get it.
    """

    name: str
    sha256: str
    ports: frozenset[int]
    published: str


PRIVATE = AlibabaRoot(
    "Aliyun IoT Root CA",
    "7CA438A3976B5242D231F861499822DA855831382735836B361E7E9715661676",
    frozenset({8883}),
    "https://aliyun-iot.oss-cn-hangzhou.aliyuncs.com/cert_pub/root.crt",
)
"""Not in the trust store of any system."""
GLOBALSIGN = AlibabaRoot(
    "GlobalSign Root CA (R1)",
    "EBD41040E4BB3EC742C9E381D31EF2A41A48B6685C96E7CEF3C1DF6CD4331C99",
    frozenset({1883, 443}),
    "in /etc/ssl/certs of the package ca-certificates; it ends on 2028-01-28",
)
ROOTS = (PRIVATE, GLOBALSIGN)


def host_of(product: str, host: str = "", region: str = "", instance_id: str = "") -> str:
    """Return the host name of the MQTT endpoint, given or derived; "" if it is not known.

    product: the productKey, which is part of the name for an old public instance.
    """
    if host:
        return host
    if instance_id:
        return f"{instance_id}.mqtt.iothub{DOMAIN}"
    return f"{product}.iot-as-mqtt.{region}{DOMAIN}" if product and region else ""


def instance_of(host: str) -> AlibabaInstance:
    """Return what a host belongs to."""
    name = host.lower().removesuffix(".")
    if name.endswith(f".mqtt.iothub{DOMAIN}"):
        return AlibabaInstance.NEW
    if ".iot-as-mqtt." in name and name.endswith(DOMAIN):
        return AlibabaInstance.OLD_PUBLIC
    return AlibabaInstance.CUSTOM


def root_for(host: str, port: int) -> AlibabaRoot | None:
    """Return the root that an endpoint needs; None for a host of the customer's own."""
    if instance_of(host) is AlibabaInstance.CUSTOM:
        return None
    return next((root for root in ROOTS if port in root.ports), None)


def root_of(fingerprint: str) -> AlibabaRoot | None:
    """Return the vendor's root of this fingerprint; None for any other certificate.

    fingerprint: SHA-256, hexadecimal in either case, with colons or without.
    """
    plain = plain_hex(fingerprint)
    return next((root for root in ROOTS if plain_hex(root.sha256) == plain), None)


def odd_port(host: str, port: int) -> bool:
    """Whether the vendor's endpoints do not serve this port."""
    known: Iterable[int] = frozenset().union(*(root.ports for root in ROOTS))
    return instance_of(host) is not AlibabaInstance.CUSTOM and port not in known


DEVICE_NAME = re.compile(r"[A-Za-z0-9_@.:-]{4,32}")  # error code 6280
PRODUCT_KEY = re.compile(r"[A-Za-z0-9]{1,20}")  # the buffer of the vendor's C SDK holds 20
SECURE_MODES = (2, -2)
MAX_CLIENT_ID = 64
"""Characters of a client id before the bars ("MQTT-based dynamic registration")."""
PRODUCT_FIELD, DEVICE_FIELD = "{product}", "{device}"
USUAL_CLIENT_ID = f"{PRODUCT_FIELD}.{DEVICE_FIELD}"
"""Within the bound for all names that a cloud takes."""
_CLIENT_ID = re.compile(r"[!-{}~]{1,64}")  # what prints, without the bar that ends it


def client_id_text(text: str) -> str:
    """Return what is wrong with a client id; "" if nothing.  A grammar of a setting."""
    if _CLIENT_ID.fullmatch(text):
        return ""
    return f"must be 1 to {MAX_CLIENT_ID} printable ASCII characters, without spaces and |"


def client_id_template(text: str) -> str:
    """Return what is wrong with the template of client ids; "" if nothing.  A grammar likewise."""
    bare = text.replace(PRODUCT_FIELD, "").replace(DEVICE_FIELD, "")
    if "{" in bare or "}" in bare:
        return f"has an unknown field: known are {PRODUCT_FIELD} and {DEVICE_FIELD}"
    if DEVICE_FIELD not in text:
        return f"must have {DEVICE_FIELD}: each device needs its own"
    return client_id_text(text)


@dataclass(frozen=True, slots=True)
class AlibabaProduct:
    """[cloud.<name>.products.<productKey>]"""

    secret_credential: str = given_credential("the product secret")
    secret_file: Path | None = given_file("the product secret", "secret_credential")
    device_credentials: str = setting(
        "",
        "prefix of the systemd credentials that hold the secrets of known devices: a device name "
        "follows; for the route sub-device-known",
        grammar=grammar.credential_name,
        file=FileUse.DIRECTORY,
    )
    device_directory: Path | None = setting(  # declares a field
        None,
        "directory of files with the secrets of known devices, each named as the device, mode "
        "0600; used where device_credentials is empty",
        file=FileUse.DIRECTORY,
    )

    @property
    def has_secret(self) -> bool:
        """Whether the product secret is given: some routes need it, others do not."""
        return bool(self.secret_credential) or self.secret_file is not None

    @property
    def secret_place(self) -> str:
        """Where the product secret is given, for people."""
        if self.secret_credential:
            return f"the credential {self.secret_credential}"
        return f"the file {self.secret_file}"


@dataclass(frozen=True, slots=True)
class AlibabaGateway:
    """[cloud.<name>.gateway]: the gateway itself, as a device of the cloud.  Without this table
    there are no sub-devices."""

    product: str = setting(REQUIRED, "productKey of the gateway")
    device: str = setting(REQUIRED, "deviceName of the gateway")
    secret_credential: str = given_credential("the gateway's device secret")
    secret_file: Path | None = given_file("the gateway's device secret", "secret_credential")
    client_id: str = setting(
        "",
        "client id of the gateway, as its MAC or serial number (default: that of its cloud)",
        grammar=client_id_text,
    )
    register: bool = setting(
        False,
        "whether to register the gateway with its product's secret, instead of configuring its own",
    )
    report_found: bool = setting(
        False, "whether to report children that wait to the cloud, so that its user can add them"
    )
    children: int = setting(
        2000, "sub-devices that the cloud allows this gateway", low=1, high=10_000
    )

    def mistakes(self, products: Mapping[str, AlibabaProduct]) -> Iterator[str]:
        """Yield what is wrong, as AlibabaSettings.problems does."""
        if not PRODUCT_KEY.fullmatch(self.product):
            yield "gateway.product must be 1 to 20 letters and digits"
        given = (bool(self.secret_credential), self.secret_file is not None, self.register)
        if sum(given) != 1:
            yield "gateway needs one of secret_credential, secret_file and register = true"
        product = products.get(self.product)
        if self.register and (product is None or not product.has_secret):
            yield f"gateway.register needs the secret of products.{self.product[:64]}"


@dataclass(frozen=True, slots=True)
class AlibabaSettings(OutboundSettings):
    """[cloud.<name>], of the kind "alibaba"."""

    host: str = setting(
        "",
        "host name of the MQTT endpoint (default: derived from region or instance_id)",
        grammar=grammar.host,
    )
    address: str = setting(
        "", "name or IP address to connect to, if not that of host", grammar=grammar.host
    )
    region: str = setting(
        "", "region of an old public instance, as cn-shanghai", grammar=grammar.label
    )
    instance_id: str = setting(
        "", "ID of a new public or enterprise instance, as iot-06z…", grammar=grammar.label
    )
    port: int = setting(8883, "TCP port of the MQTT endpoint", low=1, high=65535)
    ca_file: Path | None = setting(  # likewise
        None,
        "trusted root certificates, PEM (default: those of the system)",
        file=FileUse.LATER,
    )
    client_id: str = setting(
        USUAL_CLIENT_ID,
        "client id of a device: {product} and {device} stand for productKey and deviceName; as "
        '"{device}" where rules name devices by MAC or serial number',
        grammar=client_id_template,
    )
    clean_session: bool = setting(
        True,
        "whether the cloud forgets what it has kept for a device that was offline; with false, "
        "messages of QoS 1 come when it is online again",
    )
    sign_method: str = setting("hmacsha256", "how requests are signed", choices=tuple(SIGN_METHODS))
    securemode_register: int = setting(
        2, "securemode sent to register: 2, or -2 if the cloud requires that", low=-2, high=2
    )
    preregistration_free: bool = setting(
        False,
        "whether to register devices that were not created before, by the route "
        "direct-preregistration-free: enterprise instances in some regions only",
    )
    securemode_preregistration_free: int = setting(
        -2, "securemode sent to register these: -2, or 2 if the cloud requires that", low=-2, high=2
    )
    explain: bool = setting(
        False,
        "whether to register over HTTPS where MQTT refuses and does not say why: region Shanghai",
    )
    https_host: str = setting(
        "",
        "host name of the registration over HTTPS (default: that of the region)",
        grammar=grammar.host,
    )
    https_port: int = setting(443, "its TCP port", low=1, high=65535)
    https_ca_file: Path | None = setting(  # likewise
        None,
        "trusted root certificates of that host, PEM (default: those of the system)",
        file=FileUse.LATER,
    )
    keepalive: int = setting(300, "MQTT keep-alive", unit="s", low=60, high=1200)
    connect_timeout: float = setting(
        10.0, "longest wait for each of name lookup, TCP and TLS", unit="s", low=0.1, high=120
    )
    reply_timeout: float = setting(
        10.0, "longest wait for each answer of the cloud", unit="s", low=0.1, high=120
    )
    products: Mapping[str, AlibabaProduct] = setting({}, "products by productKey")
    gateway: AlibabaGateway | None = setting(None, "the gateway itself; none for no sub-devices")

    @property
    def issues_own_secret(self) -> bool:
        """Whether the secret of the gateway's own name is issued to this gateway alone."""
        return self.gateway is not None and self.gateway.register

    def host_for(self, product: str) -> str:
        """Return the endpoint's host name, given or derived."""
        return host_of(product, self.host, self.region, self.instance_id)

    def problems(self) -> Iterator[str]:
        """Yield what is wrong, one sentence each, with the key and the remedy."""
        yield from OutboundSettings.problems(self)
        yield from self.transport_problems(self.port)
        if not (self.host or self.region or self.instance_id):
            yield "the endpoint is not known: set host, region or instance_id"
        for key, value in (("region", self.region), ("instance_id", self.instance_id)):
            if value and (rule := grammar.label(value)):
                yield f"{key} {rule}"
        for key in ("securemode_register", "securemode_preregistration_free"):
            if getattr(self, key) not in SECURE_MODES:
                yield f"{key} must be 2 or -2"
        if self.explain and not (self.https_host or self.region):
            yield "explain needs https_host or region"
        for key, product in self.products.items():
            yield from _product_problems(key, product)
        if self.gateway is not None:
            yield from self.gateway.mistakes(self.products)


def _product_problems(key: str, product: AlibabaProduct) -> Iterator[str]:
    if not PRODUCT_KEY.fullmatch(key):
        yield f"products.{key[:64]!a} must be 1 to 20 letters and digits"
        return
    if product.secret_credential and product.secret_file is not None:
        yield f"products.{key} has both secret_credential and secret_file: leave one out"
    if product.device_credentials and product.device_directory is not None:
        yield f"products.{key} has both device_credentials and device_directory: leave one out"
