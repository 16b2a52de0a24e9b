"""The dialects of a configuration: what is read for them, and what may be published.  Pure.

The main process asks nothing but what stands here, whatever a discoverer requests of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from gatewayd.discovery.births.home_assistant import home_assistant
from gatewayd.discovery.births.open_firmware import esphome, tasmota
from gatewayd.discovery.births.port import BirthNews, BirthQuestion, Dialect, Status, Subscription
from gatewayd.discovery.births.reading import is_level, status_text
from gatewayd.discovery.births.settings import BirthsSettings, DialectName
from gatewayd.discovery.births.shelly import gen1, gen2
from gatewayd.discovery.births.sparkplug import sparkplug
from gatewayd.discovery.births.thin_edge import thin_edge
from gatewayd.discovery.births.zigbee2mqtt import zigbee2mqtt

_MADE: Mapping[DialectName, Callable[[BirthsSettings], Dialect]] = {
    DialectName.TASMOTA: lambda _: tasmota(),
    DialectName.ESPHOME: lambda _: esphome(),
    DialectName.SHELLY_GEN1: lambda _: gen1(),
    DialectName.SHELLY: lambda _: gen2(),
    DialectName.ZIGBEE2MQTT: lambda settings: zigbee2mqtt(settings.zigbee2mqtt_base),
    DialectName.HOME_ASSISTANT: lambda settings: home_assistant(settings.home_assistant_prefix),
    DialectName.SPARKPLUG: lambda _: sparkplug(),
    DialectName.THIN_EDGE: lambda settings: thin_edge(settings.thin_edge_root),
}


def dialects_of(settings: BirthsSettings) -> tuple[Dialect, ...]:
    """Return the dialects, with one for the further topics of availability."""
    made = tuple(_MADE[name](settings) for name in settings.dialects)
    if not settings.availability:
        return made
    return *made, Dialect("availability", tuple(map(Subscription, settings.availability)), _status)


def _status(topic: str, payload: bytes) -> Iterator[BirthNews]:
    yield Status(topic, status_text(payload))


def subscriptions_of(dialect: Dialect, *, ask: bool) -> tuple[Subscription, ...]:
    """Return what is read for a dialect."""
    return (*dialect.subscriptions, *dialect.asked) if ask else dialect.subscriptions


@dataclass(frozen=True, slots=True)
class AskedTopic:
    """One publication that is allowed.  every: least seconds between two of it."""

    topic: str
    payload: bytes
    every: float


class BirthPlan:
    """What the main process does for one discoverer.

    name: of its section.  doors: where it reads.
    subscriptions: what it reads there, each filter once.
    """

    def __init__(self, name: str, settings: BirthsSettings) -> None:
        self.name, self.doors = name, settings.doors
        dialects = dialects_of(settings)
        wanted = [one for made in dialects for one in subscriptions_of(made, ask=settings.ask)]
        self.subscriptions: Sequence[Subscription] = tuple(
            {one.filter: one for one in wanted}.values()
        )
        asked = dialects if settings.ask else ()
        self._to_all = {one.name: one.all_question for one in asked if one.all_question}
        self._to_one = {one.name: one.one_question for one in asked if one.one_question}

    def question(self, dialect: str, names: Sequence[str]) -> AskedTopic | None:
        """Return what is published for a question; None where that is not allowed."""
        found = self._to_one.get(dialect) if names else self._to_all.get(dialect)
        return fill(found, names) if found is not None else None


def fill(question: BirthQuestion, names: Sequence[str]) -> AskedTopic | None:
    """Return a question with its names; None where these do not fit its topic."""
    parts = question.topic.split("{}")
    if len(names) != len(parts) - 1 or not all(map(is_level, names)):
        return None
    topic = parts[0] + "".join(name + part for name, part in zip(names, parts[1:], strict=True))
    return AskedTopic(topic, question.payload, question.every)
