"""What the messages of a site's broker mean, by the table of topics in the configuration.  Pure.

The first entry whose pattern fits a topic counts.  It says which child is meant, and what becomes
of the payload: properties or an event in the neutral form, or the payload as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from gatewayd.device.identity import DeviceId
from gatewayd.device.message import EVENTS, PROPERTIES
from gatewayd.messages.door_settings import DoorSettings, PayloadFormat, TopicSettings, is_property
from gatewayd.messages.doors.children import ChildDirectory
from gatewayd.messages.doors.packets import PublishPacket
from gatewayd.messages.doors.site.json_path import (
    BadDocument,
    JsonValue,
    find,
    parse_path,
    read_document,
)
from gatewayd.messages.doors.site.sparkplug import BadPayload, SparkplugNodes
from gatewayd.messages.doors.site.topic_pattern import (
    KEY,
    ChildKey,
    Found,
    TopicPattern,
    without_overlap,
)
from gatewayd.messages.doors.site.values import (
    JsonValues,
    Scalar,
    converted,
    from_text,
    neutral,
    present,
    scalar,
)
from gatewayd.messages.doors.translation import ChildMessage, Receipt, Translated, Unread

_Values: TypeAlias = tuple[dict[str, Scalar], int | None]
"""Values by name, and when they were measured."""

_VALUE = "value"
"""The name of the value of an event that has one, and no name for it."""


class SiteTopics:
    """The table of one broker's topics.  Implements Translator."""

    def __init__(self, settings: DoorSettings, children: ChildDirectory) -> None:
        self._children, self._names = children, settings.children
        nodes = SparkplugNodes()
        self._entries = [_Entry(one, nodes) for one in settings.topics]
        self.filters: Sequence[str] = without_overlap(
            entry.pattern.filter for entry in self._entries
        )

    def translate(self, message: PublishPacket) -> Translated:
        """Return the message of a child, or why there is none."""
        if message.retained:
            return Unread.RETAINED
        for entry in self._entries:
            if (found := entry.pattern.match(message.topic)) is not None:
                return self._read(entry, found, message)
        return Unread.TOPIC

    def receipt(self, message: PublishPacket) -> Receipt | None:  # noqa: ARG002  # the port's argument
        """Return None: nothing is written to a broker of the site."""
        return None

    def _read(self, entry: _Entry, found: Found, message: PublishPacket) -> Translated:
        if message.too_large:
            return Unread.TOO_LARGE
        child = None
        if not entry.is_read_first and (child := self._child(entry, found, None)) is None:
            return Unread.UNKNOWN_CHILD
        try:
            document = entry.document(message)
        except (BadDocument, BadPayload):
            return Unread.UNREADABLE
        if child is None and (child := self._child(entry, found, document)) is None:
            return Unread.UNKNOWN_CHILD
        return entry.message(child, found, document, message.payload)

    def _child(self, entry: _Entry, found: Found, document: JsonValue) -> DeviceId | None:
        if entry.child:
            return self._named(entry.child)
        key, text = entry.identity(found, document)
        name = self._names.get(text)
        return self._named(name) if name is not None else self._children.find(key, text)

    def _named(self, name: str) -> DeviceId | None:
        """Return the child that the configuration names: by its id, or its name at the cloud."""
        by_id = self._children.find(ChildKey.ID, name)
        return by_id or self._children.find(ChildKey.NAME, name)


class _Entry:
    """One entry of the table, parsed."""

    def __init__(self, settings: TopicSettings, nodes: SparkplugNodes) -> None:
        self.pattern = TopicPattern(settings.topic)
        self.format, self.into, self.child = settings.format, settings.into, settings.child
        self._nodes = nodes
        self._child_path, self._child_by = settings.child_path, settings.child_by
        self._wanted = settings.all_values()
        is_json = settings.format is PayloadFormat.JSON
        # the payload names the child; or it is a birth, by which others are read
        self.is_read_first = bool(self._child_path) or settings.format is PayloadFormat.SPARKPLUG
        self._json = JsonValues(self._wanted, settings.time) if is_json else None

    def document(self, message: PublishPacket) -> JsonValue:
        """Return what a payload holds.  Raises BadDocument, BadPayload."""
        match self.format:
            case PayloadFormat.JSON:
                return read_document(message.payload)
            case PayloadFormat.PLAIN:
                return from_text(message.payload)
            case PayloadFormat.SPARKPLUG:
                return self._nodes.read(message.topic, message.payload) or ({}, None)
            case PayloadFormat.RAW:
                return None

    def identity(self, found: Found, document: JsonValue) -> tuple[ChildKey, str]:
        """Return by what the child is meant, and the text for it; "" for none."""
        if self._child_path:
            value = find(document, parse_path(self._child_path))
            is_text = isinstance(value, str | int) and not isinstance(value, bool)
            return self._child_by, str(value) if is_text else ""
        (key,) = self.pattern.names - {KEY}
        return ChildKey(key), found[key]

    def message(
        self, child: DeviceId, found: Found, document: JsonValue, payload: bytes
    ) -> Translated:
        """Return what a child says."""
        if self.format is PayloadFormat.RAW:
            return ChildMessage(child, self.into, payload)
        values, time = self.values(found, document)
        topic = self.target(found)
        if not topic or not values:
            return Unread.NO_VALUE
        return ChildMessage(child, topic, neutral(values, time))

    def target(self, found: Found) -> str:
        """Return the topic of the neutral form; "" where the event's name is no name."""
        if self.into == PROPERTIES:
            return PROPERTIES
        name = self.into.removeprefix(EVENTS)
        name = found[KEY] if name == f"{{{KEY}}}" else name
        return EVENTS + name if is_property(name) else ""

    def values(self, found: Found, document: JsonValue) -> _Values:
        """Return the values of a document."""
        if self.format is PayloadFormat.SPARKPLUG:
            metrics, time = document
            return self._metrics(metrics), time
        if self._json is None:
            return self._single(found, document), None
        names_property = KEY in found and self.into == PROPERTIES
        if names_property and not self._wanted:
            values = present(iter([(found[KEY], scalar(document))]))
        else:
            values = self._json.read(document)
        return values, self._json.time(document)

    def _single(self, found: Found, value: Scalar | None) -> dict[str, Scalar]:
        """Return the one value of a text."""
        for name, settings in self._wanted.items():
            return present(iter([(name, converted(value, settings))]))
        name = found[KEY] if self.into == PROPERTIES else _VALUE
        return present(iter([(name, value)]))

    def _metrics(self, metrics: Mapping[str, Scalar]) -> dict[str, Scalar]:
        if not self._wanted:
            return present(iter(metrics.items()))
        return present(
            (name, converted(metrics.get(one.path), one)) for name, one in self._wanted.items()
        )
