"""What is said of the gateway as a whole: on D-Bus, and in systemd's status line."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from gatewayd import __version__
from gatewayd.app import Assembly
from gatewayd.cloud.provider import ProviderStatus, SupportsStatus
from gatewayd.config import Config, Configured
from gatewayd.dbus.names import GATEWAY, LOG, PROVIDER, STORE, ObjectInterface, provider_path
from gatewayd.device.lifecycle import State
from gatewayd.device.views import LogView, ManagerView, ProviderView, StoreView
from gatewayd.manager.statistics import Tally
from gatewayd.runtime.journal import IDENTIFIER
from gatewayd.secretstore.store import StoreState as Condition
from gatewayd.storage.storage import Storage
from gatewayd.storage.store_service import StoreAdmin

LEVELS: Mapping[int, str] = {
    logging.DEBUG: "debug",
    logging.INFO: "info",
    logging.WARNING: "warning",
    logging.ERROR: "err",
    logging.CRITICAL: "crit",
}
"""Levels of the log, in the words of syslog(3)."""


@dataclass(frozen=True, slots=True)
class Overview:
    """Looks at the parts of a running gateway.

    started: microseconds since the epoch.  target: where the log goes, "journal" or "console".
    admin: knows what is in the secret store.
    """

    config: Config
    storage: Storage
    parts: Assembly
    tally: Tally
    started: int
    target: str
    admin: StoreAdmin

    def state(self) -> str:
        """Return the state of a gateway that is neither starting nor stopping."""
        if self.storage.sealed:
            return "sealed"
        return "degraded" if self.storage.degraded or self.parts.supervisor.faults else "running"

    def line(self) -> str:
        """Return one line for `systemctl status`."""
        states = [child.state for child in self.parts.flow.gateway.children.values()]
        words = [
            f"{len(states)} devices",
            f"{states.count(State.ONLINE)} online",
            f"{states.count(State.PENDING)} pending",
            f"{states.count(State.FAILED)} failed",
        ]
        if why := self._why():
            words.append(f"store {self._store_state()}: {why}")
        return ", ".join([*words, *self.parts.supervisor.faults.values()])

    def views(self, state: str) -> Mapping[ObjectInterface, object]:
        """Return what D-Bus shows of everything but the children."""
        providers = {provider_place(c.name): self.provider(c) for c in self.config.clouds}
        return {GATEWAY: self.view(state), STORE: self.store(), LOG: self.log(), **providers}

    def view(self, state: str) -> ManagerView:
        """Return what D-Bus shows of the gateway."""
        counters = self.parts.supervisor.counters() | self.parts.inventory.counters()
        until = self.parts.flow.window.until
        return first_view(self.config, self.storage, self.started, state, counters, until)

    def store(self) -> StoreView:
        """Return what D-Bus shows of the secret store."""
        kept = self.admin.kept
        return StoreView(
            backend=self.config.store.kind,
            protection=self.storage.store.protection.value,
            state=self._store_state(),
            why=self._why(),
            n_secrets=self.tally.secrets if kept is None else kept.secrets,
            key_id=kept.key if kept else 0,
            key_created=kept.key_created if kept else 0,
            recovery_slots=kept.recovery_slots if kept else 0,
        )

    def _store_state(self) -> str:
        state = self.storage.store.state
        fit = not self.storage.faults or state is not Condition.UNSEALED
        return (state if fit else Condition.DEGRADED).value

    def _why(self) -> str:
        return "; ".join(self.storage.faults)

    def provider(self, cloud: Configured) -> ProviderView:
        """Return what D-Bus shows of a cloud."""
        provider, standing = self.parts.providers[cloud.name], self.tally.of(cloud.name)
        told = provider.status() if isinstance(provider, SupportsStatus) else ProviderStatus()
        reason = told.reason if told.state else standing.reason
        return ProviderView(
            id=cloud.name,
            kind=cloud.kind,
            endpoint=told.endpoint or endpoint(cloud.settings),
            state=told.state or standing.state,
            reason=reason.code,
            explanation=reason.text,
            remedy=reason.remedy,
            n_devices=standing.devices,
            n_queued=standing.queued,
            certificate_expiry=told.certificate_expiry,
        )

    def log(self) -> LogView:
        """Return how is logged now."""
        level = logging.getLogger(IDENTIFIER).getEffectiveLevel()
        return LogView(LEVELS.get(level, "info"), self.target, IDENTIFIER)


def provider_place(name: str) -> ObjectInterface:
    """Return where a cloud is served."""
    return ObjectInterface(provider_path(name), PROVIDER)


def endpoint(settings: object) -> str:
    """Return "host:port" where a cloud's settings name one; "" elsewhere."""
    host, port = getattr(settings, "host", ""), getattr(settings, "port", "")
    return f"{host}:{port}" if host and port else ""


def first_view(
    config: Config,
    storage: Storage,
    started: int,
    state: str = "starting",
    counters: dict[str, int] | None = None,
    join_until: int = 0,
) -> ManagerView:
    """Return what D-Bus shows before there is anything to look at."""
    return ManagerView(
        version=__version__,
        state=state,
        protection=storage.store.protection.value,
        providers=tuple(one.name for one in config.clouds),
        started=started,
        counters=counters or {},
        join_until=join_until,
    )
