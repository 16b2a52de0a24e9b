"""What the objects on the bus show: the views of all children, and the properties of the others."""

from __future__ import annotations

import fnmatch
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from gatewayd.dbus.glib import Variant
from gatewayd.dbus.interfaces import Interface
from gatewayd.dbus.methods import BoundMethods
from gatewayd.dbus.names import (
    LOG_CONTROL,
    PROPERTIES_CHANGED,
    PROVIDER,
    SECRET_STORE,
    ObjectInterface,
)
from gatewayd.dbus.variants import properties_changed
from gatewayd.device.identity import DeviceId
from gatewayd.device.reason import NONE
from gatewayd.device.views import (
    CommandStatistics,
    DeviceView,
    EndedCommand,
    Facts,
    ManagerView,
    MessageCounts,
    MessagesView,
    SiteView,
)
from gatewayd.errors import InvalidArgs

PAGE, MAX_PAGE = 500, 1000  # rows
MAX_PATTERN = 64  # characters of a glob, or of a text that is searched for
FILTERS = ("state", "provider", "rule", "trust", "protocol")
PATTERNS = ("glob", "text")

DeviceFilter = Callable[[DeviceView], bool]


class DeviceViews:
    """The views of all children: by id, ordered, counted, and in pages."""

    def __init__(self) -> None:
        self._views: dict[DeviceId, DeviceView] = {}
        self._ordered: list[DeviceId] | None = []
        self._counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._views)

    def __iter__(self) -> Iterator[DeviceView]:
        """Yield the views, ordered by id."""
        return (self._views[device] for device in self._order())

    def get(self, device: str) -> DeviceView | None:
        """Return the view of this full id."""
        return self._views.get(DeviceId(device))

    def put(self, view: DeviceView) -> DeviceView | None:
        """Set the view of a child; return the one before."""
        before = self._views.get(view.id)
        if before is None:
            self._ordered = None
        else:
            self._counts[before.state] -= 1
        self._views[view.id] = view
        self._counts[view.state] += 1
        return before

    def drop(self, device: DeviceId) -> DeviceView | None:
        """Remove the view of a child, and return it."""
        view = self._views.pop(device, None)
        if view is not None:
            self._ordered = None
            self._counts[view.state] -= 1
        return view

    def next_attempts(self) -> dict[str, int]:
        """Return when each child is tried again that waits, microseconds since the epoch."""
        return {one.id: one.next_attempt for one in self if one.next_attempt}

    def counts(self) -> dict[str, int]:
        """Return how many children are in each state that has any."""
        return {state: n for state, n in sorted(self._counts.items()) if n}

    def page(
        self, device_filter: DeviceFilter, after: str, limit: int
    ) -> tuple[list[DeviceView], str]:
        """Return up to `limit` views that come after this id, and where to go on; "" at the end."""
        size = min(limit or PAGE, MAX_PAGE)
        ids = self._order()
        start = bisect_right(ids, DeviceId(after)) if after else 0
        views = (self._views[device] for device in islice(ids, start, None))
        found = list(islice(filter(device_filter, views), size + 1))
        return found[:size], found[size - 1].id if len(found) > size else ""

    def _order(self) -> list[DeviceId]:
        if self._ordered is None:
            self._ordered = sorted(self._views)
        return self._ordered


def device_filter(filters: Mapping[str, object]) -> DeviceFilter:
    """Turn the filters of ListDevicesFiltered into one test.  Raises InvalidArgs."""
    for key, value in filters.items():
        if key not in (*FILTERS, *PATTERNS):
            raise InvalidArgs(f"Filter must be one of {', '.join((*FILTERS, *PATTERNS))}")
        if not isinstance(value, str):
            raise InvalidArgs(f"Filter {key} must be a string")
        if key in PATTERNS and len(value) > MAX_PATTERN:
            raise InvalidArgs(f"Filter {key} must have at most {MAX_PATTERN} characters")
    texts = {key: str(value) for key, value in filters.items()}
    glob = re.compile(fnmatch.translate(texts.pop("glob"))) if "glob" in texts else None
    part = texts.pop("text", "").casefold()

    def fits(view: DeviceView) -> bool:
        if any(getattr(view, key) != value for key, value in texts.items()):
            return False
        if part and not any(part in text.casefold() for text in _searched(view)):
            return False
        return glob is None or any(glob.match(text) for text in (view.id, view.name))

    return fits


def _searched(view: DeviceView) -> Iterator[str]:
    """Yield what a text may be part of."""
    yield from (view.id, view.name, view.identity, view.model, view.vendor, view.cloud_id)
    yield from view.addresses


FEATURES = (
    "object-manager", "paging", "join-window", "polkit", "secret-store", "providers",
    "log-control", "dump", "discover", "messages", "decisions", "search", "site",
)  # fmt: skip
"""The property Features: clients find here what later versions add."""

PROPERTIES: Mapping[str, Mapping[str, str]] = {
    SECRET_STORE: {
        "Backend": "backend", "Protection": "protection", "State": "state",
        "Explanation": "explanation", "NSecrets": "n_secrets", "KeyId": "key_id",
        "KeyCreatedTimestamp": "key_created", "RecoverySlots": "recovery_slots",
    },
    PROVIDER: {
        "Id": "id", "Kind": "kind", "Endpoint": "endpoint", "State": "state", "Reason": "reason",
        "Explanation": "explanation", "Remedy": "remedy", "NDevices": "n_devices",
        "NQueued": "n_queued", "CertificateExpiryTimestamp": "certificate_expiry",
    },
    LOG_CONTROL: {"LogLevel": "level", "LogTarget": "target", "SyslogIdentifier": "identifier"},
}  # fmt: skip
"""Property to field of the view, for each interface that has properties of a view alone."""

Read = Callable[[Any, str], object]


@dataclass(frozen=True, slots=True)
class ExportedObject:
    """One interface of one object that is served from the start to the end.

    view: what it shows at first; None where it has no properties.
    methods: its methods with their implementation; none where the configuration has none.
    provider: the cloud that it belongs to, for polkit; "" for none.
    """

    location: ObjectInterface
    view: object
    methods: BoundMethods = field(default_factory=dict)
    provider: str = ""


class ObjectProperties:
    """The properties of an exported interface, as they are and as they were last announced.

    read: returns the value of a property of a view.
    """

    def __init__(self, exported: ExportedObject, interface: Interface, read: Read) -> None:
        self.exported, self.view = exported, exported.view
        self._interface, self._read = interface, read
        self._announced: dict[str, object] = {}

    def property(self, name: str) -> Variant:
        """Return the value of one property."""
        return Variant(self._interface.properties[name], self._read(self.view, name))

    def changed(self) -> Variant | None:
        """Return the arguments of PropertiesChanged, and take them as announced; None for none."""
        now = {name: self._read(self.view, name) for name in self._interface.announced}
        names = [name for name, value in now.items() if self._announced.get(name) != value]
        self._announced = now
        if not names:
            return None
        return properties_changed(self._interface.name, {n: self.property(n) for n in names})

    def announce(self, emit: Callable[[str, str, Variant], None]) -> None:
        """Announce what has changed."""
        changed = self.changed()
        if changed is not None:
            emit(self.exported.location.path, PROPERTIES_CHANGED, changed)


def read_field(interface: str) -> Read:
    """Return what reads a property from the view of an interface."""
    fields = PROPERTIES.get(interface, {})
    return lambda view, name: getattr(view, fields[name])


def read_messages(view: MessagesView, name: str) -> object:
    """Read a property of org.gatewayd1.Messages."""
    return _MESSAGES[name](view)


def read_site(view: SiteView, name: str) -> object:
    """Read a property of org.gatewayd1.Site."""
    return _SITE[name](view)


def read_manager(fleet: DeviceViews) -> Read:
    """Return what reads a property of org.gatewayd1.Manager."""
    return lambda view, name: _MANAGER[name](view, fleet)


_MANAGER: Mapping[str, Callable[[ManagerView, DeviceViews], object]] = {
    "Version": lambda view, _: view.version,
    "Features": lambda _, __: FEATURES,
    "State": lambda view, _: view.state,
    "Protection": lambda view, _: view.protection,
    "Providers": lambda view, _: view.providers,
    "JoinState": lambda view, _: "open" if view.join_until else "closed",
    "JoinUntilTimestamp": lambda view, _: view.join_until,
    "JoinRules": lambda view, _: view.join_rules,
    "RestartNeeded": lambda view, _: view.restart_needed,
    "NDevices": lambda _, fleet: len(fleet),
    "NPending": lambda _, fleet: fleet.counts().get("pending", 0),
    "NFailed": lambda _, fleet: fleet.counts().get("failed", 0),
    "Counters": lambda view, _: dict(view.counters),
    "StartTimestamp": lambda view, _: view.started,
}

MESSAGE_PROTECTION = "none"
"""What protects the messages that wait from a thief of the disk: the outbox is not encrypted."""

_MESSAGES: Mapping[str, Callable[[MessagesView], object]] = {
    "State": lambda view: view.state,
    "Reason": lambda view: view.reason.code,
    "Explanation": lambda view: view.reason.text,
    "Remedy": lambda view: view.reason.remedy,
    "Protection": lambda _: MESSAGE_PROTECTION,
    "NWaiting": lambda view: view.total.waiting,
    "BytesWaiting": lambda view: view.total.bytes,
    "OldestTimestamp": lambda view: view.total.oldest,
    "Received": lambda view: view.total.received,
    "Sent": lambda view: view.total.sent,
    "Dropped": lambda view: dict(view.total.dropped),
    "Commands": lambda view: command_counts(view.commands),
    "Doors": lambda view: [
        (one.name, one.state, one.explanation, one.counts.received, dict(one.counts.dropped))
        for one in view.doors
    ],
}

_SITE: Mapping[str, Callable[[SiteView], object]] = {
    "Mode": lambda view: view.mode.value,
    "State": lambda view: view.state.value,
    "Reason": lambda view: view.reason.code,
    "Explanation": lambda view: view.reason.text,
    "Remedy": lambda view: view.reason.remedy,
    "Name": lambda view: view.name,
    "Gateway": lambda view: view.gateway,
    "Share": lambda view: view.share,
    "Fingerprint": lambda view: view.fingerprint,
    "SiteFingerprint": lambda view: view.site_fingerprint,
    "Epoch": lambda view: view.epoch,
    "Gateways": lambda view: [
        (one.name, one.standing.value, one.version, one.fingerprint, one.shards)
        for one in view.gateways
    ],
    "Shards": lambda view: [(one.shard, one.gateway, one.token) for one in view.shards],
    "NOwned": lambda view: view.owned,
    "NChanging": lambda view: view.changing,
    "NTakenOver": lambda view: view.taken_over,
    "QuorumLostTimestamp": lambda view: view.lost_at,
    "SecondsLeft": lambda view: view.left,
    "NReplicated": lambda view: view.replicated,
    "NUnwritten": lambda view: view.unwritten,
    "ReplicationFault": lambda view: view.replication_fault,
    "NContested": lambda view: view.contested,
    "NYielded": lambda view: view.yielded,
}

MessageRow = tuple[str, int, int, int, int, int, int]


def message_rows(view: MessagesView, after: str, limit: int) -> tuple[list[MessageRow], str]:
    """Return a page of the children that have sent messages, and where to go on; "" at the end.

    after, limit: as of `DeviceViews.page`.
    """
    size = min(limit or PAGE, MAX_PAGE)
    ids = sorted(view.children)
    start = bisect_right(ids, DeviceId(after)) if after else 0
    page = ids[start : start + size]
    rows = [_message_row(device, view.children[device]) for device in page]
    return rows, page[-1] if start + size < len(ids) else ""


def _message_row(device: DeviceId, counts: MessageCounts) -> MessageRow:
    waits = counts.waiting, counts.bytes, counts.oldest
    return device, *waits, counts.received, counts.sent, sum(counts.dropped.values())


def message_facts(view: MessagesView, device: DeviceId) -> Facts:
    """Return what is known of the messages of a child."""
    counts = view.children.get(device, MessageCounts())
    refusal = view.refusals.get(device, NONE)
    return {
        "Door": view.entrances.get(device, ""),
        "NWaiting": counts.waiting,
        "BytesWaiting": counts.bytes,
        "OldestTimestamp": counts.oldest,
        "Received": counts.received,
        "Sent": counts.sent,
        "Dropped": [f"{reason} {n}" for reason, n in sorted(counts.dropped.items())],
        "RefusalReason": refusal.code,
        "RefusalExplanation": refusal.text,
        "RefusalRemedy": refusal.remedy,
        "Commands": [command_line(one) for one in view.commands.last.get(device, ())],
    }


def command_counts(commands: CommandStatistics) -> dict[str, int]:
    """Return the counts of commands by word: what became of them, and how they ended."""
    return {
        "received": commands.received,
        "sent": commands.sent,
        "waiting": commands.waiting,
        "repeated": commands.repeated,
        "late-answer": commands.late,
        "unanswered": commands.unanswered,
        **commands.ended,
    }


def command_line(one: EndedCommand) -> str:
    """Return a command that has ended in words: when, which, how, and in which time."""
    at = datetime.fromtimestamp(one.at / 1_000_000, UTC)
    which = f"{one.kind} {one.name}".rstrip() + (f" ({one.identifier})" if one.identifier else "")
    return f"{at:%Y-%m-%dT%H:%M:%SZ} {which}: {one.outcome} after {one.milliseconds} ms"
