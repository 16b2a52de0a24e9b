"""Before the start: whatever a crash has left, the records and the slots agree again."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gatewayd.device.identity import DeviceId
from gatewayd.device.lifecycle import State
from gatewayd.device.record import Admission, CloudName, Record, Verdict
from gatewayd.device.recovery import restore
from gatewayd.device.secret import Secret, SecretRef
from gatewayd.secretstore.keyring.store import KeyringSettings, KeyringStore
from gatewayd.secretstore.vault.vault import Vault, VaultSettings
from gatewayd.storage.commit_thread import CommitThread
from gatewayd.storage.reconcile import (
    Finding,
    FindingKind,
    decide,
    open_rest,
    reconcile,
    without_secret,
)
from gatewayd.storage.records import RecordDatabase
from tests.support import keyrings

NOW = 1_000


def child(number: int = 1, **facts: Any) -> Record:
    base = Record(
        device=DeviceId(f"child-{number}"), claims=frozenset(), label="",
        verdict=Verdict.ADMITTED, admission=Admission.RULE, rule="r", reason="",
        cloud=CloudName("cloud", "product", f"name-{number}"), verdict_at=1, first_seen=1,
    )  # fmt: skip
    return replace(base, **facts)


def slots(record: Record, *attempts: int) -> list[SecretRef]:
    return [record.slot(n) for n in attempts]


def kinds(findings: Iterable[Finding]) -> list[FindingKind]:
    return [f.kind for f in findings]


@pytest.mark.parametrize(
    ("facts", "held"),
    [
        ({}, ()),
        ({"attempt": 1}, ()),
        ({"attempt": 1, "stored": 1}, (1,)),
        ({"attempt": 2, "stored": 1}, (1,)),
        ({"attempt": 2}, (1,)),  # its secret was refused: the number is used up
        ({"attempt": 2, "stored": 2}, (1, 2)),
        ({"attempt": 2, "stored": 2, "activated_at": 5}, (2,)),
        ({"verdict": Verdict.REJECTED, "cloud": None}, ()),
        ({"attempt": 2, "stored": 1, "activated_at": 5, "candidate": 2}, (1, 2)),
        ({"attempt": 2, "stored": 1, "activated_at": 5, "candidate": 2}, (1,)),  # not issued
        ({"attempt": 2, "stored": 1, "activated_at": 5, "candidate": 2}, (2,)),  # a login may do
    ],
)
def test_what_fits_is_left_alone(facts: dict[str, Any], held: tuple[int, ...]) -> None:
    record = child(**facts)
    assert decide([record], slots(record, *held), NOW) == []


@pytest.mark.parametrize(
    ("facts", "held", "now_stored"),
    [
        ({"attempt": 1}, (1,), 1),
        ({"attempt": 3, "stored": 1, "activating": 1}, (1, 3), 3),
        ({"attempt": 1, "stored": 1}, (1, 2), 2),  # the record comes from a backup
    ],
)
def test_a_stored_secret_is_taken_into_use(
    facts: dict[str, Any], held: tuple[int, ...], now_stored: int
) -> None:
    record = child(**facts)
    (found,) = decide([record], slots(record, *held), NOW)
    assert found.kind is FindingKind.COMPLETED
    assert found.ref is None
    assert found.record == replace(
        record,
        attempt=max(record.attempt, now_stored),
        stored=now_stored,
        registered_at=NOW,
        activating=now_stored,
    )


def test_a_newer_secret_that_no_login_has_proven_is_a_candidate() -> None:
    """The record comes from a backup."""
    record = child(attempt=1, stored=1, activated_at=5)
    (found,) = decide([record], slots(record, 1, 2), NOW)
    assert (found.kind, found.ref) == (FindingKind.CANDIDATE, None)
    assert found.record == replace(record, attempt=2, candidate=2)


def test_without_the_one_before_a_newer_secret_is_taken_into_use() -> None:
    record = child(attempt=1, stored=1, activated_at=5)
    (found,) = decide([record], slots(record, 2), NOW)
    assert found.kind is FindingKind.COMPLETED
    assert found.record
    assert (found.record.stored, found.record.candidate) == (2, 0)


def test_a_secret_that_is_gone_is_asked_for_again_unless_it_was_used() -> None:
    unused, used = child(1, attempt=1, stored=1), child(2, attempt=1, stored=1, activated_at=5)
    found = decide([unused, used], [], NOW)
    assert kinds(found) == [FindingKind.AGAIN, FindingKind.LOST]
    assert [f.record for f in found] == [replace(unused, stored=0), None]
    assert without_secret(found) == {unused.device, used.device}


def test_older_secrets_go_when_a_newer_one_is_proven() -> None:
    record = child(attempt=4, stored=3, activated_at=5)
    found = decide([record], slots(record, 1, 2, 3), NOW)
    assert [(f.kind, f.ref) for f in found] == [
        (FindingKind.OUTDATED, record.slot(1)),
        (FindingKind.OUTDATED, record.slot(2)),
    ]


def test_a_slot_of_nobody_is_quarantined_and_other_kinds_are_left() -> None:
    stranger = SecretRef("cloud", DeviceId("child-9"), 1)
    moved = SecretRef("another-cloud", DeviceId("child-1"), 1)
    kept = SecretRef("cloud", DeviceId("product"), 0, "product-secret")
    found = decide([child()], [stranger, moved, kept], NOW)
    assert [(f.kind, f.ref) for f in found] == [
        (FindingKind.ORPHAN, stranger),
        (FindingKind.ORPHAN, moved),
    ]


@pytest.mark.parametrize(
    ("total", "gone", "degraded"),
    [(2, 2, False), (3, 3, True), (100, 2, False), (300, 3, False), (299, 3, True)],
)
def test_many_secrets_gone_are_a_doubt_about_all(total: int, gone: int, degraded: bool) -> None:
    records = [child(n, attempt=1, stored=1) for n in range(total)]
    held = [r.slot(1) for r in records[gone:]]
    assert (FindingKind.DEGRADED in kinds(decide(records, held, NOW))) == degraded


def test_many_secrets_of_nobody_are_a_doubt_about_the_records() -> None:
    held = [child(n).slot(1) for n in range(3)]
    (doubt, *_) = decide([], held, NOW)
    assert (doubt.kind, doubt.text[:6]) == (FindingKind.DEGRADED, "3 of 3")


class Crashes(RuleBasedStateMachine):
    """The protocol step by step, a crash between any two, and a cloud that may not answer.

    The cloud: `newest` secret issued; `active`, the one it was first logged in with.
    """

    def __init__(self) -> None:
        super().__init__()
        self.record, self.vault = child(), dict[int, int]()
        self.newest, self.active, self.late = 0, 0, False
        self.step, self.issued = "boot", 0

    @rule()
    def crash(self) -> None:
        self.step = "boot"

    @precondition(lambda self: self.step == "boot")
    @rule()
    def start(self) -> None:
        before = self.record
        found = decide([self.record], slots(self.record, *self.vault), NOW)
        for finding in found:
            self.record = finding.record or self.record
            if finding.ref is not None:
                assert finding.kind is FindingKind.OUTDATED
                del self.vault[finding.ref.attempt]
        has_secret = bool(self.record.stored) and self.record.device not in without_secret(found)
        assert has_secret == (self.record.stored in self.vault)
        state, _ = restore(self.record, has_secret=has_secret)
        assert self.record.attempt == before.attempt, "a number is given out twice"
        if self.record.attempt in self.vault:
            assert state is State.ABSENT
            assert self.record.stored == self.record.attempt
        assert decide([self.record], slots(self.record, *self.vault), NOW) == []
        self.step = {State.ABSENT: "stored", State.ADMITTED: "admitted"}[state]

    @precondition(lambda self: self.step == "admitted" and self.record.attempt < 6)
    @rule()
    def intend(self) -> None:
        self.record = replace(self.record, attempt=self.record.attempt + 1)
        self.step = "asking"

    @precondition(lambda self: self.step == "asking")
    @rule()
    def cloud_issues(self) -> None:
        self.issued = self.issue()
        self.step = "issued"

    @precondition(lambda self: self.step == "asking")
    @rule()
    def reply_is_lost(self) -> None:
        self.issue()
        self.step = "admitted"

    @precondition(lambda self: self.step == "asking")
    @rule()
    def request_is_late(self) -> None:
        self.late, self.step = True, "admitted"

    @precondition(lambda self: self.late and not self.active)
    @rule()
    def late_request_comes_through(self) -> None:
        self.issue()
        self.late = False

    @precondition(lambda self: self.step == "issued")
    @rule()
    def put(self) -> None:
        self.vault[self.record.attempt] = self.issued
        self.step = "put"

    @precondition(lambda self: self.step == "put")
    @rule()
    def point(self) -> None:
        self.record = self.record.with_secret(self.record.attempt, NOW)
        self.step = "activating"

    @precondition(lambda self: self.step == "put")
    @rule()
    def point_as_earlier_versions_did(self) -> None:
        self.record = replace(self.record, stored=self.record.attempt, activating=0)
        self.step = "stored"

    @precondition(lambda self: self.step == "stored")
    @rule()
    def activate(self) -> None:
        self.record = replace(self.record, activating=self.record.stored)
        self.step = "activating"

    @precondition(lambda self: self.step == "activating")
    @rule()
    def log_in(self) -> None:
        secret = self.vault[self.record.stored]
        if secret == (self.active or self.newest):
            self.active, self.step = secret, "online"
        else:
            assert not self.active, "an activated child is stranded"
            self.record, self.step = self.record.without_stale_secret(), "admitted"

    @precondition(lambda self: self.step == "online")
    @rule()
    def confirm(self) -> None:
        self.record = replace(self.record, activated_at=NOW)

    @invariant()
    def an_active_secret_is_durable(self) -> None:
        assert not self.active or self.vault[self.record.stored] == self.active

    def issue(self) -> int:
        assert not self.active, "an activated child is registered again"
        self.newest += 1
        return self.newest


Crashes.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestCrashes = Crashes.TestCase


class Disk:
    """A state directory on which things are put right."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.settings = VaultSettings(key="development-file")

    @contextmanager
    def files(self) -> Iterator[tuple[RecordDatabase, Vault]]:
        with (
            closing(RecordDatabase(self.directory)) as state,
            closing(Vault(self.settings, self.directory)) as vault,
        ):
            yield state, vault

    def fill(self, records: Iterable[Record], refs: Iterable[SecretRef]) -> None:
        with self.files() as (state, vault):
            for record in records:
                state.write(record)
            for ref in refs:
                vault.put(ref, Secret(b"x"))

    def start(self) -> list[Finding]:
        async def main() -> list[Finding]:
            thread = CommitThread()
            thread.start()
            state = await thread.open(lambda: RecordDatabase(self.directory))
            vault = await thread.open(lambda: Vault(self.settings, self.directory))
            try:
                found = await reconcile(thread, state, vault, NOW)
                rest = await open_rest(thread, state, vault, found.unopened)
                return [*found.findings, *rest]
            finally:
                await thread.aclose()

        return asyncio.run(main())

    def content(self) -> tuple[list[Record], list[SecretRef]]:
        with self.files() as (state, vault):
            return list(state.all()), list(vault.refs())


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def test_what_does_not_fit_is_put_right_on_the_disk(disk: Disk) -> None:
    flipped, again = child(1, attempt=1), child(2, attempt=1, stored=1)
    proven = child(3, attempt=2, stored=2, activated_at=5)
    stranger = SecretRef("cloud", DeviceId("child-9"), 1)
    disk.fill([flipped, again, proven], [*slots(flipped, 1), *slots(proven, 1, 2), stranger])
    assert set(kinds(disk.start())) == {
        FindingKind.COMPLETED,
        FindingKind.AGAIN,
        FindingKind.OUTDATED,
        FindingKind.ORPHAN,
    }
    records, refs = disk.content()
    assert [r.stored for r in records] == [1, 0, 2]
    assert refs == [flipped.slot(1), proven.slot(2)]
    assert disk.start() == []


def test_a_slot_that_does_not_open_is_gone(disk: Disk) -> None:
    one, two = child(1, attempt=1, stored=1), child(2, attempt=1, stored=1, activated_at=5)
    disk.fill([one, two], [one.slot(1), two.slot(1)])
    with closing(sqlite3.connect(disk.directory / "vault.db")) as file, file:
        file.execute("UPDATE secret SET ct = zeroblob(17)")
    assert kinds(disk.start()) == [FindingKind.AGAIN, FindingKind.LOST]
    assert disk.content()[1] == []


def test_in_doubt_nothing_is_taken_away(disk: Disk) -> None:
    records = [child(n, attempt=1, stored=1) for n in range(3)]
    strangers = [SecretRef("cloud", DeviceId(f"child-{n}"), 1) for n in (7, 8, 9)]
    half_done = child(4, attempt=1)
    disk.fill([*records, half_done], [*strangers, half_done.slot(1)])
    assert kinds(disk.start())[:2] == [FindingKind.DEGRADED, FindingKind.DEGRADED]
    after, refs = disk.content()
    assert [r.stored for r in after] == [1, 1, 1, 1]
    assert refs == [half_done.slot(1), *strangers]


def test_a_keyring_that_is_locked_meanwhile_is_no_reason_either(tmp_path: Path) -> None:
    record, ring = child(1, attempt=1, stored=1), tmp_path / "ring"
    keyring = KeyringSettings(keyrings.LOCKABLE, {"file_path": str(ring)})
    with (
        closing(RecordDatabase(tmp_path)) as state,
        closing(KeyringStore(keyring, tmp_path)) as store,
    ):
        state.write(record)
        store.begin()
        store.put(record.slot(1), Secret(b"x"))
        store.commit()

    async def main() -> list[Finding]:
        thread = CommitThread()
        thread.start()
        state = await thread.open(lambda: RecordDatabase(tmp_path))
        store = await thread.open(lambda: KeyringStore(keyring, tmp_path))
        Path(f"{ring}.locked").touch()
        try:
            return [*(await reconcile(thread, state, store, NOW)).findings]
        finally:
            await thread.aclose()

    assert asyncio.run(main()) == []


def test_a_sealed_vault_is_no_reason_to_ask_again(disk: Disk) -> None:
    record, old = child(1, attempt=2, stored=2, activated_at=5), child(2, attempt=1)
    disk.fill([record, old], [*slots(record, 1, 2), old.slot(1)])
    (disk.directory / "development.key").rename(disk.directory / "hidden")
    assert without_secret(disk.start()) == frozenset()
    records, refs = disk.content()
    assert refs == [record.slot(1), record.slot(2), old.slot(1)]
    assert [r.stored for r in records] == [2, 1]
