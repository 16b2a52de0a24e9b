"""The records and the secrets: durable when a call returns."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from threading import Event

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayd.device.identity import NO_DEVICE, Claim, DeviceId
from gatewayd.device.record import Admission, CloudName, Record, RecordStore, Verdict, unchanged
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.errors import (
    ConfigError,
    RecordChanged,
    SecretCorrupt,
    SecretNotFound,
    StoreError,
    StoreUnavailable,
)
from gatewayd.secretstore.vault.vault import Vault
from gatewayd.storage import records as statefile
from gatewayd.storage.commit_thread import CommitThread
from gatewayd.storage.records import DurableRecords, DurableSecrets, RecordDatabase
from tests.support.vaults import DEVELOPMENT

ONE = DeviceId("child-1")
RECORD = Record(
    device=ONE,
    claims=frozenset({Claim("mac", "l2", "aabbccddeeff"), Claim("serial", "_x._tcp", "ü'\"")}),
    label="Kitchen",
    verdict=Verdict.ADMITTED,
    admission=Admission.RULE,
    rule="cameras",
    reason="",
    cloud=CloudName("cloud", "product", "name"),
    verdict_at=1_790_000_000_000_000,
    first_seen=1,
)
SLOT = RECORD.slot(1)


class Stores:
    """The records and the secrets, open."""

    def __init__(self, thread: CommitThread, records: DurableRecords, vault: Vault) -> None:
        self.thread, self.records, self.vault = thread, records, vault
        self.secrets = DurableSecrets(thread, vault)


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[Stores]:
    thread = CommitThread()
    thread.start()
    try:
        state = await thread.open(lambda: RecordDatabase(directory))
        vault = await thread.open(lambda: Vault(DEVELOPMENT, directory))
        yield Stores(thread, await DurableRecords.load(thread, state, vault), vault)
    finally:
        await thread.aclose()


async def save(records: DurableRecords, record: Record) -> None:
    await records.update(record.device, lambda _: record)


numbers = st.integers(0, 2**53)
texts = st.text(st.characters(exclude_categories=["Cs"]))
records = st.builds(
    Record,
    device=texts.map(DeviceId),
    claims=st.frozensets(st.builds(Claim, texts, texts, texts)),
    cloud=st.none() | st.builds(CloudName, texts, texts, texts),
    label=texts,
    rule=texts,
    reason=texts,
    verdict=st.sampled_from(Verdict),
    admission=st.sampled_from(Admission),
    **dict.fromkeys(statefile._NUMBERS, numbers),
)


def test_every_fact_has_a_column() -> None:
    assert {*statefile._COLUMNS} - {*statefile._CLOUD} == {f.name for f in fields(Record)} - {
        "cloud", "elsewhere",
    }  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(record=records)
def test_what_was_written_is_read(tmp_path_factory: pytest.TempPathFactory, record: Record) -> None:
    with closing(RecordDatabase(tmp_path_factory.mktemp("state"))) as state:
        state.write(record)
        assert state.read(record.device) == record
        assert list(state.all()) == [record]


async def test_a_record_is_durable_when_saved(tmp_path: Path) -> None:
    newer = replace(RECORD, attempt=1)
    async with opened(tmp_path) as stores:
        await save(stores.records, RECORD)
        await save(stores.records, newer)
        assert stores.records[ONE] == newer
        with closing(sqlite3.connect(tmp_path / "state.db")) as file:
            assert file.execute("SELECT device, attempt FROM record").fetchall() == [(ONE, 1)]
    async with opened(tmp_path) as stores:
        assert stores.records.get(ONE) == newer
        assert list(stores.records.all()) == [newer]


async def test_records_are_listed_in_order(tmp_path: Path) -> None:
    async with opened(tmp_path) as stores:
        await asyncio.gather(
            *(save(stores.records, replace(RECORD, device=DeviceId(d))) for d in "cab")
        )
        assert [r.device for r in stores.records.all()] == ["a", "b", "c"]


async def test_it_serves_the_port(tmp_path: Path) -> None:
    async with opened(tmp_path) as stores:
        port: RecordStore = stores.records
        assert port.get(ONE) is None
        with pytest.raises(KeyError):
            port[ONE]


async def test_two_versions_in_one_group_are_both_confirmed(tmp_path: Path) -> None:
    async with opened(tmp_path) as stores:
        versions = [replace(RECORD, attempt=n) for n in range(20)]
        await asyncio.gather(*(save(stores.records, v) for v in versions))
        assert stores.records[ONE] == versions[-1]


async def test_no_writer_undoes_another(tmp_path: Path) -> None:
    async with opened(tmp_path) as stores:
        await save(stores.records, RECORD)
        await asyncio.gather(
            stores.records.update(ONE, lambda r: replace(unchanged(r), label="Dock")),
            stores.records.update(ONE, lambda r: replace(unchanged(r), activated_at=9)),
        )
        assert stores.records[ONE] == replace(RECORD, label="Dock", activated_at=9)


async def test_who_was_overtaken_changes_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as stores:
        with pytest.raises(RecordChanged):
            await stores.records.update(ONE, lambda r: unchanged(r, attempt=0))
        await save(stores.records, RECORD)
        with pytest.raises(RecordChanged):
            await stores.records.update(ONE, lambda r: replace(unchanged(r, attempt=3), stored=3))
        assert stores.records[ONE] == RECORD


async def test_who_was_cancelled_has_saved_all_the_same(tmp_path: Path) -> None:
    async with opened(tmp_path) as stores:
        saving = asyncio.create_task(save(stores.records, RECORD))
        await asyncio.sleep(0)
        saving.cancel()
        await stores.thread.ping()
        assert stores.records[ONE] == RECORD


async def test_forgetting_leaves_neither_record_nor_secret(tmp_path: Path) -> None:
    other = SecretRef("cloud", DeviceId("child-2"), 1)
    async with opened(tmp_path) as stores:
        await save(stores.records, RECORD)
        for ref in (SLOT, RECORD.slot(7), SecretRef("gone", ONE, 1, "key"), other):
            await stores.secrets.put(ref, Secret(b"x"))
        await stores.records.forget(ONE)
        await stores.records.forget(ONE)
        assert stores.records.get(ONE) is None
    async with opened(tmp_path) as stores:
        assert list(stores.records.all()) == []
        assert await stores.thread.run(stores.vault.refs) == [other]


async def test_forgetting_while_storing_leaves_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as stores:
        putting = asyncio.create_task(stores.secrets.put(SLOT, Secret(b"x")))
        await asyncio.sleep(0)
        putting.cancel()
        await stores.records.forget(ONE)
        assert not await stores.secrets.holds(SLOT)


SERIAL, UUID = Claim("serial", "pm", "0815"), Claim("uuid", "*", "ü'1")


async def test_answers_are_durable_until_they_are_withdrawn(tmp_path: Path) -> None:
    said = {SERIAL: NO_DEVICE, UUID: ONE}
    async with opened(tmp_path) as stores:
        await stores.records.settle(said)
        assert stores.records.answers == said
    async with opened(tmp_path) as stores:
        assert stores.records.answers == said
        await stores.records.settle({SERIAL: None})
    async with opened(tmp_path) as stores:
        assert stores.records.answers == {UUID: ONE}
        await stores.records.forget(ONE)
        assert not stores.records.answers
    async with opened(tmp_path) as stores:
        assert not stores.records.answers


async def test_one_that_is_another_is_gone_with_the_answer_or_not_at_all(tmp_path: Path) -> None:
    async with opened(tmp_path) as stores:
        await save(stores.records, RECORD)
        await stores.secrets.put(SLOT, Secret(b"x"))
        with pytest.raises(StoreError):
            await stores.records.settle({SERIAL: b"no text"}, ONE)  # type: ignore[dict-item]  # the second fails
        assert stores.records.get(ONE) == RECORD
        assert await stores.secrets.holds(SLOT)
        await stores.records.settle({SERIAL: DeviceId("child-2")}, ONE)
        assert stores.records.get(ONE) is None
    async with opened(tmp_path) as stores:
        assert stores.records.answers == {SERIAL: DeviceId("child-2")}
        assert stores.records.get(ONE) is None
        assert not await stores.secrets.holds(SLOT)


@pytest.mark.parametrize("claim", ["[1]", "[" * 5000], ids=lambda one: one[:20])
def test_an_answer_that_makes_no_sense_is_named(tmp_path: Path, claim: str) -> None:
    with closing(RecordDatabase(tmp_path)):
        pass
    with closing(sqlite3.connect(tmp_path / "state.db")) as file, file:
        file.execute("INSERT INTO answer VALUES (?, '')", (claim,))
    with closing(RecordDatabase(tmp_path)) as state, pytest.raises(StoreError, match="damaged"):
        state.answers()


async def test_a_secret_is_read_back(tmp_path: Path) -> None:
    class Forgetful(Vault):
        def put(self, ref: SecretRef, secret: Secret) -> None:
            super().put(ref, Secret(b"something else"))

    thread = CommitThread()
    thread.start()
    vault = await thread.open(lambda: Forgetful(DEVELOPMENT, tmp_path))
    with pytest.raises(SecretCorrupt, match="read back differently"):
        await DurableSecrets(thread, vault).put(SLOT, Secret(b"x"))
    await thread.aclose()


async def test_holds_tells_whether_a_slot_opens(tmp_path: Path) -> None:
    async with opened(tmp_path) as stores:
        await stores.secrets.put(SLOT, Secret(b"x"))
        assert await stores.secrets.get(SLOT) == Secret(b"x")
        assert await stores.secrets.holds(SLOT)
        assert not await stores.secrets.holds(RECORD.slot(2))
        with pytest.raises(SecretNotFound):
            await stores.secrets.get(RECORD.slot(2))


async def test_slots_of_a_device_are_listed_and_emptied(tmp_path: Path) -> None:
    async with opened(tmp_path) as stores:
        other = SecretRef("cloud", ONE, 1, "authority")
        for ref in (SLOT, RECORD.slot(2), other):
            await stores.secrets.put(ref, Secret(b"x"))
        assert set(await stores.secrets.refs(ONE)) == {SLOT, RECORD.slot(2), other}
        await stores.secrets.delete(SLOT)
        await stores.secrets.delete(SLOT)
        assert set(await stores.secrets.refs(ONE)) == {RECORD.slot(2), other}
        assert await stores.secrets.refs(DeviceId("child-2")) == ()


async def test_a_record_that_is_read_back_differently_is_not_durable(tmp_path: Path) -> None:
    class Forgetful(RecordDatabase):
        def replace(self, before: Record | None, record: Record) -> None:
            super().replace(before, replace(record, label="something else"))

    thread = CommitThread()
    thread.start()
    state = await thread.open(lambda: Forgetful(tmp_path))
    vault = await thread.open(lambda: Vault(DEVELOPMENT, tmp_path))
    records = await DurableRecords.load(thread, state, vault)
    with pytest.raises(StoreUnavailable, match="read back differently"):
        await save(records, RECORD)
    assert records.get(ONE) is None
    await thread.aclose()


async def test_after_such_a_fault_the_row_counts_and_not_the_memory(tmp_path: Path) -> None:
    class Faulty(RecordDatabase):
        faulty = True

        def replace(self, before: Record | None, record: Record) -> None:
            other = replace(record, label="something else")
            super().replace(before, other if self.faulty else record)

    thread = CommitThread()
    thread.start()
    state = await thread.open(lambda: Faulty(tmp_path))
    vault = await thread.open(lambda: Vault(DEVELOPMENT, tmp_path))
    records = await DurableRecords.load(thread, state, vault)
    with pytest.raises(StoreUnavailable):
        await save(records, RECORD)
    state.faulty = False
    found = await records.update(ONE, lambda record: replace(unchanged(record), attempt=7))
    assert found == records[ONE] == replace(RECORD, label="something else", attempt=7)
    await thread.aclose()


def hold(entered: Event, released: Event) -> None:
    """Keep the commit thread busy, so that what comes meanwhile is one group."""
    entered.set()
    assert released.wait(30)


async def test_changes_of_one_group_build_upon_each_other(tmp_path: Path) -> None:
    def add(record: Record | None) -> Record:
        return replace(unchanged(record), attempt=unchanged(record).attempt + 1)

    def refuse(record: Record | None) -> Record:
        raise RecordChanged(str(record))

    async with opened(tmp_path) as stores:
        await save(stores.records, RECORD)
        for changes in ((add, add), (add, refuse, add), (refuse, add, add), (add, add, refuse)):
            before, entered, released = stores.records[ONE].attempt, Event(), Event()
            gate = asyncio.create_task(stores.thread.run(partial(hold, entered, released)))
            await asyncio.to_thread(entered.wait, 30)
            waiting = [asyncio.create_task(stores.records.update(ONE, c)) for c in changes]
            await asyncio.sleep(0)  # all are queued
            released.set()
            results = await asyncio.gather(gate, *waiting, return_exceptions=True)
            assert sum(isinstance(r, RecordChanged) for r in results) == changes.count(refuse)
            assert stores.records[ONE].attempt == before + 2


async def test_headroom_and_quarantine_are_reached(tmp_path: Path) -> None:
    async with opened(tmp_path) as stores:
        await stores.secrets.headroom()
        assert (tmp_path / "vault.ballast").stat().st_size == 1 << 20
        await stores.secrets.purge(0)


def test_a_second_daemon_is_told_who_the_first_is(tmp_path: Path) -> None:
    with closing(RecordDatabase(tmp_path)) as first:
        with pytest.raises(StoreUnavailable, match=r"another gatewayd \(process \d+\) uses"):
            RecordDatabase(tmp_path)
        first.write(RECORD)
    with closing(RecordDatabase(tmp_path)) as second:
        assert list(second.all()) == [RECORD]


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o701, 0o720])
def test_a_directory_that_is_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    directory = tmp_path / "state"
    directory.mkdir()
    directory.chmod(mode)
    with pytest.raises(ConfigError, match=rf"mode {mode:04o}\): chmod 0700 {directory}$"):
        RecordDatabase(directory)
    assert list(directory.iterdir()) == []
    directory.chmod(0o700)
    RecordDatabase(directory).close()


def test_a_failed_start_gives_the_directory_back(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(
        b"no database at all, but long enough to look like one" * 99
    )
    for _ in range(2):
        with pytest.raises(StoreError, match="damaged"):
            RecordDatabase(tmp_path)


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    RecordDatabase(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "state.db")) as file:
        file.execute(f"PRAGMA user_version = {statefile.VERSION + 1}")
    with pytest.raises(ConfigError, match="newer gatewayd"):
        RecordDatabase(tmp_path)


TAKEN_AWAY = {
    1: ("ALTER TABLE record DROP COLUMN candidate", "DROP TABLE binding"),
    2: ("DROP TABLE binding",),
    3: (),
}
"""By earlier version: what it has not, besides what versions 4 and 5 added."""


@pytest.mark.parametrize("version", TAKEN_AWAY)
def test_a_file_of_an_earlier_schema_is_brought_up_to_date(tmp_path: Path, version: int) -> None:
    with closing(RecordDatabase(tmp_path)) as state:
        state.write(RECORD)
    with closing(sqlite3.connect(tmp_path / "state.db")) as file, file:
        file.execute("DROP TABLE answer")
        file.execute("DROP TABLE site_child")
        for column in statefile._LATER:
            file.execute(f"ALTER TABLE record DROP COLUMN {column}")
        file.execute("DROP TABLE decision")
        for statement in TAKEN_AWAY[version]:
            file.execute(statement)
        file.execute(f"PRAGMA user_version = {version}")
    changed = replace(RECORD, candidate=2, explanation="Why.", remedy="What to do.")
    for _ in range(2):
        with closing(RecordDatabase(tmp_path)) as state:
            assert list(state.all()) == [RECORD]
            state.write(changed)
            assert state.read(ONE) == changed
            state.write(RECORD)


NESTED = "[" * 5000
ENDLESS = '{"dormant": [], "to": null, "moved_at": 1e999}'
DAMAGES = (
    "verdict = 'maybe'", "claims = '[[1]]'", "claims = '{'", f"claims = '{NESTED}'",
    f"moves = '{ENDLESS}'", f"moves = '{NESTED}'",
)  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda one: one[:20])
def test_a_record_that_makes_no_sense_is_named(tmp_path: Path, damage: str) -> None:
    with closing(RecordDatabase(tmp_path)) as state:
        state.write(RECORD)
        state._run(f"UPDATE record SET {damage}")  # noqa: S608  # of the test
        with pytest.raises(StoreError, match="record of 'child-1' is damaged"):
            state.read(ONE)


async def test_a_batch_is_read_back_by_one_statement(tmp_path: Path) -> None:
    executed: list[str] = []
    async with opened(tmp_path) as stores:
        devices = [DeviceId(f"child-{n}") for n in range(30)]
        await stores.thread.run(
            lambda: stores.records._state._db.set_trace_callback(
                lambda one: executed.append(one[:6])
            )
        )
        made = [replace(RECORD, device=device) for device in devices]
        await asyncio.gather(*(save(stores.records, record) for record in made))
        counted = Counter(executed)
        assert [stores.records[device] for device in devices] == made
    assert (counted["REPLAC"], counted["SELECT"], counted["COMMIT"]) == (30, 1, 1)


async def test_those_who_ask_at_once_share_a_check(tmp_path: Path) -> None:
    async with opened(tmp_path) as stores:
        checks: list[None] = []
        headroom = stores.vault.headroom

        def counted() -> None:
            checks.append(None)
            headroom()

        stores.vault.headroom = counted  # type: ignore[method-assign]  # it is counted here
        cancelled = asyncio.create_task(stores.secrets.check_ready())
        asked = [asyncio.create_task(stores.secrets.check_ready()) for _ in range(30)]
        await asyncio.sleep(0)
        cancelled.cancel()
        assert set(await asyncio.gather(*asked)) == {None}
        assert len(checks) == 1
        await stores.secrets.check_ready()
        assert len(checks) == 2
