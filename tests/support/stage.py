"""The flow on fakes and a jumping clock: a stage on which any story ends in no time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from gatewayd.admission.policy.engine import PolicyContext
from gatewayd.admission.policy.rules import Action, Decision
from gatewayd.app import Flow, ListedRules, Parts
from gatewayd.device import lifecycle as lc
from gatewayd.device.identity import DeviceId, Evidence
from gatewayd.device.reason import NONE, Reason
from gatewayd.device.record import CloudName
from gatewayd.discovery.discoverer import Listener
from gatewayd.manager.commands import Upkeep
from gatewayd.registration.registrar import RegistrationSettings, Vault
from gatewayd.runtime.clock import Clock
from gatewayd.sessions.keeper import SessionSettings
from gatewayd.sessions.renewal import Slots
from tests.support.fakes import FakeCloud, FakeLan, MemoryRegister, Tape


def judge(_: DeviceId, evidence: Evidence, __: PolicyContext) -> Decision:
    """Let in what is named TH20-…, keep out what is named bad…, hold the rest."""
    name = evidence.views[0]["instance"] if evidence.views else ""
    action = {"TH": Action.REGISTER, "ba": Action.REJECT}.get(name[:2], Action.ASK)
    reason = NONE if action is Action.REGISTER else Reason("no-rule")
    return Decision(action, "r", reason, CloudName("cloud", "p", name), (), evidence.trust)


class NameRules:
    """Rules made of one function."""

    def judge(self, device: DeviceId, evidence: Evidence, census: PolicyContext) -> Decision:
        return judge(device, evidence, census)

    def count(self, rule: str) -> None:
        """Nobody asks."""

    def listed(self) -> tuple[tuple[str, str, str, int], ...]:
        return ()


class Stage:
    """One run of the flow.  `register` and `cloud` outlive it, as a disk and a cloud do."""

    def __init__(
        self,
        register: MemoryRegister,
        cloud: FakeCloud,
        checkpoint: Callable[[str], None] = lambda _: None,
        rules: ListedRules | None = None,
        **settings: Any,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.register, self.cloud = register, cloud
        self.window_until: list[int] = []
        self.lan, self.tape = FakeLan(loop.time), Tape()
        clocks = Clock(loop.time, lambda: int(loop.time() * 1e6) + 1, lambda: 0.5)
        self.flow = Flow(
            Parts(
                clocks=clocks,
                register=register,
                slots=Slots(register.secret, register.put, register.delete),
                vault=Vault(register.put, register.holds, register.check_ready),
                providers={cloud.name: cloud},
                discover=self._discover,
                rules=rules or NameRules(),
                reporter=self.tape,
                registration=RegistrationSettings(**settings),
                sessions=SessionSettings(),
                settle=10.0,
                checkpoint=checkpoint,
                upkeep=Upkeep(self.reload),
                changed=self._window_changed,
            )
        )

    def _discover(self, listener: Listener) -> FakeLan:
        self.listener = listener
        return self.lan

    async def reload(self) -> None:
        self.flow.reconsider()

    def _window_changed(self) -> None:
        self.window_until.append(self.flow.window.until)

    def announce(self, name: str) -> DeviceId:
        device = self.lan.appear(name)
        self.listener.seen(device)
        return device

    def lose(self, name: str) -> None:
        self.listener.lost(self.lan.appear(name), Reason("goodbye"))

    def post(self, device: DeviceId, event: lc.Event) -> None:
        self.flow.gateway.post(device, event)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Stage]:
        """Restore what an earlier run has left, and run until the block ends."""
        self.flow.restore(lambda ref: ref in self.register.slots)
        task = asyncio.create_task(self.flow.gateway.run())
        try:
            yield self
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
