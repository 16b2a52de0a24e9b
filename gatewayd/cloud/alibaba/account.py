"""One account at the cloud: what all its routes use to connect, to sign and to read secrets."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from gatewayd.cloud.alibaba import payloads, reasons
from gatewayd.cloud.alibaba.settings import (
    DEVICE_NAME,
    MAX_CLIENT_ID,
    USUAL_CLIENT_ID,
    AlibabaSettings,
)
from gatewayd.cloud.credentials import GivenSecret, ReadSecret
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.network import tls
from gatewayd.network.addresses import AddressBook
from gatewayd.network.connect_errors import ConnectError, ConnectFault
from gatewayd.network.proxy import Proxy
from gatewayd.runtime.rate_limiter import RateLimiter, SlidingWindow, TooManyWaiting

CONNECTS, PERIOD = 80, 0.2
"""Connections in so many seconds, at most: 400 in any second, and no more than 480 if some are
later by a period.  The cloud takes 500 in a second of all devices of an account ("Limits" of the
documentation, 2020)."""
CONNECTING = 4096
"""Connections that may wait for that."""
_NONCE_BYTES = 8


def connect_limit(now: Callable[[], float] = time.monotonic) -> RateLimiter:
    """Return the limiter of an account's connections.  now: seconds of a steady clock."""
    return RateLimiter(SlidingWindow(CONNECTS, PERIOD), now, CONNECTING)


@dataclass(frozen=True, slots=True)
class AlibabaAccount:
    """A configured account.

    read_secret: see cloud/credentials.py; called off the event loop, again for each registration,
    so that a file that was replaced counts at once.  Those of one moment share a call.
    trust: the roots of the MQTT endpoint.  random: so many bytes that cannot be guessed.
    connects: the limiter of its connections.  book: the addresses of its hosts.
    proxy: on the way to all of them; None for none.  websocket: its path at the MQTT endpoint; ""
    for none.
    """

    settings: AlibabaSettings
    read_secret: ReadSecret
    trust: tls.TrustStore
    random: Callable[[int], bytes] = field(default=secrets.token_bytes)
    connects: RateLimiter = field(default_factory=connect_limit)
    book: AddressBook = field(default_factory=AddressBook)
    proxy: Proxy | None = None
    websocket: str = ""
    _product_secrets: dict[str, GivenSecret] = field(default_factory=dict, compare=False)
    _servers: dict[str, tls.Server] = field(default_factory=dict, compare=False)

    def check_name(self, name: CloudName) -> Reason | None:
        """Return why there is no such device here, whatever its route; None if there may be."""
        if not DEVICE_NAME.fullmatch(name.device):
            return reasons.BAD_NAME
        unusual = self.settings.client_id != USUAL_CLIENT_ID
        if unusual and len(payloads.client_id_of(name, self.settings)) > MAX_CLIENT_ID:
            return reasons.CLIENT_ID_TOO_LONG
        return None if name.product in self.settings.products else reasons.NO_PRODUCT

    def check_secret(self, name: CloudName) -> Reason | None:
        """Return why the product of a device that is here has no secret; None if it has one."""
        product = self.settings.products[name.product]
        return None if product.has_secret else reasons.NO_PRODUCT_SECRET

    def endpoint(self, name: CloudName) -> tuple[str, int]:
        """Return the host and port of the MQTT endpoint for a device."""
        return self.settings.host_for(name.product), self.settings.port

    async def server(self, name: CloudName) -> tls.Server:
        """Return the server that a device connects to, once it may.  Raises ConnectError."""
        host, context = self.settings.host_for(name.product), await self.trust.context()
        server = self._servers.get(host)
        if server is None or server.context is not context:
            found = await self.server_at(*self.endpoint(name), self.trust)
            server = replace(found, address=self.settings.address, websocket=self.websocket)
            self._servers[host] = server
        try:
            await self.connects.acquire()
        except TooManyWaiting:
            raise ConnectError(ConnectFault.TOO_OFTEN) from None
        return server

    async def server_at(self, host: str, port: int, trust: tls.TrustStore) -> tls.Server:
        """Return another server of the cloud.  Raises ConnectError."""
        context, settings = await trust.context(), self.settings
        wait, reply = settings.connect_timeout, settings.reply_timeout
        return tls.Server(
            host, port, context, wait, reply,
            book=self.book, proxy=self.proxy, sessions=trust.sessions,
        )  # fmt: skip

    def given_secret(self, credential: str, file: Path | None) -> GivenSecret:
        """Return a secret that an operator gives."""
        return GivenSecret(self.read_secret, credential, file)

    async def product_secret(self, name: CloudName) -> Secret:
        """Read the secret of a device's product.  Raises ConfigError."""
        if name.product not in self._product_secrets:
            product = self.settings.products[name.product]
            given = self.given_secret(product.secret_credential, product.secret_file)
            self._product_secrets[name.product] = given
        return await self._product_secrets[name.product].read()

    def nonce(self) -> str:
        """Return what makes a request unlike any other: 16 hexadecimal digits."""
        return self.random(_NONCE_BYTES).hex()
