"""The durable half at work: what it does by itself, and what it says of itself."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest

from gatewayd.app import open_storage
from gatewayd.config import Config
from gatewayd.config import load as load_config
from gatewayd.device.identity import DeviceId
from gatewayd.device.record import Admission, CloudName, Record, Verdict
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.errors import StoreUnavailable
from gatewayd.runtime import sqlite
from gatewayd.secretstore.store import NO_RECOVERY, StoreState
from gatewayd.secretstore.vault import admin
from gatewayd.secretstore.vault.rows import ROWS_PER_STEP
from gatewayd.secretstore.vault.vault import Vault
from gatewayd.settings.files import ConfigPaths
from gatewayd.storage import storage as storage_module
from gatewayd.storage.reconcile import AT_ONCE
from gatewayd.storage.storage import Storage
from gatewayd.testing.waiting import until
from tests.support.emulated_tpm import EmulatedTpm
from tools.config_sample import ours

PATIENCE = 60.0
"""Seconds that something may take on a busy machine."""


def config(directory: Path, key: str, tcti: str) -> Config:
    file = directory / "gatewayd.toml"
    tpm = f'tcti = "{tcti}"\ntpm2_emulated = true\n' if tcti else ""
    file.write_text(
        f'[gateway]\nstate_directory = "{directory}/state"\n'
        f'[secretstore.vault]\nkey = "{key}"\n{tpm}'
    )
    return load_config(ConfigPaths.of(file), ours())


@asynccontextmanager
async def opened(
    directory: Path,
    key: str = "development-file",
    synchronised: Callable[[], bool] = lambda: False,
    tcti: str = "",
    lost: Callable[[DeviceId], None] = lambda _: None,
) -> AsyncIterator[Storage]:
    """Open a storage that tends itself.  synchronised: whether the clock is right."""
    environ = {"CREDENTIALS_DIRECTORY": str(directory)}
    storage = await open_storage(await asyncio.to_thread(config, directory, key, tcti), environ)
    now = asyncio.get_running_loop().time
    service = asyncio.create_task(storage.tend(now, lambda: 1, synchronised, lost))
    try:
        yield storage
    finally:
        service.cancel()
        await asyncio.gather(service, return_exceptions=True)
        await storage.thread.aclose()


def vault_of(storage: Storage) -> Vault:
    assert isinstance(storage.store, Vault)
    return storage.store


async def test_a_store_that_gets_its_key_late_serves_without_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path, "credential") as storage:
        assert (storage.sealed, storage.degraded) == (True, False)
        not_ready = await storage.secrets.check_ready()
        assert not_ready is not None
        assert not_ready.code == "store-sealed"
        (tmp_path / "vault.key").write_bytes(bytes(32))
        await until(lambda: not storage.sealed)
        assert await storage.secrets.check_ready() is None
        assert (storage.store.state, storage.faults) == (StoreState.DEGRADED, (NO_RECOVERY,))
        assert not storage.degraded


async def test_room_for_secrets_is_made_at_the_start(tmp_path: Path) -> None:
    async with opened(tmp_path):
        await until((tmp_path / "state/vault.ballast").exists)
    (tmp_path / "state/vault.ballast").unlink()
    (tmp_path / "state/vault.ballast").mkdir()
    async with opened(tmp_path) as storage:
        await until(lambda: storage.degraded)


async def test_a_rotation_goes_on_by_itself(tmp_path: Path) -> None:
    async with opened(tmp_path) as storage:
        vault = vault_of(storage)
        refs = [SecretRef("cloud", DeviceId(f"child-{n}"), 1) for n in range(2 * ROWS_PER_STEP + 1)]
        await asyncio.gather(*(storage.secrets.put(ref, Secret(b"x")) for ref in refs))
        await storage.administer(lambda: admin.rotate(vault))
        await until(lambda: not vault.rotating)
        report = await storage.administer(lambda: admin.report(vault))
        assert (report.generation, report.generations, report.secrets) == (2, 1, len(refs))
        assert await storage.secrets.get(refs[-1]) == Secret(b"x")
        assert not storage.degraded


async def test_an_operators_fault_is_the_operators(tmp_path: Path) -> None:
    async with opened(tmp_path) as storage:
        vault = vault_of(storage)
        with pytest.raises(StoreUnavailable, match="nonsense"):
            await storage.administer(lambda: admin.remove_slot(vault, "nonsense"))


@pytest.mark.parametrize("clock", [True, False])
async def test_quarantine_is_counted_by_a_clock_that_is_right(tmp_path: Path, clock: bool) -> None:
    ref, asked = SecretRef("cloud", DeviceId("child-1"), 1), []

    def synchronised() -> bool:
        asked.append(ref)
        return clock

    async with opened(tmp_path) as storage:
        await storage.secrets.put(ref, Secret(b"x"))
        await storage.thread.run(lambda: storage.store.quarantine(ref))
    async with opened(tmp_path, synchronised=synchronised) as storage:
        vault = vault_of(storage)

        async def since() -> int | None:
            rows = await storage.thread.run(lambda: vault.query("SELECT since FROM quarantine"))
            return rows[0][0]  # type: ignore[no-any-return]  # a column

        if clock:
            async with asyncio.timeout(PATIENCE):
                while await since() is None:
                    await asyncio.sleep(0.01)
        else:
            await until(lambda: bool(asked))
            await storage.administer(lambda: None)
            await until(lambda: len(asked) > 1)
            assert await since() is None


async def test_an_old_copy_is_served_read_only(tmp_path: Path) -> None:
    with closing(EmulatedTpm(tmp_path / "chip")) as chip:
        await asyncio.to_thread(chip.start)
        refs = [SecretRef("cloud", DeviceId(f"child-{n}"), 1) for n in range(2)]
        vault_file, old = tmp_path / "state/vault.db", tmp_path / "old.db"
        async with opened(tmp_path, "tpm2", tcti=chip.tcti) as storage:
            await asyncio.gather(*(storage.secrets.put(ref, Secret(b"x")) for ref in refs))
        await asyncio.to_thread(shutil.copy, vault_file, old)
        async with opened(tmp_path, "tpm2", tcti=chip.tcti) as storage:
            vault = vault_of(storage)
            await storage.administer(lambda: admin.rotate(vault))
            await until(lambda: not vault.rotating)
        await asyncio.to_thread(shutil.copy, old, vault_file)
        async with opened(tmp_path, "tpm2", tcti=chip.tcti) as storage:
            assert storage.store.state is StoreState.ROLLBACK_SUSPECTED
            assert (storage.sealed, storage.degraded) == (False, True)
            not_ready = await storage.secrets.check_ready()
            assert not_ready is not None
            assert not_ready.code == "store-rollback-suspected"
            # secrets without a record: nothing is moved aside meanwhile
            assert list(await storage.thread.run(storage.store.refs)) == refs
            await storage.administer(vault_of(storage).accept)
            assert await storage.secrets.check_ready() is None


async def test_a_wake_up_does_not_swallow_the_end(tmp_path: Path) -> None:
    async with opened(tmp_path) as storage:
        for _ in range(20):
            task = asyncio.create_task(storage.tend(lambda: 0, lambda: 1, lambda: False))
            await storage.thread.ping()
            await asyncio.sleep(0)
            await storage.administer(lambda: None)  # wakes it, and then it is ended at once
            task.cancel()
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(task, return_exceptions=True)
            assert task.cancelled()


async def test_secrets_that_do_not_open_are_found_soon_after_the_start(tmp_path: Path) -> None:
    """The start itself waits for none of them."""
    admitted = [
        Record(
            DeviceId(f"child-{n}"), frozenset(), "", Verdict.ADMITTED, Admission.RULE, "sensors",
            "", CloudName("cloud", "product", f"{n}"), 1, 1,
        ).with_intent(1).with_secret(1, 1)
        for n in range(AT_ONCE + 3)
    ]  # fmt: skip
    unused, *used = [replace(one, activated_at=int(n > 0)) for n, one in enumerate(admitted)]
    async with opened(tmp_path) as storage:

        async def fill(one: Record) -> None:
            await storage.secrets.put(one.slot(1), Secret(b"issued"))
            await storage.records.update(one.device, lambda _: one)

        for one in (unused, *used):
            await fill(one)
    with closing(sqlite3.connect(tmp_path / "state/vault.db")) as file, file:
        file.execute("UPDATE secret SET ct = zeroblob(17) WHERE id IN (1, 2)")
    lost: list[DeviceId] = []
    async with opened(tmp_path, lost=lost.append) as storage:
        assert not storage.without_secret
        await until(lambda: bool(lost))
        assert lost == [used[0].device]
        assert not storage.doubtful
        assert storage.records[unused.device].stored == 1  # its next login registers it again
    with closing(sqlite3.connect(tmp_path / "state/vault.db")) as file, file:
        file.execute("UPDATE secret SET ct = zeroblob(17) WHERE id < 9")
    async with opened(tmp_path, lost=lost.append) as storage:
        await until(lambda: storage.doubtful)
        assert storage.degraded


async def test_what_a_disk_could_not_take_at_the_start_is_repaired_when_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = Record(
        DeviceId("child-1"), frozenset(), "", Verdict.ADMITTED, Admission.RULE, "sensors", "",
        CloudName("cloud", "product", "one"), 1, 1,
    ).with_intent(1)  # fmt: skip
    ref = child.slot(1)
    async with opened(tmp_path) as storage:
        await storage.records.update(child.device, lambda _: child)
        await storage.secrets.put(ref, Secret(b"issued"))

    def refuse(path: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    with monkeypatch.context() as disk:
        disk.setattr(sqlite, "make_private", refuse)
        disk.setattr(storage_module, "REOPEN_EVERY", 0.05)
        async with opened(tmp_path) as storage:
            assert storage.read_only
            assert storage.degraded
            assert str(tmp_path / "state/state.db") in " ".join(storage.faults)
            assert await storage.secrets.get(ref) == Secret(b"issued")
            assert storage.records[child.device].stored == 0
            for write in (
                storage.records.update(child.device, lambda _: child),
                storage.secrets.put(child.slot(2), Secret(b"x")),
                storage.secrets.delete(ref),
                storage.secrets.headroom(),
            ):
                with pytest.raises(StoreUnavailable):
                    await write
            disk.undo()
            await until(lambda: storage.records[child.device].stored == 1)
            assert (storage.read_only, storage.degraded) == (False, False)
            await storage.secrets.put(child.slot(2), Secret(b"x"))
    async with opened(tmp_path) as storage:
        assert storage.records[child.device].stored >= 1


async def test_a_gateway_that_is_new_waits_sealed_for_a_disk_that_takes_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as disk:
        disk.setattr(sqlite, "make_private", refuse)
        disk.setattr(storage_module, "REOPEN_EVERY", 0.05)
        async with opened(tmp_path) as storage:
            assert storage.sealed
            assert "is full" in storage.faults[0]
            disk.undo()
            await until(lambda: not storage.sealed)
            assert not storage.degraded
