"""The status of the gateway as a whole: on D-Bus, and in systemd's status line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from gatewayd import __version__
from gatewayd.admission.join_window import JoinWindow
from gatewayd.cloud.provider import CloudProvider, ProviderStatus, SupportsStatus
from gatewayd.config import Config, ConfiguredPlugin
from gatewayd.dbus.names import (
    GATEWAY,
    LOG,
    OUTBOX,
    OWN_SITE,
    PROVIDER,
    STORE,
    ObjectInterface,
    provider_path,
)
from gatewayd.device.identity import GATEWAY_PREFIX, DeviceId
from gatewayd.device.lifecycle import State
from gatewayd.device.reason import addressed
from gatewayd.device.views import (
    ALONE_VIEW,
    GatewayStanding,
    LogView,
    ManagerView,
    ProviderView,
    SiteMode,
    SiteState,
    SiteView,
    StoreView,
)
from gatewayd.manager.manager import Child
from gatewayd.manager.statistics import DeviceStatistics
from gatewayd.messages.gateway_report import GatewayFacts
from gatewayd.messages.service import MessageService
from gatewayd.monitoring.figures import GatewayFigures
from gatewayd.runtime.clock import wall_time
from gatewayd.runtime.journal import IDENTIFIER, syslog_level
from gatewayd.secretstore.store import StoreState
from gatewayd.storage.storage import Storage
from gatewayd.storage.store_service import StoreMonitor


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayStatus:
    """The views of a running gateway, made from the parts that they show.

    faults: returns what is wrong outside the store, a sentence each.
    join_rules: returns the rules by which a join window admits devices.
    restart_needed: returns the sections of the configuration that wait for a restart.
    site: returns what is shown of the site, without what is counted of the children.
    started: microseconds since the epoch, as of `wall`.  log_target: "journal" or "console".
    """

    config: Config
    storage: Storage
    monitor: StoreMonitor
    children: Mapping[DeviceId, Child]
    window: JoinWindow
    faults: Callable[[], Sequence[str]]
    discovery_counters: Callable[[], dict[str, int]]
    providers: Mapping[str, CloudProvider]
    statistics: DeviceStatistics
    messages: MessageService
    started: int
    log_target: str
    join_rules: Callable[[], Sequence[str]] = tuple
    restart_needed: Callable[[], Sequence[str]] = tuple
    site: Callable[[], SiteView] = lambda: ALONE_VIEW
    wall: Callable[[], int] = wall_time

    def state(self) -> str:
        """Return the state of a gateway that is neither starting nor stopping."""
        if self.storage.sealed:
            return "sealed"
        if self.storage.store.state is StoreState.CLONED:
            return "cloned"
        return "degraded" if self.storage.degraded or self.faults() else "running"

    def line(self) -> str:
        """Return one line for `systemctl status`."""
        states = [child.state for child in self.children.values()]
        words = [
            f"{len(states)} devices",
            f"{states.count(State.ONLINE)} online",
            f"{states.count(State.PENDING)} pending",
            f"{states.count(State.FAILED)} failed",
        ]
        if why := self._why():
            words.append(f"store {self._store_state()}: {why}")
        if waiting := self.restart_needed():
            words.append(f"restart needed for {' and '.join(waiting)}")
        if (site := self.site()).mode is SiteMode.ETCD:
            words.append(site_line(site))
        return ", ".join([*words, *self.faults()])

    def views(self, state: str) -> Mapping[ObjectInterface, object]:
        """Return what D-Bus shows of everything but the children."""
        providers = {provider_object(c.name): self.provider(c) for c in self.config.clouds}
        messages = self.messages.view()  # first: what is wrong with it, the gateway shows too
        return {
            OUTBOX: messages,
            GATEWAY: self.view(state),
            STORE: self.store(),
            OWN_SITE: self.site_view(),
            LOG: self.log(),
            **providers,
        }

    def view(self, state: str) -> ManagerView:
        """Return what D-Bus shows of the gateway."""
        first = first_view(self.config, self.storage, self.started, state)
        return replace(
            first,
            counters=self.discovery_counters(),
            join_until=self.window.until,
            join_rules=tuple(self.join_rules()),
            restart_needed=tuple(self.restart_needed()),
        )

    def store(self) -> StoreView:
        """Return what D-Bus shows of the secret store."""
        contents = self.monitor.contents
        return StoreView(
            backend=self.config.store.kind,
            protection=self.storage.store.protection.value,
            state=self._store_state(),
            explanation=self._why(),
            n_secrets=contents.secrets if contents else self.statistics.secrets,
            key_id=contents.key if contents else 0,
            key_created=contents.key_created if contents else 0,
            recovery_slots=contents.recovery_slots if contents else 0,
        )

    def _store_state(self) -> str:
        state = self.storage.store.state
        faulty = self.storage.faults and state is StoreState.UNSEALED
        return (StoreState.DEGRADED if faulty else state).value

    def _why(self) -> str:
        return "; ".join(self.storage.faults)

    def site_view(self) -> SiteView:
        """Return what D-Bus shows of the site."""
        codes = Counter(child.reason.code for child in self.children.values())
        return replace(
            self.site(),
            yielded=codes[YIELDED],
            contested=sum(codes[code] for code in CONTESTED),
        )

    def provider(self, cloud: ConfiguredPlugin) -> ProviderView:
        """Return what D-Bus shows of a cloud: what its provider reports, else what is counted."""
        provider, counted = self.providers[cloud.name], self.statistics.of(cloud.name)
        reported = provider.status() if isinstance(provider, SupportsStatus) else ProviderStatus()
        reason = reported.reason if reported.state else counted.reason
        return ProviderView(
            id=cloud.name,
            kind=cloud.kind,
            endpoint=reported.endpoint or endpoint(cloud.settings),
            state=reported.state or counted.state,
            reason=reason.code,
            explanation=reason.text,
            remedy=addressed(reason, "CHILD", cloud.name).remedy,
            n_devices=counted.devices,
            n_queued=counted.queued,
            certificate_expiry=reported.certificate_expiry,
        )

    def facts(self) -> GatewayFacts:
        """Return what the gateway reports of itself."""
        own = self._own_devices()
        reported = (p.status() for p in self.providers.values() if isinstance(p, SupportsStatus))
        return GatewayFacts(
            version=__version__,
            state=self.state(),
            store=self._store_state(),
            protection=self.storage.store.protection.value,
            children=[one.state for device, one in self.children.items() if device not in own],
            messages=self.messages.total(),
            certificate_expiry=min(
                (one.certificate_expiry for one in reported if one.certificate_expiry), default=0
            ),
            now=self.wall(),
        )

    def figures(self) -> GatewayFigures:
        """Return the figures of now, for metrics and notices."""
        own, messages, store = self._own_devices(), self.messages.view(), self.store()
        others = {device: one for device, one in self.children.items() if device not in own}
        return GatewayFigures(
            now=self.wall(),
            started=self.started,
            version=__version__,
            state=self.state(),
            store=store.state,
            explanation=store.explanation,
            secrets=store.n_secrets,
            children=Counter((self._cloud(d), one.state.shown) for d, one in others.items()),
            pending=[d for d, one in others.items() if one.state is State.PENDING],
            discovered=[d for d, one in others.items() if one.state is State.DISCOVERED],
            clouds=[self.provider(cloud) for cloud in self.config.clouds],
            own={
                name: self.children[device].state is State.ONLINE
                for name in self.providers
                if (device := gateway_device(name)) in self.children
            },
            messages=self.messages.statistics(),
            doors=messages.doors,
            commands=messages.commands,
            discovery=self.discovery_counters(),
            site=self.site_view(),
        )

    def _cloud(self, device: DeviceId) -> str:
        record = self.storage.records.get(device)
        return record.cloud.provider if record is not None and record.cloud is not None else ""

    def online_gateways(self) -> Collection[DeviceId]:
        """Return the gateway's own devices that are online, at clouds that have one."""
        own = self._own_devices() & self.children.keys()
        return [one for one in own if self.children[one].state is State.ONLINE]

    def _own_devices(self) -> set[DeviceId]:
        return {gateway_device(name) for name in self.providers}

    def log(self) -> LogView:
        """Return how the daemon logs now."""
        return LogView(syslog_level(), self.log_target, IDENTIFIER)


YIELDED = "session-yielded"
CONTESTED = (YIELDED, "session-contested", "session-taken-over")
"""The reasons of children that something else logs in, too."""

STANDING = (GatewayStanding.LIVE, GatewayStanding.DRAINING)


def site_line(site: SiteView) -> str:
    """Return a site on etcd in a few words."""
    live = sum(one.standing in STANDING for one in site.gateways)
    gateways = f"{live} of {len(site.gateways)} gateways live"
    stands = "" if site.state is SiteState.READY else f" is {site.state}"
    return f"site {site.name}{stands}: {site.owned} of {len(site.shards)} shards, {gateways}"


def site_faults(site: SiteView) -> Sequence[str]:
    """Return what is wrong with the site, a sentence each; a drain is wanted."""
    return (f"site {site.name}: {site.reason}",) if site.troubled else ()


def gateway_device(provider: str) -> DeviceId:
    """Return the id of the gateway itself, as a device of a cloud."""
    return DeviceId(f"{GATEWAY_PREFIX}{provider}")


def provider_object(name: str) -> ObjectInterface:
    """Return where a cloud is served."""
    return ObjectInterface(provider_path(name), PROVIDER)


def endpoint(settings: object) -> str:
    """Return "host:port" if a cloud's settings name both; else ""."""
    host, port = getattr(settings, "host", ""), getattr(settings, "port", "")
    return f"{host}:{port}" if host and port else ""


def first_view(
    config: Config,
    storage: Storage,
    started: int,
    state: str = "starting",
) -> ManagerView:
    """Return what D-Bus shows of the gateway while it starts."""
    return ManagerView(
        version=__version__,
        state=state,
        protection=storage.store.protection.value,
        providers=tuple(one.name for one in config.clouds),
        started=started,
    )
