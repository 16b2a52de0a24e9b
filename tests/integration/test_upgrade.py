"""The version of an earlier commit has 50 children online; this one goes on with its files."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from gatewayd.secretstore.keyring import index
from gatewayd.secretstore.vault import schema as vault
from gatewayd.settings.former_names import SETTINGS
from gatewayd.simulator.site import Site, run
from gatewayd.storage import records
from tests.support.former_gatewayd import in_former_words, unpack
from tests.support.keyrings import LEFT_OPEN, SecretService, secret_service

__all__ = ["secret_service"]

pytestmark = pytest.mark.integration

CHILDREN = ("--children", "50", "--seed", "2211", "--rate", "0")
VAULT = '[secretstore.vault]\nkey = "development-file"\n'
KEYRING = '[secretstore]\nbackend = "keyring"\n[secretstore.keyring]\nbackend = "SecretService"\n'


@pytest.fixture(scope="module")
def former(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack(tmp_path_factory.mktemp("former"))


async def all_online(site: Site) -> dict[str, str]:
    """Wait for all children; return their ids by serial number."""
    children = set(site.plant["serials"])

    async def online() -> bool:
        states = [str(row[1]) for row in await site.call("ListDevices")]
        return states.count("online") == len(children)

    await site.until(online, "all children to be online")
    found = await site.devices()
    return {child: found[child][0] for child in children}


async def upgraded(site: Site, former: Path, store: str) -> None:
    async with site.open():
        config = site.directory / "gatewayd.toml"
        rule = site.directory / "rules.d/10-sensors.toml"
        rule.write_text(rule.read_text().replace("commands = []\n", ""))  # came later
        now = config.read_text().replace(VAULT, store)
        config.write_text(in_former_words(now))
        site.gateway = ("env", "-C", str(former))
        await site.start()
        before = await all_online(site)
        assert await site.stop() == 0

        site.gateway = ()
        await refused_with_the_new_names(config, now)
        config.write_text(now)
        await site.start()
        assert await all_online(site) == before
        for child in before:
            ledger = await site.ledger(child)
            assert (ledger["online"], len(ledger["secrets_sha256"])) == (True, 1)
        assert await site.stop() == 0
        await a_downgrade_is_refused(site, former)


async def refused_with_the_new_names(config: Path, now: str) -> None:
    """Each line that has to change is named, with what to write there."""
    check = (sys.executable, "-m", "gatewayd", "--check-config", "--config", config)
    checked = await asyncio.to_thread(subprocess.run, check, capture_output=True, text=True)
    assert checked.returncode == os.EX_CONFIG
    lines = config.read_text().splitlines()
    found = re.findall(r":(\d+): '(\w+)' in .* it is called '(\w+)' now", checked.stdout)
    changed = [
        number for number, pair in enumerate(zip(lines, now.splitlines(), strict=True), start=1)
        if pair[0] != pair[1]
    ]  # fmt: skip
    assert sorted(int(line) for line, _, _ in found) == changed
    assert all(SETTINGS[old] == new for _, old, new in found)


async def a_downgrade_is_refused(site: Site, former: Path) -> None:
    config = site.directory / "gatewayd.toml"
    config.write_text(in_former_words(config.read_text()))
    with pytest.raises(RuntimeError, match="newer"):
        await run("env", "-C", str(former), sys.executable, "-m", "gatewayd", "--config",
                  str(config))  # fmt: skip


def version_of(file: Path) -> int:
    with closing(sqlite3.connect(file)) as opened:
        return int(opened.execute("PRAGMA user_version").fetchone()[0])


async def test_with_a_vault(former: Path, tmp_path: Path) -> None:
    await upgraded(Site(tmp_path, plant_options=CHILDREN), former, VAULT)
    state = tmp_path / "state"
    assert version_of(state / "state.db") == records.VERSION
    assert version_of(state / "vault.db") == vault.VERSION
    assert version_of(state / "state.db.v2") == 2
    assert version_of(state / "vault.db.v3") == 3


@LEFT_OPEN
async def test_with_a_keyring(former: Path, tmp_path: Path, secret_service: SecretService) -> None:
    await upgraded(Site(tmp_path, plant_options=CHILDREN), former, KEYRING)
    await asyncio.to_thread(secret_service.stop)
    assert version_of(tmp_path / "state/keyring.db") == index.VERSION
