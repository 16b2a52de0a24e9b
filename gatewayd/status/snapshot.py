"""Frozen views of the gateway: the only things that cross to the D-Bus thread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from gatewayd.device.identity import DeviceId


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened to a child: `at` in microseconds since the epoch."""

    at: int
    event: str
    state: str
    text: str


@dataclass(frozen=True, slots=True)
class DeviceView:
    """What is shown of one child.  Text is sanitised, times are microseconds since the epoch.

    state, substate, reason: as org.gatewayd1(5) lists them.  explanation and remedy are sentences.
    admission: "none", or a word of `Admission`.  secret_state: "none", "stored" or "lost".
    proof: how well its identity is proven, a word of `Trust`.
    identity: the strongest claim it is known by, as "mac 5026ef000001"; "" where there is none.
    cloud_id: "product/name"; "" where it has none.
    history: its newest steps, oldest first, bounded.
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
    proof: str
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
    history: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class ManagerView:
    """What is shown of the gateway as a whole.

    state: "starting", "running", "degraded", "sealed" or "stopping".
    protection: a word of `Protection`.
    counters: discovery's counters, as "mdns/lo:dropped:oversized".
    join_until: when the join window will close, microseconds since the epoch; 0 if it is closed.
    """

    version: str
    state: str
    protection: str
    providers: tuple[str, ...]
    started: int
    counters: Mapping[str, int] = field(default_factory=dict)
    join_until: int = 0


class Reporter(Protocol):
    """Shows what it is told.  Called on the asyncio thread; never blocks."""

    def show(self, view: DeviceView) -> None:
        """Show a child, new or changed."""

    def remove(self, device: DeviceId) -> None:
        """Show a child no more."""

    def show_manager(self, view: ManagerView) -> None:
        """Show the gateway as a whole."""


class Commands(Protocol):
    """What an operator may ask for.  Called on the asyncio thread.  All raise CallerError.

    device: an id, a unique beginning of one, or a cloud id ("product/name").
    caller: who asks, as "uid 1000", for the record.
    """

    async def approve(self, device: str, provider: str, caller: str) -> None:
        """Admit a child that waits; provider "" takes the rule's.  On record when it returns."""

    async def reject(self, device: str, reason: str, caller: str) -> None:
        """Keep a child out.  On record when it returns."""

    async def retry(self, device: str, caller: str) -> None:
        """Try again now what waits or has failed."""

    async def reregister(self, device: str, again: str, caller: str) -> None:
        """Register anew a child that was reset at the cloud; `again` repeats the id."""

    async def rename(self, device: str, label: str, caller: str) -> None:
        """Give a child another name to show."""

    async def forget(self, device: str, caller: str) -> None:
        """Remove a child's record and its secrets."""

    async def permit_join(self, seconds: int, options: Mapping[str, object], caller: str) -> None:
        """Open the join window for so many seconds, at most 900; 0 closes it.

        options: its scope: the texts "interface", "protocol" and "rule", the number "max-devices".
        """

    async def reload(self, caller: str) -> None:
        """Read the configuration again.  Raises ConfigError; then the old one stays."""

    def resolve(self, device: str) -> DeviceId:
        """Return the id meant.  Raises NoSuchDevice, AmbiguousId."""

    def test_admission(self, device: str) -> tuple[str, str, tuple[str, ...]]:
        """Return action, rule and reasons that policy would give a child now."""

    def list_rules(self) -> tuple[tuple[str, str, str, int], ...]:
        """Return name, action, provider and hits of each rule, in order."""
