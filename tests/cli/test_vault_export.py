"""Export and import: what moves to another gateway, and what is refused."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from gatewayd.cli.systemd_creds import SystemdCredentials
from gatewayd.cli.vault.commands import export_all, import_all
from gatewayd.cli.vault.init import init
from gatewayd.cli.vault.offline import OfflineVault
from gatewayd.errors import ConfigError, GatewayError
from gatewayd.messages.broker.access import FILE as USERS
from gatewayd.runtime.sqlite import statements_of
from gatewayd.secretstore.keyslots.factory import VaultSettings
from gatewayd.secretstore.keyslots.recovery import RecoveryKey
from gatewayd.secretstore.vault.export import export
from gatewayd.storage import records as statefile
from gatewayd.storage.import_staging import STAGED
from gatewayd.testing.contracts.secretstore import REF, keep
from tests.storage.test_import_staging import OURS, THEIRS, known, records
from tests.support.killed_process import completes_before_kill
from tests.support.pem_keys import private_pem, public_pem

PAIR = X25519PrivateKey.generate()
KEY = RecoveryKey(private_pem(PAIR))


def made(directory: Path) -> OfflineVault:
    vault = OfflineVault(
        VaultSettings(key="development-file"), directory, SystemdCredentials(directory / "no"), {}
    )
    init(vault, "", public_pem(PAIR))
    return vault


@pytest.fixture
def old(tmp_path: Path) -> OfflineVault:
    vault = made(tmp_path / "old")
    records(vault.directory, THEIRS)
    with vault.locked(), vault.opened() as opened:
        keep(opened, REF, b"x")
    return vault


@pytest.fixture
def new(tmp_path: Path) -> OfflineVault:
    vault = made(tmp_path / "new")
    records(vault.directory, OURS)  # as after an operator rejected a device
    return vault


def untouched(vault: OfflineVault) -> bool:
    with vault.locked(), vault.opened() as opened:
        return not list(opened.refs()) and not (vault.directory / STAGED).exists()


def enclosing(vault: OfflineVault, **enclosures: bytes) -> bytes:
    with vault.locked(), vault.opened() as opened:
        return export(opened, {name.replace("_", "."): one for name, one in enclosures.items()})


def changed(whole: bytes, *statements: str) -> bytes:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as file:
        file.deserialize(whole)
        for statement in statements:
            file.execute(statement)
        return file.serialize()


def of_version(version: int, whole: bytes) -> bytes:
    """Records as an earlier version of the schema has them."""
    with (
        closing(sqlite3.connect(":memory:", isolation_level=None)) as now,
        closing(sqlite3.connect(":memory:", isolation_level=None)) as then,
    ):
        now.deserialize(whole)
        for statement in statements_of(statefile.STEPS, version):
            then.execute(statement)
        columns = [column for _, column, *_ in then.execute("PRAGMA table_info(record)")]
        for row in now.execute(f"SELECT {', '.join(columns)} FROM record"):  # noqa: S608  # names of columns, all ours
            marks = ", ".join("?" * len(row))
            then.execute(f"INSERT INTO record VALUES ({marks})", row)  # noqa: S608  # marks alone
        then.execute(f"PRAGMA user_version = {version}")
        return then.serialize()


def test_secrets_and_records_are_imported(old: OfflineVault, new: OfflineVault) -> None:
    steps: list[tuple[int, int]] = []
    imported, count = import_all(new, export_all(old), KEY, lambda *step: steps.append(step))
    assert (imported.secrets, imported.damaged, count) == (1, 0, 1)
    assert [done for done, _ in steps] == list(range(steps[0][1]))
    assert known(new.directory) == [THEIRS]
    with new.locked(), new.opened() as opened:
        assert opened.get(REF).reveal() == b"x"


@pytest.mark.parametrize("version", range(1, statefile.VERSION))
def test_records_of_an_older_gatewayd_are_brought_up(
    old: OfflineVault, new: OfflineVault, version: int
) -> None:
    older = of_version(version, records(old.directory, THEIRS))
    import_all(new, enclosing(old, state_db=older), KEY)
    assert known(new.directory) == [THEIRS]


@pytest.mark.parametrize(
    ("bend", "said"),
    [
        (lambda whole: changed(whole, f"PRAGMA user_version = {statefile.VERSION + 1}"), "newer"),
        (lambda whole: changed(whole, "PRAGMA user_version = 0"), "not gatewayd's"),
        (
            lambda whole: changed(whole, "CREATE TRIGGER t AFTER UPDATE ON record BEGIN "
                                         "DELETE FROM record; END"),
            "not gatewayd's",
        ),
        (lambda whole: changed(whole, "DROP TABLE record"), "not gatewayd's"),
        (lambda _: b"no file", "damaged"),
    ],
    ids=["newer", "version-0", "trigger", "no-table", "no-file"],
)  # fmt: skip
def test_records_that_are_none_of_ours_change_nothing(
    old: OfflineVault, new: OfflineVault, bend: Callable[[bytes], bytes], said: str
) -> None:
    whole = enclosing(old, state_db=bend(records(old.directory, THEIRS)))
    with pytest.raises(ConfigError, match=said):
        import_all(new, whole, KEY)
    assert untouched(new)
    assert known(new.directory) == [OURS]


def test_the_users_of_the_broker_come_too(old: OfflineVault, new: OfflineVault) -> None:
    """Else every child that speaks there would need another password."""
    (old.directory / USERS).write_bytes(b"users")
    import_all(new, export_all(old), KEY)
    assert (new.directory / USERS).read_bytes() == b"users"
    assert (new.directory / USERS).stat().st_mode & 0o777 == 0o600


@pytest.mark.integration
def test_killed_anywhere_all_has_come_or_nothing(
    old: OfflineVault, new: OfflineVault, tmp_path: Path
) -> None:
    whole, before = export_all(old), tmp_path / "before"
    shutil.copytree(new.directory, before)
    step, done, seen = 0, False, set()
    while not done:
        done = completes_before_kill(step, lambda: import_all(new, whole, KEY), new.directory)
        on_record = known(new.directory)
        with new.locked(), new.opened() as opened:
            secrets = len(list(opened.refs()))
        seen.add((*on_record, secrets))
        shutil.rmtree(new.directory)
        shutil.copytree(before, new.directory)
        step += 1
    assert step > 10
    assert seen == {(OURS, 0), (THEIRS, 1)}


def test_secrets_without_records_are_refused(old: OfflineVault, new: OfflineVault) -> None:
    with pytest.raises(ConfigError, match="no records"):
        import_all(new, enclosing(old), KEY)
    assert untouched(new)


def test_a_gateway_that_has_devices_imports_no_others(old: OfflineVault, new: OfflineVault) -> None:
    whole = export_all(old)
    with closing(sqlite3.connect(new.directory / "state.db")) as file, file:
        file.execute("UPDATE record SET stored = 1")
    with pytest.raises(GatewayError, match="Registered devices"):
        import_all(new, whole, KEY)
    assert untouched(new)
