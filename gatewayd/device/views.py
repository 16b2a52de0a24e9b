"""Frozen views of the gateway: the only objects that cross to the D-Bus thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from gatewayd.device.identity import DeviceId

Facts: TypeAlias = Mapping[str, "str | int | bool | Sequence[str]"]
"""Named facts: texts, numbers of at least 0, booleans, and lists of texts."""


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """An event in the history of a child.  at: microseconds since the epoch."""

    at: int
    event: str
    state: str
    text: str


@dataclass(frozen=True, slots=True)
class DeviceView:
    """A view of one child.  Text is sanitised, times are microseconds since the epoch.

    state, substate, reason: as org.gatewayd1(5) lists them.  explanation and remedy are sentences.
    admission: "none", or a word of `Admission`.  secret_state: "none", "stored" or "lost".
    trust: how well its identity is proven, a word of `Trust`.
    identity: its strongest claim, as "mac 5026ef000001"; "" where there is none.
    cloud_id: "product/name"; "" where it has none.
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


@dataclass(frozen=True, slots=True)
class ManagerView:
    """A view of the gateway as a whole.

    state: "starting", "running", "degraded", "sealed" or "stopping".
    protection: a word of `Protection`.
    counters: discovery's counters, as "mdns:dropped:oversized".
    join_until: when the join window will close, microseconds since the epoch; 0 if it is closed.
    """

    version: str
    state: str
    protection: str
    providers: tuple[str, ...]
    started: int
    counters: Mapping[str, int] = field(default_factory=dict)
    join_until: int = 0


@dataclass(frozen=True, slots=True)
class StoreView:
    """A view of the secret store.

    backend: the name of its plug-in.  protection: a word of `Protection`.
    state: "unsealed", "sealed", "degraded" or "rollback-suspected".
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
