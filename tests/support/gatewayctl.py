"""Runs gatewayctl as a process of its own."""

from __future__ import annotations

import sys

from gatewayd.simulator.bus import PrivateBus
from tests.dbus.support import run

GATEWAYCTL = (
    sys.executable,
    "-c",
    "import sys; from gatewayd.cli.main import main; sys.exit(main())",
)


async def ctl(bus: PrivateBus, *words: str) -> tuple[int, str]:
    """Return its exit status and its output, with the errors."""
    return await run(*GATEWAYCTL, "--bus", bus.address, *words)
