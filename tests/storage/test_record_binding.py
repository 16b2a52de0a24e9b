"""Records and vault belong together: an old copy, or another hand, is noticed without a TPM."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest

from gatewayd.device.identity import NO_DEVICE, Claim, DeviceId
from gatewayd.device.move import NO_MOVES
from gatewayd.device.proof import Pin
from gatewayd.device.record import Admission, CloudName, Record, Verdict, unchanged
from gatewayd.device.recovery import LEFT_WITH_SITE
from gatewayd.device.secret import Secret
from gatewayd.errors import StoreCloned, StoreError, StoreRolledBack, StoreSealed
from gatewayd.secretstore.store import StoreState
from gatewayd.secretstore.vault import admin
from gatewayd.secretstore.vault.binding import hardware_id, is_same_machine, machine_digest
from gatewayd.secretstore.vault.vault import Vault, VaultSettings
from gatewayd.storage import records
from gatewayd.storage.site_marks import MarkStanding, SiteMark
from gatewayd.storage.storage import Storage
from gatewayd.testing.waiting import until

SETTINGS = VaultSettings(key="development-file")
HERE, ELSEWHERE = b"h" * 32, b"e" * 32


def child(number: int) -> Record:
    return Record(
        DeviceId(f"child-{number}"), frozenset(), "", Verdict.ADMITTED, Admission.RULE, "r", "",
        CloudName("cloud", "product", f"name-{number}"), 1, 1, attempt=1, stored=1, activating=1,
    )  # fmt: skip


@asynccontextmanager
async def opened(directory: Path, machine: bytes = HERE) -> AsyncIterator[tuple[Storage, Vault]]:
    """Open records and vault, which tend themselves."""

    def vault() -> Vault:
        return Vault(SETTINGS, directory, machine=machine)

    storage = await Storage.open(directory, vault, lambda: 1)
    assert isinstance(storage.store, Vault)
    now = asyncio.get_running_loop().time
    service = asyncio.create_task(storage.tend(now, lambda: 1, lambda: False))
    try:
        yield storage, storage.store
    finally:
        service.cancel()
        await asyncio.gather(service, return_exceptions=True)
        await storage.thread.aclose()


async def bound(storage: Storage, vault: Vault) -> None:
    """Wait until the vault knows of the newest records."""

    def done() -> bool:
        return storage.database.bound and bool((counts := vault.binding()) and counts.records)

    def tended() -> bool:
        storage._wake.set()
        return done()

    await until(tended)


async def register(storage: Storage, number: int) -> None:
    record = child(number)
    await storage.records.update(record.device, lambda _: replace(record, stored=0, activating=0))
    await storage.secrets.put(record.slot(1), Secret(b"x"))
    await storage.records.update(record.device, lambda _: record)


async def fill(directory: Path, *numbers: int) -> None:
    """Register children, and stop in good order."""
    async with opened(directory) as (storage, vault):
        await bound(storage, vault)
        for number in numbers:
            await register(storage, number)


def suspicion(vault: Vault) -> str:
    return vault.why if vault.state is StoreState.ROLLBACK_SUSPECTED else ""


async def trusted(directory: Path) -> None:
    async with opened(directory) as (storage, vault):
        await bound(storage, vault)
        assert vault.state is StoreState.UNSEALED, vault.why
        assert not storage.degraded


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir(mode=0o700)
    return tmp_path / "state"


def keep_copy(site: Path) -> Path:
    copy = site.with_name("copy")
    shutil.copytree(site, copy)
    return copy


async def test_what_belongs_together_is_trusted(site: Path) -> None:
    await fill(site, 1)
    await fill(site, 2, 3)
    await trusted(site)


@pytest.mark.parametrize("name", ["state.db", "vault.db"])
async def test_an_old_copy_of_one_is_noticed_until_it_is_accepted(site: Path, name: str) -> None:
    await fill(site, 1)
    copy = keep_copy(site)
    await fill(site, 2)
    newest = (site / name).read_bytes()
    shutil.copy(copy / name, site / name)
    for _ in range(2):
        async with opened(site) as (storage, vault):
            assert f"{name} is an old copy" in suspicion(vault)
            assert storage.degraded
            assert await storage.secrets.get(child(1).slot(1)) == Secret(b"x")
            with pytest.raises(StoreRolledBack):
                await storage.secrets.put(child(3).slot(1), Secret(b"x"))
    old = (site / name).read_bytes()
    (site / name).write_bytes(newest)
    await trusted(site)
    (site / name).write_bytes(old)
    async with opened(site) as (storage, vault):
        await storage.administer(vault.accept)
        await bound(storage, vault)
        assert not suspicion(vault)
        await register(storage, 4)
    await trusted(site)


TAMPERING = {
    "altered": "UPDATE record SET verdict = 'rejected' WHERE device = 'child-1'",
    "added": "INSERT INTO record SELECT 'child-9', claims, label, verdict, admission, rule, "
    "reason, provider, product, name, route, verdict_at, first_seen, attempt, attempted_at, "
    "stored, registered_at, activating, activated_at, stale, candidate, explanation, remedy, "
    "pin, moves FROM record LIMIT 1",
    "removed": "DELETE FROM record WHERE device = 'child-1'",
    "count": "UPDATE binding SET count = count + 1",
    "unbound": "DELETE FROM binding",
}


@pytest.mark.parametrize("change", TAMPERING.values(), ids=TAMPERING)
async def test_another_hand_in_the_records_is_noticed(site: Path, change: str) -> None:
    await fill(site, 1, 2)
    with closing(sqlite3.connect(site / "state.db")) as file, file:
        file.execute(change)
    async with opened(site) as (_, vault):
        assert "state.db was changed by another program" in suspicion(vault)


async def test_an_older_record_in_newer_ones_is_noticed(site: Path) -> None:
    await fill(site, 1)
    copy = keep_copy(site)
    async with opened(site) as (storage, _):
        await storage.records.update(
            child(1).device, lambda _: replace(child(1), verdict=Verdict.REJECTED)
        )
    with closing(sqlite3.connect(site / "state.db", isolation_level=None)) as file:
        file.execute("ATTACH ? AS old", (str(copy / "state.db"),))
        file.execute("REPLACE INTO record SELECT * FROM old.record")
    async with opened(site) as (_, vault):
        assert suspicion(vault)


@pytest.mark.parametrize("change", ["records = records + 1", "changes = -1", "machine = x'00'"])
async def test_another_hand_in_the_binding_of_the_vault_is_noticed(site: Path, change: str) -> None:
    await fill(site, 1)
    with closing(sqlite3.connect(site / "vault.db")) as file, file:
        file.execute(f"UPDATE binding SET {change}")  # noqa: S608  # of the test
    async with opened(site) as (_, vault):
        assert "changed by another program" in suspicion(vault)


async def test_a_crash_between_the_two_commits_is_no_old_copy(site: Path) -> None:
    async with opened(site) as (storage, vault):
        await bound(storage, vault)
        await register(storage, 1)
        shutil.copy(site / "vault.db", site / "before")
        shutil.copy(site / "vault.db-wal", site / "before-wal")
        record = child(2)

        def both() -> None:
            vault.put(record.slot(1), Secret(b"x"))
            storage.database.write(record)

        await storage.thread.run(both)
    (site / "before").rename(site / "vault.db")
    (site / "before-wal").rename(site / "vault.db-wal")
    async with opened(site) as (_, vault):
        assert not suspicion(vault)


async def test_what_is_written_while_it_is_sealed_is_bound_when_it_opens(site: Path) -> None:
    await fill(site, 1)
    (site / "development.key").rename(site / "away")
    async with opened(site) as (storage, vault):
        assert vault.state is StoreState.SEALED
        await storage.records.update(
            child(1).device, lambda _: replace(child(1), verdict=Verdict.REJECTED)
        )
        await storage.records.update(child(5).device, lambda _: child(5))
        (site / "away").rename(site / "development.key")
        await until(lambda: vault.state is not StoreState.SEALED)
        await bound(storage, vault)
        assert not suspicion(vault)
    async with opened(site) as (_, vault):
        assert not suspicion(vault)


async def test_what_was_written_in_a_sealed_run_is_for_an_operator_to_accept(site: Path) -> None:
    await fill(site, 1)
    (site / "development.key").rename(site / "away")
    async with opened(site) as (storage, _):
        await storage.records.forget(child(1).device)
    (site / "away").rename(site / "development.key")
    async with opened(site) as (_, vault):
        assert "while the vault was sealed" in suspicion(vault)


def without_version_4(file: sqlite3.Connection) -> None:
    """Take away what version 4 of state.db added, and later ones."""
    file.execute("DROP TABLE answer")
    file.execute("DROP TABLE site_child")
    for column in records._LATER:
        file.execute(f"ALTER TABLE record DROP COLUMN {column}")
    file.execute("DROP TABLE decision")


def without_pins_and_moves(file: sqlite3.Connection) -> None:
    """Take away what versions 6 to 8 of state.db added."""
    file.execute("DROP TABLE site_child")
    for column in ("pin", "moves"):
        file.execute(f"ALTER TABLE record DROP COLUMN {column}")


async def test_records_that_were_bound_before_a_column_was_added_are_trusted(site: Path) -> None:
    await fill(site, 2)
    with closing(sqlite3.connect(site / "state.db")) as file, file:
        without_version_4(file)
        file.execute("PRAGMA user_version = 3")
    await trusted(site)
    with closing(sqlite3.connect(site / "state.db")) as file, file:
        file.execute("UPDATE record SET remedy = 'Do as I say.'")
    async with opened(site) as (_, vault):
        assert "changed by another program" in suspicion(vault)


async def test_files_of_the_schema_before_are_bound_and_then_guarded(site: Path) -> None:
    await fill(site, 1)
    for name, version in (("state.db", 2), ("vault.db", 3)):
        with closing(sqlite3.connect(site / name)) as file, file:
            file.execute("DROP TABLE binding")
            if name == "state.db":
                without_version_4(file)
            file.execute(f"PRAGMA user_version = {version}")
    copy = keep_copy(site)
    await trusted(site)
    await fill(site, 2)
    assert (site / "state.db.v2").exists()
    assert (site / "vault.db.v3").exists()
    shutil.copy(copy / "state.db", site / "state.db")
    async with opened(site) as (_, vault):
        assert suspicion(vault)


SERIAL, UUID = Claim("serial", "pm", "0815"), Claim("uuid", "*", "u1")


async def test_records_that_were_bound_before_there_were_answers_are_trusted(site: Path) -> None:
    await fill(site, 2)
    with closing(sqlite3.connect(site / "state.db")) as file, file:
        file.execute("DROP TABLE answer")
        without_pins_and_moves(file)
        file.execute("PRAGMA user_version = 4")
    async with opened(site) as (storage, vault):
        assert not suspicion(vault)
        assert not storage.records.answers
        await storage.records.settle({SERIAL: NO_DEVICE, UUID: child(1).device})
    await trusted(site)
    assert (site / "state.db.v4").exists()


PIN = Pin("axis", "sha256:" + "a" * 64, "accc8e000001", "Axis device CA", "1f", 7)


async def pinned(site: Path, pin: Pin) -> None:
    """Register a child, and pin a key to it."""
    await fill(site, 1)
    async with opened(site) as (storage, _):
        await storage.records.update(child(1).device, lambda r: replace(unchanged(r), pin=pin))


async def test_records_that_were_bound_before_there_were_pins_are_trusted(site: Path) -> None:
    await fill(site, 2)
    with closing(sqlite3.connect(site / "state.db")) as file, file:
        without_pins_and_moves(file)
        file.execute("PRAGMA user_version = 5")
    async with opened(site) as (storage, vault):
        assert not suspicion(vault)
        assert {record.pin for record in storage.records.all()} == {None}
    await pinned(site, PIN)
    await trusted(site)
    assert (site / "state.db.v5").exists()


THERE = CloudName("there", "q", "other-name")


async def test_records_that_were_bound_before_there_were_moves_are_trusted(site: Path) -> None:
    """Their part of the sum is what it was, until a child moves."""
    await fill(site, 1, 2)
    with closing(sqlite3.connect(site / "state.db")) as file, file:
        file.execute("DROP TABLE site_child")
        file.execute("ALTER TABLE record DROP COLUMN moves")
        file.execute("PRAGMA user_version = 6")
    device = child(1).device
    async with opened(site) as (storage, vault):
        assert not suspicion(vault)
        assert {record.moves for record in storage.records.all()} == {NO_MOVES}
        await storage.records.update(device, lambda r: unchanged(r).with_move(THERE, 7))
    await trusted(site)
    async with opened(site) as (storage, _):
        assert storage.records[device].names[-1] == THERE
    assert (site / "state.db.v6").exists()


async def test_a_move_of_another_hand_is_noticed(site: Path) -> None:
    """Else whoever can write state.db alone could send a child to another cloud."""
    await fill(site, 1)
    moves = child(1).with_move(THERE, 7).moves.text()
    with closing(sqlite3.connect(site / "state.db")) as file, file:
        file.execute("UPDATE record SET moves = ?", (moves,))
    async with opened(site) as (_, vault):
        assert "changed by another program" in suspicion(vault)


async def test_a_pin_is_the_same_after_a_restart(site: Path) -> None:
    await pinned(site, frozen := replace(PIN, refused="sha256:" + "b" * 64))
    async with opened(site) as (storage, vault):
        assert not suspicion(vault)
        assert storage.records[child(1).device].pin == frozen


@pytest.mark.parametrize("pin", ["", PIN.text().replace("a" * 64, "b" * 64)])
async def test_a_pin_of_another_hand_is_noticed(site: Path, pin: str) -> None:
    await pinned(site, PIN)
    with closing(sqlite3.connect(site / "state.db")) as file, file:
        file.execute("UPDATE record SET pin = ?", (pin,))
    async with opened(site) as (_, vault):
        assert "changed by another program" in suspicion(vault)


@pytest.mark.parametrize(
    "pin", ["{", "[]", "{}", '{"name": 1, "key": "k"}', '{"name": "n", "key": "k", "at": "1"}']
)
async def test_a_damaged_pin_is_no_pin_that_is_missing(site: Path, pin: str) -> None:
    await fill(site, 1)
    with closing(sqlite3.connect(site / "state.db")) as file, file:
        file.execute("UPDATE record SET pin = ?", (pin,))
    with pytest.raises(StoreError, match="is damaged"):
        async with opened(site):
            pass


@pytest.mark.parametrize(
    "forgery",
    ["DELETE FROM answer", "UPDATE answer SET device = 'child-9'",
     """INSERT INTO answer VALUES ('["serial", "pm", "7"]', '')"""],
)  # fmt: skip
async def test_an_answer_of_another_hand_is_noticed(site: Path, forgery: str) -> None:
    await fill(site, 1)
    async with opened(site) as (storage, _):
        await storage.records.settle({SERIAL: NO_DEVICE})
    await trusted(site)
    with closing(sqlite3.connect(site / "state.db")) as file, file:
        file.execute(forgery)
    async with opened(site) as (_, vault):
        assert "changed by another program" in suspicion(vault)


MARKED = "f" * 64
"""The name of a child's key at the site."""


async def marked(site: Path, standing: MarkStanding) -> None:
    """Register a child of a site."""
    await fill(site, 1)
    async with opened(site) as (storage, _):
        mark = SiteMark(child(1).device, 7, 3, standing)
        await storage.administer(lambda: storage.database.marks.put(MARKED, mark))


async def test_records_that_were_bound_before_there_were_sites_are_trusted(site: Path) -> None:
    await fill(site, 1)
    with closing(sqlite3.connect(site / "state.db")) as file, file:
        file.execute("DROP TABLE site_child")
        file.execute("PRAGMA user_version = 7")
    await marked(site, MarkStanding.OURS)
    await trusted(site)
    async with opened(site) as (storage, _):
        marks = await storage.administer(storage.database.marks.all)
        assert marks == {MARKED: SiteMark(child(1).device, 7, 3)}
        await storage.administer(lambda: storage.database.marks.remove(MARKED))
    await trusted(site)
    assert (site / "state.db.v7").exists()


@pytest.mark.parametrize(
    "forgery", ["DELETE FROM site_child", "UPDATE site_child SET revision = 9, serial = 9"]
)
async def test_a_mark_of_another_hand_is_noticed(site: Path, forgery: str) -> None:
    """Else an old record would pass for what the site has last."""
    await marked(site, MarkStanding.OURS)
    with closing(sqlite3.connect(site / "state.db")) as file, file:
        file.execute(forgery)
    async with opened(site) as (_, vault):
        assert "changed by another program" in suspicion(vault)


async def test_what_went_to_another_gateway_is_not_taken_along_from_the_site(site: Path) -> None:
    """Without [site] all else would be logged in, though another gateway has it."""
    await marked(site, MarkStanding.AWAY)
    async with opened(site) as (storage, _):
        record = storage.records[child(1).device]
        assert record.elsewhere == LEFT_WITH_SITE
        assert not record.is_in_force
        await storage.records.forget(record.device)
    await fill(site, 1)
    async with opened(site) as (storage, _):
        assert storage.records[child(1).device].is_in_force


async def test_a_child_that_is_being_taken_over_is_not_judged_at_the_start(site: Path) -> None:
    """The record is on the disk before the secrets are: that is no loss, and no old vault."""
    await marked(site, MarkStanding.MERGING)
    async with opened(site) as (storage, _):
        await storage.secrets.delete(child(1).slot(1))
    async with opened(site) as (storage, _):
        assert not storage.without_secret
        assert not storage.doubtful
        assert storage.records[child(1).device].stored == 1
        await storage.administer(lambda: storage.database.marks.remove(MARKED))
    async with opened(site) as (storage, _):
        assert storage.without_secret


async def test_the_binding_outlives_a_change_of_the_data_key(site: Path) -> None:
    await fill(site, 1)
    async with opened(site) as (storage, vault):
        await storage.administer(lambda: admin.rotate(vault))
        await until(lambda: not vault.rotating)
        await register(storage, 2)
    await trusted(site)


async def test_a_vault_that_wakes_on_another_machine_logs_no_one_in(site: Path) -> None:
    await fill(site, 1)
    for _ in range(2):
        async with opened(site, ELSEWHERE) as (storage, vault):
            assert vault.state is StoreState.CLONED
            assert storage.degraded
            assert "accept-machine" in vault.why
            assert not storage.without_secret
            for refused in (
                storage.secrets.get(child(1).slot(1)),
                storage.secrets.put(child(2).slot(1), Secret(b"x")),
                storage.secrets.headroom(),
                storage.secrets.delete(child(1).slot(1)),
            ):
                with pytest.raises(StoreCloned):
                    await refused
            not_ready = await storage.secrets.check_ready()
            assert not_ready is not None
            assert not_ready.code == "store-cloned"
    await trusted(site)  # at home nothing has changed
    async with opened(site, ELSEWHERE) as (storage, vault):
        await storage.administer(vault.accept)
        assert vault.state is StoreState.CLONED, "that answers another question"
        await storage.administer(vault.accept_machine)
        assert await storage.secrets.get(child(1).slot(1)) == Secret(b"x")
        await register(storage, 2)
    async with opened(site, ELSEWHERE) as (storage, vault):
        assert vault.state is StoreState.UNSEALED
        await bound(storage, vault)
    async with opened(site) as (_, vault):
        assert vault.state is StoreState.CLONED


@pytest.mark.parametrize("machine", [HERE, b""])
async def test_a_machine_without_an_id_is_none_that_is_known(site: Path, machine: bytes) -> None:
    async with opened(site, b"") as (storage, vault):
        await bound(storage, vault)
    async with opened(site, machine) as (storage, vault):
        assert vault.state is StoreState.UNSEALED
        await bound(storage, vault)
        await register(storage, 1)
    async with opened(site, b"") as (_, vault):
        assert vault.state is StoreState.UNSEALED
    async with opened(site, ELSEWHERE) as (_, vault):
        assert (vault.state is StoreState.CLONED) == bool(machine)


async def test_an_image_that_keeps_the_machine_id_is_known_by_the_hardware(site: Path) -> None:
    """Where it is known: until then, and where it is not, the id alone decides."""
    await fill(site, 1)  # as an earlier version, which knew of no hardware
    here, elsewhere = HERE + b"x" * 32, HERE + b"y" * 32
    async with opened(site, here) as (storage, vault):
        assert vault.state is StoreState.UNSEALED
        await bound(storage, vault)
    async with opened(site, elsewhere) as (storage, vault):
        assert vault.state is StoreState.CLONED
        with pytest.raises(StoreCloned):
            await storage.secrets.get(child(1).slot(1))
    async with opened(site, HERE) as (storage, vault):
        assert vault.state is StoreState.UNSEALED
        await register(storage, 2)
    async with opened(site, elsewhere) as (storage, vault):
        assert vault.state is StoreState.CLONED, "what is not known is not forgotten"
        await storage.administer(vault.accept_machine)
        assert await storage.secrets.get(child(1).slot(1)) == Secret(b"x")
    async with opened(site, here) as (_, vault):
        assert vault.state is StoreState.CLONED


def test_the_id_of_the_hardware_is_passed_or_read(tmp_path: Path) -> None:
    credentials, serial = tmp_path / "credentials", tmp_path / "serial-number"
    credentials.mkdir()
    assert hardware_id(credentials, [serial]) == hardware_id(None, [serial]) == ""
    serial.write_bytes(b"10000000ABCDEF01\0")
    assert hardware_id(credentials, [tmp_path / "none", serial]) == "10000000abcdef01"
    (credentials / "hardware").write_text("none")
    assert hardware_id(credentials, [serial]) == "10000000abcdef01"
    (credentials / "hardware").write_text("4C4C4544-0042\n")
    assert hardware_id(credentials, [serial]) == "4c4c4544-0042"


def test_the_hardware_is_known_by_the_second_half_of_a_digest(tmp_path: Path) -> None:
    file = tmp_path / "machine-id"
    assert machine_digest(file, hardware="one") == b""
    file.write_text("0123456789abcdef" * 2)
    plain, one, two = (machine_digest(file, hardware=text) for text in ("", "one", "two"))
    assert one[: len(plain)] == two[: len(plain)] == plain
    assert is_same_machine(plain, one)
    assert is_same_machine(two, plain)
    assert not is_same_machine(one, two)


@pytest.mark.parametrize(
    ("text", "known"),
    [("0123456789abcdef" * 2 + "\n", True), ("uninitialized\n", False), ("", False), ("é", False)],
)
def test_the_id_of_a_machine_does_not_leave_it(tmp_path: Path, text: str, known: bool) -> None:
    file = tmp_path / "machine-id"
    assert machine_digest(file) == b""
    file.write_text(text, encoding="utf-8")
    assert bool(machine_digest(file)) is known
    assert bytes.fromhex("0123456789abcdef" * 2) not in machine_digest(file)


@pytest.mark.namespace
def test_an_id_that_was_mounted_at_boot_is_no_id_that_lasts(tmp_path: Path) -> None:
    for name in ("machine-id", "other"):
        (tmp_path / name).write_text("0123456789abcdef" * 2 + "\n")
    code = (
        "import sys, pathlib\nfrom gatewayd.secretstore.vault.binding import machine_digest\n"
        "sys.exit(machine_digest(pathlib.Path(sys.argv[1])) != b'')"
    )
    mounted = 'mount -t tmpfs none /mnt && cp "$1" /mnt && mount --bind /mnt/machine-id "$1" && '
    command = ["unshare", "-rm", "sh", "-c", mounted + 'exec "$2" -c "$3" "$1"', "sh"]
    subprocess.run([*command, str(tmp_path / "machine-id"), sys.executable, code], check=True)
    assert machine_digest(tmp_path / "machine-id")


def test_an_id_in_an_overlay_lasts(tmp_path: Path) -> None:
    """A file that an overlay has copied up may have another device than its directory."""
    file, mounts = tmp_path / "machine-id", tmp_path / "mountinfo"
    file.write_text("0123456789abcdef" * 2 + "\n")
    mounts.write_text("36 35 0:46 / / rw - overlay overlay rw\n36 35 0:46 / /etc rw - tmpfs t rw\n")
    assert machine_digest(file, mounts)
    mounts.write_text(mounts.read_text() + f"37 36 0:9 /machine-id {file} ro - tmpfs tmpfs ro\n")
    assert machine_digest(file, mounts) == b""


async def test_a_copy_without_its_key_says_whose_it_is(site: Path) -> None:
    """The key of an imaged machine opens nothing elsewhere; the vault still says whose it is."""
    await fill(site, 1)
    key = site / SETTINGS.key_file
    content = key.read_bytes()
    key.unlink()
    async with opened(site) as (_, vault):
        assert vault.state is StoreState.SEALED
    for machine, state in ((ELSEWHERE, StoreState.CLONED), (b"", StoreState.SEALED)):
        async with opened(site, machine) as (storage, vault):
            assert vault.state is state
            assert not vault.has_key
    async with opened(site, ELSEWHERE) as (storage, vault):
        assert "vault recover --accept-machine" in vault.why
        assert str(SETTINGS.key_file) in vault.why
        with pytest.raises(StoreCloned):
            await storage.secrets.delete(child(1).slot(1))
        with pytest.raises(StoreSealed):
            await storage.secrets.get(child(1).slot(1))
        assert not storage.without_secret
    key.write_bytes(content)
    key.chmod(0o600)
    await trusted(site)
