"""Where the cloud is, and which root certificate vouches for it there.  Pure.

Sources: "Manage endpoints" of the IoT Platform documentation; the fingerprint of GlobalSign's
root as Debian's package ca-certificates ships it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

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


class Instance(StrEnum):
    """What an endpoint belongs to."""

    OLD_PUBLIC = "an old public instance"
    NEW = "a new public or an enterprise instance"  # their names look alike
    CUSTOM = "a host of the customer's own"


@dataclass(frozen=True, slots=True)
class Root:
    """A root certificate of the vendor's endpoints.

    sha256: fingerprint of the certificate, hexadecimal in upper case.  ports: where it is needed.
    published: where it is to be had.
    """

    name: str
    sha256: str
    ports: frozenset[int]
    published: str


PRIVATE = Root(
    "Aliyun IoT Root CA",
    "7CA438A3976B5242D231F861499822DA855831382735836B361E7E9715661676",
    frozenset({8883}),
    "https://aliyun-iot.oss-cn-hangzhou.aliyuncs.com/cert_pub/root.crt",
)
"""In the store of no system."""
GLOBALSIGN = Root(
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


def instance_of(host: str) -> Instance:
    """Tell what a host belongs to."""
    name = host.lower().removesuffix(".")
    if name.endswith(f".mqtt.iothub{DOMAIN}"):
        return Instance.NEW
    if ".iot-as-mqtt." in name and name.endswith(DOMAIN):
        return Instance.OLD_PUBLIC
    return Instance.CUSTOM


def root_for(host: str, port: int) -> Root | None:
    """Return the root that is needed there; None where it is the customer's own affair."""
    if instance_of(host) is Instance.CUSTOM:
        return None
    return next((root for root in ROOTS if port in root.ports), None)


def root_of(fingerprint: str) -> Root | None:
    """Return the vendor's root of this fingerprint; None for any other certificate.

    fingerprint: SHA-256, hexadecimal in either case, with colons or without.
    """
    plain = fingerprint.replace(":", "").upper()
    return next((root for root in ROOTS if root.sha256 == plain), None)


def odd_port(host: str, port: int) -> bool:
    """Whether the vendor's endpoints do not serve this port."""
    known: Iterable[int] = frozenset().union(*(root.ports for root in ROOTS))
    return instance_of(host) is not Instance.CUSTOM and port not in known
