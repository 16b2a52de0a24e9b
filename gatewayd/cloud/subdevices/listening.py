"""The first words of a gateway's session: it subscribes, or there is no session."""

from __future__ import annotations

from collections.abc import Awaitable

from gatewayd.cloud import mqtt, network
from gatewayd.cloud.provider import LoginFailed
from gatewayd.cloud.subdevices.link import LinkDown, LinkError
from gatewayd.device.reason import Reason


async def listening(
    connection: mqtt.Connection, subscribed: Awaitable[None], no_answer: Reason
) -> None:
    """Return when the gateway has subscribed; the connection is closed if it cannot.

    no_answer: what to say where the cloud does not answer that.  Raises LoginFailed.
    """
    try:
        await subscribed
    except LinkError as error:
        connection.abort()
        down = isinstance(error, LinkDown)
        reason = network.ENDS[connection.closed.result()] if down else no_answer
        raise LoginFailed(reason) from error
    except BaseException:
        connection.abort()
        raise
