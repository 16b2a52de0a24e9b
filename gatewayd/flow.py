"""The flow, wired: discovery → policy → registration → secret store → sessions → status.

Takes its parts ready made, so that a test tells the story on fakes with the same wiring.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from gatewayd.admissions import Admissions, Known, Register, Rules
from gatewayd.child import Child
from gatewayd.clocks import Clocks
from gatewayd.cloud.provider import CloudProvider
from gatewayd.commands import Commands, RuleList, Upkeep
from gatewayd.device import lifecycle as lc
from gatewayd.device.identity import Claim, DeviceId
from gatewayd.device.reason import NONE, Reason
from gatewayd.device.recovery import restore
from gatewayd.device.secret import SecretRef
from gatewayd.discovery.listener import Listener
from gatewayd.gateway import Gateway
from gatewayd.policy.admission import Action
from gatewayd.registration.registrar import Registrar, Vault
from gatewayd.registration.settings import RegistrationSettings
from gatewayd.sessions.keeper import SessionKeeper
from gatewayd.sessions.renewal import Slots
from gatewayd.sessions.settings import SessionSettings
from gatewayd.status.snapshot import Reporter
from gatewayd.views import device_view


class Discovered(Known, Protocol):
    """What discovery knows, and when it last saw it."""

    def know(self, device: DeviceId, claims: Iterable[Claim]) -> None:
        """Pin a device that is on record, with the claims that identify it."""

    def last_seen(self, device: DeviceId) -> float:
        """Return when, seconds of the event loop's clock; 0 for never."""


class RuleBook(Rules, RuleList, Protocol):
    """Policy, which can be listed."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the flow is made of.

    discover: makes what discovers, given who is to be told.
    changed: called when the join window has opened or closed.
    """

    clocks: Clocks
    register: Register
    slots: Slots
    vault: Vault
    providers: Mapping[str, CloudProvider]
    discover: Callable[[Listener], Discovered]
    rules: RuleBook
    reporter: Reporter
    registration: RegistrationSettings
    sessions: SessionSettings
    settle: float
    checkpoint: Callable[[str], None]
    upkeep: Upkeep
    changed: Callable[[], None] = lambda: None


class Flow:
    """The stages of a child's way, joined by the gateway's mailbox."""

    def __init__(self, parts: Parts) -> None:
        clocks = parts.clocks
        self._parts = parts
        self._discovered = parts.discover(_Herald(self._tell))
        self.admissions = Admissions(
            parts.register, self._discovered, parts.rules, parts.providers, parts.settle, clocks
        )
        self.registrar = Registrar(
            parts.register, parts.vault, parts.providers, parts.registration,
            clocks, parts.checkpoint,
        )  # fmt: skip
        self.keeper = SessionKeeper(
            parts.register, parts.slots, parts.providers, parts.sessions,
            clocks, parts.checkpoint,
        )  # fmt: skip
        workers = {
            lc.Work.EVALUATE: self.admissions.evaluate,
            lc.Work.REGISTER: self.registrar.register,
            lc.Work.ACTIVATE: self.keeper.activate,
            lc.Work.CONNECT: self.keeper.connect,
        }
        self.gateway = Gateway(
            workers,
            show=self._show,
            remove=parts.reporter.remove,
            now=clocks.now,
            wall=clocks.wall,
        )
        self.commands = Commands(
            self.gateway, self.admissions, parts.register, parts.rules, parts.upkeep
        )
        self.window = self.admissions.window
        self.window.listen(self._window_changed)

    def restore(self, readable: Callable[[SecretRef], bool]) -> None:
        """Take in the children of an earlier run.  `readable`: whether a slot can be read."""
        children = []
        for record in self._parts.register.all():
            self._discovered.know(record.device, record.claims)
            slot = record.slot(record.stored) if record.cloud and record.stored else None
            state, reason = restore(record, has_secret=slot is not None and readable(slot))
            child = Child(record.device, label=record.label, first_seen=record.first_seen)
            children.append((child, state, reason))
        self.gateway.restore(children)

    async def introduce(self) -> None:
        """Put the gateway's own names on record, and let them come online.  Raises StoreError."""
        for provider in self._parts.providers.values():
            if provider.own is not None:
                device = DeviceId(f"gateway-{provider.name}")
                await self.admissions.configure(device, provider.own)
                child = self.gateway.children.get(device)
                if child is None:
                    self.gateway.restore([(Child(device), lc.State.ADMITTED, NONE)])
                self.gateway.post(device, lc.Seen())

    def reconsider(self) -> None:
        """Judge again, by new rules or settings, whatever waits or failed for want of them."""
        for child in tuple(self.gateway.children.values()):
            match child.state:
                case lc.State.PENDING:
                    self.gateway.post(child.id, lc.Changed())
                case lc.State.REJECTED if self._parts.register.get(child.id) is None:
                    self.gateway.post(child.id, lc.Forgotten())
                    if child.present:
                        self.gateway.post(child.id, lc.Seen())
                case lc.State.FAILED if child.reason.substate != "needs-reset":
                    self.gateway.post(child.id, lc.Retried(Reason("configuration-reloaded")))

    def _window_changed(self) -> None:
        """Judge again what waits, where the join window lets it in now."""
        children = self.gateway.children.values() if self.window.current else ()
        for child in (one for one in children if one.state is lc.State.PENDING):
            if self.admissions.decide(child.id).action is Action.REGISTER:
                self.gateway.post(child.id, lc.Changed())
        self._parts.changed()

    def _tell(self, device: DeviceId, event: lc.Event) -> None:
        self.gateway.post(device, event)

    def _show(self, child: Child) -> None:
        parts = self._parts
        seen, evidence = self._discovered.last_seen(child.id), self._discovered.evidence(child.id)
        view = device_view(
            child,
            parts.register.get(child.id),
            evidence,
            self.admissions.judge(child.id, evidence).trust,
            parts.clocks.to_wall(seen) if seen else 0,
            parts.clocks.to_wall,
        )
        parts.reporter.show(view)


class _Herald:
    """Puts what discovery tells into the mailbox."""

    def __init__(self, post: Callable[[DeviceId, lc.Event], None]) -> None:
        self._post = post

    def seen(self, device: DeviceId) -> None:
        self._post(device, lc.Seen())

    def lost(self, device: DeviceId, reason: Reason) -> None:
        self._post(device, lc.Lost(reason))

    def changed(self, device: DeviceId) -> None:
        self._post(device, lc.Changed())

    def merged(self, kept: DeviceId, gone: DeviceId) -> None:
        self._post(gone, lc.Forgotten(Reason("merged", f"It is the same as {kept}.")))

    def evicted(self, device: DeviceId) -> None:
        self._post(device, lc.Forgotten(Reason("evicted", "Too many devices are waiting.")))
