"""Patterns of topics: which topics are meant, and what a topic says of its child.  Pure.

A pattern is a topic filter of MQTT (5.0, 4.7) in which a level may hold one placeholder:

    zigbee2mqtt/{name}                     the level is the child's name at its cloud
    shellyplusht-{mac}/events/rpc          the rest of the level is the child's MAC
    esphome/{name}/sensor/{key}/state      {key} is the name of a property, or of an event
    tasmota/{mac|upper}/cmnd               written in upper case, where a topic is made of it
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from gatewayd.network.mqtt_rules import covers

MAX_TOPIC = 512
"""Characters of a topic or a pattern."""


class ChildKey(StrEnum):
    """What identifies a child in a topic or a payload."""

    ID = "id"  # gatewayd's own: child-…
    NAME = "name"  # at its cloud
    SERIAL = "serial"
    MAC = "mac"
    UUID = "uuid"


KEY = "key"
"""The placeholder for the name of a property or an event."""

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_NAMES = frozenset({*ChildKey, KEY})
_FORMS: Mapping[str, Callable[[str], str]] = {"": str, "upper": str.upper, "lower": str.lower}
_FORBIDDEN = frozenset("/+#\0")
"""What no level of a topic may hold (MQTT 5.0, 4.7)."""

Found: TypeAlias = Mapping[str, str]
"""What a topic says, by the name of the placeholder; never an empty text."""


class BadPattern(ValueError):
    """A pattern is invalid; the text completes the sentence "topic …"."""


@dataclass(frozen=True, slots=True)
class _Level:
    """One level of a pattern.

    name: of its placeholder; "" where it is plain text.  form: how that is written.
    """

    before: str
    name: str = ""
    after: str = ""
    form: str = ""

    def match(self, text: str, found: dict[str, str]) -> bool:
        """Whether a level of a topic fits; what the placeholder stands for goes into `found`."""
        if not self.name:
            return self.before in ("+", text)
        length = len(self.before) + len(self.after)
        if len(text) <= length or not (text.startswith(self.before) and text.endswith(self.after)):
            return False
        found[self.name] = text[len(self.before) : len(text) - len(self.after)]
        return True


class TopicPattern:
    """A pattern, parsed.  Raises BadPattern."""

    def __init__(self, text: str) -> None:
        self.text = text
        parts = text.split("/")
        self._rest = parts[-1] == "#"
        self._levels = tuple(_levels(text, parts[:-1] if self._rest else parts))
        self.names = frozenset(level.name for level in self._levels if level.name)
        self.filter = "/".join(
            [*("+" if level.name else level.before for level in self._levels)]
            + (["#"] if self._rest else [])
        )

    def match(self, topic: str) -> Found | None:
        """Return what a topic says; None where it is not meant.

        A topic that begins with $ is not meant by a wildcard in the first place (4.7.2).
        """
        parts = topic.split("/")
        fits = len(parts) >= len(self._levels) if self._rest else len(parts) == len(self._levels)
        if not fits or (topic.startswith("$") and self.filter[:1] in ("+", "#")):
            return None
        found: dict[str, str] = {}
        matched = all(level.match(part, found) for level, part in zip(self._levels, parts))  # noqa: B905  # the rest is what # stands for
        return found if matched else None

    @property
    def has_wildcard(self) -> bool:
        """Whether it means more topics than placeholders say."""
        return self._rest or any(level.before == "+" and not level.name for level in self._levels)

    def fill(self, texts: Mapping[str, str]) -> str:
        """Return the topic in which placeholders stand for these texts; "" where that is none."""
        filled = []
        for level in self._levels:
            text = _FORMS[level.form](texts.get(level.name, "")) if level.name else ""
            if level.name and (not text or not text.isprintable() or _FORBIDDEN & set(text)):
                return ""
            filled.append(level.before + text + level.after)
        topic = "/".join(filled)
        return topic if len(topic) <= MAX_TOPIC else ""

    def __repr__(self) -> str:
        return f"TopicPattern({self.text!r})"


def _levels(text: str, parts: Iterable[str]) -> Iterator[_Level]:
    if not text or len(text) > MAX_TOPIC or not text.isprintable():
        raise BadPattern(f"must be 1 to {MAX_TOPIC} printable characters")
    used: set[str] = set()
    for part in parts:
        placeholders = _PLACEHOLDER.findall(part)
        if not placeholders:
            if set(part) & set("{}") or (set(part) & set("+#") and part != "+"):
                raise BadPattern("must have + as a whole level, # as the last, and no other braces")
            yield _Level(part)
            continue
        before, named, after = _PLACEHOLDER.split(part, 1)
        name, _, form = named.partition("|")
        if len(placeholders) > 1 or set(before + after) & set("{}+#"):
            raise BadPattern("must have one placeholder in a level, and no wildcard beside it")
        if name not in _NAMES:
            raise BadPattern(f"must have no other placeholders than {', '.join(sorted(_NAMES))}")
        if form not in _FORMS or named.endswith("|"):
            raise BadPattern("must have no other form of a placeholder than |upper and |lower")
        if name in used or (name != KEY and used - {KEY}):
            raise BadPattern("must identify its child once")
        used.add(name)
        yield _Level(before, name, after, form)


def without_overlap(filters: Iterable[str]) -> tuple[str, ...]:
    """Return the filters that are not covered by another, each once and in order.

    A broker may send a message once for each subscription that means it (3.3.4).
    """
    unique = tuple(dict.fromkeys(filters))
    return tuple(
        one for one in unique if not any(covers(other, one) for other in unique if other != one)
    )
