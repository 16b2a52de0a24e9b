"""The settings of one Alibaba Cloud account, and what follows from them.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gatewayd.cloud.alibaba.signing import METHODS
from gatewayd.settings import setting

_PRODUCT_KEY = re.compile(r"[A-Za-z0-9]{1,20}")  # the buffer of the vendor's C SDK holds 20
_LABEL = re.compile(r"[A-Za-z0-9-]{1,63}")
SECURE_MODES = (2, -2)


@dataclass(frozen=True, slots=True)
class AlibabaProduct:
    """[cloud.<name>.products.<productKey>]"""

    secret_credential: str = setting("", "name of the systemd credential with the product secret")
    secret_file: Path | None = setting(  # declares a field
        None, "file with the product secret, mode 0600; used where secret_credential is empty"
    )


@dataclass(frozen=True, slots=True)
class AlibabaSettings:
    """[cloud.<name>], of the kind "alibaba"."""

    host: str = setting("", "host name of the MQTT endpoint; empty to derive it")
    region: str = setting("", "region of an old public instance, as cn-shanghai")
    instance_id: str = setting("", "ID of a new public or enterprise instance, as iot-06z…")
    port: int = setting(8883, "TCP port of the MQTT endpoint", low=1, high=65535)
    ca_file: Path | None = setting(  # likewise
        None, "trusted root certificates, PEM; none for those of the system"
    )
    sign_method: str = setting("hmacsha256", "how requests are signed", choices=tuple(METHODS))
    securemode_register: int = setting(
        2, "securemode sent to register: 2, or -2 if the cloud wants that", low=-2, high=2
    )
    keepalive: int = setting(300, "MQTT keep-alive", unit="s", low=60, high=1200)
    connect_timeout: float = setting(
        10.0, "longest wait for each of name lookup, TCP and TLS", unit="s", low=0.1, high=120
    )
    reply_timeout: float = setting(
        10.0, "longest wait for each answer of the cloud", unit="s", low=0.1, high=120
    )
    products: Mapping[str, AlibabaProduct] = setting({}, "products by productKey")

    def host_for(self, product: str) -> str:
        """Return the endpoint's host name, given or derived ("Manage endpoints" of the docs)."""
        if self.host:
            return self.host
        if self.instance_id:
            return f"{self.instance_id}.mqtt.iothub.aliyuncs.com"
        return f"{product}.iot-as-mqtt.{self.region}.aliyuncs.com"

    def problems(self) -> Iterator[str]:
        """Yield what is wrong, one sentence each, with the key and the remedy."""
        if not (self.host or self.region or self.instance_id):
            yield "the endpoint is not known: set host, region or instance_id"
        for key, value in (("region", self.region), ("instance_id", self.instance_id)):
            if value and not _LABEL.fullmatch(value):
                yield f"{key} must be letters, digits and hyphens"
        if self.securemode_register not in SECURE_MODES:
            yield "securemode_register must be 2 or -2"
        for key, product in self.products.items():
            if not _PRODUCT_KEY.fullmatch(key):
                yield f"products.{key[:64]!a} must be 1 to 20 letters and digits"
            elif bool(product.secret_credential) == (product.secret_file is not None):
                yield f"products.{key} needs one of secret_credential and secret_file"
