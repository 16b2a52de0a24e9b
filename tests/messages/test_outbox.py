"""The outbox: repeats are stored once, times are true, and a bad disk loses what it must."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import AbstractAsyncContextManager, closing
from pathlib import Path

import pytest

from gatewayd.errors import ConfigError, StoreError, StoreUnavailable
from gatewayd.messages.outbox import arrival, outbox
from gatewayd.messages.outbox.arrival import ArrivalClock, KnownPackets, clock_is_right
from gatewayd.messages.outbox.file import NAME, RING, Changes, OutboxFile, StoredMessage
from gatewayd.messages.outbox.outbox import OutboxThread
from gatewayd.testing.waiting import until
from tests.support.relays import ALICE, BOB, RunningRelay, killed, running_relay


def rows(directory: Path) -> list[bytes]:
    """Return the payloads in the file, in order."""
    with closing(sqlite3.connect(directory / NAME)) as db:
        return [row[0] for row in db.execute("SELECT payload FROM up ORDER BY number")]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "RETRY", 0.02)
    monkeypatch.setattr(outbox, "DELETE_DELAY", 0.02)
    monkeypatch.setattr(outbox, "TEND", 0.02)
    monkeypatch.setattr(outbox, "VACUUM_EVERY", 0.0)


# Known repeats.


async def test_a_repeat_is_stored_once_also_after_a_kill(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    async with running_relay(before) as running:
        running.say("0", packet=7)
        running.say("0", packet=7, repeated=True)  # its first copy is not durable yet
        await running.all_settled()
        assert running.settled == [(b"0", None), (b"0", None)]
        await killed(running, before, after)
    async with running_relay(after) as running:
        running.say("0", packet=7, repeated=True)
        running.say("1", packet=7, repeated=True)  # a packet of another message
        running.say("0", packet=8, repeated=True)
        running.say("0", packet=7)  # the broker says that it is new
        await running.all_settled()
        assert running.relay.statistics().total.waiting == 4
    assert rows(after) == [b"0", b"1", b"0", b"0"]


async def test_a_packet_of_a_new_session_is_no_repeat_of_an_old_one(tmp_path: Path) -> None:
    """A broker that has lost its session counts from 1 again, and children repeat their values."""
    before, after = tmp_path / "before", tmp_path / "after"
    async with running_relay(before) as running:
        for packet in (1, 2):
            running.say("same", packet=packet)
        await running.all_settled()
        running.relay.session_begun("site")
        running.relay.session_begun("another")
        running.say("same", packet=1, repeated=True)  # its first copy was lost on the way
        running.say("same", packet=1, repeated=True)
        await running.all_settled()
        assert running.relay.statistics().total.waiting == 3
        await killed(running, before, after)
    async with running_relay(after) as running:
        running.say("same", packet=1, repeated=True)
        running.say("same", packet=2, repeated=True)
        await running.all_settled()
        assert running.relay.statistics().total.waiting == 4


async def test_a_repeat_is_not_settled_before_its_first_copy(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as running:
        with closing(sqlite3.connect(tmp_path / NAME, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            running.say("0", packet=7)
            running.say("0", packet=7, repeated=True)
            running.say("x" * 2_000_000, packet=9)  # dropped, but in its turn
            await asyncio.sleep(0.1)
            assert not running.settled
            other.execute("ROLLBACK")
        await running.all_settled()
        assert [why for _, why in running.settled] == [None, None, "too-large"]


def test_each_door_knows_its_newest_packets() -> None:
    known = KnownPackets()
    kept = [known.add(1, n % 1000 + 1, n) for n in range(3 * RING)]
    known.add(2, 1, 0)
    again = KnownPackets(sorted(known.all(), key=lambda one: one.number))
    for packets in (known, again):
        assert all(packets.knows(1, one.packet, one.digest) for one in kept[-RING:])
        assert not any(packets.knows(1, one.packet, one.digest) for one in kept[:-RING])
        assert packets.knows(2, 1, 0)
    assert again.add(1, 5, 5).number == known.add(1, 5, 5).number


async def test_a_packet_that_comes_often_is_known_as_long_as_its_newest_copy(
    tmp_path: Path,
) -> None:
    known = KnownPackets()
    for n in range(RING):
        known.add(1, 1 if n % 2 else n + 2, 0 if n % 2 else n)
    for n in range(RING - 1):
        known.add(1, n + 10, n + 100_000)
    assert known.knows(1, 1, 0)
    known.add(1, 9, 9)
    assert not known.knows(1, 1, 0)


# Time.


class Times:
    """A clock that is wrong until it is set."""

    def __init__(self) -> None:
        self.wall, self.up, self.right = 0.0, 100.0, False

    def advance(self, seconds: float) -> None:
        self.wall, self.up = self.wall + seconds, self.up + seconds

    def clock(self) -> ArrivalClock:
        return ArrivalClock(lambda: int(self.wall * 1e6), lambda: self.up, lambda: self.right)


def test_what_came_before_the_clock_was_right_gets_its_true_time() -> None:
    times = Times()
    clock = times.clock()
    clock.begin(5, {4: 1_000_000})
    times.advance(10)
    early = clock.now()
    assert early == (5, 110_000)
    assert clock.time_of(*early) == 0
    times.wall, times.right = 1_700_000_000.0, True
    times.advance(50)
    assert clock.set_right() == (5, 1_700_000_000_000 + 50_000 - 160_000)
    assert clock.time_of(*early) == 1_700_000_000_000
    assert clock.now() == (0, 1_700_000_050_000)
    assert clock.time_of(4, 7) == 1_000_007, "of a boot whose begin became known"
    assert clock.time_of(3, 7) == 0, "of one that never knew"


async def test_true_times_survive_restarts_and_reach_the_cloud(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = Times()
    times.up = 50.0

    def relay() -> AbstractAsyncContextManager[RunningRelay]:
        return running_relay(
            tmp_path,
            wall=lambda: int(times.wall * 1_000_000),
            uptime=lambda: times.up,
            is_right=lambda: times.right,
        )

    monkeypatch.setattr(outbox, "boot_name", lambda: "first")
    async with relay() as running:
        running.say("early")
        await running.all_settled()
        assert running.relay.statistics().total.oldest == 0
    monkeypatch.setattr(outbox, "boot_name", lambda: "second")
    async with relay() as running:
        running.say("of the second boot", BOB)
        await running.all_settled()
        times.wall, times.up, times.right = 1_700_000_000.0, 80.0, True
        await until(lambda: running.relay.statistics().total.oldest)
    async with relay() as running:
        running.connect()
        running.connect(BOB)
        await running.accepted(1)
        await running.accepted(1, BOB)
        assert running.cloud.received[ALICE][0].at == 0, "that boot never knew"
        assert running.cloud.received[BOB][0].at == 1_700_000_000_000 - 30_000


def test_a_clock_that_a_service_has_not_set_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: list[bool | None] = [None]
    monkeypatch.setattr(arrival, "synchronised", lambda _: known[0])
    service = tmp_path / "timesync"
    assert clock_is_right([service]), "no service will set it"
    service.mkdir()
    assert not clock_is_right([service])
    known[0] = False
    assert not clock_is_right([service])
    known[0] = True
    assert clock_is_right([service])


def test_a_boot_has_a_name(tmp_path: Path) -> None:
    path = tmp_path / "boot_id"
    path.write_text("0123\n")
    assert arrival.boot_name(path) == "0123"
    assert arrival.boot_name(tmp_path / "none") != arrival.boot_name(tmp_path / "none")
    assert ArrivalClock(lambda: 0, boot="4567").boot_name == "4567"


# A bad disk.


def corrupt(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (path.stat().st_size - 4096))


async def test_a_file_that_is_damaged_is_renamed_and_begun_again(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as running:
        for number in range(200):
            running.say(b"%d" % number + bytes(500))
        await running.all_settled()
    corrupt(tmp_path / NAME)
    async with running_relay(tmp_path) as running:
        assert running.relay.statistics().total.waiting == 0
        running.say("new")
        await running.all_settled()
    assert rows(tmp_path) == [b"new"]
    assert len(list(tmp_path.glob(f"{NAME}.damaged-*"))) == 1


@pytest.mark.parametrize("content", [b"not a database" * 400, b""])
async def test_a_file_of_something_else_is_renamed(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    async with running_relay(tmp_path) as running:
        running.say("new")
        await running.all_settled()
    assert rows(tmp_path) == [b"new"]


async def test_a_foreign_database_is_renamed(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / NAME)) as db:
        db.execute("CREATE TABLE up (number INTEGER PRIMARY KEY)")
    async with running_relay(tmp_path) as running:
        running.say("new")
        await running.all_settled()
    assert rows(tmp_path) == [b"new"]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE up SET number = -5",
        "UPDATE up SET number = 9223372036854775807",
        "UPDATE up SET door = 70000",
        "UPDATE up SET at = 9223372036854775807",
        "UPDATE door SET id = 70000",
        "UPDATE child SET id = 9223372036854775807",
        "UPDATE boot SET id = 9223372036854775807",
        "UPDATE boot SET began = -9223372036854775807",
        "UPDATE seen SET slot = -5",
        "UPDATE seen SET number = 9223372036854775807",
        "INSERT INTO spent VALUES ('cloud', 1, 9223372036854775807, 1)",
    ],
)
async def test_a_file_with_numbers_that_are_out_of_range_is_renamed(
    tmp_path: Path, change: str
) -> None:
    async with running_relay(tmp_path) as running:
        running.say("old", packet=1)
        await running.all_settled()
    with closing(sqlite3.connect(tmp_path / NAME)) as db, db:
        assert db.execute(change).rowcount == 1
    async with running_relay(tmp_path) as running:
        running.say("new", packet=2)
        await running.all_settled()
        assert running.relay.statistics().total.waiting == 1
    assert rows(tmp_path) == [b"new"]
    assert list(tmp_path.glob(f"{NAME}.damaged-*[0-9]"))


async def test_a_file_of_a_newer_gatewayd_is_refused_and_kept(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as running:
        running.say("kept")
        await running.all_settled()
    with closing(sqlite3.connect(tmp_path / NAME)) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(ConfigError, match="newer"):
        async with running_relay(tmp_path):
            pass
    assert rows(tmp_path) == [b"kept"]


async def test_damage_while_it_runs_costs_what_is_not_in_memory(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as running:
        for number in range(1500):
            running.say(b"%04d" % number + bytes(300))
            if number % 400 == 0:
                await running.all_settled()
        await running.all_settled()
        await running.relay.ping()
        with closing(sqlite3.connect(tmp_path / NAME)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        corrupt(tmp_path / NAME)
        running.connect()
        running.say("new", BOB)
        await until(lambda: running.dropped.get("corrupt"))
        await running.all_settled()
        running.connect(BOB)
        await running.accepted(1, BOB)
        await running.empty()
        shown = running.relay.statistics().total
        assert shown.sent + sum(shown.dropped.values()) == 1501
        assert running.relay.statistics().state == "running"


async def test_a_new_file_that_is_damaged_too_loses_nothing_that_is_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply, damages = OutboxFile.apply, [True, True, True]

    def damaged(file: OutboxFile, changes: Changes) -> None:
        if changes.stored and damages:
            damages.pop()
            raise StoreError("it is damaged")
        apply(file, changes)

    async with running_relay(tmp_path) as running:
        running.cloud.open.clear()
        running.connect()
        for number in range(10):
            running.say(b"%d" % number)
        await running.all_settled()
        monkeypatch.setattr(OutboxFile, "apply", damaged)
        running.say(b"new", BOB)
        await running.all_settled()
        assert not damages
        assert running.relay.statistics().state == "running"
        running.cloud.open.set()
        running.connect(BOB)
        await running.empty()
        assert running.cloud.accepted[ALICE] == [b"%d" % number for number in range(10)]
        assert not running.dropped


async def test_a_file_that_is_locked_blocks_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gatewayd.runtime.sqlite.BUSY", 0.05)
    async with running_relay(tmp_path) as running:
        resumed: list[bool] = []
        running.relay.on_ready(lambda: resumed.append(running.relay.blocked))
        with closing(sqlite3.connect(tmp_path / NAME, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            running.say("0")
            await until(lambda: running.relay.blocked)
            shown = running.relay.statistics()
            assert shown.state == "blocked"
            assert "locked" in shown.explanation
            await asyncio.sleep(0.5)
            other.execute("ROLLBACK")
        await running.all_settled()
        assert resumed == [False]
        assert running.relay.statistics().state == "running"
    assert rows(tmp_path) == [b"0"]


# Its file.


def message(number: int, size: int = 1000) -> StoredMessage:
    return StoredMessage(number, 1, 1, 0, 1, "properties", bytes(size))


def test_pages_that_are_free_are_given_back(tmp_path: Path) -> None:
    with closing(OutboxFile(tmp_path)) as file:
        file.apply(Changes(stored=[message(number) for number in range(1, 8001)]))
        large = file.size()
        assert not file.vacuum(), "nothing is free"
        file.apply(Changes(deleted=list(range(1, 8001))))
        steps = 0
        while file.vacuum():
            steps += 1
        assert steps > 5, "a few at a time"
        assert file.size() < large / 4


def test_a_group_is_stored_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    with closing(OutboxFile(tmp_path)) as file:
        file.apply(Changes(stored=[message(1), message(2)]))
        broken = message(4)._replace(topic=None)  # type: ignore[arg-type]  # what the table refuses
        with pytest.raises(StoreUnavailable, match="NOT NULL"):
            file.apply(Changes(deleted=[1], stored=[message(3), broken]))
        assert [one.number for one in file.read([1, 2, 3, 4])] == [1, 2]


def test_a_group_whose_commit_seemed_to_fail_can_be_stored_again(tmp_path: Path) -> None:
    with closing(OutboxFile(tmp_path)) as file:
        group = Changes(stored=[message(1), message(2)])
        file.apply(group)
        file.apply(group)
        assert [one.number for one in file.read([1, 2])] == [1, 2]


def test_names_that_nothing_has_are_removed_at_the_start(tmp_path: Path) -> None:
    async def once(child_says: bool) -> tuple[int, int]:
        async with running_relay(tmp_path) as running:
            if child_says:
                running.say("0")
                running.say("1", BOB)
                running.connect(BOB)
                await running.all_settled()
                await running.accepted(1, BOB)
        with closing(sqlite3.connect(tmp_path / NAME)) as db:
            return tuple(
                db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608  # of ours
                for table in ("child", "door")
            )

    assert asyncio.run(once(child_says=True)) == (2, 1)
    assert asyncio.run(once(child_says=False)) == (1, 1)


async def test_what_waits_for_its_turn_is_done_though_its_caller_is_cancelled() -> None:
    """As at the end of gatewayd: a delete that were not done would be a repeat at the cloud."""
    thread, release, done = OutboxThread(), threading.Event(), list[int]()
    busy = asyncio.create_task(thread.run(release.wait))
    waiting = asyncio.create_task(thread.run(done.append, 1))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    release.set()
    await busy
    await thread.run(lambda: None)
    thread.close()
    assert done == [1]
