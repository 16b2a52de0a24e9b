"""The link: the gateway's session at the cloud, over which its children are served."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from typing import Generic, Protocol, TypeVar

from gatewayd.cloud import mqtt
from gatewayd.cloud.paho_socket import Gone
from gatewayd.network.connect_errors import ConnectionEnd

log = logging.getLogger(__name__)


class LinkError(Exception):
    """A request has no reply."""


class NoAnswer(LinkError):
    """The reply did not come in time: the cloud may have done what was asked."""


class LinkDown(LinkError):
    """The session ended before the reply came: the cloud may have done what was asked."""


class NotSent(LinkDown):
    """There was no link, or too many requests wait: the cloud was not asked."""


class LinkSession(Protocol):
    """A session of the gateway.

    closed: why it has ended.
    """

    closed: asyncio.Future[ConnectionEnd]


UplinkT = TypeVar("UplinkT", bound=LinkSession)


class GatewayLink(Generic[UplinkT]):
    """The newest session of the gateway.  current: None while there is none."""

    def __init__(self) -> None:
        self.current: UplinkT | None = None
        self._up = asyncio.Event()

    def get(self) -> UplinkT:
        """Return the session.  Raises NotSent."""
        if self.current is None or self.current.closed.done():
            raise NotSent
        return self.current

    async def wait(self, seconds: float) -> UplinkT | None:
        """Return the session, after waiting so many seconds for one at most."""
        if self.current is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while self.current is None:
                        await self._up.wait()
        return self.current

    def put(self, uplink: UplinkT) -> None:
        """Make this the current session, until it ends."""
        self.current = uplink
        self._up.set()
        uplink.closed.add_done_callback(lambda _: self._gone(uplink))

    def _gone(self, uplink: UplinkT) -> None:
        if self.current is uplink:
            self.current = None
            self._up.clear()


@asynccontextmanager
async def deadline(seconds: float) -> AsyncIterator[None]:
    """Limit a wait for the cloud.  Raises NoAnswer after so many seconds, LinkDown."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise NoAnswer from None
    except Gone:
        raise LinkDown from None


async def subscribe(
    connection: mqtt.MqttConnection, subscribed: Awaitable[object], host: str, port: int
) -> None:
    """Wait for the subscriptions of a gateway's new session; close the connection if they fail.

    host, port: of the cloud.  Raises LoginFailed.
    """
    async with mqtt.preparing(connection, host, port):
        try:
            await subscribed
        except NoAnswer as error:
            raise TimeoutError from error
        except LinkDown as error:
            raise Gone from error
