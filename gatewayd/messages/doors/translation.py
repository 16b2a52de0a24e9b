"""What a door makes of a broker's message: a message of a child, or why it is none.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol, TypeAlias

from gatewayd.device.identity import DeviceId
from gatewayd.messages.doors.children import ChildDirectory
from gatewayd.messages.doors.packets import MAX_CORRELATION, PublishPacket
from gatewayd.messages.doors.site.topic_pattern import ChildKey


class Unread(StrEnum):
    """Why a broker's message is no message of a child."""

    UNKNOWN_CHILD = "unknown-child"  # no admitted child is meant
    TOO_LARGE = "too-large"
    TOPIC = "topic-not-read"  # no entry of the table has it
    RETAINED = "retained"  # an old value, which the broker has kept
    UNREADABLE = "unreadable"  # the payload is not of the format
    NO_VALUE = "no-value"  # it has none of the values that are named


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where the outcome of a message is wanted.  correlation: repeated with it."""

    topic: str
    correlation: bytes


class ChildMessage(NamedTuple):
    """A message of a child, as `IncomingMessage` has it."""

    child: DeviceId
    topic: str
    payload: bytes


Translated: TypeAlias = ChildMessage | Unread


class Translator(Protocol):
    """What makes messages of children of those of one broker.

    filters: the topics to subscribe to.
    """

    filters: Sequence[str]

    def translate(self, message: PublishPacket) -> Translated:
        """Return the message of a child, or why there is none.  Never blocks."""

    def receipt(self, message: PublishPacket) -> Receipt | None:
        """Return where its outcome is wanted; None where it is not, or may not be."""


# gatewayd's own broker.

_UP, _DOWN = "up", "down"
_MAX_REMAINDER = 256
"""Characters of a topic after `c/CHILD/up/`."""


class OwnTopics:
    """The topics of gatewayd's own broker: `c/CHILD/up/…` is what a child says.

    stranger: called for who speaks and is not admitted: the broker has checked that it is who it
    says, as no other user may publish there.
    """

    filters: Sequence[str] = ("c/+/up/#",)

    def __init__(
        self, children: ChildDirectory, stranger: Callable[[DeviceId], None] = lambda _: None
    ) -> None:
        self._children, self._stranger = children, stranger

    def translate(self, message: PublishPacket) -> Translated:
        """Return what a child says."""
        name, way, rest = _split(message.topic)
        if way != _UP or not rest or len(rest) > _MAX_REMAINDER or not rest.isprintable():
            return Unread.TOPIC
        if message.retained:
            return Unread.RETAINED
        child = self._children.find(ChildKey.ID, name)
        if child is None:
            self._stranger(DeviceId(name))
            return Unread.UNKNOWN_CHILD
        return Unread.TOO_LARGE if message.too_large else ChildMessage(child, rest, message.payload)

    def receipt(self, message: PublishPacket) -> Receipt | None:
        """Return where a child wants the outcome: below `c/CHILD/down/`, and for the same child.

        gatewayd may write everywhere, and no child speaks to another through it.
        """
        if not (topic := message.response_topic):
            return None
        name, way, _ = _split(message.topic)
        child, down, rest = _split(topic)
        if (way, down, child) != (_UP, _DOWN, name) or not rest or len(topic) > _MAX_REMAINDER:
            return None
        if set(topic) & set("+#") or len(message.correlation) > MAX_CORRELATION:
            return None
        return Receipt(topic, message.correlation)


def _split(topic: str) -> tuple[str, str, str]:
    """Return child, way and remainder of a topic; empty texts where it is another."""
    first, *parts = topic.split("/", 3)
    name, way, rest = (*parts, "", "", "")[:3]
    return (name, way, rest) if first == "c" and name else ("", "", "")


def status_topic(child: DeviceId) -> str:
    """Return the topic of what a child is shown of its cloud."""
    return f"c/{child}/{_DOWN}/status"
