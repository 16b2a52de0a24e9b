"""The application on fakes and a jumping clock: a stage on which any story ends in no time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import pytest_asyncio

from gatewayd.admission.controller import RulesInForce
from gatewayd.admission.ownership import ALONE, Ownership, why_elsewhere
from gatewayd.admission.placed_records import PlacedRecords
from gatewayd.admission.policy.engine import PolicyContext
from gatewayd.admission.policy.rules import Action, Decision
from gatewayd.admission.policy.suggestion import CloudChoice, RulePurpose, RuleSuggestion, suggest
from gatewayd.app import Application
from gatewayd.cloud.provider import CloudProvider
from gatewayd.device.identity import DeviceId, Evidence
from gatewayd.device.reason import NONE, Reason
from gatewayd.device.record import CloudName, RecordStore
from gatewayd.device.views import Reporter
from gatewayd.errors import NotSupported
from gatewayd.manager.cloud_requests import CloudRequestSettings
from gatewayd.manager.manager import DeviceManager
from gatewayd.registration.registrar import RegistrationSettings
from gatewayd.runtime.clock import Clock
from gatewayd.sessions.keeper import SessionSettings
from tests.support.fakes import FakeCloud, FakeLan, MemoryRecords, RecordingReporter
from tests.support.tasks import in_background


def judge(_: DeviceId, evidence: Evidence, __: PolicyContext) -> Decision:
    """Let in what is named TH20-…, keep out what is named bad…, hold the rest."""
    name = evidence.views[0]["instance"] if evidence.views else ""
    action = {"TH": Action.REGISTER, "ba": Action.REJECT}.get(name[:2], Action.ASK)
    reason = NONE if action is Action.REGISTER else Reason("no-rule")
    return Decision(action, "r", reason, CloudName("cloud", "p", name), (), evidence.trust)


class NameRules:
    """Rules made of one function.  held: whether holders have the sessions of all children."""

    version = 0

    def __init__(self, *, held: bool = False) -> None:
        self.held = held

    def judge(self, device: DeviceId, evidence: Evidence, census: PolicyContext) -> Decision:
        return judge(device, evidence, census)

    def hands_over(self, rule: str) -> bool:
        return self.held

    def proof_of(self, rule: str) -> str:
        return ""

    def count(self, rule: str) -> None:
        """Not counted."""

    def listed(self) -> tuple[tuple[str, str, str, int], ...]:
        return ()

    def suggest(
        self, device: DeviceId, evidence: Evidence, purpose: RulePurpose, cloud: CloudChoice
    ) -> RuleSuggestion:
        return suggest(evidence, device, purpose, (), cloud)


async def no_dump() -> int:
    raise NotSupported("no diagnostics on a stage")


def application(  # noqa: PLR0913  # what differs between stages
    memory: MemoryRecords,
    provider: CloudProvider,
    lan: FakeLan,
    reporter: Reporter,
    clock: Clock,
    *,
    manager: DeviceManager,
    reload: Callable[[], Awaitable[None]],
    checkpoint: Callable[[str], None] = lambda _: None,
    on_window_change: Callable[[], None] = lambda: None,
    rules: RulesInForce | None = None,
    registration: RegistrationSettings | None = None,
    others: Iterable[CloudProvider] = (),
    ownership: Ownership = ALONE,
    records: RecordStore | None = None,
) -> Application:
    """Build the application on fakes; its clouds may ask for everything.

    records: those of `memory`, as the application is to see them.
    """
    return Application(
        manager=manager,
        discovery=lan,
        records=records or memory,
        secrets=memory.secrets,
        decisions=memory.decisions,
        providers={one.name: one for one in (provider, *others)},
        rules=rules or NameRules(),
        reporter=reporter,
        registration=registration or RegistrationSettings(),
        sessions=SessionSettings(),
        cloud_requests=CloudRequestSettings(allow_permit_join=True, allow_approve=True),
        settle=10.0,
        clock=clock,
        checkpoint=checkpoint,
        on_window_change=on_window_change,
        reload=reload,
        dump=no_dump,
        ownership=ownership,
        shared=records is not None,
    )


class Stage:
    """One run of the application.  `records` and `cloud` outlive it, as a disk and a cloud do.

    shared: whether the ownership may change, as in a site of several gateways.
    """

    def __init__(  # noqa: PLR0913  # what differs between stages
        self,
        records: MemoryRecords,
        cloud: FakeCloud,
        checkpoint: Callable[[str], None] = lambda _: None,
        rules: RulesInForce | None = None,
        *,
        others: Iterable[CloudProvider] = (),
        clock: Clock | None = None,
        ownership: Ownership = ALONE,
        shared: bool = False,
        **settings: Any,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.records, self.cloud = records, cloud
        self.window_until: list[int] = []
        self.lan, self.tape = FakeLan(loop.time), RecordingReporter()
        clock = clock or Clock(loop.time, lambda: int(loop.time() * 1e6) + 1, lambda: 0.5)
        placed = PlacedRecords(records, ownership) if shared else None
        self.placed: RecordStore = placed or records
        self.manager = DeviceManager(self.placed, clock)
        self.app = application(
            records,
            cloud,
            self.lan,
            self.tape,
            clock,
            manager=self.manager,
            reload=self.reload,
            checkpoint=checkpoint,
            on_window_change=self._window_changed,
            rules=rules,
            registration=RegistrationSettings(**settings),
            others=others,
            ownership=ownership,
            records=placed,
        )
        self._ownership = ownership

    async def reload(self) -> None:
        self.manager.reconsider()
        self.manager.settle_holders()

    def _window_changed(self) -> None:
        self.window_until.append(self.app.window.until)

    def announce(self, name: str) -> DeviceId:
        device = self.lan.appear(name)
        self.manager.seen(device)
        return device

    def lose(self, name: str) -> None:
        self.manager.lost(self.lan.appear(name), Reason("goodbye"))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Stage]:
        """Restore what an earlier run has left, and run until the block ends."""
        ours = self._ownership
        if self.placed is self.records:
            self.records.place(lambda one: why_elsewhere(ours, one.device, one.cloud))
        self.app.restore(lambda ref: ref in self.records.slots)
        async with in_background(self.manager.run()):
            yield self


@pytest_asyncio.fixture
async def stage() -> AsyncIterator[Stage]:
    """The application on fakes, running; for tests on the jumping clock."""
    async with Stage(MemoryRecords(), FakeCloud()).running() as running:
        yield running
