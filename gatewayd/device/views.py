"""Frozen views of the gateway: the only objects that cross to the D-Bus thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, TypeAlias

from gatewayd.device.identity import DeviceId
from gatewayd.device.reason import NONE, Reason

Facts: TypeAlias = Mapping[str, "str | int | bool | Sequence[str]"]
"""Named facts: texts, numbers of at least 0, booleans, and lists of texts."""

MoveRow: TypeAlias = tuple[str, str, str, str, str, str, int, int]
"""A move: id, cloud, cloud to which it moves, step, code and sentences of why it does not go on,
when it was asked for, and when it goes on by itself; microseconds since the epoch, 0 for not."""


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """An event in the history of a child.  at: microseconds since the epoch."""

    at: int
    event: str
    state: str
    reason: Reason

    @property
    def text(self) -> str:
        """The reason for people to read: it is put together when it is asked for."""
        return str(self.reason)


@dataclass(frozen=True, slots=True)
class DeviceView:
    """A view of one child.  Text is sanitised, times are microseconds since the epoch.

    state, substate, reason: as org.gatewayd1(5) lists them.  explanation and remedy are sentences.
    admission: "none", or a word of `Admission`.  secret_state: "none", "stored" or "lost".
    trust: how well its identity is proven, a word of `Trust`.
    identity: its strongest claim, as "mac 5026ef000001"; "" where there is none.
    cloud_id: "product/name"; "" where it has none.
    conflict: why it is in question who it is; "" where it is not.  rivals: the other devices in it.
    proof: what it has proven with a key of its own, as DescribeDevice() has it; empty for nothing.
    move: where it moves, where it is dormant, and when it moved, as DescribeDevice() has it; empty
    for a child that never was to move.
    sightings: what each source shows of it now, by the keys of gatewayd-rules(5).
    history: its newest events, oldest first, bounded.
    """

    id: DeviceId
    name: str
    state: str
    substate: str
    reason: str
    explanation: str
    remedy: str
    protocol: str
    model: str
    vendor: str
    addresses: tuple[str, ...]
    admission: str
    trust: str
    rule: str
    provider: str
    cloud_id: str
    secret_state: str
    identity: str
    attempts: int
    first_seen: int
    last_seen: int
    state_changed: int
    registered: int
    activated: int
    next_attempt: int
    history: tuple[HistoryEntry, ...] = ()
    conflict: str = ""
    rivals: tuple[DeviceId, ...] = ()
    proof: Facts = field(default_factory=dict)
    move: Facts = field(default_factory=dict)
    sightings: tuple[Mapping[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ManagerView:
    """A view of the gateway as a whole.

    state: "starting", "running", "degraded", "sealed" or "stopping".
    protection: a word of `Protection`.
    counters: discovery's counters, as "mdns:dropped:oversized".
    join_until: when the join window will close, microseconds since the epoch; 0 if it is closed.
    join_rules: the rules by which it admits devices.
    restart_needed: sections of the configuration that take effect at the next start.
    """

    version: str
    state: str
    protection: str
    providers: tuple[str, ...]
    started: int
    counters: Mapping[str, int] = field(default_factory=dict)
    join_until: int = 0
    join_rules: tuple[str, ...] = ()
    restart_needed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StoreView:
    """A view of the secret store.

    backend: the name of its plug-in.  protection: a word of `Protection`.
    state: "unsealed", "sealed", "degraded", "rollback-suspected" or "cloned".
    explanation: a sentence, why it is not unsealed and what to do; "" if it is.
    n_secrets: slots that hold something.
    key_id: number of the data key in use; 0 where there is none, or it has no number.
    key_created: microseconds since the epoch; 0 where it is not known.
    recovery_slots: recovery keys that open the store too.
    """

    backend: str
    protection: str
    state: str
    explanation: str
    n_secrets: int = 0
    key_id: int = 0
    key_created: int = 0
    recovery_slots: int = 0


@dataclass(frozen=True, slots=True)
class ProviderView:
    """A view of one cloud.

    kind: of plug-in.  endpoint: "host:port"; "" where there is none to name.
    state: "idle", "ready", "connecting", "degraded", "throttled" or "failed".
    reason, explanation, remedy: why it is not ready, as of a child.
    n_devices: children that belong to it.  n_queued: of them, those that have no secret yet.
    certificate_expiry: of the first certificate to expire, microseconds since the epoch; 0: none.
    """

    id: str
    kind: str
    endpoint: str
    state: str
    reason: str = ""
    explanation: str = ""
    remedy: str = ""
    n_devices: int = 0
    n_queued: int = 0
    certificate_expiry: int = 0


@dataclass(frozen=True, slots=True)
class LogView:
    """A view of the log, in the words of org.freedesktop.LogControl1(5)."""

    level: str
    target: str
    identifier: str


@dataclass(frozen=True, slots=True)
class MessageCounts:
    """What waits of messages now, and what became of others since gatewayd started.

    waiting: those that are stored, and that the cloud has not accepted yet.  bytes: what they count
    against the bounds.  oldest: when the one that waits longest was received, microseconds since
    the epoch; 0 where none waits, or the clock was not right then.
    received: stored.  sent: accepted by the cloud.  dropped: by the word of a `DropReason`; without
    those that never occurred.
    """

    waiting: int = 0
    bytes: int = 0
    oldest: int = 0
    received: int = 0
    sent: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EndedCommand:
    """A command that has ended.

    at: when, microseconds since the epoch.  identifier, name: of the cloud, fit for a terminal.
    kind: a word of `CommandKind`.  outcome: one of `CommandOutcome`.
    milliseconds: from when it was received.
    """

    at: int
    identifier: str
    kind: str
    name: str
    outcome: str
    milliseconds: int


@dataclass(frozen=True, slots=True)
class CommandStatistics:
    """The commands of clouds to children since gatewayd started.

    received: all of them, without repeats.  sent: those that were passed to a door.
    waiting: those that wait for an answer.
    ended: by outcome, a word of `CommandOutcome`; without those that never occurred.
    repeated: commands that a cloud has sent once more.  late: answers that no command waited for.
    unanswered: answers that no cloud has acknowledged.
    last: the newest of each child, oldest first.
    """

    received: int = 0
    sent: int = 0
    waiting: int = 0
    ended: Mapping[str, int] = field(default_factory=dict)
    repeated: int = 0
    late: int = 0
    unanswered: int = 0
    last: Mapping[DeviceId, Sequence[EndedCommand]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MessageStatistics:
    """The messages of children: in all, by the door that received them, and by child.

    state: "disabled"; "running"; "full" while the disk is, and the oldest make room for new ones;
    "blocked" while nothing can be stored.  explanation: a sentence, why it is full or blocked, and
    what to do; "" where it is neither.
    capacity: bytes that may wait in all.  in_memory: bytes that are under way or read ahead.
    refusals: why the cloud refused the newest message that it refused, by child.
    """

    state: str = "disabled"
    explanation: str = ""
    capacity: int = 0
    in_memory: int = 0
    total: MessageCounts = MessageCounts()
    doors: Mapping[str, MessageCounts] = field(default_factory=dict)
    children: Mapping[DeviceId, MessageCounts] = field(default_factory=dict)
    refusals: Mapping[DeviceId, Reason] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DoorView:
    """A view of one door.

    state: "connected", "connecting" or "paused"; "" where it is not known.
    explanation: a sentence, why it is not connected; "" if it is.
    """

    name: str
    state: str
    explanation: str
    counts: MessageCounts


@dataclass(frozen=True, slots=True)
class MessagesView:
    """A view of the messages on their way.

    state: "disabled", "ready", "dropping", "full" or "blocked".  reason: why it is not ready.
    children: those of which anything is counted.
    refusals: why the cloud refused the newest message that it refused, by child.
    entrances: the door at which the newest message came in, by child.
    commands: those of clouds to children.
    """

    state: str = "disabled"
    reason: Reason = NONE
    total: MessageCounts = MessageCounts()
    doors: tuple[DoorView, ...] = ()
    children: Mapping[DeviceId, MessageCounts] = field(default_factory=dict)
    refusals: Mapping[DeviceId, Reason] = field(default_factory=dict)
    entrances: Mapping[DeviceId, str] = field(default_factory=dict)
    commands: CommandStatistics = CommandStatistics()


class SiteMode(StrEnum):
    """How the children of a site are divided; each word is part of the D-Bus API."""

    ALONE = "alone"  # this gateway has all of them
    SHARE = "share"  # a fixed part
    ETCD = "etcd"  # by shards, which change hands


class SiteState(StrEnum):
    """How this gateway stands in its site; each word is part of the D-Bus API."""

    READY = "ready"
    STARTING = "starting"  # etcd was not read yet
    NOT_FOUNDED = "not-founded"
    NOT_JOINED = "not-joined"
    WAITING = "waiting"  # for the yes of an operator, at a gateway that is a member
    REMOVED = "removed"
    DRAINING = "draining"
    DRAINED = "drained"
    NO_QUORUM = "no-quorum"  # etcd does not answer, and the lease has not ended
    STOPPED = "stopped"  # nothing may be sent for any child
    FAULTY = "faulty"  # what etcd holds cannot be used here


class GatewayStanding(StrEnum):
    """How a gateway of the site is doing; each word is part of the D-Bus API."""

    LIVE = "live"
    DRAINING = "draining"
    GONE = "gone"  # a member without a lease
    WAITING = "waiting"  # for the yes of an operator
    NOT_JOINED = "not-joined"  # it has a lease, and is no member: so it has no keys


@dataclass(frozen=True, slots=True)
class SiteGatewayView:
    """A view of one gateway of a site.

    version: of gatewayd; "" where it has no lease.
    fingerprint: of its public key; "" for one that is not known.
    shards: how many it has.
    """

    name: str
    standing: GatewayStanding
    version: str = ""
    fingerprint: str = ""
    shards: int = 0


@dataclass(frozen=True, slots=True)
class ShardView:
    """Which gateway has a shard.  token: larger for each later owner; 0 for a shard of none."""

    shard: int
    gateway: str = ""
    token: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteView:
    """A view of the site, as this gateway sees it.

    name, gateway: of the site and of this gateway; "" without etcd.
    share: as "1/3"; "" where there is none.
    reason: why the state is not READY; its text and remedy are sentences.
    lost_at: since when etcd does not answer, microseconds since the epoch; 0 where it does.
    left: whole seconds for which this gateway may go on without etcd; 0 for none.
    owned: shards whose children work here.  changing: shards that change hands here.
    fingerprint, site_fingerprint: of the public key of this gateway, and of the site; "" for none.
    epoch: number of the key of the site in use; 0 for none.
    replicated: children of which this gateway has written or read the copy in etcd.
    unwritten: changes that wait.
    replication_fault: why they wait, a sentence; "" for nothing.
    taken_over: shards of gateways that were gone, which this one has taken since it started.
    yielded: children that this gateway leaves to another holder of their device.
    contested: children that seem to be logged in elsewhere, too.
    """

    mode: SiteMode = SiteMode.ALONE
    state: SiteState = SiteState.READY
    reason: Reason = NONE
    name: str = ""
    gateway: str = ""
    share: str = ""
    lost_at: int = 0
    left: int = 0
    owned: int = 0
    changing: int = 0
    gateways: tuple[SiteGatewayView, ...] = ()
    shards: tuple[ShardView, ...] = ()
    fingerprint: str = ""
    site_fingerprint: str = ""
    epoch: int = 0
    replicated: int = 0
    unwritten: int = 0
    replication_fault: str = ""
    taken_over: int = 0
    yielded: int = 0
    contested: int = 0

    @property
    def quorum(self) -> bool:
        """Whether etcd answers, where there is one."""
        return self.mode is SiteMode.ETCD and not self.lost_at

    @property
    def has_others(self) -> bool:
        """Whether another gateway lives that has children, or would have those of this one."""
        live = {one.name for one in self.gateways if one.standing is GatewayStanding.LIVE}
        return bool(live - {self.gateway})

    @property
    def troubled(self) -> bool:
        """Whether something is wrong with it; a drain is wanted, while another gateway lives."""
        if self.state in DRAINS:
            return not self.has_others
        return self.state not in (SiteState.READY, SiteState.STARTING)


DRAINS = (SiteState.DRAINING, SiteState.DRAINED)
"""The states of a gateway that an operator wants to have no children."""

ALONE_VIEW = SiteView()
"""A gateway that has its site for itself."""


class ShowChanges(Protocol):
    """Shows children that have changed."""

    def __call__(self, limit: int, *, steps: bool = False) -> bool:
        """Show `limit` children at most; return whether more have changed.

        steps: show also those that are on their way to online, each step that they take.
        """


ALL = 1_000_000
"""More children than there are."""


class Reporter(Protocol):
    """Publishes views.  Called on the event loop's thread; never blocks."""

    def gather(self, show_changes: ShowChanges) -> None:
        """Call this before views are read next, and soon: children have changed."""

    def show(self, view: DeviceView) -> None:
        """Show a child, new or changed."""

    def remove(self, device: DeviceId) -> None:
        """Remove a child."""
