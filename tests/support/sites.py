"""What tests of whole sites ask of gatewayd on D-Bus."""

from __future__ import annotations

from gatewayd.simulator.site import MANAGER, Site

SECRET_STORE = (MANAGER[0], "/org/gatewayd1/secretstore", "org.gatewayd1.SecretStore")


async def wait_for_gateway(site: Site, state: str) -> None:
    """Wait until gatewayd as a whole is in a state."""

    async def reached() -> bool:
        return await site.busctl("get-property", *MANAGER, "State") == f's "{state}"'

    await site.until(reached, f"gatewayd to be {state}")
