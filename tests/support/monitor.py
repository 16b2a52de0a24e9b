"""What gatewayd says on a bus, as busctl reads it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from gatewayd.simulator.site import MANAGER, Site


@asynccontextmanager
async def watched(one: Site) -> AsyncIterator[list[dict[str, Any]]]:
    """Yield a list of all messages from and to gatewayd, which grows; it need not run yet."""
    monitor = await asyncio.create_subprocess_exec(
        "busctl", f"--address={one.bus}", "--json=short", "monitor", MANAGER[0],
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, limit=16 << 20,
    )  # fmt: skip
    assert monitor.stdout is not None
    messages: list[dict[str, Any]] = []

    async def read() -> None:
        assert monitor.stdout is not None
        while (line := await monitor.stdout.readline()).endswith(b"\n"):  # the last may be cut
            messages.append(json.loads(line))

    async def asked() -> bool:
        with suppress(RuntimeError):
            await one.call("CountDevices")
        return bool(messages)

    reading = asyncio.create_task(read())
    try:
        await one.until(asked, "the monitor to listen")
        yield messages
    finally:
        monitor.terminate()
        await monitor.wait()
        await reading
