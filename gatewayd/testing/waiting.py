"""Waiting for a condition that no event announces, as that a peer has closed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

PATIENCE = 60.0
"""Seconds after which a test gives up waiting."""

_POLL = 0.005


async def until(condition: Callable[[], object], patience: float = PATIENCE) -> None:
    """Return when a condition is true.  Raises TimeoutError after `patience` seconds."""
    async with asyncio.timeout(patience):
        while not condition():
            await asyncio.sleep(_POLL)
