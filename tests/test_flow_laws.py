"""The laws that hold whatever happens: faults of cloud and disk, operators, losses, crashes.

The real flow on the jumping clock.  A rule of the machine is something that happens; how long
nothing happens is drawn too, from less than a commit to hours, so that all can meet all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gatewayd.cloud.provider import KeepSecret, LoginFailed, Outcome
from gatewayd.device.identity import DeviceId
from gatewayd.device.lifecycle import State
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName, Verdict
from gatewayd.device.secret import Secret
from gatewayd.errors import CallerError, StoreError, StoreFull
from gatewayd.manager.manager import INTERNAL_ERROR
from gatewayd.storage.reconcile import FindingKind, decide
from gatewayd.testing.clock import JumpingLoop
from tests.support.fakes import FakeCloud, FakeSession, MemoryRecords
from tests.support.renewing_cloud import RenewingCloud
from tests.support.stage import Stage

NAMES = ("TH20-1", "TH20-2", "stranger", "bad")
LONG = 6 * 3600.0
"""Seconds after which nothing that was tried again later is still waiting."""

AT_ONCE = 10_000
"""Microseconds in which a no reaches the worker: the time of a commit, and not much more."""

names = st.sampled_from(NAMES)
pauses = st.sampled_from([0.0, 0.003, 0.006, 0.05, 0.11, 0.4, 3.0, 11.0, 31.0, 70.0, LONG])
answers = st.lists(st.sampled_from(["fail", "lose", "refuse", "issue-another"]), max_size=5)
commands = st.sampled_from(["approve", "reject", "retry", "rename", "forget", "reregister"])


class StormyCloud(FakeCloud):
    """A cloud that is sometimes away, and looks who is registered."""

    down = False
    trespasses: tuple[str, ...] = ()
    records_of: MemoryRecords

    async def register(self, name: CloudName, keep: KeepSecret) -> Outcome:
        async def watched(secret: Secret) -> None:
            record = next((r for r in self.records_of.all() if r.cloud == name), None)
            now = asyncio.get_running_loop().time() * 1e6
            if record is None or (
                record.verdict is not Verdict.ADMITTED and now - record.verdict_at > AT_ONCE
            ):
                self.trespasses += (name.device,)
            await keep(secret)

        return await super().register(name, watched)

    async def connect(self, name: CloudName, secret: Secret) -> FakeSession:
        if self.down:
            raise LoginFailed(Reason("cloud-unreachable"))
        return await super().connect(name, secret)


class StormyRenewals(StormyCloud, RenewingCloud):
    """The same, where secrets grow old."""


class Site(RuleBasedStateMachine):
    """One site: a LAN of four, a disk, a cloud, an operator."""

    kind: type[StormyCloud] = StormyCloud

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=JumpingLoop)
        self.records, self.cloud = MemoryRecords(), self.kind()
        self.here: set[str] = set()
        self.asked: list[asyncio.Task[None]] = []
        self.unwanted: dict[str, asyncio.Task[None]] = {}
        self.do(self.start())

    # How the machine is driven.

    def do(self, what: Coroutine[Any, Any, None]) -> None:
        async def carefully() -> None:
            await what
            for _ in range(20):  # all that can be done without time passing
                await asyncio.sleep(0)

        self.runner.run(carefully())

    async def start(self) -> None:
        self.cloud.records_of = self.records
        self.stage = Stage(self.records, self.cloud)
        self.stage.app.restore(lambda ref: ref in self.records.slots)
        self.running = asyncio.create_task(self.stage.manager.run())

    async def end(self) -> None:
        self.running.cancel()
        await asyncio.gather(self.running, *self.asked, return_exceptions=True)

    def teardown(self) -> None:
        try:
            self.runner.run(self.all_ends_well())
        finally:
            self.runner.run(self.end())
            self.runner.close()

    def name(self, child: str) -> CloudName:
        return CloudName("cloud", "p", child)

    def id(self, child: str) -> DeviceId:
        return self.stage.lan.id_of(child)

    # What happens.

    @rule(seconds=pauses)
    def time_passes(self, seconds: float) -> None:
        self.do(asyncio.sleep(seconds))

    @rule(child=names, seconds=pauses)
    def a_child_is_seen(self, child: str, seconds: float) -> None:
        self.here.add(child)
        self.stage.announce(child)
        self.do(asyncio.sleep(seconds))

    @rule(child=names, seconds=pauses)
    def a_child_leaves(self, child: str, seconds: float) -> None:
        if child in self.here:
            self.here.remove(child)
            self.stage.lose(child)
        self.do(asyncio.sleep(seconds))

    @rule(child=names)
    def a_child_changes(self, child: str) -> None:
        if child in self.here:
            self.stage.manager.changed(self.id(child))
        self.do(asyncio.sleep(0))

    @rule(child=names)
    def a_stranger_is_evicted(self, child: str) -> None:
        if self.id(child) not in self.stage.lan.pinned:
            self.here.discard(child)
            self.stage.manager.evicted(self.id(child))
        self.do(asyncio.sleep(0))

    @rule(child=names, command=commands, seconds=pauses)
    def the_operator_asks(self, child: str, command: str, seconds: float) -> None:
        self.do(self.ask(command, child))
        self.do(asyncio.sleep(seconds))

    @rule(child=names, first=commands, second=commands, seconds=pauses)
    def two_operators_ask(self, child: str, first: str, second: str, seconds: float) -> None:
        self.do(self.ask(first, child))
        self.do(asyncio.sleep(seconds))
        self.do(self.ask(second, child))

    @rule()
    def the_rules_are_read_again(self) -> None:
        self.stage.manager.reconsider()
        self.do(asyncio.sleep(0))

    @rule(child=names, script=answers)
    def the_cloud_will_answer(self, child: str, script: list[str]) -> None:
        self.cloud.script[child] = script

    @rule(down=st.booleans())
    def the_cloud_goes_and_comes(self, down: bool) -> None:
        self.cloud.down = down
        if down:
            for name in tuple(self.cloud.online):
                self.cloud.drop(name.device)
        self.do(asyncio.sleep(0))

    @rule(full=st.booleans(), seconds=pauses)
    def the_disk_is_full_or_not(self, full: bool, seconds: float) -> None:
        self.records.failing = StoreFull("full") if full else None
        self.do(asyncio.sleep(seconds))

    @precondition(lambda self: not self.records.failing)
    @rule()
    def all_come_online(self) -> None:
        """So that short runs too reach deep states."""
        self.cloud.script.clear()
        for child in NAMES[:2]:
            self.a_child_is_seen(child, 0.0)
        self.do(asyncio.sleep(100))

    @rule(seconds=pauses)
    def power_fails(self, seconds: float) -> None:
        self.records.dead = True
        self.cloud.online.clear()
        for task in self.asked:
            task.cancel()
        self.do(self.end())
        self.restart()
        self.do(asyncio.sleep(seconds))

    @rule(seconds=pauses)
    def gatewayd_is_restarted(self, seconds: float) -> None:
        self.do(self.stage.app.registrar.drain(10))
        self.do(self.end())
        self.restart()
        self.do(asyncio.sleep(seconds))

    def restart(self) -> None:
        """Start again with what is on the disk, as the real start reconciles it."""
        old, self.records = self.records, MemoryRecords()
        self.records.rows, self.records.slots = dict(old.rows), dict(old.slots)
        for found in decide(list(old.rows.values()), list(old.slots), 1):
            assert found.kind is not FindingKind.LOST
            if found.record is not None:
                self.records.rows[found.record.device] = found.record
            if found.ref is not None:
                del self.records.slots[found.ref]
        self.asked.clear()
        self.here.clear()
        self.do(self.start())

    async def ask(self, command: str, child: str) -> None:
        """Call a command, and do not wait for it."""
        made, device = self.stage.app.commands, self.id(child)
        match command:
            case "approve":
                call = made.approve(device, "", "uid 0")
            case "reject":
                call = made.reject(device, "", "uid 0")
            case "retry":
                call = made.retry(device, "uid 0")
            case "rename":
                call = made.rename(device, "Dock", "uid 0")
            case "forget":
                self.cloud.reset(self.name(child))
                call = made.forget(device, "uid 0")
            case _:
                self.cloud.reset(self.name(child))
                call = made.reregister(device, device, "uid 0")
        undoing = {f"approve {child}", f"forget {child}"}
        task = asyncio.create_task(call, name=f"{command} {child}")
        if task.get_name() in undoing:
            self.unwanted.pop(child, None)
        elif command == "reject" and undoing.isdisjoint(t.get_name() for t in self.asked):
            self.unwanted[child] = task
        self.asked.append(task)

    # What holds.

    @invariant()
    def the_manager_runs(self) -> None:
        assert not self.running.done(), self.running

    @invariant()
    def commands_fail_only_as_they_may(self) -> None:
        for task in self.asked:
            if task.done() and not task.cancelled() and (error := task.exception()):
                assert isinstance(error, CallerError | StoreError), error
        self.asked = [task for task in self.asked if not task.done()]

    @invariant()
    def nothing_breaks(self) -> None:
        for child in self.stage.manager.children.values():
            assert INTERNAL_ERROR.text not in [step.text for step in child.history]

    @invariant()
    def only_admitted_children_are_registered(self) -> None:
        assert not self.cloud.trespasses

    @invariant()
    def a_no_is_remembered(self) -> None:
        for child, no in self.unwanted.items():
            if no.done() and not no.cancelled() and no.exception() is None:
                assert self.records.rows[self.id(child)].verdict is Verdict.REJECTED

    @invariant()
    def no_child_has_two_sessions(self) -> None:
        assert not self.cloud.contested

    @invariant()
    def online_means_present_in_session_and_durable(self) -> None:
        for child in self.stage.manager.children.values():
            if child.state is State.ONLINE:
                record = self.records.rows[child.id]
                assert child.present
                assert record.cloud in self.cloud.online or self.asked  # about to change
                assert record.verdict is Verdict.ADMITTED or self.asked
                assert record.activated_at
                assert record.slot(record.stored) in self.records.slots

    @invariant()
    def what_the_cloud_knows_a_child_by_is_kept(self) -> None:
        for name, secret in self.cloud.activated.items():
            record = next((r for r in self.records.all() if r.cloud == name), None)
            assert record is not None
            assert self.records.slots[record.slot(record.stored)] == secret

    @invariant()
    def tasks_are_bounded(self) -> None:
        assert len(self.stage.manager._tasks) <= 2 * len(NAMES)

    # How it ends.

    async def all_ends_well(self) -> None:
        """Once all faults are over, every child that is admitted and here is online."""
        self.records.failing, self.cloud.down = None, False
        self.cloud.script.clear()
        for name in NAMES:
            self.stage.announce(name)
        await asyncio.sleep(LONG)
        await self.help_those_who_need_it()
        await asyncio.sleep(LONG)
        self.the_manager_runs()
        for child in self.stage.manager.children.values():
            record = self.records.rows.get(child.id)
            if record is None:
                expected = {"stranger": State.PENDING, "bad": State.REJECTED}
                assert child.state is expected[self.stage.lan.known[child.id].label]
            elif record.verdict is Verdict.REJECTED:
                assert child.state is State.REJECTED
            else:
                assert child.state is State.ONLINE, (child, record)
        assert len(self.stage.manager.children) == len(NAMES)

    async def help_those_who_need_it(self) -> None:
        made = self.stage.app.commands
        for child in self.stage.manager.children.values():
            if child.state is State.FAILED:
                assert child.reason.code
                await made.retry(child.id, "uid 0")
            elif child.reason.code == "cloud-auth-failed":  # reset there, unknown to us
                await made.reregister(child.id, child.id, "uid 0")


class RenewingSite(Site):
    """The same, where each secret is replaced in time, and the cloud may not know the new one."""

    kind = StormyRenewals
    cloud: StormyRenewals

    @rule(trusting=st.booleans())
    def the_cloud_takes_new_secrets_or_not(self, trusting: bool) -> None:
        self.cloud.trusting = trusting

    @precondition(lambda self: not self.records.failing)
    @rule()
    def a_new_secret_waits(self) -> None:
        """So that short runs too reach it."""
        self.cloud.trusting = False
        self.all_come_online()
        self.do(asyncio.sleep(0.6 * 86_400))

    @rule(child=names)
    def a_renewal_is_asked_for(self, child: str) -> None:
        self.stage.app.keeper.renew(self.id(child))
        self.do(asyncio.sleep(0))

    @rule(days=st.sampled_from([0.3, 0.6, 1.1]))
    def days_pass(self, days: float) -> None:
        self.do(asyncio.sleep(days * 86_400))

    @invariant()
    def only_what_a_login_has_proven_is_in_use(self) -> None:
        for record in self.records.all():
            if record.activated_at and record.cloud and not self.asked:
                known = self.cloud.known.get(record.cloud)
                secret = self.records.slots[record.slot(record.stored)]
                assert known is None or secret in known

    @invariant()
    def slots_are_bounded(self) -> None:
        for record in self.records.all():
            if record.activated_at and not record.candidate and not self.asked:
                newer = [ref for ref in self.records.slots if ref.device == record.device]
                assert all(ref.attempt <= record.stored for ref in newer)

    async def all_ends_well(self) -> None:
        self.cloud.trusting = True
        await super().all_ends_well()


TestSite = Site.TestCase
TestSite.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    report_multiple_bugs=False,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow],
)
TestRenewingSite = RenewingSite.TestCase
TestRenewingSite.settings = settings(TestSite.settings, max_examples=100)
