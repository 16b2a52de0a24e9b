"""A unit is given notice when what it got is no longer good, also over a restart of gatewayd."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from gatewayd.credentials import notices as module
from gatewayd.credentials.holders import Holder
from gatewayd.credentials.notices import CHANGED, NOTES, CredentialNotices
from gatewayd.credentials.settings import CredentialSettings, UnitSettings, UserSettings
from gatewayd.device.record import Record, Verdict
from tests.credentials.support import a_record
from tests.support.fakes import MemoryRecords
from tests.support.tasks import in_background

SETTINGS = CredentialSettings(
    units={"bridge": UnitSettings(child="TH20-1"), "meter@": UnitSettings(rule="meters")},
    users={"100999": UserSettings(child="TH20-2")},
)
BRIDGE, USER = Holder(unit="bridge"), Holder(user="100999")


@dataclass
class Site:
    """What outlives gatewayd here."""

    directory: Path
    records: MemoryRecords
    settings: CredentialSettings = SETTINGS
    for_holder: bool = True

    def put(self, record: Record) -> Record:
        self.records.rows[record.device] = record
        return record

    @asynccontextmanager
    async def running(self) -> AsyncIterator[CredentialNotices]:
        made = CredentialNotices(
            self.directory, self.settings, self.records, lambda _: self.for_holder
        )
        async with in_background(made.run()):
            yield made

    def notices(self) -> list[str]:
        return sorted(path.name for path in (self.directory / CHANGED).iterdir())

    async def until(self, *names: str) -> None:
        async with asyncio.timeout(60):
            while self.notices() != sorted(names):
                await asyncio.sleep(0.01)

    async def until_noted(self, holders: int) -> None:
        async with asyncio.timeout(60):
            while self.noted() != holders:
                await asyncio.sleep(0.01)

    def noted(self) -> int:
        path = self.directory / NOTES
        return len(json.loads(path.read_text())) if path.exists() else 0


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A place for notices, which are given without delay."""
    monkeypatch.setattr(module, "SETTLE", 0.0)
    monkeypatch.setattr(module, "AGAIN", 0.05)
    (tmp_path / CHANGED).mkdir()
    return Site(tmp_path, MemoryRecords())


async def test_a_renewal_is_noticed_once(site: Site) -> None:
    child = site.put(a_record("TH20-1"))
    async with site.running() as notices:
        assert await notices.given(BRIDGE, child)
        assert not await notices.given(BRIDGE, child), "it is the same"
        assert await notices.given(USER, site.put(a_record("TH20-2")))
        await site.until_noted(2)
        assert site.notices() == []
        site.put(replace(child, stored=2))
        notices.secret_held(child.device)
        await site.until("bridge")
        (site.directory / CHANGED / "bridge").unlink()
        notices.secret_held(child.device)
        await site.until_noted(1)
        assert site.notices() == [], "until it was given again"
        assert await notices.given(BRIDGE, replace(child, stored=2))


@pytest.mark.parametrize(
    "what", ["rejected", "forgotten", "registered-again", "reset", "rule", "other-child"]
)
async def test_what_is_taken_away_is_noticed(site: Site, what: str) -> None:
    child = site.put(a_record("TH20-1"))
    async with site.running() as notices:
        await notices.given(BRIDGE, child)
        await site.until_noted(1)
        match what:
            case "rejected":
                site.put(replace(child, verdict=Verdict.REJECTED))
            case "forgotten":
                del site.records.rows[child.device]
            case "registered-again":  # after it was forgotten: its attempts count from 1
                site.put(replace(child, registered_at=child.registered_at + 1))
            case "reset":
                site.put(replace(child, stored=0, activated_at=0))
            case "rule":
                site.for_holder = False
            case "other-child":
                site.put(replace(child, cloud=a_record("TH20-9").cloud))
        notices.secret_withheld(child.device)
        await site.until("bridge")


async def test_what_was_replaced_before_it_was_noted_is_noticed_all_the_same(site: Site) -> None:
    """The change came while the note was waiting for the disk."""
    child = site.put(a_record("TH20-1"))
    async with site.running() as notices:
        site.put(replace(child, stored=2))
        notices.secret_held(child.device)
        for _ in range(10):
            await asyncio.sleep(0.01)
        assert await notices.given(BRIDGE, child)
        await site.until("bridge")


async def test_other_roots_of_its_cloud_are_noticed(site: Site) -> None:
    child = site.put(a_record("TH20-1"))
    async with site.running() as notices:
        await notices.given(BRIDGE, child)
        notices.reread({"another"})
        notices.secret_held(child.device)
        await notices.given(USER, site.put(a_record("TH20-2")))
        assert site.notices() == []
        notices.reread({"cloud"})
        await site.until("bridge")
        assert await notices.given(BRIDGE, child), "it asks again"


async def test_a_store_that_cannot_be_read_takes_nothing_away(site: Site) -> None:
    child = site.put(a_record("TH20-1"))
    async with site.running() as notices:
        await notices.given(BRIDGE, child)
        await site.until_noted(1)
        notices.secret_withheld(child.device)
        await notices.given(USER, site.put(a_record("TH20-2")))
        await site.until_noted(2)
        assert site.notices() == []


async def test_a_note_is_there_before_the_credential_leaves(site: Site) -> None:
    child = site.put(a_record("TH20-1"))
    async with site.running() as notices:
        await notices.given(BRIDGE, child)
        assert site.noted() == 1, "gatewayd may be killed at once"


@pytest.mark.parametrize("changed", [True, False])
async def test_what_changes_while_gatewayd_is_away_is_noticed(site: Site, changed: bool) -> None:
    child = site.put(a_record("TH20-1"))
    async with site.running() as notices:
        await notices.given(BRIDGE, child)
        await site.until_noted(1)
    if changed:
        site.put(replace(child, stored=2))
    async with site.running() as notices:
        await notices.given(USER, site.put(a_record("TH20-2")))
        if changed:
            await site.until("bridge")
        await site.until_noted(1 if changed else 2)
        assert site.notices() == (["bridge"] if changed else [])


async def test_a_unit_that_the_settings_name_no_more_is_noticed(site: Site) -> None:
    child = site.put(a_record("TH20-1"))
    async with site.running() as notices:
        await notices.given(Holder(unit="meter@TH20-1"), child)
        await site.until_noted(1)
    site.settings = CredentialSettings()
    async with site.running():
        await site.until("meter@TH20-1")


@pytest.mark.parametrize(
    "notes",
    [b"", b"{", b"[1]", b'{"unit x": 7}', b'{"unit x": ["c", 1]}', b"\xff", b"[" * 100_000,
     b'{"unit x": ["c", 1e999, 1]}'],
)  # fmt: skip
async def test_notes_that_cannot_be_read_are_none(site: Site, notes: bytes) -> None:
    (site.directory / NOTES).write_bytes(notes)
    async with site.running() as notices:
        await notices.given(BRIDGE, site.put(a_record("TH20-1")))
        async with asyncio.timeout(60):
            while b"child-p-th20-1" not in (site.directory / NOTES).read_bytes():
                await asyncio.sleep(0.01)


async def test_a_notice_that_cannot_be_given_is_given_later(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    child = site.put(a_record("TH20-1"))
    async with site.running() as notices:
        await notices.given(BRIDGE, child)
        await site.until_noted(1)
        (site.directory / CHANGED).rmdir()
        site.put(replace(child, stored=2))
        notices.secret_held(child.device)
        async with asyncio.timeout(60):
            while "tried again" not in caplog.text:
                await asyncio.sleep(0.01)
        (site.directory / CHANGED).mkdir()
        await site.until("bridge")
        assert caplog.text.count("tried again") == 1
