"""Watches a session until it ends, or its secret has grown old."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gatewayd.cloud.provider import Ended
from gatewayd.device.identity import DeviceId
from gatewayd.sessions.renewal import Opened

LOOK = 3600.0
"""Seconds after which the time is looked at again: the gateway's clock may be set meanwhile."""
SHORTEST = 1.0
"""Seconds that are waited at least, since the two clocks are never quite in step."""


class Watches:
    """wall: seconds since the epoch."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._woken: dict[DeviceId, asyncio.Future[None]] = {}

    def wake(self, device: DeviceId) -> bool:
        """End the watch over a session now; False where there is none that could end so."""
        woken = self._woken.get(device)
        if woken is None:
            return False
        if not woken.done():
            woken.set_result(None)
        return True

    async def ended(self, device: DeviceId, opened: Opened) -> Ended | None:
        """Return how a session ended; None when its secret is to be replaced."""
        if opened.due is None:
            return await opened.session.wait_closed()
        woken = self._woken[device] = asyncio.get_running_loop().create_future()
        closed = asyncio.ensure_future(opened.session.wait_closed())
        try:
            while not (woken.done() or closed.done()):
                left = opened.due - self._wall()
                if left <= 0:
                    return None
                watched, wait = {closed, woken}, min(max(left, SHORTEST), LOOK)
                await asyncio.wait(watched, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
            return closed.result() if closed.done() else None
        finally:
            del self._woken[device]
            closed.cancel()
            await asyncio.gather(closed, return_exceptions=True)
