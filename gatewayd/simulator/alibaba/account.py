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


class SimulatedAlibabaAccount:
    """An account of the simulated Alibaba cloud.  Implements CloudAccount.

    Its files: product-secret and gateway-secret.
    """

    def __init__(self, options: AccountOptions) -> None:
        self._secrets = {key: secrets.token_urlsafe(12) for key in (PRODUCT, GATEWAY[0])}
        self.verbs: Mapping[str, CloudVerb] = {
            "reset": self._reset,
            "delete": self._delete,
            "secret": self._secret,
        }
        self._serials = options.serials
        self._cloud = AlibabaCloud(
            self._secrets,
            [GATEWAY, *((PRODUCT, serial) for serial in options.serials)],
            certificate=_certificate(options),
            clock=asyncio.get_running_loop().time,
            random=secrets.token_bytes,
            options=AlibabaCloudOptions(
                address=options.address,
                host=options.address,
                rate=options.rate,
                preregistration_free=True,
                nodes={PRODUCT: AlibabaNodeType(options.node), GATEWAY[0]: AlibabaNodeType.GATEWAY},
            ),
        )

    async def __aenter__(self) -> Self:
        await self._cloud.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._cloud.__aexit__(*error)

    def set_faults(self, text: str, seed: int = 0) -> None:
        """Plan faults from now on.  Raises ConfigError."""
        self._cloud.set_faults(text, seed)

    def facts(self) -> Mapping[str, object]:
        """Return the facts that a client needs."""
        return {"host": self._cloud.host, "port": self._cloud.port, "product": PRODUCT}

    def truth(self) -> Mapping[str, Any]:
        """Return the true state of the cloud now."""
        return self._cloud.truth()

    def ledger(self, child: str) -> Mapping[str, Any]:
        """Return the cloud's counts of a child.  Raises KeyError."""
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


def _certificate(options: AccountOptions) -> pki.KeyedCertificate:
    """Issue a certificate for the address: not every machine can look up "localhost"."""
    if options.address == LOOPBACK:
        return CERTIFICATES[options.certificate](options.authority, options.now)
    names, ips = ["cloud.example"], [options.address]
    return options.authority.issue(names, ips, options.now - pki.LIFE, options.now + pki.LIFE)
