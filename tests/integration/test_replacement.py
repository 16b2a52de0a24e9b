"""A lost gateway: another takes over its children, with only the offline recovery key."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption

from gatewayd.simulator.bus import PrivateBus
from gatewayd.simulator.site import MANAGER, POLICY, Site
from tests.dbus.support import run
from tests.support.gatewayctl import GATEWAYCTL
from tests.support.pem_keys import private_pem, public_pem
from tests.support.sites import SECRET_STORE

pytestmark = pytest.mark.integration

CHILDREN = 5
SEED = "1125"  # children that no other test has: all share the loopback interface
PASSPHRASE = b"correct horse"


@contextlib.asynccontextmanager
async def replacement(one: Site, directory: Path) -> AsyncIterator[Site]:
    """Yield another gateway of the same plant, with a bus and a state directory of its own."""
    (directory / "rules.d").mkdir(parents=True)
    config = (one.directory / "gatewayd.toml").read_text()
    rules = (one.directory / "rules.d/10-sensors.toml").read_text()
    with PrivateBus(POLICY) as bus:
        other = Site(directory, plant=one.plant, bus=bus.address)
        config = config.replace(one.bus, bus.address)
        config = config.replace(f"{one.directory}/state", f"{directory}/state")
        other.configure(config, rules)
        try:
            yield other
        finally:
            await other.stop()


def keys(directory: Path) -> tuple[str, str, str]:
    """Make the pair that is kept offline; return the files of its halves, and of a passphrase."""
    pair = X25519PrivateKey.generate()
    closed = private_pem(pair, BestAvailableEncryption(PASSPHRASE))
    contents = {"public.pem": public_pem(pair), "private.pem": closed, "passphrase": PASSPHRASE}
    for name, content in contents.items():
        (directory / name).write_bytes(content)
    return tuple(str(directory / name) for name in contents)  # type: ignore[return-value]  # three


async def vault(site: Site, *words: str) -> tuple[int, str]:
    """Run gatewayctl vault at a site; return its exit status, and all it printed."""
    verb, *rest = words
    config = ("--config", str(site.directory / "gatewayd.toml"))
    return await run(*GATEWAYCTL, "--bus", site.bus, "vault", verb, *rest, *config)


async def store(site: Site, *words: str) -> tuple[int, str]:
    return await run(*GATEWAYCTL, "--bus", site.bus, "store", *words)


async def all_online(site: Site) -> None:
    for child in site.plant["serials"]:
        await site.wait_for(child, "online")


@pytest.mark.parametrize("offline", [True, False])
async def test_another_gateway_brings_the_same_children_online(
    tmp_path: Path, offline: bool
) -> None:
    whole = str(tmp_path / "whole")
    public_half, private_half, passphrase = keys(tmp_path)
    opener = ("--recovery-key", private_half, "--passphrase-file", passphrase)
    one = Site(tmp_path / "one", plant_options=("--children", str(CHILDREN), "--seed", SEED))
    (tmp_path / "one").mkdir()
    async with one.open(), replacement(one, tmp_path / "other") as other:
        await one.start()
        await all_online(one)
        known = {child: device for child, (device, _) in (await one.devices()).items()}
        assert (await store(one, "add-recovery", public_half))[0] == 0
        if not offline:
            assert await store(one, "export", "--output", whole) == (0, "")
        assert await one.stop() == 0
        if offline:
            assert await vault(one, "export", "--output", whole) == (0, "")
        (tmp_path / "one/state").rename(tmp_path / "lost")

        assert (await vault(other, "init", "--recovery", public_half))[0] == 0
        status, said = await vault(other, "import", whole, *opener)
        assert status == 0, said
        assert f"{CHILDREN} secrets and {CHILDREN} records" in said
        await other.start()
        await all_online(other)
        assert {c: device for c, (device, _) in (await other.devices()).items()} == known
        for child in other.plant["serials"]:
            assert len((await one.ledger(child))["secrets_sha256"]) == 1
        assert await other.busctl("get-property", *MANAGER, "State") == 's "running"'
        assert await other.stop() == 0
        assert "Reconciled" not in other.log()
        status, said = await vault(other, "import", whole, *opener)
        assert (status, "Registered devices" in said) == (1, True)


async def test_while_the_daemon_runs_the_online_command_is_named(tmp_path: Path) -> None:
    site = Site(tmp_path, plant_options=("--children", "0"))
    public_half, private_half, passphrase = keys(tmp_path)
    async with site.open():
        await site.start()
        for words, instead in (
            (("status",), "gatewayctl store status"),
            (("rotate",), "gatewayctl store rotate"),
            (("reseal", "credential"), "gatewayctl store reseal credential"),
            (("export", "--output", str(tmp_path / "whole")), "gatewayctl store export"),
            (("accept",), "gatewayctl store accept-rollback"),
            (("remove-slot", "tpm2"), "systemctl stop gatewayd"),
            (("init", "--no-recovery"), "systemctl stop gatewayd"),
            (("import", public_half, "--recovery-key", private_half, "--passphrase-file",
              passphrase), "systemctl stop gatewayd"),
        ):  # fmt: skip
            status, said = await vault(site, *words)
            assert (status, said.count("\n"), instead in said) == (1, 1, True), said
            assert "another gatewayd (process " in said
        assert await site.stop() == 0
        assert not (tmp_path / "whole").exists()


async def test_words_shown_beside_the_daemon_open_the_vault_without_its_key(
    tmp_path: Path,
) -> None:
    site = Site(tmp_path, plant_options=("--children", "2", "--seed", SEED))
    words = tmp_path / "words"
    async with site.open():
        await site.start()
        await all_online(site)
        status, said = await vault(site, "add-recovery")
        assert status == 0, said
        words.write_text("".join(line for line in said.splitlines() if line.startswith("    ")))
        assert "Recovery keys: 1" in (await store(site, "status"))[1]
        assert words.read_text().split()[0] not in site.log()
        assert await site.stop() == 0

        (tmp_path / "state/development.key").unlink()
        assert "State: sealed" in (await vault(site, "status"))[1]
        status, said = await vault(site, "recover", "--recovery-key", str(words))
        assert (status, "State: unsealed" in said) == (0, True), said
        await site.start()
        await all_online(site)
        for child in site.plant["serials"]:
            assert len((await site.ledger(child))["secrets_sha256"]) == 1
        assert await site.stop() == 0


async def test_commands_of_an_operator_while_the_daemon_runs(tmp_path: Path) -> None:
    site = Site(tmp_path, plant_options=("--children", "2", "--seed", SEED))
    public_half, *_ = keys(tmp_path)

    async def shown(*names: str) -> list[str]:
        printed = await site.busctl("get-property", *SECRET_STORE, *names)
        return [line.partition(" ")[2].strip('"') for line in printed.splitlines()]

    async with site.open():
        await site.start()
        await all_online(site)
        begun = await shown("KeyId", "RecoverySlots", "State", "Explanation")
        assert begun == ["1", "0", "unsealed", ""]
        assert await store(site, "rotate") == (0, "")
        assert await shown("KeyId") == ["2"]
        (created,) = await shown("KeyCreatedTimestamp")
        assert int(created) > 1_700_000_000_000_000
        status, said = await store(site, "export", "--output", str(tmp_path / "whole"))
        assert (status, "add-recovery" in said) == (1, True)
        assert (await store(site, "add-recovery", public_half))[0] == 0
        assert await shown("RecoverySlots", "NSecrets") == ["1", "2"]
        status, said = await store(site, "add-recovery", str(tmp_path / "gatewayd.toml"))
        assert (status, "public key" in said) == (1, True)
        assert await store(site, "export", "--output", str(tmp_path / "whole")) == (0, "")
        assert await store(site, "accept-rollback") == (0, "")
        assert await store(site, "reseal") == (0, "")
        status, said = await store(site, "reseal", "credential")
        assert (status, "credentials" in said) == (1, True)
        assert "number 2, created" in (await store(site, "status"))[1]
        assert await site.stop() == 0
        with contextlib.closing(sqlite3.connect(tmp_path / "state/vault.db")) as file:
            assert file.execute("SELECT DISTINCT kid FROM secret").fetchall() == [(2,)]
        await site.start()
        await all_online(site)
        assert await site.stop() == 0
