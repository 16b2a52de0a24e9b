"""The credential sockets, asked by real clients: who gets what, and what is bounded."""

from __future__ import annotations

import asyncio
import json
import logging
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from gatewayd.cloud.provider import Credential
from gatewayd.credentials import holders
from gatewayd.credentials import server as module
from gatewayd.credentials.holders import Holder
from gatewayd.credentials.server import CredentialServer, CredentialSocket
from gatewayd.credentials.settings import CredentialSettings, UnitSettings, UserSettings
from gatewayd.device.identity import DeviceId
from gatewayd.device.record import Record, Verdict
from tests.credentials.support import Held, a_record, answer, client, listener
from tests.support.fakes import MemoryRecords
from tests.support.tasks import in_background

pytestmark = pytest.mark.root  # as systemd, which alone gets what is for units

CHILD, OTHER = a_record("TH20-1"), a_record("TH20-2")
BRIDGE = "unit/mosquitto-bridge.service/child.json"

SETTINGS = CredentialSettings(
    units={
        "mosquitto-bridge": UnitSettings(child="TH20-1"),
        "meter@": UnitSettings(rule="meters"),
    },
    users={"100999": UserSettings(child="TH20-2")},
)


@dataclass
class Served:
    """A server under test.  path: of systemd's socket.  of_user: that of the user 100999."""

    path: Path
    of_user: Path
    source: Held
    records: MemoryRecords
    server: CredentialServer
    given: list[tuple[Holder, Record]] = field(default_factory=list)

    def hand_over(self, record: Record) -> None:
        self.records.rows[record.device] = record
        self.source.held.add(record.device)
        self.server.secret_held(record.device)


@asynccontextmanager
async def serving(
    directory: Path, settings: CredentialSettings = SETTINGS
) -> AsyncIterator[Served]:
    """Serve until the block ends, first without any child."""
    path, of_user, records, source = directory / "s", directory / "u", MemoryRecords(), Held()
    given: list[tuple[Holder, Record]] = []

    async def note(holder: Holder, record: Record) -> None:
        given.append((holder, record))

    server = CredentialServer(settings, records, source, note)
    with listener(path) as of_systemd, listener(of_user) as user:
        sockets = [CredentialSocket(of_systemd), CredentialSocket(user, "100999")]
        async with in_background(server.run(sockets)):
            yield Served(path, of_user, source, records, server, given)


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A directory that every user may look into."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        path.chmod(0o755)
        yield path


async def until(served: Served, waiting: int) -> None:
    """Return when so many clients wait."""
    async with asyncio.timeout(60):
        while len(served.server._waiting) != waiting:  # what waits is shown nowhere
            await asyncio.sleep(0.01)


async def test_a_unit_gets_the_credential_of_its_child(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        served.hand_over(CHILD)
        found = json.loads(await answer(client(served.path, BRIDGE)))
        assert found == {
            "version": 1, "device": CHILD.device, "cloud": "cloud", "name": "p/TH20-1",
            "host": "cloud.example", "port": 8883, "address": "cloud.example", "ca": "",
            "client_id": f"id-of-{CHILD.device}", "user": "user",
            "password": f"password of {CHILD.device}", "certificate": "", "key": "",
            "topics": {"prefix": "/p/"}, "valid_until": 7,
        }  # fmt: skip
        assert served.given == [(Holder(unit="mosquitto-bridge"), CHILD)]
        assert await answer(client(served.path, "unit/meter@TH20-1.service/any-name"))
        served.hand_over(OTHER)
        found = json.loads(await answer(client(served.of_user)))
        assert found["device"] == OTHER.device, "a user is known by its socket"


async def test_a_unit_waits_for_a_child_that_was_never_seen(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        reading = asyncio.create_task(answer(client(served.path, BRIDGE)))
        await until(served, 1)
        served.hand_over(OTHER)
        await asyncio.sleep(0.05)
        assert not reading.done(), "another child is none of its business"
        served.hand_over(CHILD)
        assert json.loads(await reading)["device"] == CHILD.device


async def test_after_a_while_the_answer_is_empty(tmp_path: Path) -> None:
    async with serving(tmp_path, CredentialSettings(0.2, SETTINGS.units, SETTINGS.users)) as served:
        assert await answer(client(served.path, BRIDGE)) == b""
        assert await answer(client(served.of_user)) == b""
        await until(served, 0)


async def test_who_is_not_believed_gets_nothing_and_one_line_of_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path) as served:
        served.hand_over(CHILD)
        with caplog.at_level(logging.WARNING):
            for name in (
                "",
                "unit/other.service/x",
                "unit/other.service/x",
                "unit/meter@.service/x",
            ):
                assert await answer(client(served.path, name)) == b""
        assert len(caplog.records) == 3
        assert "password" not in caplog.text
        assert served.given == []


async def test_another_user_who_forges_the_name_of_a_unit_gets_nothing(open_path: Path) -> None:
    forged = (
        "import os, socket, sys; os.setgid(65534); os.setuid(65534); s = socket.socket(1);"
        f"s.bind('\\0f/{BRIDGE}'); s.connect(sys.argv[1]); print(len(s.recv(99)))"
    )
    async with serving(open_path) as served:
        served.hand_over(CHILD)
        told = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", forged, str(served.path)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert told.stdout == "0\n"
        assert served.given == []


async def test_a_thousand_clients_that_say_nothing_take_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path) as served:
        served.hand_over(CHILD)
        before = len(list(Path("/proc/self/fd").iterdir()))
        with caplog.at_level(logging.WARNING):
            silent = [client(served.path) for _ in range(500)]
            silent += [client(served.of_user) for _ in range(500)]
            assert json.loads(await answer(client(served.path, BRIDGE)))
        await until(served, 1)  # the newest of a user
        async with asyncio.timeout(60):
            while len(list(Path("/proc/self/fd").iterdir())) > before + len(silent) + 1:
                await asyncio.sleep(0.01)
        assert len(caplog.records) == 1
        for one in silent:
            one.close()


async def test_what_waits_is_bounded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_CONNECTIONS", 5)
    async with serving(tmp_path) as served:
        waiting = [client(served.path, f"unit/meter@T{n}.service/x") for n in range(5)]
        await until(served, 5)
        assert await answer(client(served.path, "unit/meter@T9.service/x")) == b""
        assert await answer(client(served.path, "unit/meter@T8.service/x")) == b""
        assert len(caplog.records) == 1
        again = client(served.path, "unit/meter@T1.service/x")
        assert await answer(waiting[1]) == b"", "the newest of a unit counts"
        served.hand_over(a_record("T1"))
        assert await answer(again)
        for one in waiting:
            one.close()


async def test_a_client_that_is_gone_harms_no_one(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        client(served.path, BRIDGE).close()
        await until(served, 1)
        served.hand_over(CHILD)
        await until(served, 0)
        assert json.loads(await answer(client(served.path, BRIDGE)))


async def test_a_client_that_does_not_read_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    async with serving(tmp_path) as served:
        served.source.ca = "x" * 400_000
        served.hand_over(CHILD)
        slow = client(served.path, BRIDGE)
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await until(served, 1)
        await until(served, 0)
        slow.close()


async def test_an_answer_that_systemd_would_not_take_is_not_sent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path) as served:
        served.source.ca = "x" * 600_000
        served.hand_over(CHILD)
        assert await answer(client(served.path, BRIDGE)) == b""
        assert "ca_file" in caplog.text


async def test_two_children_of_one_name_are_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path, CredentialSettings(0.2, SETTINGS.units)) as served:
        served.hand_over(CHILD)
        served.hand_over(a_record("TH20-1", product="q"))
        assert await answer(client(served.path, BRIDGE)) == b""
        assert "product/name" in caplog.text


async def test_what_others_get_costs_those_that_wait_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path) as served:
        waiting = [client(served.path, f"unit/meter@T{n}.service/x") for n in range(100)]
        await until(served, 100)
        await asyncio.sleep(0.05)
        scans, read = [0], served.records.all

        def counted() -> Iterator[Record]:
            scans[0] += 1
            return read()

        monkeypatch.setattr(served.records, "all", counted)
        monkeypatch.setattr(holders, "LASTING", 3600.0)  # however slow the machine is
        for n in range(500):
            served.hand_over(a_record(f"other-{n}"))
            await asyncio.sleep(0)
        assert scans == [0]
        for n in range(100):
            served.hand_over(a_record(f"T{n}"))
        for n, one in enumerate(waiting):
            assert json.loads(await answer(one))["name"] == f"p/T{n}"
        assert scans == [1], "one for all that are answered together"


async def test_clients_that_come_all_the_time_leave_the_loop_to_others(tmp_path: Path) -> None:
    path, server = tmp_path / "s", CredentialServer(SETTINGS, MemoryRecords(), Held(), noted)
    with listener(path) as of_systemd:
        clients = [client(path) for _ in range(200)]
        async with in_background(server.run([CredentialSocket(of_systemd)])):
            for _ in range(10):
                await asyncio.sleep(0)
            ended = len(select.select(clients, [], [], 0)[0])
            assert 0 < ended < 20
        for one in clients:
            one.close()


async def noted(_: Holder, __: Record) -> None:
    """Do nothing."""


@pytest.mark.parametrize("step", ["read", "noted"])
@pytest.mark.parametrize("change", [{"stored": 2}, {"registered_at": 2}])
async def test_what_is_replaced_while_it_is_read_or_noted_is_not_given(
    tmp_path: Path, step: str, change: Mapping[str, Any]
) -> None:
    """Renewed, or registered again after it was forgotten.  What was rejected is not given."""
    async with serving(tmp_path) as served:
        served.hand_over(CHILD)
        renewed = replace(CHILD, **change)
        reached, go_on = asyncio.Event(), asyncio.Event()
        credential, given = served.source.credential, served.server._given

        async def hold() -> None:
            reached.set()
            await go_on.wait()

        async def slow_credential(device: DeviceId) -> Credential:
            found = await credential(device)
            if step == "read":
                await hold()
            return found

        async def slow_note(holder: Holder, record: Record) -> None:
            await given(holder, record)
            if step == "noted":
                await hold()

        served.source.credential = slow_credential  # type: ignore[method-assign]  # held there
        served.server._given = slow_note
        reading = asyncio.create_task(answer(client(served.path, BRIDGE)))
        await reached.wait()
        served.hand_over(renewed)
        go_on.set()
        assert await reading
        assert served.given[-1][1] == renewed

        reached.clear()
        go_on.clear()
        reading = asyncio.create_task(answer(client(served.path, BRIDGE)))
        await reached.wait()
        served.records.rows[CHILD.device] = replace(renewed, verdict=Verdict.REJECTED)
        served.source.held.clear()
        served.server.secret_withheld(CHILD.device)
        go_on.set()
        await asyncio.sleep(0.05)
        assert not reading.done(), "it waits, as for any child that is not there"
    assert await reading == b""


async def test_what_is_being_noted_is_noted_whole_and_once_for_all_who_come(
    tmp_path: Path,
) -> None:
    """A newer client of the same unit ends the earlier one, and the server's end ends both."""
    begun, go_on, whole = asyncio.Event(), asyncio.Event(), []
    async with serving(tmp_path) as served:

        async def slow_note(holder: Holder, record: Record) -> None:
            begun.set()
            await go_on.wait()
            whole.append(record)

        served.server._given = slow_note
        served.hand_over(CHILD)
        first = client(served.path, BRIDGE)
        await begun.wait()
        second = client(served.path, BRIDGE)
        assert await answer(first) == b""
        go_on.set()
        assert await answer(second)
        assert whole == [CHILD]
        go_on.clear()
        begun.clear()
        third = client(served.path, BRIDGE)
        await begun.wait()
        asyncio.get_running_loop().call_later(0.05, go_on.set)
    assert whole == [CHILD, CHILD]
    third.close()


async def test_a_name_that_another_gives_up_is_that_of_the_one_that_is_left(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as served:
        other = a_record("TH20-1", product="q")
        served.hand_over(other)
        served.hand_over(CHILD)
        reading = asyncio.create_task(answer(client(served.path, BRIDGE)))
        await until(served, 1)
        served.records.rows[other.device] = replace(other, verdict=Verdict.REJECTED)
        served.source.held.remove(other.device)
        served.server.secret_withheld(other.device)
        assert json.loads(await reading)["device"] == CHILD.device


async def test_the_end_ends_what_waits(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        waiting = client(served.path, BRIDGE)
        await until(served, 1)
    assert await answer(waiting) == b""
