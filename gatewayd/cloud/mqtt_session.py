"""A device that is logged in over a connection of its own."""

from __future__ import annotations

from gatewayd.cloud import mqtt, network
from gatewayd.cloud.provider import Ended


class MqttSession:
    """Implements Session."""

    def __init__(self, connection: mqtt.Connection) -> None:
        self._connection = connection

    async def wait_closed(self) -> Ended:
        """Return how the session ended, when it has."""
        return Ended(network.ENDS[await self._connection.wait_closed()])

    async def close(self) -> None:
        """End it in good order, in at most 2 s.  Closing twice is fine."""
        await self._connection.close()


def ignore(_topic: str, _payload: bytes) -> None:
    """Drop what the cloud sends to a device: gatewayd brings it online, and no more."""
