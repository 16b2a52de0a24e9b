"""Neighbours of the real daemon that are stopped (SIGSTOP): the others are served meanwhile.

The message bus, systemd's notify socket and the journal: test_bus_daemon.py, tests/runtime and
tests/system/test_service.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gatewayd.simulator.site import MANAGER, POLICY, Site, run
from tests.dbus.support import OTHERS, POLKIT_POLICY
from tests.support.emulated_tpm import EmulatedTpm
from tests.support.keyrings import LEFT_OPEN, SecretService, secret_service
from tests.support.sites import wait_for_gateway

__all__ = ["secret_service"]

pytestmark = pytest.mark.integration

SEED = "1314"  # children that no other test has: all share the loopback interface
VAULT = '[secretstore.vault]\nkey = "development-file"\n'
RING = '[secretstore]\nbackend = "keyring"\n[secretstore.keyring]\nbackend = "SecretService"\n'
POLKIT = """
import asyncio, sys
from types import SimpleNamespace
from tests.dbus.fake_polkit import YES, FakeAuthority, polkit

async def serve():
    async with polkit(SimpleNamespace(address=sys.argv[1]), FakeAuthority(configure=YES)):
        print("ready", flush=True)
        await asyncio.Event().wait()

asyncio.run(serve())
"""


@pytest.fixture
def chip(tmp_path: Path) -> Iterator[EmulatedTpm]:
    with contextlib.closing(EmulatedTpm(tmp_path / "chip")) as chip:
        chip.start()
        yield chip


def configure(site: Site, store: str) -> None:
    config = site.directory / "gatewayd.toml"
    assert VAULT in config.read_text()
    config.write_text(config.read_text().replace(VAULT, store))


async def answers(site: Site) -> None:
    """Ask as an operator does, some times: busctl gives up after 25 s."""
    for _ in range(3):
        await site.devices()
        await site.busctl("get-property", *MANAGER, "State")


async def logged(site: Site, text: str) -> None:
    async def is_there() -> bool:
        return text in site.log()

    await site.until(is_there, text)


async def test_a_tpm_that_is_stopped_seals_until_it_goes_on(
    tmp_path: Path, chip: EmulatedTpm
) -> None:
    site = Site(tmp_path, plant_options=("--children", "1", "--seed", SEED))
    async with site.open():
        (child,) = site.plant["serials"]
        configure(
            site,
            f'[secretstore.vault]\nkey = "tpm2"\ntcti = "{chip.tcti}"\ntpm2_emulated = true\n',
        )
        await site.start()
        await site.wait_for(child, "online")
        chip.freeze()
        assert (await site.devices())[child][1] == "online"
        await answers(site)
        assert await site.stop() == 0
        await site.start()
        await wait_for_gateway(site, "sealed")
        await answers(site)
        assert "does not answer" in site.log()
        chip.thaw()
        await logged(site, "The vault is unsealed now")
        await site.wait_for(child, "online")
        await wait_for_gateway(site, "running")
        assert await site.stop() == 0


@LEFT_OPEN
async def test_a_keyring_that_is_stopped_keeps_new_children_waiting_and_no_caller(
    tmp_path: Path, secret_service: SecretService
) -> None:
    site = Site(tmp_path, plant_options=("--children", "1", "--late", "1", "--seed", SEED))
    async with site.open():
        first, second = site.plant["serials"]
        configure(site, RING)
        await site.start()
        await site.wait_for(first, "online")
        secret_service.signal(signal.SIGSTOP)
        try:
            await site.ask(do="announce", child=second)
            await wait_for_gateway(site, "sealed")
            await answers(site)
            assert (await site.devices())[first][1] == "online"
        finally:
            secret_service.signal(signal.SIGCONT)
        await site.wait_for(second, "online")
        await wait_for_gateway(site, "running")
        # a secret that was issued meanwhile was kept until the keyring took it
        assert len((await site.ledger(second))["secrets_sha256"]) == 1
        assert await site.stop() == 0


@contextlib.asynccontextmanager
async def polkit_process(bus: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a polkit that lets everyone reload the configuration."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", POLKIT, bus, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        yield process
    finally:
        process.kill()
        await process.wait()


@pytest.mark.parametrize("other", OTHERS, ids=["nobody"] * len(OTHERS))
async def test_a_polkit_that_is_stopped_refuses_changes_and_nothing_else(
    tmp_path: Path, other: tuple[str, ...]
) -> None:
    site = Site(
        tmp_path,
        plant_options=("--children", "1", "--seed", SEED),
        policies=(POLICY, POLKIT_POLICY),
    )
    async with site.open(), polkit_process(site.bus) as polkit:
        (child,) = site.plant["serials"]
        await site.start()
        await site.wait_for(child, "online")
        busctl = (*other, "busctl", f"--address={site.bus}", "--allow-interactive-authorization=no")
        reload = (*busctl, "call", *MANAGER, "Reload")
        await run(*reload)
        polkit.send_signal(signal.SIGSTOP)
        waiting = asyncio.create_task(run(*reload))
        await answers(site)
        await site.call("Reload")  # root needs no polkit
        with pytest.raises(RuntimeError, match="denied"):
            await waiting
        await logged(site, "Polkit does not answer")
        polkit.send_signal(signal.SIGCONT)
        await run(*reload)
        await logged(site, "Polkit answers again")
        assert (await site.devices())[child][1] == "online"
        assert await site.stop() == 0
