"""The metrics of the gateway: their names, types and labels, and the samples of one moment.  Pure.

No label is what a stranger on the LAN chooses: neither a child's name nor its address.  Labels are
names from the configuration, and words of this version.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from gatewayd.device.views import GatewayStanding, ProviderView, SiteMode, SiteState, SiteView
from gatewayd.monitoring.figures import GatewayFigures
from gatewayd.monitoring.histogram import Durations
from gatewayd.monitoring.steps import OTHER

PREFIX = "gatewayd_"
MICRO = 1_000_000
MAX_CAUSES = 256
"""Causes of discovery's drops that are kept apart, over all sources."""

GATEWAY_STATES = ("starting", "running", "degraded", "sealed", "cloned", "stopping")
CLOUD_STATES = ("idle", "ready", "connecting", "degraded", "throttled", "failed")
STORE_STATES = ("unsealed", "sealed", "degraded", "rollback-suspected", "cloned")
MESSAGE_STATES = ("disabled", "running", "full", "blocked")


class MetricKind(StrEnum):
    """The type of a metric."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


class Metric(NamedTuple):
    """One metric.  name: without the prefix and, of a counter, without "_total"."""

    name: str
    kind: MetricKind
    help: str
    labels: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """The name of its samples; of a histogram, what they begin with."""
        return f"{PREFIX}{self.name}{'_total' if self.kind is MetricKind.COUNTER else ''}"


_GAUGE, _COUNTER, _HISTOGRAM = MetricKind.GAUGE, MetricKind.COUNTER, MetricKind.HISTOGRAM

# fmt: off
METRICS: tuple[Metric, ...] = (
    Metric("build_info", _GAUGE, "Version of the daemon; always 1.", ("version",)),
    Metric("start_time_seconds", _GAUGE, "When the daemon was started, seconds since the epoch."),
    Metric("state", _GAUGE, "State of the gateway: 1 for the one it is in.", ("state",)),
    Metric("store_state", _GAUGE, "State of the secret store: 1 for the one it is in.", ("state",)),
    Metric("secrets", _GAUGE, "Secrets that are stored."),
    Metric("children", _GAUGE, "Children by cloud and state; the cloud is empty for those of none.",
           ("cloud", "state")),
    Metric("cloud_state", _GAUGE, "State of each cloud: 1 for the one it is in.",
           ("cloud", "state")),
    Metric("gateway_online", _GAUGE, "Whether the gateway's own device is online at a cloud.",
           ("cloud",)),
    Metric("certificate_expiry_timestamp_seconds", _GAUGE,
           "When the first certificate for a cloud expires, seconds since the epoch.",
           ("cloud",)),
    Metric("logins", _COUNTER, "Sessions of children that were opened.", ("cloud",)),
    Metric("sessions_ended", _COUNTER, "Sessions of children that have ended.", ("cloud",)),
    Metric("refusals", _COUNTER,
           "What a child could not do: by step (registration, login, proof) and reason.",
           ("step", "reason")),
    Metric("onboarding_seconds", _HISTOGRAM,
           "Time from the first sighting of a child to online; pending: whether it was in between.",
           ("pending",)),
    Metric("messages_state", _GAUGE, "State of the outbox: 1 for the one it is in.", ("state",)),
    Metric("messages_waiting", _GAUGE, "Messages that are stored and not accepted by a cloud."),
    Metric("messages_waiting_bytes", _GAUGE, "What they count against the bounds."),
    Metric("messages_capacity_bytes", _GAUGE, "How much may wait in all."),
    Metric("messages_oldest_timestamp_seconds", _GAUGE,
           "When the message that waits longest was received, seconds since the epoch; missing "
           "where none waits."),
    Metric("messages_received", _COUNTER, "Messages of children that were stored."),
    Metric("messages_sent", _COUNTER, "Messages of children that clouds have accepted."),
    Metric("messages_dropped", _COUNTER, "Messages of children that are lost, by cause.",
           ("cause",)),
    Metric("door_connected", _GAUGE, "Whether a door to a broker is connected.", ("door",)),
    Metric("commands_received", _COUNTER, "Commands of clouds to children."),
    Metric("commands_ended", _COUNTER, "Commands that have ended, by outcome.", ("outcome",)),
    Metric("commands_waiting", _GAUGE, "Commands that wait for an answer of a child."),
    Metric("commit_seconds", _HISTOGRAM,
           "How long a group of changes took to be durable, with its fsync, by file.", ("file",)),
    Metric("discovery_sightings", _COUNTER, "Sightings of devices, by discoverer.", ("source",)),
    Metric("discovery_dropped", _COUNTER,
           "What came from the LAN and was left out, by discoverer and cause.",
           ("source", "cause")),
    Metric("discovery_devices", _GAUGE, "Devices that discovery follows."),
    Metric("children_contested", _GAUGE,
           "Children whose sessions the cloud closes again and again: by whether this gateway "
           "leaves them to the other holder.", ("yielded",)),
    Metric("site_state", _GAUGE,
           "State of this gateway in its site: 1 for the one it is in; missing without etcd.",
           ("state",)),
    Metric("site_quorum", _GAUGE, "Whether etcd answers."),
    Metric("site_lease_seconds", _GAUGE,
           "For how long this gateway would go on if etcd did not answer any more."),
    Metric("site_gateways", _GAUGE, "Gateways of the site, by how they are doing.", ("state",)),
    Metric("site_shards", _GAUGE,
           "Shards of this gateway; changing: those that it begins to have, or gives up.",
           ("changing",)),
    Metric("site_shards_taken_over", _COUNTER,
           "Shards of gateways that were gone, which this one has taken."),
    Metric("site_children_replicated", _GAUGE,
           "Children of which this gateway has written or read the copy in etcd."),
    Metric("site_changes_waiting", _GAUGE, "Changes of children that are not in etcd yet."),
)
# fmt: on
"""All of them, in the order in which they are shown."""


class Sample(NamedTuple):
    """One value.  labels: in the order of the metric's."""

    metric: str
    labels: tuple[str, ...]
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What is measured besides the figures.  The arguments are as those of `StepCounts`.

    onboarding: by whether the child was pending.  commits: by the word for the file.
    """

    logins: Mapping[str, int] = field(default_factory=dict)
    endings: Mapping[str, int] = field(default_factory=dict)
    refusals: Mapping[tuple[str, str], int] = field(default_factory=dict)
    onboarding: Mapping[bool, Durations] = field(default_factory=dict)
    commits: Mapping[str, Durations] = field(default_factory=dict)

    def histograms(self) -> Iterator[tuple[str, tuple[str, ...], Durations]]:
        """Yield the metric, the labels and the durations of each histogram."""
        for waited, durations in self.onboarding.items():
            yield "onboarding_seconds", ("yes" if waited else "no",), durations
        for file, durations in self.commits.items():
            yield "commit_seconds", (file,), durations


def samples(figures: GatewayFigures, measured: Measured) -> Iterator[Sample]:
    """Yield all samples but those of histograms."""
    yield Sample("build_info", (figures.version,), 1)
    yield Sample("start_time_seconds", (), figures.started / MICRO)
    yield Sample("secrets", (), figures.secrets)
    yield from _one_of("state", (), figures.state, GATEWAY_STATES)
    yield from _one_of("store_state", (), figures.store, STORE_STATES)
    for (cloud, state), number in figures.children.items():
        yield Sample("children", (cloud, state), number)
    for view in figures.clouds:
        yield from _of_cloud(view)
    for cloud, online in figures.own.items():
        yield Sample("gateway_online", (cloud,), online)
    yield from _of_steps(measured)
    yield from _of_messages(figures)
    yield from _of_discovery(figures.discovery)
    yield from _of_site(figures.site)


def _one_of(
    metric: str, labels: tuple[str, ...], now: str, states: tuple[str, ...]
) -> Iterator[Sample]:
    for state in states:
        yield Sample(metric, (*labels, state), state == now)


def _of_cloud(view: ProviderView) -> Iterator[Sample]:
    yield from _one_of("cloud_state", (view.id,), view.state, CLOUD_STATES)
    if view.certificate_expiry:
        expiry = view.certificate_expiry / MICRO
        yield Sample("certificate_expiry_timestamp_seconds", (view.id,), expiry)


def _of_steps(measured: Measured) -> Iterator[Sample]:
    for cloud, number in measured.logins.items():
        yield Sample("logins", (cloud,), number)
    for cloud, number in measured.endings.items():
        yield Sample("sessions_ended", (cloud,), number)
    for (step, reason), number in measured.refusals.items():
        yield Sample("refusals", (step, reason), number)


def _of_messages(figures: GatewayFigures) -> Iterator[Sample]:
    messages, commands = figures.messages, figures.commands
    total = messages.total
    yield from _one_of("messages_state", (), messages.state, MESSAGE_STATES)
    yield Sample("messages_waiting", (), total.waiting)
    yield Sample("messages_waiting_bytes", (), total.bytes)
    yield Sample("messages_capacity_bytes", (), messages.capacity)
    if total.oldest:
        yield Sample("messages_oldest_timestamp_seconds", (), total.oldest / MICRO)
    yield Sample("messages_received", (), total.received)
    yield Sample("messages_sent", (), total.sent)
    for cause, number in total.dropped.items():
        yield Sample("messages_dropped", (cause,), number)
    for door in figures.doors:
        if door.state:
            yield Sample("door_connected", (door.name,), door.state == "connected")
    yield Sample("commands_received", (), commands.received)
    yield Sample("commands_waiting", (), commands.waiting)
    for outcome, number in commands.ended.items():
        yield Sample("commands_ended", (outcome,), number)


def _of_site(site: SiteView) -> Iterator[Sample]:
    yield Sample("children_contested", ("yes",), site.yielded)
    yield Sample("children_contested", ("no",), site.contested - site.yielded)
    if site.mode is not SiteMode.ETCD:
        return
    yield from _one_of("site_state", (), site.state, tuple(SiteState))
    yield Sample("site_quorum", (), site.quorum)
    yield Sample("site_lease_seconds", (), site.left)
    for standing in GatewayStanding:
        number = sum(one.standing is standing for one in site.gateways)
        yield Sample("site_gateways", (standing,), number)
    yield Sample("site_shards", ("no",), site.owned)
    yield Sample("site_shards", ("yes",), site.changing)
    yield Sample("site_shards_taken_over", (), site.taken_over)
    yield Sample("site_children_replicated", (), site.replicated)
    yield Sample("site_changes_waiting", (), site.unwritten)


def _of_discovery(counters: Mapping[str, int]) -> Iterator[Sample]:
    dropped: dict[tuple[str, str], int] = {}
    for name, number in counters.items():
        source, _, what = name.partition(":")
        kind, _, cause = what.partition(":")
        if kind == "sighted":
            yield Sample("discovery_sightings", (source,), number)
        elif kind == "dropped":
            place = (source, cause)
            if place not in dropped and len(dropped) >= MAX_CAUSES:
                place = (OTHER, OTHER)
            dropped[place] = dropped.get(place, 0) + number
    if overflow := counters.get("sighting-queue-overflow"):
        dropped["inventory", "queue-full"] = overflow
    for place, number in dropped.items():
        yield Sample("discovery_dropped", place, number)
    yield Sample("discovery_devices", (), counters.get("devices", 0))
