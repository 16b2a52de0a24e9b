"""Two hours of random faults, in simulated time: no child is stuck, and no limit is broken.

The real flow and the real provider meet the simulated cloud over a made-up network.  Everything
is drawn from a seed (and from PYTHONHASHSEED, which orders sets).  The faults end after 1 h 50 min;
then an operator does what the children ask for.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gatewayd.admission.policy.engine import PolicyContext
from gatewayd.admission.policy.rules import Action, Decision
from gatewayd.app import Application
from gatewayd.cloud import mqtt
from gatewayd.cloud.alibaba.provider import Alibaba
from gatewayd.cloud.alibaba.settings import AlibabaGateway, AlibabaProduct, AlibabaSettings
from gatewayd.cloud.provider import KeepSecret, Outcome
from gatewayd.device.identity import DeviceId, Evidence
from gatewayd.device.lifecycle import State
from gatewayd.device.reason import NONE, Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.errors import CallerError, StoreError, StoreFull
from gatewayd.manager.manager import INTERNAL_ERROR, DeviceManager
from gatewayd.runtime.clock import Clock
from gatewayd.simulator import faults, pki
from gatewayd.simulator.alibaba.cloud import AlibabaCloud, AlibabaCloudOptions
from gatewayd.simulator.alibaba.devices import AlibabaDevice, AlibabaNodeType
from gatewayd.simulator.alibaba.topics import REQUESTS
from gatewayd.storage.reconcile import FindingKind, decide
from tests.support.fakes import FakeLan, MemoryRecords, RecordingReporter
from tests.support.stage import NameRules, application
from tests.support.two_hours import InlineLoop, Meter, Network

pytestmark = pytest.mark.jumping_clock(loop=InlineLoop)

STORM, CALM = 110 * 60.0, 30 * 60.0
"""Seconds of faults, and seconds in which all that waits has its turn: the longest wait is
12 min."""

GATEWAYS, SENSORS, PLUGS = "a1Gateways1", "a1Sensors22", "a1Plugs3333"
NODES = {
    GATEWAYS: AlibabaNodeType.GATEWAY,
    SENSORS: AlibabaNodeType.SUB_DEVICE,
    PLUGS: AlibabaNodeType.DIRECT,
}
PRODUCT_SECRETS = {product: f"{product}-secret" for product in NODES}
ROUTES = {"REG": "sub-device", "SEC": "sub-device-secret", "KNO": "sub-device-known", "DIR": ""}
COMMANDS = {"approve": 8.0, "reject": 2.0, "retry": 4.0, "forget": 1.5, "reregister": 1.5}
"""What an operator asks for, and how often."""
ALWAYS = ("crash", "restart", "disk", "cut")
"""What happens in each run: by chance or, where it has not by half-time, then."""
CHILDREN = [f"{kind}-{n:04}" for kind, most in
            (("REG", 24), ("SEC", 12), ("KNO", 8), ("DIR", 16)) for n in range(most)]  # fmt: skip

WEATHER = (
    "",
    ("lose-request:5%@* lose-reply:5%@* reply-late:12:5%@* reply-twice:5%@* reply-last:3%@*"),
    "reply:429:10%@* reply:500:10%@* reply:520:5%@combine.logout",
    (
        "partial:6401:5%@combine.login partial:6401:5%@combine.batch_login "
        "reply:427:5%@combine.login"
    ),
    (
        "partial:522:3%@combine.batch_login partial:522:3%@combine.login "
        "reply:429:20%@combine.login reply:429:20%@combine.batch_login"
    ),
    (
        "lose-reply:25%@thing.sub.register partial:500:10%@thing.sub.register "
        "reply-garbled:5%@* reply:7777:2%@*"
    ),
    ("reply-hang-up:3%@* lose-reply:10%@combine.batch_login lose-request:10%@combine.login"),
    (
        "silent:10% hang-up:10% refuse:3:10% no-push:10% late:5:10% late:30:10% "
        "login.silent:5% login.hang-up:10% login.refuse:3:10%"
    ),
    (
        "secret-then-hang-up:10% answer-twice:10% foreign-name:10% empty-secret:5% "
        "bad-json:5% hang-up-after-connack:10% login.hang-up-after-connack:10% "
        "login.garbage:5% login.slow:8:5%"
    ),
    (
        "lose-reply:30%@thing.topo.add lose-reply:30%@thing.topo.get "
        "reply:500:30%@thing.topo.get reply:6401:10%@thing.topo.delete "
        "lose-reply:30%@thing.topo.delete"
    ),
)
"""Faults that go together, as faults.py has them; the first are none."""


def cloud_name(child: str) -> CloudName:
    route = ROUTES[child[:3]]
    return CloudName("cloud", SENSORS if route else PLUGS, child, route)


def at_cloud(child: str) -> tuple[str, str]:
    name = cloud_name(child)
    return name.product, name.device


class RouteRules(NameRules):
    """Let in everybody, by the route of their name."""

    def judge(self, device: DeviceId, evidence: Evidence, census: PolicyContext) -> Decision:
        name = evidence.views[0]["instance"] if evidence.views else ""
        cloud = cloud_name(name) if name else None
        action = Action.REGISTER if name else Action.ASK
        return Decision(action, "r", NONE, cloud, (), evidence.trust)


class Watched(Alibaba):
    """Counts what is asked for a child at the same time."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.busy: set[str] = set()
        self.doubled: list[str] = []

    async def register(self, name: CloudName, keep: KeepSecret) -> Outcome:
        if name.device in self.busy:
            self.doubled.append(name.device)
        self.busy.add(name.device)
        try:
            return await super().register(name, keep)
        finally:
            self.busy.discard(name.device)


@dataclass
class Run:
    """One run of the daemon."""

    app: Application
    provider: Watched
    records: MemoryRecords
    lan: FakeLan
    tape: RecordingReporter
    tasks: list[asyncio.Task[None]]


class Site:
    """A LAN, a disk, a cloud, an operator; all that happens is drawn from a seed."""

    def __init__(self, seed: int) -> None:
        self.random, self.seed = random.Random(seed), seed
        self.loop = asyncio.get_running_loop()
        self.cloud = self._make_cloud()
        self.meter = Meter(self.loop.time)
        self.network = Network(self.cloud, self.meter, random.Random(seed + 1))
        self.here: set[str] = set()
        self.deleted: set[str] = set()
        self.disabled: set[str] = set()
        self.void: dict[str, str | None] = {}
        self.asked: set[asyncio.Task[None]] = set()
        self.happened: Counter[str] = Counter()
        self.broken: list[Any] = []
        self.loop.set_exception_handler(lambda _, context: self.broken.append(context))

    def _make_cloud(self) -> AlibabaCloud:
        now = datetime.now(UTC)
        authority = pki.make_ca("simulated cloud", now - pki.LIFE, now + pki.LIFE)
        devices = [(GATEWAYS, "gateway-1"), *map(at_cloud, CHILDREN)]
        cloud = AlibabaCloud(
            PRODUCT_SECRETS,
            devices,
            certificate=pki.localhost(authority, now),
            clock=self.loop.time,
            random=self.random.randbytes,
            options=AlibabaCloudOptions(rate=5, nodes=NODES),
        )
        for child in CHILDREN:
            if child.startswith("KNO"):
                cloud._registry.issue(at_cloud(child))
        return cloud

    def device(self, child: str) -> AlibabaDevice | None:
        return self.cloud._registry.devices.get(at_cloud(child))

    # The daemon.

    async def start(self, records: MemoryRecords) -> None:
        self.meter.reset()
        loop, lan, tape = self.loop, FakeLan(self.loop.time), RecordingReporter()

        def wall() -> int:
            return int(loop.time() * 1e6) + 1_700_000_000_000_000

        clock = Clock(loop.time, wall, self.random.random)
        provider = Watched(
            "cloud", self._settings(), self._read_secret, self.random.randbytes, clock
        )

        manager = DeviceManager(records, clock)

        async def reload() -> None:
            manager.reconsider()

        app = application(
            records, provider, lan, tape, clock,
            manager=manager, reload=reload, rules=RouteRules(),
        )  # fmt: skip
        app.restore(lambda ref: ref in records.slots)
        tasks = [asyncio.create_task(manager.run()), asyncio.create_task(app.cloud_requests.run())]
        self.now = Run(app, provider, records, lan, tape, tasks)
        while True:
            try:
                await app.admit_gateway()
                break
            except StoreError:
                await asyncio.sleep(5)
        for child in sorted(self.here):
            self.seen(child)

    def _settings(self) -> AlibabaSettings:
        products = {
            key: AlibabaProduct(secret_credential=key, device_credentials="device-")
            for key in NODES
        }
        own = AlibabaGateway(GATEWAYS, "gateway-1", register=True)
        return AlibabaSettings(host="localhost", products=products, gateway=own)

    def _read_secret(self, credential: str, _: Path | None) -> Secret:
        if credential in PRODUCT_SECRETS:
            return Secret(PRODUCT_SECRETS[credential].encode())
        device = self.device(credential.removeprefix("device-"))
        return Secret(((device and device.secret) or "gone").encode())

    async def end(self) -> None:
        for task in (*self.now.tasks, *self.asked):
            task.cancel()
        await asyncio.gather(*self.now.tasks, *self.asked, return_exceptions=True)
        self.asked.clear()
        await self.now.provider.close()

    async def crash(self) -> None:
        """Cut the power, and start on what is on the disk."""
        old = self.now.records
        old.dead = True
        self.network.cut(late=self.random.random() < 0.5)
        down, self.network.down = self.network.down, True
        await self.end()
        self.network.down = down
        new = MemoryRecords()
        new.rows, new.slots = dict(old.rows), dict(old.slots)
        for found in decide(list(old.rows.values()), list(old.slots), 1):
            assert found.kind is not FindingKind.LOST
            if found.record is not None:
                new.rows[found.record.device] = found.record
            if found.ref is not None:
                del new.slots[found.ref]
        await self.start(new)

    async def restart(self) -> None:
        """Stop in good order, and start again."""
        old = self.now.records
        await self.now.app.registrar.drain(10)
        await self.end()
        new = MemoryRecords()
        new.rows, new.slots = dict(old.rows), dict(old.slots)
        await self.start(new)

    # What happens.

    def seen(self, child: str) -> None:
        self.here.add(child)
        self.now.app.manager.seen(self.now.lan.appear(child))

    def some_seen(self) -> None:
        for child in self.random.sample(CHILDREN, 6):
            self.seen(child)

    def lost(self, child: str) -> None:
        self.here.discard(child)
        self.now.app.manager.lost(self.now.lan.appear(child), Reason("goodbye"))

    def ask(self, command: str, child: str) -> None:
        """Call a command as an operator, and do not wait."""
        device, made = self.now.lan.id_of(child), self.now.app.commands
        if device not in self.now.app.manager.children:
            return
        calls = {
            "approve": lambda: made.approve(device, "", "uid 0"),
            "reject": lambda: made.reject(device, "", "uid 0"),
            "retry": lambda: made.retry(device, "uid 0"),
            "forget": lambda: self._forget(child, device),
            "reregister": lambda: self._reregister(child, device),
        }
        self._begin(calls[command]())

    def _begin(self, call: Any) -> None:
        async def carefully() -> None:
            with contextlib.suppress(CallerError, StoreError):
                await call

        task = asyncio.create_task(carefully())
        self.asked.add(task)
        task.add_done_callback(self.asked.discard)

    async def _forget(self, child: str, device: DeviceId) -> None:
        self._void(child)
        await self.now.app.commands.forget(device, "uid 0")

    async def _reregister(self, child: str, device: DeviceId) -> None:
        self._void(child)
        if self.device(child) is not None:
            self.cloud.reset(*at_cloud(child))
        await self.now.app.commands.reregister(device, device, "uid 0")

    def _void(self, child: str) -> None:
        """The secret that the cloud has of this child is given up."""
        device = self.device(child)
        self.void[child] = device.secret if device else None

    def delete(self, child: str) -> None:
        if child not in self.deleted and len(self.deleted) < 6:
            self.deleted.add(child)
            self.disabled.discard(child)
            self.cloud.delete(*at_cloud(child))

    def switch(self, child: str) -> None:
        if child in self.deleted:
            return
        if child in self.disabled:
            self.disabled.discard(child)
            self.cloud.enable(*at_cloud(child))
        else:
            self.disabled.add(child)
            self.cloud.disable(*at_cloud(child))

    def fill_disk(self) -> None:
        records = self.now.records
        records.failing = StoreFull("full")
        self.loop.call_later(self.random.choice([1.0, 20.0, 90.0]), self._free, records)

    def _free(self, records: MemoryRecords) -> None:
        records.failing = None

    def cut(self, seconds: float) -> None:
        self.network.down = True
        self.network.cut(late=self.random.random() < 0.5)
        self.loop.call_later(seconds, setattr, self.network, "down", False)

    def break_one(self) -> None:
        """Cut the gateway off, or one of the others."""
        lines = sorted(self.network.lines, key=lambda line: line.owner)
        own = [line for line in lines if line.owner.startswith("gateway")]
        if some := self.random.choice([own, lines]):
            self.random.choice(some).break_off(self.random.uniform(0, 30))

    def fault(self, text: str) -> None:
        self.cloud.plan.replace(faults.parse(text, REQUESTS), self.random.randrange(1 << 30))

    def push_error(self, child: str) -> None:
        self.cloud.push_error(at_cloud(child), self.random.choice([427, 520, 522, 6401, 9999]))

    async def something(self) -> None:
        """Let one thing happen."""
        child, draw = self.random.choice(CHILDREN), self.random.choice
        what: dict[str, tuple[float, Callable[[], object]]] = {
            "weather": (12, lambda: self.fault(draw(WEATHER))),
            "cut": (3, lambda: self.cut(draw([0.1, 3.0, 20.0, 200.0]))),
            "break": (5, self.break_one),
            "lost": (12, lambda: self.lost(child)),
            "seen": (30, self.some_seen),
            "switch": (6, lambda: self.switch(child)),
            "error": (6, lambda: self.push_error(child)),
            "delete": (0.5, lambda: self.delete(child)),
            "disk": (2, self.fill_disk),
            "crash": (1, self.crash),
            "restart": (1, self.restart),
        }
        for command, often in COMMANDS.items():
            what[command] = often, partial(self.ask, command, child)
        (name,) = self.owed()[:1] or self.random.choices(
            list(what), [often for often, _ in what.values()]
        )
        self.happened[name] += 1
        if asyncio.iscoroutine(doing := what[name][1]()):
            await doing

    def owed(self) -> list[str]:
        if self.loop.time() < STORM / 2:
            return []
        return [name for name in ALWAYS if not self.happened[name]]

    async def storm(self) -> None:
        for child in CHILDREN:
            self.seen(child)
        while self.loop.time() < STORM:
            await self.something()
            await asyncio.sleep(self.random.choice([0.0, 0.05, 1.0, 5.0, 10.0, 20.0, 40.0]))
            self.check()

    async def calm(self) -> None:
        self.fault("")
        await asyncio.sleep(300)  # the longest fault has ended
        assert not self.network.down
        for child in sorted(self.disabled):
            self.switch(child)
        for child in CHILDREN:
            self.seen(child)
        end = self.loop.time() + CALM
        while self.loop.time() < end:
            await asyncio.sleep(60)
            self.check()
            self.help()

    def help(self) -> None:
        """Do what the children ask an operator for."""
        for child in CHILDREN:
            one = self.child(child)
            if child in self.deleted:
                continue
            if one.state is State.FAILED and one.reason.substate == "needs-reset":
                self.ask("reregister", child)
            elif one.state is State.FAILED:
                self.ask("retry", child)
            elif one.reason.code == "cloud-auth-failed":
                self.ask("reregister", child)
            elif one.state in (State.REJECTED, State.RETIRED):
                self.ask("approve", child)

    def child(self, name: str) -> Any:
        return self.now.app.manager.children[self.now.lan.id_of(name)]

    # What holds.

    def check(self) -> None:
        now = self.now
        assert not self.meter.broken, self.meter.broken[:5]
        assert not self.broken, self.broken[:3]
        assert not now.provider.doubled
        for task in now.tasks:
            assert not task.done(), task
        for child in now.app.manager.children.values():
            assert INTERNAL_ERROR.code not in [step.reason.code for step in child.history], child
        assert len(now.app.manager._tasks) <= 2 * (len(CHILDREN) + 1)
        self.check_secrets()

    def check_secrets(self) -> None:
        """What the cloud holds as used is in its slot."""
        records = self.now.records
        for child in CHILDREN:
            device = self.device(child)
            if device is None or not device.spent or device.reopened:
                continue
            if child in self.void and self.void[child] == device.secret:
                continue
            record = records.rows.get(self.now.lan.id_of(child))
            assert record is not None, child
            slot = records.slots.get(record.slot(record.stored))
            assert slot == Secret((device.secret or "").encode()), (child, record)

    def check_end(self) -> None:
        """No child is stuck."""
        wrong = []
        for name in CHILDREN:
            child = self.child(name)
            if name in self.deleted:
                settled = child.state in (State.RETIRED, State.REJECTED)
                if not settled and (child.state is State.ONLINE or not child.reason.remedy):
                    wrong.append(child)
            elif child.state is not State.ONLINE:
                wrong.append(child)
        assert not wrong, [(one.label, one.state, one.reason, one.history) for one in wrong]
        online = {device for _, device in self.cloud.online}
        assert online == {*CHILDREN, "gateway-1"} - self.deleted


async def two_hours(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(seed)
    monkeypatch.setattr(mqtt, "open_connection", site.network.open_connection)
    await site.start(MemoryRecords())
    try:
        await site.storm()
        await site.calm()
        site.check_end()
        assert site.happened.keys() >= set(ALWAYS)
        assert site.meter.seen.keys() >= {"connect", "thing/sub/register", "combine/batch_login"}
    finally:
        await site.end()
    await asyncio.sleep(60)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("seed", range(5))
async def test_two_hours_of_faults(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    await two_hours(seed, monkeypatch)


@pytest.mark.parametrize("how", ["comes and goes", "is retried"])
async def test_who_is_restless_keeps_the_limits_too(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work that starts again every few seconds knows nothing of the connects before it."""
    site = Site(1)
    monkeypatch.setattr(mqtt, "open_connection", site.network.open_connection)
    await site.start(MemoryRecords())
    site.seen("DIR-0000")
    await asyncio.sleep(120)
    if how == "is retried":
        site.fault("login.hang-up@DIR-*")
        for line in [one for one in site.network.lines if one.owner.startswith("DIR")]:
            line.break_off(0)
    for _ in range(24):
        if how == "is retried":
            site.ask("retry", "DIR-0000")
            await asyncio.sleep(5)
        else:
            site.lost("DIR-0000")
            await asyncio.sleep(2)
            site.seen("DIR-0000")
            await asyncio.sleep(3)
    assert not site.meter.broken
    site.fault("")
    await asyncio.sleep(900)
    assert site.child("DIR-0000").state is State.ONLINE
    await site.end()
