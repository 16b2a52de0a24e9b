"""The settings of one Huawei Cloud IoTDA instance, and the rules of its fields.  Pure.

Where the vendor's pages differ, the narrower reading holds: a template's name has no Chinese
letters, and a device's name no space.  Sources: "Create a Device", "Create a Provisioning
Template" of the IoTDA API reference, and the models of the vendor's management SDK.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gatewayd.cloud.ca.configured import CertificateFiles
from gatewayd.cloud.outbound import OutboundSettings
from gatewayd.settings import grammar
from gatewayd.settings.declare import REQUIRED, FileUse, given_credential, given_file, setting

MAX_TAGS = 10
_WORD, _CHINESE = r"A-Za-z0-9_\-", "\u4e00-\u9fa5"


@cache
def _pattern(characters: str, longest: int) -> re.Pattern[str]:
    """Cached for each kind of field: a platform reports thousands of children at a time."""
    return re.compile(f"[{characters}]{{1,{longest}}}")


@dataclass(frozen=True, slots=True)
class Field:
    """The rule of one field of a device or a template.

    characters: the inside of a character class; named: the same in words.
    longest, advised: characters; the platform recommends at least `advised` of them.
    """

    characters: str
    named: str
    longest: int
    advised: int = 1

    def fault(self, text: str) -> str:
        """Return the rule that a text breaks; "" for none."""
        if _pattern(self.characters, self.longest).fullmatch(text):
            return ""
        return f"must be 1 to {self.longest} characters: {self.named}"

    def advice(self, text: str) -> str:
        """Return the recommendation that a text misses; "" for none."""
        return f"should have at least {self.advised} characters" * (len(text) < self.advised)


_PLAIN = (_WORD, "letters, digits, _ and -")
_TAG = (rf"{_CHINESE}{_WORD}.", "letters, digits, Chinese, _, . and -")
_PROSE = (rf"{_CHINESE}{_WORD}?'#().,&%@!", "letters, digits, Chinese and _?'#().,&%@!-, no space")

NODE_ID = Field(*_PLAIN, 64, advised=4)
PRODUCT_ID = Field(*_PLAIN, 36)
DEVICE_ID = Field(*_PLAIN, 128, advised=4)
DEVICE_NAME = Field(*_PROSE, 256, advised=4)
SERVICE_ID = MEMBER_NAME = Field(*_PROSE, 64)
EVENT_TYPE = Field(*_PROSE, 32)
TAG_KEY = Field(*_TAG, 64)
TAG_VALUE = Field(*_TAG, 128)
TEMPLATE_NAME = Field(*_PLAIN, 128)
DESCRIPTION = Field(*_PROSE, 2048)


def default_device_id(product_id: str, node_id: str) -> str:
    """Return the device ID that the platform gives a device where none is set.

    It cannot be split again: both parts may have an underscore, and a device ID that is set has no
    parts.
    """
    return f"{product_id}_{node_id}"


KEEPALIVE = (30, 1200)
"""Seconds; outside of them the platform refuses the CONNECT with code 2, as for a malformed client
ID ("MQTT Connection Authentication")."""
RENEW_BEFORE = 30
"""Days before its end at which a certificate is renewed, unless the settings say otherwise."""
KEY_ALGORITHMS = ("rsa-2048", "rsa-3072", "ec-p256")
_DOMAIN = re.compile(r"(?=.{1,253}$)([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,63}")

_VENDOR_HOST = re.compile(
    r"(?:[^.]+\.[^.]+\.iotda-device|(?P<shared>iot-mqtts))\.(?P<region>[^.]+)\.myhuaweicloud\.com",
    re.IGNORECASE,
)
_STANDARD_WITHOUT = {"cn-east-3": "CN East-Shanghai1"}
"""Regions whose standard instances have no self-registration (the user guide, iot_01_0115)."""
SELF_REGISTRATION_REMEDY = (
    "Where the edition has none, name another instance, or remove the table 'certificates' and "
    "let the rules name the route sub-device"
)


def self_registration_doubt(host: str) -> str:
    """Return why an instance may have no self-registration, by its host name; "" for no reason.

    A host name shows the region, but not the edition.  Sources: page iot_01_0115 of the user guide,
    for the region, and "Create a Provisioning Template", for the editions.
    """
    found = _VENDOR_HOST.fullmatch(host.rstrip("."))
    if found is None:
        return ""
    if found["shared"]:
        return (
            "it is a shared host of the older form, and the basic edition has no self-registration"
        )
    if region := _STANDARD_WITHOUT.get(found["region"].lower()):
        return f"standard instances in {region} have no self-registration, enterprise ones have"
    return ""


@dataclass(frozen=True, slots=True)
class HuaweiCertificates:
    """[cloud.<name>.certificates]: the devices' certificates.  Without this table there is no
    self-registration."""

    template_file: Path = setting(
        REQUIRED,
        "the provisioning template, JSON, as it was created at the platform",
        file=FileUse.START,
    )
    subject: Mapping[str, str] = setting(
        {},
        "fixed attributes of every subject, by the last word of the template's parameter, as "
        "country or organization",
    )
    key_algorithm: str = setting(
        "rsa-2048",
        "the devices' keys; the platform documents rsa-2048 alone",
        choices=KEY_ALGORITHMS,
    )
    days: int = setting(365, "life of a device certificate, in days", low=1, high=3650)
    renew_before: int = setting(
        RENEW_BEFORE, "days before its end at which a certificate is renewed", low=1, high=1825
    )

    def mistakes(self) -> Iterator[str]:
        """Yield the mistakes; see HuaweiSettings.problems."""
        if self.renew_before >= self.days:
            yield "certificates.renew_before must be less than certificates.days"


@dataclass(frozen=True, slots=True)
class HuaweiGateway:
    """[cloud.<name>.gateway]: the gateway itself, as a device of the platform.  Without this table
    there are no sub-devices."""

    product: str = setting(REQUIRED, "product ID of the gateway")
    device: str = setting(REQUIRED, "node ID of the gateway")
    login: str = setting(
        "certificate", "how the gateway logs in", choices=("certificate", "secret")
    )
    device_id: str = setting(
        "",
        "device ID of the gateway where it logs in with a secret, or with a certificate of its own "
        "(default: product ID, underscore and node ID)",
    )
    certificate_file: Path | None = setting(  # declares a field
        None,
        "file with a certificate that the gateway has already, and those above it, PEM (default: "
        "the device CA issues one)",
        file=FileUse.LATER,
    )
    private_key_credential: str = given_credential("the private key of certificate_file, PEM")
    private_key_file: Path | None = given_file(
        "the private key of certificate_file", "private_key_credential"
    )
    passphrase_credential: str = given_credential("the passphrase of that key, if it is encrypted")
    passphrase_file: Path | None = given_file("that passphrase", "passphrase_credential")
    secret_credential: str = given_credential("the gateway's device secret")
    secret_file: Path | None = given_file("the gateway's device secret", "secret_credential")
    check_timestamp: bool = setting(
        False,
        "whether the platform compares the hour of a login with its own clock; only where the "
        "gateway's clock is synchronised",
    )
    children: int = setting(
        50_000, "sub-devices that the platform lets this gateway have", low=1, high=50_000
    )
    status_per_second: int = setting(
        100,
        "sub-devices reported online or offline in a second, exceeded by half at times; the "
        "platform takes 150 of all gateways of an instance together, for each of its units",
        low=1,
        high=10_000,
    )

    def mistakes(self, *, by_certificate: bool) -> Iterator[str]:
        """Yield the mistakes; see HuaweiSettings.problems.

        by_certificate: whether devices can get certificates.
        """
        for key, field, text in (
            ("product", PRODUCT_ID, self.product),
            ("device", NODE_ID, self.device),
            ("device_id", DEVICE_ID, self.device_id),
        ):
            fault = field.fault(text)
            if fault and (text or key != "device_id"):
                yield f"gateway.{key} {fault}"
        has_key = bool(self.private_key_credential) or self.private_key_file is not None
        if self.certificate_file is not None and self.login == "secret":
            yield 'gateway.certificate_file needs gateway.login = "certificate"'
        if has_key != (self.certificate_file is not None):
            yield (
                "gateway.certificate_file and a key, by private_key_credential or "
                "private_key_file, need each other"
            )
        if self.login == "certificate" and not by_certificate and self.certificate_file is None:
            yield (
                "gateway.login is \"certificate\": add the table 'certificates', set "
                'gateway.certificate_file, or set gateway.login to "secret"'
            )

    @property
    def files(self) -> CertificateFiles | None:
        """Where the gateway's own certificate is; None where the device CA issues it."""
        if self.certificate_file is None:
            return None
        return CertificateFiles(
            self.certificate_file, self.private_key_credential, self.private_key_file,
            self.passphrase_credential, self.passphrase_file,
        )  # fmt: skip

    @property
    def own_device_id(self) -> str:
        """The device ID of the gateway, unless a template says it."""
        return self.device_id or default_device_id(self.product, self.device)


@dataclass(frozen=True, slots=True)
class HuaweiSettings(OutboundSettings):
    """[cloud.<name>], of the kind "huawei": one instance; there may be several."""

    host: str = setting(
        REQUIRED, "domain name of the instance's MQTTS endpoint", grammar=grammar.host
    )
    address: str = setting(
        "", "name or IP address to connect to, if not that of host", grammar=grammar.host
    )
    port: int = setting(8883, "TCP port of the MQTTS endpoint", low=1, high=65535)
    ca_file: Path | None = setting(  # declares a field
        None,
        "trusted root certificates, PEM; as few as needed, for each device with a certificate has "
        "its own copy of them (default: those of the system)",
        file=FileUse.LATER,
    )
    keepalive: int = setting(120, "MQTT keep-alive", unit="s", low=KEEPALIVE[0], high=KEEPALIVE[1])
    clean_session: bool = setting(
        True,
        "whether the platform forgets the MQTT session of a device that was offline; messages that "
        "it keeps for a device come in either case",
    )
    connect_timeout: float = setting(
        10.0, "longest wait for each of name lookup, TCP and TLS", unit="s", low=0.1, high=120
    )
    reply_timeout: float = setting(
        35.0, "longest wait for each answer of the platform, which takes up to 30 s", unit="s",
        low=0.1, high=120,
    )  # fmt: skip
    products: tuple[str, ...] = setting(
        (), "product IDs that children may have (default: any that their rules name)"
    )
    services: Mapping[str, str] = setting(
        {},
        "for each product ID, the service ID of values and events that do not name theirs; a child "
        "names it as in climate:temperature (default: each child names it)",
    )
    certificates: HuaweiCertificates | None = setting(
        None, "the devices' certificates (default: no self-registration)"
    )
    gateway: HuaweiGateway | None = setting(None, "the gateway itself (default: no sub-devices)")

    @property
    def issues_own_secret(self) -> bool:
        """Whether the certificate of the gateway's own name is issued by this gateway's CA."""
        own = self.gateway
        return own is not None and own.login == "certificate" and own.files is None

    def problems(self) -> Iterator[str]:
        """Yield each mistake as one sentence, with the key and the remedy."""
        yield from OutboundSettings.problems(self)
        yield from self.transport_problems(self.port)
        if _is_address(self.host):
            yield (
                "host must be the domain name of the instance, not an IP address: the platform "
                "finds the instance by the name in the TLS handshake (SNI), which takes no address"
            )
        elif not _DOMAIN.fullmatch(self.host):
            yield "host must be the domain name of the instance"
        for product in self.products:
            if fault := PRODUCT_ID.fault(product):
                yield f"products: each {fault}"
        for product, service in self.services.items():
            if fault := PRODUCT_ID.fault(product):
                yield f"services: each product ID {fault}"
            if fault := SERVICE_ID.fault(service):
                yield f"services.{product}: the service ID {fault}"
        if self.certificates is not None:
            yield from self.certificates.mistakes()
        if self.gateway is not None:
            yield from self.gateway.mistakes(by_certificate=self.certificates is not None)

    def warnings(self) -> Iterator[str]:
        """Yield what keeps devices of some instances from registering themselves."""
        if self.certificates is not None and (doubt := self_registration_doubt(self.host)):
            yield f"host: {doubt}. {SELF_REGISTRATION_REMEDY}"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
