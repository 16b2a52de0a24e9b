"""The direct route: each child is registered and logged in over connections of its own.

Each child is a device of node type "direct", created in the console before.  It is registered by
MQTT dynamic registration, one TLS connection for each: the cloud pushes the secret unasked.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable

from gatewayd.cloud import mqtt, tls
from gatewayd.cloud.alibaba import messages, reasons
from gatewayd.cloud.alibaba.settings import AlibabaSettings
from gatewayd.cloud.credential import ReadSecret
from gatewayd.cloud.faults import ConnectError
from gatewayd.cloud.login import Login
from gatewayd.cloud.provider import Ended, Issued, Keep, Outcome, Refused, Unknown
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError

log = logging.getLogger(__name__)

_RANDOM_BYTES = 8


class Direct:
    """Implements Route.

    read_secret: see cloud/credential.py; called off the loop, anew for each registration, so
    that a file that was replaced counts at once.  random: so many bytes nobody can guess.
    """

    def __init__(
        self,
        settings: AlibabaSettings,
        read_secret: ReadSecret,
        random: Callable[[int], bytes],
    ) -> None:
        self._settings, self._read_secret, self._random = settings, read_secret, random
        self._context: ssl.SSLContext | None = None
        self._making_context = asyncio.Lock()

    def why_not(self, name: CloudName) -> Reason | None:
        """Tell why this name cannot be registered here; None if it may be tried."""
        return None if name.product in self._settings.products else reasons.NO_PRODUCT

    async def obstacle(self, _: CloudName) -> Reason | None:
        """Nothing is needed but the cloud itself."""
        return None

    async def forget(self, _: CloudName) -> Reason | None:
        """Nothing binds a direct device to this gateway."""
        return None

    async def register(self, name: CloudName, keep: Keep) -> Outcome:
        """Ask the cloud once for the child's secret, as Route says."""
        try:
            login = await self._request(name)
        except ConfigError as error:
            return Refused(reasons.no_product_secret(str(error)))
        push = _Push(name)
        try:
            connection = await self._open(name, login, push.take)
        except ConnectError as error:
            return reasons.registration(error, *self._endpoint(name))
        try:
            secret = await push.wait(connection, self._settings.reply_timeout)
            if secret is None:
                return Unknown(push.why_not(connection))
            await keep(secret)
            await connection.close()
        finally:
            connection.abort()
        return Issued()

    async def connect(self, name: CloudName, secret: Secret) -> AlibabaSession:
        """Log in once.  Raises LoginRefused, LoginFailed.

        No timestamp is sent: the cloud does not need one, and the gateway's clock may be wrong.
        """
        login = messages.connect_login(name, secret, self._settings.sign_method)
        try:
            return AlibabaSession(await self._open(name, login, _ignore))
        except ConnectError as error:
            raise reasons.login(error, *self._endpoint(name)) from error

    async def close(self) -> None:
        """Release the TLS context.  Sessions belong to whoever opened them."""
        self._context = None

    async def _request(self, name: CloudName) -> Login:
        product = self._settings.products[name.product]
        secret = await asyncio.to_thread(
            self._read_secret, product.secret_credential, product.secret_file
        )
        random = self._random(_RANDOM_BYTES).hex()
        return messages.register_login(name, secret, self._settings, random)

    async def _open(
        self, name: CloudName, login: Login, on_message: mqtt.Handler
    ) -> mqtt.Connection:
        host, port = self._endpoint(name)
        settings = self._settings
        server = tls.Server(
            host, port, await self._trust(), settings.connect_timeout, settings.reply_timeout
        )
        return await mqtt.open_connection(server, login, settings.keepalive, on_message)

    async def _trust(self) -> ssl.SSLContext:
        """Return the one context of this account; made off the loop, as that reads files."""
        async with self._making_context:
            if self._context is None:
                self._context = await asyncio.to_thread(tls.client_context, self._settings.ca_file)
            return self._context

    def _endpoint(self, name: CloudName) -> tuple[str, int]:
        return self._settings.host_for(name.product), self._settings.port


class AlibabaSession:
    """One child, logged in.  Implements Session."""

    def __init__(self, connection: mqtt.Connection) -> None:
        self._connection = connection

    async def wait_closed(self) -> Ended:
        """Return how the session ended, when it has."""
        return Ended(reasons.ENDS[await self._connection.wait_closed()])

    async def close(self) -> None:
        """End it in good order, in at most 2 s.  Closing twice is fine."""
        await self._connection.close()


class _Push:
    """Waits for the message that holds the secret."""

    def __init__(self, name: CloudName) -> None:
        self._name, self._ignored = name, 0
        self._secret: Secret | None = None
        self._came: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def take(self, topic: str, payload: bytes) -> None:
        """Look at a message.  Of several secrets, the newest is the valid one."""
        secret = messages.parse_push(topic, payload, self._name)
        if secret is None:
            self._ignored += 1
            return
        self._secret = secret
        if not self._came.done():
            self._came.set_result(None)

    async def wait(self, connection: mqtt.Connection, seconds: float) -> Secret | None:
        """Return the secret; None if it did not come.

        It counts though the connection is closed by now: what was issued was issued.
        """
        await asyncio.wait(
            (self._came, connection.closed),
            timeout=seconds,
            return_when=asyncio.FIRST_COMPLETED,
        )
        return self._secret

    def why_not(self, connection: mqtt.Connection) -> Reason:
        """Tell why no secret came."""
        if self._ignored:
            log.warning("The cloud sent %d messages without a secret.", self._ignored)
            return reasons.BAD_PUSH
        return reasons.HUNG_UP if connection.closed.done() else reasons.NO_PUSH


def _ignore(_topic: str, _payload: bytes) -> None:
    """Drop what the cloud sends to a child: gatewayd brings it online, and no more."""
