"""What tests of whole sites ask of gatewayd on D-Bus."""

from __future__ import annotations

import signal

from gatewayd.simulator.site import MANAGER, Site

SECRET_STORE = (MANAGER[0], "/org/gatewayd1/secretstore", "org.gatewayd1.SecretStore")


async def kill_at(step: str, site: Site, child: str) -> None:
    """Start gatewayd and announce a child; return when gatewayd was killed at a durable step."""
    await site.launch("tests.support.kill_points", step)
    await site.ask(do="announce", child=child)
    assert site.daemon is not None
    assert await site.daemon.wait() == -signal.SIGKILL


async def wait_for_gateway(site: Site, state: str) -> None:
    """Wait until gatewayd as a whole is in a state."""

    async def reached() -> bool:
        return await site.busctl("get-property", *MANAGER, "State") == f's "{state}"'

    await site.until(reached, f"gatewayd to be {state}")
