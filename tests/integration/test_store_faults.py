"""Faults of the files of the store, between two runs of the daemon or in one."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gatewayd.secretstore.vault.vault import Vault
from gatewayd.simulator.site import Site
from tests.support.sites import SECRET_STORE, wait_for_gateway
from tests.support.vaults import DEVELOPMENT

pytestmark = pytest.mark.integration

FEW, MORE = 2, 4
SEED = "1122"  # children that no other test has: all share the loopback interface


@contextlib.asynccontextmanager
async def stopped(tmp_path: Path, while_few: Callable[[Path], object]) -> AsyncIterator[Site]:
    """Yield a site where all children have been online, and gatewayd has stopped.

    while_few: called with the state directory when it had stopped before, with FEW of them.
    """
    plant = ("--children", str(FEW), "--late", str(MORE), "--rate", "0", "--seed", SEED)
    site = Site(tmp_path, plant_options=plant)
    async with site.open():
        await run_once(site, FEW)
        while_few(tmp_path / "state")
        for child in site.plant["serials"][FEW:]:
            await site.ask(do="announce", child=child)
        await run_once(site, FEW + MORE)
        yield site


async def run_once(site: Site, children: int) -> None:
    """Run gatewayd until so many are online."""
    await site.start()
    await online(site, children)
    assert await site.stop() == 0


async def online(site: Site, children: int) -> None:
    await counted(site, "online", children)


async def counted(site: Site, state: str, children: int) -> None:
    async def reached() -> bool:
        return bool((await site.call("CountDevices")).get(state, 0) == children)

    await site.until(reached, f"{children} to be {state}")


async def reasons(site: Site, children: list[str]) -> set[str]:
    """Return why some children are in their states; "" for one that is not known yet."""
    known = await site.devices()
    return {str((await site.describe(c))["Reason"]) if c in known else "" for c in children}


async def refused(site: Site, sentence: str) -> None:
    """Start gatewayd, which must exit with an error that contains a sentence."""
    await site.launch()
    assert site.daemon is not None
    assert await site.daemon.wait() == 1
    assert sentence in site.log()


async def unharmed(site: Site) -> None:
    """Start gatewayd: all must be online, with the one secret that each was issued."""
    await run_once(site, FEW + MORE)
    for child in site.plant["serials"]:
        assert len((await site.ledger(child))["secrets_sha256"]) == 1


def copied(name: str) -> Callable[[Path], object]:
    """Return what keeps a copy of a file of the state directory."""
    return lambda state: shutil.copy(state / name, state / f"old-{name}")


def put_back(state: Path, name: str) -> None:
    """Put an old copy in the place of a file, and keep the newer."""
    (state / name).rename(state / f"new-{name}")
    (state / f"old-{name}").rename(state / name)


def ciphertext(vault: Path, child: str) -> bytes:
    """Return what the vault keeps of a child, as it lies on the disk."""
    with contextlib.closing(sqlite3.connect(vault)) as file:
        sql = "SELECT ct FROM secret WHERE username LIKE ? || '/%'"
        return bytes(file.execute(sql, (child,)).fetchone()[0])


def nothing(_: Path) -> None:
    """Change nothing."""


@pytest.mark.parametrize("name", ["vault.db", "state.db"])
async def test_a_file_cut_short_is_refused_and_left_alone(tmp_path: Path, name: str) -> None:
    async with stopped(tmp_path, nothing) as site:
        file = tmp_path / "state" / name
        whole = file.read_bytes()
        half = whole[: len(whole) // 2]
        file.write_bytes(half)
        await refused(site, f"{name} is damaged")
        assert "restore it from a backup" in site.log()
        assert file.read_bytes() == half
        file.write_bytes(whole)
        await unharmed(site)


async def test_flipped_bits_cost_one_secret_and_say_so(tmp_path: Path) -> None:
    async with stopped(tmp_path, nothing) as site:
        victim, *others = site.plant["serials"]
        await site.start()
        device, _ = (await site.devices())[victim]
        assert await site.stop() == 0
        file = tmp_path / "state/vault.db"
        whole, secret = file.read_bytes(), ciphertext(file, device)
        file.write_bytes(whole.replace(secret, bytes([secret[0] ^ 4]) + secret[1:]))
        await site.start()
        await site.wait_for(victim, "failed")
        failed = await site.describe(victim)
        assert (failed["Reason"], failed["SubState"]) == ("secret-lost", "needs-reset")
        assert failed["SecretState"] == "lost"
        assert failed["Remedy"]
        await online(site, len(others))
        assert await site.stop() == 0
        file.write_bytes(whole)
        await unharmed(site)


@pytest.mark.parametrize("name", ["vault.db", "state.db"])
async def test_an_old_copy_is_reported_and_nothing_is_deleted(tmp_path: Path, name: str) -> None:
    async with stopped(tmp_path, copied(name)) as site:
        state = tmp_path / "state"
        put_back(state, name)
        await site.start()
        await wait_for_gateway(site, "degraded")
        await online(site, FEW)
        wanted = "secret-lost" if name == "vault.db" else "store-rollback-suspected"
        later = site.plant["serials"][FEW:]

        async def explained() -> bool:
            return await reasons(site, later) == {wanted}

        await site.until(explained, f"{wanted} to be the reason")
        for child in later:
            assert (await site.describe(child))["Remedy"]
        assert f"put the right {name} back" in site.log()
        assert await site.stop() == 0
        (state / f"new-{name}").rename(state / name)
        await unharmed(site)


@pytest.fixture
def readonly(tmp_path: Path) -> Path:
    """A library that makes a directory read-only for the process that preloads it."""
    library, source = tmp_path / "readonly.so", Path(__file__).with_name("readonly.c")
    command = ["cc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", str(library), str(source)]
    subprocess.run(command, check=True)
    return library


async def test_a_disk_that_turns_read_only_is_reported_while_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, readonly: Path
) -> None:
    site = Site(tmp_path, plant_options=("--children", "1", "--late", "1", "--seed", SEED))
    switch = tmp_path / "readonly"
    async with site.open():
        first, second = site.plant["serials"]
        monkeypatch.setenv("LD_PRELOAD", str(readonly))
        monkeypatch.setenv("READONLY_DIRECTORY", str(tmp_path / "state"))
        monkeypatch.setenv("READONLY_SWITCH", str(switch))
        await site.start()
        await online(site, 1)
        switch.touch()
        await site.ask(do="announce", child=second)

        async def explained() -> bool:
            if second not in await site.devices():
                return False
            return bool((await site.describe(second))["Reason"] == "store-unavailable")

        await site.until(explained, "the store to be the reason")
        await wait_for_gateway(site, "degraded")
        condition = await site.busctl("get-property", *SECRET_STORE, "State", "Explanation")
        assert condition.startswith('s "degraded"')
        assert str(tmp_path / "state") in condition
        assert (await site.devices())[first][1] == "online"
        assert not (await site.ledger(second))["secrets_sha256"]
        switch.unlink()
        device, _ = (await site.devices())[second]
        await site.call("Retry", "s", device)  # rather than wait for the next try
        await online(site, 2)
        await wait_for_gateway(site, "running")
        assert await site.stop() == 0


def move(state: Path) -> None:
    """Make a vault that of another machine."""
    with contextlib.closing(Vault(DEVELOPMENT, state, machine=b"")) as vault:
        present = vault._bound._present
        assert present is not None
        vault._bound._present = replace(present, machine=b"another machine")
        vault._bound.due = True
        vault.begin()
        vault.commit()


async def test_a_site_on_another_machine_logs_no_one_in_until_it_is_accepted(
    tmp_path: Path,
) -> None:
    plant = ("--children", str(FEW), "--rate", "0", "--seed", SEED)
    site = Site(tmp_path, plant_options=plant)
    async with site.open():
        await run_once(site, FEW)
        await asyncio.to_thread(move, tmp_path / "state")
        await site.start()
        await wait_for_gateway(site, "cloned")

        async def explained() -> bool:
            return await reasons(site, site.plant["serials"]) == {"store-cloned"}

        await site.until(explained, "the other machine to be the reason")
        await site.busctl("call", *SECRET_STORE, "AcceptMachine")
        await online(site, FEW)
        await wait_for_gateway(site, "running")
        assert await site.stop() == 0
        await run_once(site, FEW)
