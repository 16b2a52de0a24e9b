"""Builds the parts of a running gateway from its configuration.  Nothing is started here."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

from gatewayd.authority import AuthorityService, slots_of
from gatewayd.clocks import Clocks
from gatewayd.cloud.authority_port import Issuing
from gatewayd.cloud.credential import read_secret
from gatewayd.cloud.provider import CloudProvider
from gatewayd.commands import Upkeep
from gatewayd.config import Config
from gatewayd.device.identity import DeviceId
from gatewayd.device.record import CloudName
from gatewayd.discovery.discoverer import Context
from gatewayd.discovery.inventory import Inventory
from gatewayd.discovery.listener import Listener
from gatewayd.discovery.neighbours import Neighbours
from gatewayd.discovery.scan import Scan
from gatewayd.discovery.supervisor import Supervisor
from gatewayd.flow import Flow, Parts
from gatewayd.registration.registrar import Vault
from gatewayd.requests import CloudRequests
from gatewayd.rulebook import RuleBook
from gatewayd.sessions.renewal import Slots
from gatewayd.status.snapshot import Reporter
from gatewayd.storage import Storage


def wall() -> int:
    """Return the time: microseconds since the epoch."""
    return time.time_ns() // 1000


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
    neighbours: Neighbours
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
        supervisor, neighbours = Supervisor(discoverers, context), Neighbours()
        scan = Scan(supervisor.names, supervisor.rescan, now)
        made: list[Inventory] = []

        def discover(listener: Listener) -> Inventory:
            inventory = Inventory(
                config.inventory, context, supervisor.verify, neighbours.corroborated, listener
            )
            made.append(inventory)
            return inventory

        providers = _providers(config, outside.environ)
        parts = Parts(
            clocks=Clocks(now, wall, jitter),
            register=storage.register,
            slots=Slots(storage.secrets.get, storage.secrets.put, storage.secrets.delete),
            vault=Vault(storage.secrets.put, storage.secrets.holds, storage.obstacle),
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
            provider.listen(requests)
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
        if isinstance(provider, Issuing) and provider.issuer is not None:
            provider.issuer.authority.entrust(slots_of(name, storage.secrets))
            made[name] = AuthorityService(
                name, provider.issuer, flow.commands.resolve, named, flow.keeper.renew
            )
    return made


def _providers(config: Config, environ: Mapping[str, str]) -> Mapping[str, CloudProvider]:
    directory = environ.get("CREDENTIALS_DIRECTORY")
    read = partial(read_secret, Path(directory) if directory else None)
    return {one.name: one.plugin(one.name, one.settings, read) for one in config.clouds}
