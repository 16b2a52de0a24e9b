"""One account at the cloud: what all its routes use to connect, to sign and to read secrets."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from gatewayd.cloud import tls
from gatewayd.cloud.alibaba.settings import AlibabaSettings
from gatewayd.cloud.credentials import GivenSecret, ReadSecret
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret

_NONCE_BYTES = 8


@dataclass(frozen=True, slots=True)
class AlibabaAccount:
    """A configured account.

    read_secret: see cloud/credentials.py; called off the event loop, again for each registration,
    so that a file that was replaced counts at once.
    trust: the roots of the MQTT endpoint.  random: so many bytes that cannot be guessed.
    """

    settings: AlibabaSettings
    read_secret: ReadSecret
    trust: tls.TrustStore
    random: Callable[[int], bytes] = field(default=secrets.token_bytes)

    def endpoint(self, name: CloudName) -> tuple[str, int]:
        """Return the host and port of the MQTT endpoint for a device."""
        return self.settings.host_for(name.product), self.settings.port

    async def server(self, name: CloudName) -> tls.Server:
        """Return the server that a device connects to.  Raises ConnectError."""
        return await self.server_at(*self.endpoint(name), self.trust)

    async def server_at(self, host: str, port: int, trust: tls.TrustStore) -> tls.Server:
        """Return another server of the cloud.  Raises ConnectError."""
        context, settings = await trust.context(), self.settings
        return tls.Server(host, port, context, settings.connect_timeout, settings.reply_timeout)

    def given_secret(self, credential: str, file: Path | None) -> GivenSecret:
        """Return a secret that an operator gives."""
        return GivenSecret(self.read_secret, credential, file)

    async def product_secret(self, name: CloudName) -> Secret:
        """Read the secret of a device's product.  Raises ConfigError."""
        product = self.settings.products[name.product]
        return await self.given_secret(product.secret_credential, product.secret_file).read()

    def nonce(self) -> str:
        """Return what makes a request unlike any other: 16 hexadecimal digits."""
        return self.random(_NONCE_BYTES).hex()
