"""Signals: changes are gathered, and the latest of each child is announced, in bounded numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from gatewayd.dbus.glib import Connection, Variant
from gatewayd.dbus.names import (
    DEVICE,
    DEVICES,
    MANAGER,
    OBJECT_MANAGER,
    PROPERTIES_CHANGED,
    ROOT,
    device_path,
)
from gatewayd.dbus.objects import DeviceViews
from gatewayd.dbus.variants import DeviceVariants, row_of, texts
from gatewayd.device.identity import DeviceId
from gatewayd.device.views import DeviceView

MAX_ROWS = 500  # rows and ids in one DevicesChanged


@dataclass(frozen=True, slots=True)
class DeviceChange:
    """A child as it was last announced, and as it is; None where there is none."""

    device: DeviceId
    before: DeviceView | None
    now: DeviceView | None


@dataclass(slots=True)
class PendingChanges:
    """The children that have changed since they were last announced, each as it was then."""

    _announced: dict[DeviceId, DeviceView | None] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._announced)

    def note(self, device: DeviceId, before: DeviceView | None) -> None:
        """Note that a child has changed.  before: its view until now."""
        self._announced.setdefault(device, before)

    def take(self, limit: int, devices: DeviceViews) -> list[DeviceChange]:
        """Return the oldest changes, of at most `limit` children, without what changed back."""
        taken = [device for device, _ in zip(self._announced, range(limit), strict=False)]
        changes = (DeviceChange(d, self._announced.pop(d), devices.get(d)) for d in taken)
        return [change for change in changes if change.before != change.now]

    def clear(self) -> None:
        """Take all as announced."""
        self._announced.clear()


def needs_approval(change: DeviceChange) -> bool:
    """Whether the child has become pending."""
    before = change.before.state if change.before else ""
    return change.now is not None and change.now.state == "pending" != before


def registration(change: DeviceChange) -> tuple[str, str] | None:
    """Return result and reason if a registration has ended; else None."""
    before, now = change.before, change.now
    if before is None or now is None:
        return None
    if now.registered not in (0, before.registered):
        return "ok", ""
    if now.state == "failed" != before.state and not now.registered:
        return "failed", now.reason
    return None


def batches(changes: list[DeviceChange]) -> Iterator[tuple[list[DeviceView], list[DeviceId]]]:
    """Yield the rows and the removed ids of each DevicesChanged."""
    for start in range(0, len(changes), MAX_ROWS):
        part = changes[start : start + MAX_ROWS]
        rows = [c.now for c in part if c.now is not None and not _same_row(c.before, c.now)]
        removed = [c.device for c in part if c.now is None]
        if rows or removed:
            yield rows, removed


def _same_row(before: DeviceView | None, now: DeviceView) -> bool:
    return before is not None and row_of(before) == row_of(now)


class SignalEmitter:
    """Sends the signals of children.  Used on the D-Bus thread."""

    def __init__(self, connection: Connection, variants: DeviceVariants) -> None:
        self._emit, self._variants = connection.emit, variants

    def devices(self, changes: list[DeviceChange]) -> None:
        """Announce changes of children."""
        for change in changes:
            self._object(change)
        for rows, removed in batches(changes):
            arguments = (self._variants.rows(rows), Variant("as", removed))
            self._emit(ROOT, f"{MANAGER}.DevicesChanged", Variant.new_tuple(*arguments))
        for change in changes:
            self._events(change)

    def _object(self, change: DeviceChange) -> None:
        path = device_path(change.device)
        if change.now is None:
            arguments = Variant("(oas)", (path, [DEVICE]))
            self._emit(DEVICES, f"{OBJECT_MANAGER}.InterfacesRemoved", arguments)
        elif change.before is None:
            arguments = self._variants.added(change.now)
            self._emit(DEVICES, f"{OBJECT_MANAGER}.InterfacesAdded", arguments)
        elif (changed := self._variants.changed(change.before, change.now)) is not None:
            self._emit(path, PROPERTIES_CHANGED, changed)

    def _events(self, change: DeviceChange) -> None:
        now = change.now
        if now is None:
            return
        if needs_approval(change):
            arguments = texts("(sos)", now.id, device_path(now.id), now.name)
            self._emit(ROOT, f"{MANAGER}.ApprovalNeeded", arguments)
        if (ended := registration(change)) is not None:
            arguments = texts("(ssss)", now.id, now.provider, *ended)
            self._emit(ROOT, f"{MANAGER}.RegistrationFinished", arguments)
