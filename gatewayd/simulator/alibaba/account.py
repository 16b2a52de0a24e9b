"""An account at the simulated Alibaba Cloud IoT Platform, for a plant."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from gatewayd.simulator import pki
from gatewayd.simulator.account import CERTIFICATES, LOOPBACK, AccountOptions, CloudVerb
from gatewayd.simulator.alibaba.cloud import AlibabaCloud, AlibabaCloudOptions
from gatewayd.simulator.alibaba.devices import AlibabaNodeType

PRODUCT = "a1SimProdKey"
GATEWAY = ("a1SimGateway", "gateway-1")
"""productKey and deviceName of the gateway itself."""


class AlibabaAccount:
    """Implements Account.  Its files: product-secret and gateway-secret."""

    def __init__(self, wish: AccountOptions) -> None:
        self._secrets = {key: secrets.token_urlsafe(12) for key in (PRODUCT, GATEWAY[0])}
        self.verbs: Mapping[str, CloudVerb] = {
            "reset": self._reset,
            "delete": self._delete,
            "secret": self._secret,
        }
        self._serials = wish.serials
        self._cloud = AlibabaCloud(
            self._secrets,
            [GATEWAY, *((PRODUCT, serial) for serial in wish.serials)],
            certificate=_certificate(wish),
            clock=asyncio.get_running_loop().time,
            random=secrets.token_bytes,
            options=AlibabaCloudOptions(
                address=wish.address,
                host=wish.address,
                rate=wish.rate,
                preregistration_free=True,
                nodes={PRODUCT: AlibabaNodeType(wish.node), GATEWAY[0]: AlibabaNodeType.GATEWAY},
            ),
        )

    async def __aenter__(self) -> Self:
        await self._cloud.__aenter__()
        return self

    async def __aexit__(self, *told: object) -> None:
        await self._cloud.__aexit__(*told)

    def set_faults(self, text: str, seed: int = 0) -> None:
        """Plan faults from now on.  Raises ConfigError."""
        self._cloud.set_faults(text, seed)

    def facts(self) -> Mapping[str, object]:
        """Return what a client has to be told."""
        return {"host": self._cloud.host, "port": self._cloud.port, "product": PRODUCT}

    def truth(self) -> Mapping[str, Any]:
        """Return what is true now at the cloud."""
        return self._cloud.truth()

    def ledger(self, child: str) -> Mapping[str, Any]:
        """Return what the cloud counted of a child.  Raises KeyError."""
        devices: Any = self._cloud.truth()["devices"]
        return dict(devices[PRODUCT][child])

    def write(self, directory: Path) -> None:
        """Write the secrets of the products."""
        for name, product in (("product-secret", PRODUCT), ("gateway-secret", GATEWAY[0])):
            (directory / name).touch(mode=0o600)
            (directory / name).write_text(self._secrets[product])

    async def _reset(self, request: Mapping[str, Any]) -> None:
        self._cloud.reset(PRODUCT, request["child"])

    async def _delete(self, request: Mapping[str, Any]) -> None:
        self._cloud.delete(PRODUCT, request["child"])

    async def _secret(self, request: Mapping[str, Any]) -> str:
        return self._cloud.show_secret(PRODUCT, request["child"])


def _certificate(wish: AccountOptions) -> pki.KeyedCertificate:
    """Issue one for the address itself: not every machine can look up "localhost"."""
    if wish.address == LOOPBACK:
        return CERTIFICATES[wish.certificate](wish.authority, wish.now)
    names, ips = ["cloud.example"], [wish.address]
    return wish.authority.issue(names, ips, wish.now - pki.LIFE, wish.now + pki.LIFE)
