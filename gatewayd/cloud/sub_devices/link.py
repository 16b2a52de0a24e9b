"""The gateway's session at the cloud: whoever needs it for a child finds it here, or waits.

The first words of a gateway's session: it subscribes, or there is no session.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from typing import Generic, Protocol, TypeVar

from gatewayd.cloud import connect_errors, mqtt
from gatewayd.cloud.connect_errors import ConnectionEnd
from gatewayd.cloud.paho_socket import Gone
from gatewayd.cloud.provider import LoginFailed
from gatewayd.device.reason import Reason


class LinkError(Exception):
    """A question has no reply."""


class NoAnswer(LinkError):
    """The reply did not come in time: whether the cloud did what was asked is not known."""


class LinkDown(LinkError):
    """The session ended before the reply came; if it was asked, the same is not known."""


class NotSent(LinkDown):
    """There was no link, so the cloud has not been asked."""


class LinkSession(Protocol):
    """A session of the gateway.

    closed: why it has ended.
    """

    closed: asyncio.Future[ConnectionEnd]


UplinkT = TypeVar("UplinkT", bound=LinkSession)


class GatewayLink(Generic[UplinkT]):
    """The newest session of the gateway, for whoever needs one.

    current: None while there is none.
    """

    def __init__(self) -> None:
        self.current: UplinkT | None = None
        self._up = asyncio.Event()

    def get(self) -> UplinkT:
        """Return the session.  Raises NotSent."""
        if self.current is None or self.current.closed.done():
            raise NotSent
        return self.current

    async def wait(self, seconds: float) -> UplinkT | None:
        """Return the session, if there is one or comes to be one within so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.current is None:
                    await self._up.wait()
        return self.current

    def put(self, uplink: UplinkT) -> None:
        """Hand out this session from now on, until it ends."""
        self.current = uplink
        self._up.set()
        uplink.closed.add_done_callback(lambda _: self._gone(uplink))

    def _gone(self, uplink: UplinkT) -> None:
        if self.current is uplink:
            self.current = None
            self._up.clear()


@asynccontextmanager
async def deadline(seconds: float) -> AsyncIterator[None]:
    """Turn what ends a wait for the cloud into errors of the link."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise NoAnswer from None
    except Gone:
        raise LinkDown from None


async def subscribe(
    connection: mqtt.MqttConnection, subscribed: Awaitable[None], no_answer: Reason
) -> None:
    """Return when the gateway has subscribed; the connection is closed if it cannot.

    no_answer: what to say where the cloud does not answer that.  Raises LoginFailed.
    """
    try:
        await subscribed
    except LinkError as error:
        connection.abort()
        down = isinstance(error, LinkDown)
        reason = connect_errors.ENDS[connection.closed.result()] if down else no_answer
        raise LoginFailed(reason) from error
    except BaseException:
        connection.abort()
        raise
