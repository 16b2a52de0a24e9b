"""The commands of operators on the store of a running gateway."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from gatewayd.device.identity import DeviceId
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.errors import Busy, InvalidArgs, StoreSealed
from gatewayd.secretstore.keyslots.recovery import RecoveryKey
from gatewayd.secretstore.store import StoreContents, StoreState
from gatewayd.secretstore.vault.export import import_
from gatewayd.secretstore.vault.rows import ROWS_PER_STEP
from gatewayd.secretstore.vault.vault import Vault, VaultSettings
from gatewayd.storage.storage import Storage
from gatewayd.storage.store_service import StoreMonitor, StoreService, write_out
from gatewayd.testing.contracts.secretstore import group
from tests.storage.test_storage import opened, vault_of
from tests.support.emulated_tpm import EmulatedTpm
from tests.support.pem_keys import private_pem, public_pem

PAIR = X25519PrivateKey.generate()
MORE_THAN_A_PIPE_HOLDS = bytes(range(256)) * 4096


def served(storage: Storage) -> tuple[StoreMonitor, StoreService, list[StoreContents | None]]:
    """Return what serves a store, and what it had shown after each command."""
    shown: list[StoreContents | None] = []
    monitor = StoreMonitor(storage)
    service = StoreService.of(monitor, lambda: shown.append(monitor.contents))
    assert service is not None
    return monitor, service, shown


async def put(storage: Storage, number: int) -> list[SecretRef]:
    refs = [SecretRef("cloud", DeviceId(f"child-{n}"), 1) for n in range(number)]
    await asyncio.gather(*(storage.secrets.put(ref, Secret(b"x")) for ref in refs))
    return refs


def taken_in(directory: Path, whole: bytes) -> tuple[list[SecretRef], Mapping[str, bytes]]:
    """Import into an empty vault; return what is in it then, and what was enclosed."""
    with closing(Vault(VaultSettings(key="development-file"), directory)) as other:
        with group(other):
            imported = import_(other, whole, RecoveryKey(private_pem(PAIR)))
        return list(other.refs()), imported.enclosures


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


async def test_every_secret_is_under_the_new_key_when_rotate_returns(tmp_path: Path) -> None:
    async with opened(tmp_path) as storage:
        _, service, shown = served(storage)
        refs = await put(storage, 2 * ROWS_PER_STEP + 1)
        await service.rotate("uid 0")
        vault = vault_of(storage)
        used = await storage.thread.run(lambda: vault.query("SELECT DISTINCT kid FROM secret"))
        assert used == [(2,)]
        (kept,) = shown
        assert kept is not None
        assert (kept.secrets, kept.key, kept.recovery_slots) == (len(refs), 2, 0)
        assert kept.key_created > 1_700_000_000_000_000


async def test_one_command_at_a_time(tmp_path: Path) -> None:
    async with opened(tmp_path) as storage:
        _, service, _ = served(storage)
        await put(storage, 500)  # more than a pipe holds
        await service.add_recovery_key(public_pem(PAIR).decode(), "uid 0")
        reader, writer = os.pipe()
        with os.fdopen(reader, "rb") as file:
            exporting = asyncio.create_task(service.export(writer, "uid 0"))
            assert await asyncio.to_thread(file.read, 6) == b"SQLite"
            with pytest.raises(Busy):
                await service.rotate("uid 0")
            exporting.add_done_callback(lambda _: os.close(writer))
            rest = await asyncio.to_thread(file.read)
        await exporting
        assert len(rest) > 1 << 16
        await service.rotate("uid 0")


async def test_an_export_has_the_secrets_and_the_records(tmp_path: Path) -> None:
    async with opened(tmp_path) as storage:
        _, service, _ = served(storage)
        refs = await put(storage, 3)
        await service.add_recovery_key(public_pem(PAIR).decode(), "uid 0")
        with (tmp_path / "whole").open("w+b") as file:
            await service.export(file.fileno(), "uid 0")
            whole = await asyncio.to_thread((tmp_path / "whole").read_bytes)
    found, enclosed = await asyncio.to_thread(taken_in, tmp_path / "other", whole)
    assert found == refs
    assert [(name, content[:6]) for name, content in enclosed.items()] == [("state.db", b"SQLite")]


async def test_what_is_no_public_key_is_the_callers_fault(tmp_path: Path) -> None:
    async with opened(tmp_path) as storage:
        _, service, shown = served(storage)
        with pytest.raises(InvalidArgs):
            await service.add_recovery_key("snow ☃", "uid 0")
        assert [kept.recovery_slots for kept in shown if kept] == [0]


async def test_a_sealed_store_is_looked_into_and_nothing_more(tmp_path: Path) -> None:
    async with opened(tmp_path, "credential") as storage:
        monitor, service, _ = served(storage)
        for command in (
            service.rotate("uid 0"), service.reseal("", "uid 0"),
            service.add_recovery_key(public_pem(PAIR).decode(), "uid 0"),
        ):  # fmt: skip
            with pytest.raises(StoreSealed):
                await command
        assert monitor.contents == StoreContents(secrets=0, key=0, key_created=0, recovery_slots=0)


async def test_an_old_copy_is_accepted(tmp_path: Path) -> None:
    with closing(EmulatedTpm(tmp_path / "chip")) as chip:
        await asyncio.to_thread(chip.start)
        file, old = tmp_path / "state/vault.db", tmp_path / "old.db"
        async with opened(tmp_path, "tpm2", tcti=chip.tcti) as storage:
            await put(storage, 1)
        await asyncio.to_thread(shutil.copy, file, old)
        async with opened(tmp_path, "tpm2", tcti=chip.tcti) as storage:
            await served(storage)[1].rotate("uid 0")
        await asyncio.to_thread(shutil.copy, old, file)
        async with opened(tmp_path, "tpm2", tcti=chip.tcti) as storage:
            states = [storage.store.state]
            await served(storage)[1].accept_rollback("uid 0")
            states.append(storage.store.state)
            assert states == [StoreState.ROLLBACK_SUSPECTED, StoreState.DEGRADED]  # no recovery key
            await served(storage)[1].reseal("", "uid 0")


def test_a_reader_takes_its_time_and_gets_all(pipe: tuple[int, int], tmp_path: Path) -> None:
    reader, writer = pipe
    child = os.fork()
    if not child:  # reads slowly, in small pieces
        got = b""
        while len(got) < len(MORE_THAN_A_PIPE_HOLDS):
            got += os.read(reader, 1000)
        os._exit(got != MORE_THAN_A_PIPE_HOLDS)
    write_out(writer, MORE_THAN_A_PIPE_HOLDS)
    assert os.waitpid(child, 0)[1] == 0


def test_a_reader_that_does_not_read_is_not_waited_for(pipe: tuple[int, int]) -> None:
    with pytest.raises(InvalidArgs, match="timed out"):
        write_out(pipe[1], MORE_THAN_A_PIPE_HOLDS, timeout=0.01)


def test_what_cannot_be_written_to_is_the_callers_fault(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with file.open("rb") as opened_to_read, pytest.raises(InvalidArgs, match="Bad file desc"):
        write_out(opened_to_read.fileno(), b"x")
    with pytest.raises(InvalidArgs, match="No space"), Path("/dev/full").open("wb", 0) as full:
        write_out(full.fileno(), b"x")
