"""The helper and gatewayd's side of it, joined by a real pair of sockets."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import pytest

from gatewayd.device.identity import Claim, Trust
from gatewayd.discovery.diagnosis.refusals import MAX_NOTED
from gatewayd.discovery.discoverer import (
    Context,
    Health,
    Interest,
    Loss,
    LossReason,
    Sighting,
    Sink,
)
from gatewayd.discovery.helper.client import MAX_RATE, NOT_RUNNING, SILENCE, DiscoveryHelper
from gatewayd.discovery.helper.connect import (
    SOCKET_VARIABLE,
    Streams,
    by_child,
    by_socket,
    connect,
)
from gatewayd.discovery.helper.messages import (
    MAX_TO_GATEWAYD,
    DiscovererSpec,
    HelperHealth,
    encode_to_gatewayd,
)
from gatewayd.discovery.helper.server import HelperServer
from gatewayd.discovery.helper.specs import make_discoverer, spec_of
from gatewayd.discovery.mdns.discoverer import Mdns
from gatewayd.discovery.mdns.settings import MdnsSettings
from gatewayd.discovery.name_rules import NameRule
from gatewayd.errors import ConfigError, DiscoveryFatal, DiscoveryRetry, PluginError, WrongState
from gatewayd.runtime.clock import Clock
from gatewayd.runtime.tasks import cancel_and_wait
from gatewayd.testing.contracts.discoverer import RecordingSink
from gatewayd.testing.waiting import until
from tests.support.forked import started
from tests.support.tasks import in_background

SEEN = Sighting(
    "fake", "k1", 0.0, 120.0, "", ("10.0.0.7",), 80,
    frozenset({Claim("serial", "fake", "a-1")}), {"source": "toy", "txt.model": "m"}, "Toy",
)  # fmt: skip
SPEC = DiscovererSpec("fake", "toy", {})
WANTED = (NameRule((("service", ("_a._tcp",)),), True, Interest.WANTED),)


@dataclass
class Toy:
    """A discoverer that does what the test says."""

    settings_of: ClassVar[str] = "none"
    name: str = "fake"
    health: Health = field(default_factory=Health)
    context: Context | None = None
    sink: Sink | None = None
    rescans: int = 0
    answer: Sighting | Exception | None = None
    fault: Exception | None = None
    verified: list[Sighting] = field(default_factory=list)

    async def run(self, context: Context, sink: Sink) -> None:
        self.context, self.sink = context, sink
        if self.fault:
            raise self.fault
        await asyncio.Event().wait()

    async def verify(self, sighting: Sighting) -> Sighting | None:
        self.verified.append(sighting)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def rescan(self) -> None:
        self.rescans += 1

    def see(self, sighting: Sighting = SEEN) -> None:
        assert self.context is not None
        assert self.sink is not None
        self.health.sighted += 1
        self.sink.sight(replace(sighting, at=self.context.now()))


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


def at_info() -> str:
    return "info"


class Scene:
    """gatewayd's side, and a helper for each connection, in this process."""

    def __init__(self, make: Callable[[DiscovererSpec], Toy] | None = None) -> None:
        loop = asyncio.get_running_loop()
        self.toys: list[Toy] = []
        self.sink = RecordingSink()
        self.rules: tuple[NameRule, ...] = ()
        self.known: frozenset[str] = frozenset()
        self.level, self.levels = "debug", list[str]()
        self._make = make or self._make_toy
        self._now = loop.time
        self.client = DiscoveryHelper(
            [SPEC], self.connect, lambda: self.rules, lambda: self.known,
            Clock(loop.time, lambda: 0, lambda: 0.5), lambda: self.level,
        )  # fmt: skip

    @property
    def toy(self) -> Toy:
        return self.toys[-1]

    def _make_toy(self, _: DiscovererSpec) -> Toy:
        self.toys.append(Toy())
        return self.toys[-1]

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Streams]:
        ours, theirs = socket.socketpair()
        server = HelperServer(self._make, self._now, lambda: 0.5, self.levels.append)
        there = await asyncio.open_connection(sock=theirs)
        serving = asyncio.create_task(server.serve(*there))
        reader, writer = await asyncio.open_connection(sock=ours, limit=MAX_TO_GATEWAYD)
        try:
            yield reader, writer
        finally:
            await closed(writer)
            await serving
            await closed(there[1])


@asynccontextmanager
async def running(scene: Scene | None = None) -> AsyncIterator[Scene]:
    scene = scene or Scene()
    async with in_background(scene.client.run(scene.sink)):
        await until(lambda: "fake:sighted" in scene.client.counters() or bool(scene.client.faults))
        yield scene


async def test_what_is_seen_and_lost_arrives() -> None:
    async with running() as scene:
        scene.toy.see()
        await until(lambda: bool(scene.sink.seen))
        found = scene.sink.seen["k1"]
        assert replace(found, at=0.0) == SEEN
        assert scene.toy.sink is not None
        scene.toy.sink.lose(Loss("fake", "k1", found.at, LossReason.GOODBYE))
        await until(lambda: bool(scene.sink.lost))
        scene.level = "error"
        await until(lambda: scene.levels == ["debug", "error"])
        await until(lambda: scene.client.counters()["fake:sighted"] == 1)
        assert scene.client.counters()["discovery-restarts"] == 0


async def test_what_is_refused_is_listed_fit_to_be_shown() -> None:
    async with running() as scene:
        about = {"interface": "lan0", "sender": "10.0.0.9"}
        for _ in range(3):
            scene.toy.health.drop("bad-name", name="a\x1b[2J\ufffd" + "x" * 300, **about)
        scene.toy.health.drop("Not a cause", name="x")
        scene.toy.see(replace(SEEN, key="k2", attributes={"source": "toy", "txt.a": "x" * 300}))
        await until(lambda: len(scene.client.refused) == 2)
        found = {one.cause: one for one in scene.client.refused.newest()}
        odd = found["bad-name"]
        assert odd.name.startswith(r"a\x1b[2J\ufffdxxx")
        assert (len(odd.name), odd.sender, odd.times) == (255, "10.0.0.9", 3)
        assert (found["unfit"].discoverer, found["unfit"].name) == ("fake", "k2")
        assert scene.client.counters()["discovery-restarts"] == 0


async def test_a_flood_of_refusals_stays_within_the_bound() -> None:
    async with running() as scene:
        for number in range(50_000):
            scene.toy.health.drop("bad-name", sender=f"10.0.{number % 256}.9", name=str(number))
        await until(lambda: len(scene.client.refused) > 0)
        assert scene.toy.health.dropped["bad-name"] == 50_000
        assert len(scene.client.refused) <= MAX_NOTED


async def test_what_comes_is_recorded_when_it_is_asked_for() -> None:
    async with running() as scene:
        assert scene.toy.context is not None
        hook, now = scene.toy.context.hook, scene.toy.context.now
        source = await scene.client.record(60, 0, "0.1.0")
        await until(lambda: hook.observe is not None)
        assert hook.observe is not None
        hook.observe("datagram", now(), {"interface": "lan0", "data": b"\0"})
        with os.fdopen(source, "rb") as file:
            lines = [await asyncio.to_thread(file.readline) for _ in range(2)]
            kinds = [json.loads(one)["kind"] for one in lines]
            while kinds[-1] != "datagram":
                kinds.append(json.loads(await asyncio.to_thread(file.readline))["kind"])
        assert kinds[0] == "recording"
        await until(lambda: hook.observe is None)
        scene.toy.see()
        await until(lambda: bool(scene.sink.seen))


async def test_a_recording_ends_with_the_helper() -> None:
    async with running() as scene:
        source = await scene.client.record(60, 0, "0.1.0")
    with os.fdopen(source, "rb") as file:
        lines = (await asyncio.to_thread(file.read)).splitlines()
    assert json.loads(lines[-1])["reason"] == "helper-ended"
    with pytest.raises(WrongState):
        await scene.client.record(60, 0, "0.1.0")


async def test_trust_is_not_believed() -> None:
    async with running() as scene:
        scene.toy.see(replace(SEEN, trust=Trust.AUTHENTICATED))
        await until(lambda: bool(scene.sink.seen))
        assert scene.sink.seen["k1"].trust is Trust.CLAIMED


async def test_what_does_not_fit_a_message_is_dropped_and_counted() -> None:
    async with running() as scene:
        scene.toy.see(replace(SEEN, key="k2", attributes={"source": "toy", "txt.a": "x" * 300}))
        scene.toy.see(replace(SEEN, source="another"))
        scene.toy.see()
        await until(lambda: bool(scene.sink.seen))
        await until(lambda: scene.client.counters().get("fake:dropped:unfit") == 2)
        assert set(scene.sink.seen) == {"k1"}
        assert scene.client.counters()["discovery-restarts"] == 0


async def test_the_helper_knows_what_is_of_interest_and_who_is_known() -> None:
    async with running() as scene:
        assert scene.toy.context is not None
        context, name = scene.toy.context, {"source": "toy", "service": "_a._tcp"}
        assert context.interest(name) is Interest.STRANGER
        assert not context.is_known("10.0.0.7")
        scene.rules, scene.known = WANTED, frozenset({"10.0.0.7"})
        await until(lambda: context.interest(name) is Interest.WANTED)
        await until(lambda: context.is_known("10.0.0.7"))
        scene.rules, scene.known = (), frozenset()
        await until(lambda: context.interest(name) is Interest.STRANGER)
        await until(lambda: not context.is_known("10.0.0.7"))


async def test_a_device_is_asked_by_the_helper() -> None:
    async with running() as scene:
        scene.toy.answer = SEEN
        found = await scene.client.verify(SEEN)
        assert found is not None
        assert replace(found, at=0.0) == SEEN
        assert [replace(one, at=0.0) for one in scene.toy.verified] == [SEEN]
        scene.toy.answer = None
        assert await scene.client.verify(SEEN) is None


@pytest.mark.parametrize("fault", [ValueError("a bug"), DiscoveryRetry("not now", 1)])
async def test_who_cannot_ask_says_nothing_of_a_device(fault: Exception) -> None:
    async with running() as scene:
        scene.toy.answer = fault
        with pytest.raises(DiscoveryRetry):
            await scene.client.verify(SEEN)


async def test_a_rescan_reaches_its_discoverer() -> None:
    async with running() as scene:
        await scene.client.rescan("fake")
        await until(lambda: scene.toy.rescans == 1)


async def test_a_fault_of_a_discoverer_is_shown() -> None:
    def make(_: DiscovererSpec) -> Toy:
        return Toy(fault=DiscoveryFatal("no such radio"))

    async with running(Scene(make)) as scene:
        await until(lambda: scene.client.faults == {"fake": "no such radio"})
        with pytest.raises(DiscoveryRetry):
            await scene.client.verify(SEEN)


@pytest.mark.parametrize("error", [ConfigError("a key is wrong"), PluginError("not installed")])
async def test_a_discoverer_that_cannot_be_made_is_shown(error: Exception) -> None:
    def make(_: DiscovererSpec) -> Toy:
        raise error

    async with running(Scene(make)) as scene:
        await until(lambda: scene.client.faults == {"fake": str(error)})


class Peer:
    """A helper that sends what the test says."""

    def __init__(self, *lines: bytes, hang: bool = False) -> None:
        self.lines, self.hang, self.opened = lines, hang, 0

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Streams]:
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours, limit=MAX_TO_GATEWAYD)
        _, sender = await asyncio.open_connection(sock=theirs)
        sending = asyncio.create_task(self._send(sender))
        self.opened += 1
        try:
            yield reader, writer
        finally:
            await cancel_and_wait({sending})
            for one in (writer, sender):
                await closed(one)

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        for line in self.lines:
            writer.write(line)
        if self.hang:
            await asyncio.Event().wait()
        writer.close()


def client_of(peer: Peer) -> DiscoveryHelper:
    now = asyncio.get_running_loop().time
    clock = Clock(now, lambda: 0, lambda: 0.5)
    return DiscoveryHelper([SPEC], peer.connect, lambda: (), frozenset, clock, at_info)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ((b"nonsense\n",), "may not"),
        ((b"x" * (2 * MAX_TO_GATEWAYD),), "may not"),
        ((encode_to_gatewayd(HelperHealth({"store:secrets": 1})),), "may not"),
        ((), "closed"),
    ],
)
@pytest.mark.jumping_clock
async def test_a_helper_that_misbehaves_is_started_again_and_shown(
    lines: tuple[bytes, ...], why: str
) -> None:
    peer = Peer(*lines)
    client, sink = client_of(peer), RecordingSink()
    async with in_background(client.run(sink)):
        while peer.opened < 3:
            await asyncio.sleep(0.5)
        assert client.faults["fake"].startswith(NOT_RUNNING)
        assert why in client.faults["fake"]
        assert client.counters()["discovery-restarts"] >= 2
        with pytest.raises(DiscoveryRetry):
            await client.verify(SEEN)
        await client.rescan("fake")
    assert sink.seen == {}


@pytest.mark.jumping_clock
async def test_what_a_helper_has_counted_ends_with_it() -> None:
    client = client_of(Peer(encode_to_gatewayd(HelperHealth({"fake:entries": 3}))))
    async with in_background(client.run(RecordingSink())):
        while not client.counters()["discovery-restarts"]:
            await asyncio.sleep(0.01)
        assert client.counters() == {"discovery-restarts": 1}


@pytest.mark.jumping_clock
async def test_a_helper_that_hangs_is_given_up() -> None:
    peer = Peer(hang=True)
    client = client_of(peer)
    async with in_background(client.run(RecordingSink())):
        await asyncio.sleep(0.1)
        with pytest.raises(DiscoveryRetry, match="answer"):
            await client.verify(SEEN)
        await asyncio.sleep(SILENCE)
        assert "silent" in client.faults["fake"]


@pytest.mark.jumping_clock
async def test_a_helper_that_floods_is_read_at_a_bounded_rate() -> None:
    lines = [encode_to_gatewayd(replace(SEEN, key=f"k{n}")) for n in range(3 * MAX_RATE)]
    client, sink = client_of(Peer(*lines, hang=True)), RecordingSink()
    async with in_background(client.run(sink)):
        await asyncio.sleep(0.5)
        assert sink.sightings == MAX_RATE
        await asyncio.sleep(1.0)
        assert sink.sightings == 2 * MAX_RATE


def test_settings_travel_as_a_table_and_back() -> None:
    chosen = MdnsSettings(("lo",), ("_a._tcp",), rescan_every=60.0, max_entries=7)
    spec = spec_of("lan", "mdns", chosen)
    assert spec.settings["interfaces"] == ["lo"]
    made = make_discoverer(spec, lambda _: Mdns)
    assert isinstance(made, Mdns)
    assert spec_of("lan", "mdns", made._settings) == spec


def test_settings_that_are_wrong_are_refused_by_name() -> None:
    spec = DiscovererSpec("lan", "mdns", {"types": ["_a._tcp"], "max_entries": 0})
    with pytest.raises(ConfigError, match="max_entries"):
        make_discoverer(spec, lambda _: Mdns)


def real(connection: object = None) -> DiscoveryHelper:
    loop = asyncio.get_running_loop()
    spec = spec_of("mdns", "mdns", MdnsSettings(("nosuch0",), ("_a._tcp",)))
    clock = Clock(loop.time, lambda: 0, lambda: 0.5)
    way = connect(os.environ) if connection is None else connection
    return DiscoveryHelper([spec], way, lambda: (), frozenset, clock, at_info)  # type: ignore[arg-type]  # a connection of the test


async def test_the_real_helper_runs_as_a_child_and_ends_with_gatewayd() -> None:
    client = real()
    async with in_background(client.run(RecordingSink())):
        await until(lambda: "nosuch0" in client.faults.get("mdns", ""))
        (child,) = started()
        environ = Path(f"/proc/{child}/environ").read_bytes()
        assert b"CREDENTIALS" not in environ
        assert b"NOTIFY_SOCKET" not in environ
        os.kill(child, signal.SIGKILL)
        await until(lambda: client.counters()["discovery-restarts"] == 1)
        await until(lambda: "nosuch0" in client.faults.get("mdns", ""))
        assert started() != [child]
    assert started() == []


async def test_a_child_that_does_not_end_is_killed() -> None:
    async with by_child(dict(os.environ)):
        (child,) = started()
        os.kill(child, signal.SIGSTOP)
    assert started() == []


async def test_where_a_socket_is_named_no_child_is_started(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    client = real(connect({**os.environ, SOCKET_VARIABLE: str(path)}))
    async with in_background(client.run(RecordingSink())):
        await until(lambda: NOT_RUNNING in client.faults.get("mdns", ""))
        assert started() == []


async def test_a_socket_of_systemd_leads_to_the_helper(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    activated = await asyncio.create_subprocess_exec(
        "systemd-socket-activate", "--accept", "--inetd", "--listen", str(path),
        *("--setenv", f"PYTHONPATH={os.environ.get('PYTHONPATH', '')}"),
        sys.executable, "-m", "gatewayd.discovery.helper",
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    await until(path.exists)
    client = real(lambda: by_socket(str(path)))
    async with in_background(client.run(RecordingSink())):
        await until(lambda: "nosuch0" in client.faults.get("mdns", ""))
    activated.terminate()
    await activated.wait()


PLUGIN = """
from dataclasses import dataclass
from gatewayd.discovery.discoverer import Health, Sighting
from gatewayd.settings.declare import setting
import asyncio

@dataclass(frozen=True)
class Settings:
    label: str = setting("none", "what to report")

class Beacon:
    Settings, port_version = Settings, "1.0"

    def __init__(self, name, settings):
        self.name, self.settings, self.health = name, settings, Health()

    async def run(self, context, sink):
        sink.sight(Sighting(self.name, "k", context.now(), 60.0, "", (), None, frozenset(),
                            {"source": "beacon"}, self.settings.label))
        await asyncio.Event().wait()

    async def verify(self, sighting):
        return sighting

    async def rescan(self):
        pass
"""


async def test_a_plugin_of_another_author_runs_in_the_helper(tmp_path: Path) -> None:
    info = tmp_path / "beacon-1.dist-info"
    info.mkdir()
    (tmp_path / "beacon.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: beacon\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[gatewayd.discoverers]\nbeacon = beacon:Beacon\n")
    paths = os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", "")))
    spec = DiscovererSpec("lamps", "beacon", {"label": "Lamp"})
    clock = Clock(asyncio.get_running_loop().time, lambda: 0, lambda: 0.5)
    way = connect({**os.environ, "PYTHONPATH": paths})
    client, sink = (
        DiscoveryHelper([spec], way, lambda: (), frozenset, clock, at_info),
        RecordingSink(),
    )
    async with in_background(client.run(sink)):
        await until(lambda: bool(sink.seen))
        assert sink.seen["k"].label == "Lamp"
        assert await client.verify(sink.seen["k"]) is not None
