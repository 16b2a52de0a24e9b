"""A registration over MQTT: the cloud accepts a CONNECT, and pushes what it issues unasked.

Source: "MQTT-based dynamic registration" of the IoT Platform documentation.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TypeAlias

from gatewayd.cloud import mqtt
from gatewayd.cloud.alibaba import reasons
from gatewayd.cloud.login import Login
from gatewayd.cloud.provider import Issued, Keep, Outcome, Unknown
from gatewayd.cloud.tls import Server
from gatewayd.device.reason import Reason
from gatewayd.device.secret import Secret

log = logging.getLogger(__name__)

Parse: TypeAlias = Callable[[str, bytes], Secret | None]
"""Takes topic and payload of a message; returns the secret in it, if it holds one for us."""


async def receive(
    server: Server, login: Login, keepalive: int, parse: Parse, keep: Keep
) -> Outcome:
    """Register once, and keep what is pushed before the cloud is left.

    Raises ConnectError where no connection was made, and what `keep` raises.
    """
    push = _Push(parse)
    connection = await mqtt.open_connection(server, login, keepalive, push.take)
    try:
        secret = await push.wait(connection, server.reply_timeout)
        if secret is None:
            return Unknown(push.why_not(connection))
        await keep(secret)
        await connection.close()
    finally:
        connection.abort()
    return Issued()


class _Push:
    """Waits for the message that holds the secret."""

    def __init__(self, parse: Parse) -> None:
        self._parse, self._ignored = parse, 0
        self._secret: Secret | None = None
        self._came: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def take(self, topic: str, payload: bytes) -> None:
        """Look at a message.  Of several secrets, the newest is the valid one."""
        secret = self._parse(topic, payload)
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
