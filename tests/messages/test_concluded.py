"""What the cloud has is not sent again after a kill, though it is still on the disk."""

from __future__ import annotations

import os
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import pytest

from gatewayd.cloud.provider import MessageDelayed, MessageRefused
from gatewayd.device.reason import Reason
from gatewayd.messages.outbox import outbox
from gatewayd.messages.outbox.concluded import NAME, SLOTS, ConcludedMessages
from gatewayd.messages.outbox.file import NAME as OUTBOX
from gatewayd.messages.outbox.file import StoredMessage
from gatewayd.testing.waiting import until
from tests.support.relays import ALICE, FakeCloud, killed, running_relay

NEVER = 1e6


@pytest.fixture(autouse=True)
def lazy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deletes wait, so that a kill finds all of them on the disk."""
    monkeypatch.setattr(outbox, "DELETE_DELAY", NEVER)


def stored(directory: Path) -> int:
    with closing(sqlite3.connect(directory / OUTBOX)) as db:
        return int(db.execute("SELECT count(*) FROM up").fetchone()[0])


def message(number: int, at: int = 5) -> StoredMessage:
    return StoredMessage(number, 1, 1, 0, at, "properties", b"")


async def test_a_kill_repeats_only_what_was_under_way(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    cloud = FakeCloud()
    cloud.answers[b"2"].append(MessageRefused(Reason("no")))
    cloud.answers[b"5"].append(MessageDelayed(Reason("later")))
    async with running_relay(before, cloud=cloud) as running:
        for n in range(6):
            running.say(str(n))
        await running.all_settled()
        running.connect()
        await until(lambda: not cloud.answers[b"5"] and not cloud.under_way)
        assert running.relay.statistics().total.waiting == 1
        await killed(running, before, after)
    assert stored(after) == 6, "what is deleted is still on the disk"
    async with running_relay(after) as running:
        assert running.relay.statistics().total.waiting == 1
        running.connect()
        running.say("6")
        await running.all_settled()
        await running.empty()
        assert running.cloud.payloads(ALICE) == [b"5", b"6"]
    assert stored(after) == 0


async def test_a_second_kill_before_the_deletes_repeats_nothing_either(tmp_path: Path) -> None:
    """The notes outlive the next start, too, until the deletes are durable."""
    places = [tmp_path / name for name in "abc"]
    async with running_relay(places[0]) as running:
        running.connect()
        running.say("0")
        await running.accepted(1)
        await running.empty()
        await killed(running, places[0], places[1])
    async with running_relay(places[1]) as running:
        assert stored(places[1]) == 1
        await killed(running, places[1], places[2])
    async with running_relay(places[2]) as running:
        assert running.relay.statistics().total.waiting == 0


async def test_notes_of_another_outbox_delete_nothing(tmp_path: Path) -> None:
    """A number is used again where the outbox was emptied, damaged or replaced by an operator."""
    async with running_relay(tmp_path) as running:
        running.say("0")
        await running.all_settled()
    foreign = ((1, 7), (0, 0), (1 << 62, 1 << 62), (-1, -1))
    notes = b"".join(struct.pack("<qq", *one) for one in foreign)
    (tmp_path / NAME).write_bytes(notes + b"half")
    async with running_relay(tmp_path) as running:
        assert running.relay.statistics().total.waiting == 1


async def test_an_orderly_end_leaves_no_notes(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as running:
        running.connect()
        running.say("0")
        await running.accepted(1)
        await running.empty()
        assert (tmp_path / NAME).stat().st_size
    assert not (tmp_path / NAME).exists()
    assert stored(tmp_path) == 0


async def test_a_damaged_outbox_forgets_what_was_concluded(tmp_path: Path) -> None:
    """Its numbers begin again: the old deletes must not meet new messages."""
    before, after = tmp_path / "before", tmp_path / "after"
    async with running_relay(before) as running:
        running.connect()
        for n in range(3):
            running.say(str(n))
        await running.accepted(3)
        await running.empty()
        await killed(running, before, after)
    with closing(sqlite3.connect(after / OUTBOX)) as db:
        db.execute("UPDATE up SET door = -1")
        db.commit()
    async with running_relay(after) as running:
        running.say("new")
        await running.all_settled()
        assert stored(after) == 1


def test_the_newest_are_kept(tmp_path: Path) -> None:
    notes = ConcludedMessages(tmp_path)
    assert notes.begin() == []
    for number in range(1, SLOTS + 3):
        notes.add(message(number))
    notes.close()
    assert sorted(notes.begin()) == [(number, 5) for number in range(3, SLOTS + 3)]
    assert notes.begin() == []


@pytest.mark.parametrize("damage", ["directory", "link", "missing"])
def test_where_nothing_can_be_noted_all_else_goes_on(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "run"
    if damage != "missing":
        place.mkdir()
    if damage == "directory":
        (place / NAME).mkdir()
    if damage == "link":
        (place / NAME).symlink_to(tmp_path / "elsewhere")
    notes = ConcludedMessages(place)
    assert notes.begin() == []
    notes.add(message(1))
    notes.end()
    assert "is sent again" in caplog.text
    assert not (tmp_path / "elsewhere").exists()


def test_a_full_disk_ends_the_notes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, os.strerror(28))

    notes = ConcludedMessages(tmp_path)
    notes.begin()
    monkeypatch.setattr(os, "pwrite", full)
    notes.add(message(1))
    notes.add(message(2))
    assert len(caplog.records) == 1
