"""Keyrings and the daemon as a process: one reads its vault, another is its store."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from gatewayd.secretstore.vault.keyring_backend import VaultKeyring
from gatewayd.simulator.site import Site, run
from tests.support.keyrings import LEFT_OPEN, SecretService, secret_service
from tests.support.sites import SECRET_STORE, wait_for_gateway

__all__ = ["secret_service"]

pytestmark = pytest.mark.integration

SEED = "1123"  # children that no other test has: all share the loopback interface


async def test_the_tool_of_keyring_reads_the_vault_while_the_daemon_runs(tmp_path: Path) -> None:
    site = Site(tmp_path, plant_options=("--children", "1", "--seed", SEED))
    async with site.open():
        (child,) = site.plant["serials"]
        await site.start()
        await site.wait_for(child, "online")
        device, _ = (await site.devices())[child]
        backend = f"{VaultKeyring.__module__}.{VaultKeyring.__qualname__}"
        slot = ("gatewayd/alibaba", f"{device}/device-secret#1")
        printed = await run(
            "env", f"KEYRING_PROPERTY_DIRECTORY={tmp_path}/state",
            sys.executable, "-m", "keyring", "-b", backend, "get", *slot,
        )  # fmt: skip
        assert printed == await site.ask(do="secret", child=child)
        assert await site.stop() == 0


@LEFT_OPEN
async def test_a_keyring_that_is_locked_seals_until_it_is_not(
    tmp_path: Path, secret_service: SecretService
) -> None:
    site = Site(tmp_path, plant_options=("--children", "1", "--late", "1", "--seed", SEED))
    async with site.open():
        first, second = site.plant["serials"]
        config = tmp_path / "gatewayd.toml"
        vault = '[secretstore.vault]\nkey = "development-file"\n'
        ring = (
            '[secretstore]\nbackend = "keyring"\n[secretstore.keyring]\nbackend = "SecretService"\n'
        )
        assert vault in config.read_text()
        config.write_text(config.read_text().replace(vault, ring))
        await site.start()
        await site.wait_for(first, "online")
        with pytest.raises(RuntimeError, match="does not support"):
            await site.busctl("call", *SECRET_STORE, "Rotate")
        assert await site.stop() == 0
        await asyncio.to_thread(secret_service.lock)
        await site.start()
        await wait_for_gateway(site, "sealed")
        await site.ask(do="announce", child=second)
        await site.wait_for(second, "admitted")

        async def explained() -> bool:
            return bool((await site.describe(second))["Reason"] == "store-sealed")

        await site.until(explained, "the keyring to be why")
        assert "locked" in site.log()
        await asyncio.to_thread(secret_service.stop)
        await asyncio.to_thread(secret_service.start)
        await site.wait_for(first, "online")
        await site.wait_for(second, "online")
        await wait_for_gateway(site, "running")
        for child in (first, second):
            assert len((await site.ledger(child))["secrets_sha256"]) == 1
        assert await site.stop() == 0
