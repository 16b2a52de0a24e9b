"""Builds the parts of a running gateway from its configuration.  Nothing is started here.

The flow, wired: discovery → policy → registration → secret store → sessions → status.

Takes its parts ready made, so that a test tells the story on fakes with the same wiring.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, Self

from gatewayd.admission.controller import AdmissionController, DiscoveredDevices, Register, Rules
from gatewayd.admission.policy.rules import Action
from gatewayd.admission.rules import RuleBook
from gatewayd.cloud.ca.service import AuthorityService, slots_of
from gatewayd.cloud.credentials import read_secret
from gatewayd.cloud.provider import CloudProvider, SupportsDeviceCa
from gatewayd.config import Config
from gatewayd.device import lifecycle as lc
from gatewayd.device.identity import Claim, DeviceId
from gatewayd.device.reason import NONE, Reason
from gatewayd.device.record import CloudName
from gatewayd.device.recovery import restore
from gatewayd.device.secret import SecretRef
from gatewayd.device.views import Reporter
from gatewayd.discovery.discoverer import Context, Listener
from gatewayd.discovery.inventory import Inventory
from gatewayd.discovery.neighbours import NeighbourTable
from gatewayd.discovery.supervisor import Scan, Supervisor
from gatewayd.manager.cloud_requests import CloudRequests
from gatewayd.manager.commands import OperatorCommands, RuleList, Upkeep
from gatewayd.manager.device_view import device_view
from gatewayd.manager.manager import Child, DeviceManager
from gatewayd.registration.registrar import Registrar, RegistrationSettings, Vault
from gatewayd.runtime.clock import Clock, wall_time
from gatewayd.sessions.keeper import SessionKeeper, SessionSettings
from gatewayd.sessions.renewal import Slots
from gatewayd.storage.storage import Storage


class Discovered(DiscoveredDevices, Protocol):
    """What discovery knows, and when it last saw it."""

    def add_known(self, device: DeviceId, claims: Iterable[Claim]) -> None:
        """Pin a device that is on record, with the claims that identify it."""

    def last_seen(self, device: DeviceId) -> float:
        """Return when, seconds of the event loop's clock; 0 for never."""


class ListedRules(Rules, RuleList, Protocol):
    """Policy, which can be listed."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the flow is made of.

    discover: makes what discovers, given who is to be told.
    changed: called when the join window has opened or closed.
    """

    clocks: Clock
    register: Register
    slots: Slots
    vault: Vault
    providers: Mapping[str, CloudProvider]
    discover: Callable[[Listener], Discovered]
    rules: ListedRules
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
        self.admissions = AdmissionController(
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
        self.gateway = DeviceManager(
            workers,
            show=self._show,
            remove=parts.reporter.remove,
            now=clocks.now,
            wall=clocks.wall,
        )
        self.commands = OperatorCommands(
            self.gateway, self.admissions, parts.register, parts.rules, parts.upkeep
        )
        self.window = self.admissions.window
        self.window.listen(self._window_changed)

    def restore(self, readable: Callable[[SecretRef], bool]) -> None:
        """Take in the children of an earlier run.  `readable`: whether a slot can be read."""
        children = []
        for record in self._parts.register.all():
            self._discovered.add_known(record.device, record.claims)
            slot = record.slot(record.stored) if record.cloud and record.stored else None
            state, reason = restore(record, has_secret=slot is not None and readable(slot))
            child = Child(record.device, label=record.label, first_seen=record.first_seen)
            children.append((child, state, reason))
        self.gateway.restore(children)

    async def introduce(self) -> None:
        """Put the gateway's own names on record, and let them come online.  Raises StoreError."""
        for provider in self._parts.providers.values():
            if provider.gateway_name is not None:
                device = DeviceId(f"gateway-{provider.name}")
                await self.admissions.configure(device, provider.gateway_name)
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


@dataclass(frozen=True, slots=True)
class Outside:
    """What the gateway is given by whoever runs it.

    environ: of the process.  checkpoint: called with the name of each durable step.
    reload: reads the configuration again.  changed: called when the join window has opened or
    closed.  dump: returns a descriptor from which diagnostics can be read.
    """

    environ: Mapping[str, str]
    reporter: Reporter
    checkpoint: Callable[[str], None]
    reload: Callable[[], Awaitable[None]]
    changed: Callable[[], None]
    dump: Callable[[], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Assembly:
    """The parts that have to be started and stopped.

    authorities: the device CAs that operators may ask for, by provider.
    """

    providers: Mapping[str, CloudProvider]
    supervisor: Supervisor
    neighbours: NeighbourTable
    inventory: Inventory
    flow: Flow
    requests: CloudRequests
    scan: Scan
    authorities: Mapping[str, AuthorityService]

    @classmethod
    def build(cls, config: Config, storage: Storage, rules: RuleBook, outside: Outside) -> Self:
        """Join everything.  Raises ConfigError, PluginError."""
        now, jitter = asyncio.get_running_loop().time, random.SystemRandom().random
        context = Context(now, jitter, rules.interest)
        discoverers = [one.plugin(one.name, one.settings) for one in config.discoverers]
        supervisor, neighbours = Supervisor(discoverers, context), NeighbourTable()
        scan = Scan(supervisor.names, supervisor.rescan, now)
        made: list[Inventory] = []

        def discover(listener: Listener) -> Inventory:
            inventory = Inventory(
                config.inventory, context, supervisor.verify, neighbours.corroborate, listener
            )
            made.append(inventory)
            return inventory

        providers = _providers(config, outside.environ)
        parts = Parts(
            clocks=Clock(now, wall_time, jitter),
            register=storage.register,
            slots=Slots(storage.secrets.get, storage.secrets.put, storage.secrets.delete),
            vault=Vault(storage.secrets.put, storage.secrets.holds, storage.check_ready),
            providers=providers,
            discover=discover,
            rules=rules,
            reporter=outside.reporter,
            registration=config.registration,
            sessions=config.sessions,
            settle=config.inventory.settle,
            checkpoint=outside.checkpoint,
            upkeep=Upkeep(outside.reload, scan.begin, outside.dump),
            changed=outside.changed,
        )
        flow = Flow(parts)
        requests = CloudRequests(config.cloud_requests, flow.gateway, flow.admissions, now)
        for provider in providers.values():
            provider.set_requests(requests)
        authorities = _authorities(providers, storage, flow)
        return cls(providers, supervisor, neighbours, made[0], flow, requests, scan, authorities)


def _authorities(
    providers: Mapping[str, CloudProvider], storage: Storage, flow: Flow
) -> Mapping[str, AuthorityService]:
    def named(device: DeviceId) -> CloudName | None:
        record = storage.register.get(device)
        return record.cloud if record else None

    made: dict[str, AuthorityService] = {}
    for name, provider in providers.items():
        if isinstance(provider, SupportsDeviceCa) and provider.issuer is not None:
            provider.issuer.authority.entrust(slots_of(name, storage.secrets))
            made[name] = AuthorityService(
                name, provider.issuer, flow.commands.resolve, named, flow.keeper.renew
            )
    return made


def _providers(config: Config, environ: Mapping[str, str]) -> Mapping[str, CloudProvider]:
    directory = environ.get("CREDENTIALS_DIRECTORY")
    read = partial(read_secret, Path(directory) if directory else None)
    return {one.name: one.plugin(one.name, one.settings, read) for one in config.clouds}
