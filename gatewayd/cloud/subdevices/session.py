"""A child that is logged in over the gateway's link."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from gatewayd.cloud import network
from gatewayd.cloud.faults import End
from gatewayd.cloud.provider import Ended
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret


class ChildSession:
    """Implements Session.

    secret: what the child was logged in with, to look later whether it still is.
    log_out: ends the session at the cloud; in at most 2 s, and never with an error.
    """

    def __init__(
        self, name: CloudName, secret: Secret, log_out: Callable[[ChildSession], Awaitable[None]]
    ) -> None:
        self.name, self.secret = name, secret
        self._log_out = log_out
        self._ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()

    def end(self, ended: Ended) -> None:
        """Tell whoever waits how the session ended.  What is told later is not heard."""
        if not self._ended.done():
            self._ended.set_result(ended)

    async def wait_closed(self) -> Ended:
        """Return how the session ended, when it has."""
        return await asyncio.shield(self._ended)

    async def close(self) -> None:
        """End it in good order, in at most 2 s.  Closing twice is fine."""
        if not self._ended.done():
            self.end(Ended(network.ENDS[End.OURS]))
            await self._log_out(self)
