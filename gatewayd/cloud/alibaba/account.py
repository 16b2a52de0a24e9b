"""What the routes of one account have in common: where they connect to, and product secrets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gatewayd.cloud import tls
from gatewayd.cloud.alibaba.settings import AlibabaSettings
from gatewayd.cloud.credential import ReadSecret
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret

_RANDOM_BYTES = 8


class Account:
    """trust: of this account.  random: so many bytes nobody can guess.

    read_secret: see cloud/credential.py; called off the loop, anew for each registration, so that
    a file that was replaced counts at once.
    """

    def __init__(
        self,
        settings: AlibabaSettings,
        trust: tls.Trust,
        read_secret: ReadSecret,
        random: Callable[[int], bytes],
    ) -> None:
        self._settings, self._trust = settings, trust
        self._read_secret, self._random = read_secret, random

    def endpoint(self, name: CloudName) -> tuple[str, int]:
        """Return host and port for a device."""
        return self._settings.host_for(name.product), self._settings.port

    async def server(self, name: CloudName) -> tls.Server:
        """Return where a device connects to.  Raises ConnectError."""
        context, settings = await self._trust.context(), self._settings
        return tls.Server(
            *self.endpoint(name), context, settings.connect_timeout, settings.reply_timeout
        )

    async def product_secret(self, name: CloudName) -> Secret:
        """Read the secret of a device's product.  Raises ConfigError."""
        product = self._settings.products[name.product]
        return await asyncio.to_thread(
            self._read_secret, product.secret_credential, product.secret_file
        )

    def nonce(self) -> str:
        """Return what makes a request unlike any other."""
        return self._random(_RANDOM_BYTES).hex()
