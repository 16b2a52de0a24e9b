"""The settings of births: the doors, the dialects, and whether devices are asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from gatewayd.discovery.births.home_assistant import HOME_ASSISTANT, PREFIX
from gatewayd.discovery.births.open_firmware import ESPHOME, TASMOTA
from gatewayd.discovery.births.port import MAX_TOPIC
from gatewayd.discovery.births.shelly import GEN1, GEN2
from gatewayd.discovery.births.sparkplug import SPARKPLUG
from gatewayd.discovery.births.thin_edge import ROOT, THIN_EDGE
from gatewayd.discovery.births.zigbee2mqtt import ZIGBEE2MQTT
from gatewayd.settings.declare import REQUIRED, setting

MAX_DOORS = 8
MAX_FILTERS = 32


class DialectName(StrEnum):
    """The dialects that are known."""

    TASMOTA = TASMOTA
    ESPHOME = ESPHOME
    SHELLY_GEN1 = GEN1
    SHELLY = GEN2
    ZIGBEE2MQTT = ZIGBEE2MQTT
    HOME_ASSISTANT = HOME_ASSISTANT
    SPARKPLUG = SPARKPLUG
    THIN_EDGE = THIN_EDGE


def _base(text: str) -> str:
    """Return the rule that the first levels of topics break."""
    is_plain = text.isprintable() and 0 < len(text) <= MAX_TOPIC // 4 and not set(text) & set("+#")
    fits = is_plain and not text.startswith(("/", "$")) and not text.endswith("/")
    return "" if fits else "must be levels of a topic, without wildcards and a / at its ends"


def _filter(text: str) -> str:
    """Return the rule that a topic filter breaks (MQTT 5.0, 4.7)."""
    parts = text.split("/")
    fits = text.isprintable() and 0 < len(text) <= MAX_TOPIC and not text.startswith("$")
    fits = fits and all(part == "+" or not set(part) & set("+#") for part in parts)
    return "" if fits and parts != ["+"] else "must be a topic, in which + stands for a whole level"


@dataclass(frozen=True, slots=True)
class BirthsSettings:
    """[discovery.<name>] with kind = "mqtt-births"."""

    doors: tuple[str, ...] = setting(
        REQUIRED, "names of the doors, [messages.doors.NAME], at whose brokers births are read"
    )
    dialects: tuple[DialectName, ...] = setting(
        REQUIRED,
        "the ways in which the devices there announce themselves",
        choices=tuple(DialectName),
    )
    ask: bool = setting(
        False,
        "whether gatewayd may publish what has devices announce themselves, in the dialects that "
        "have a question",
    )
    availability: tuple[str, ...] = setting(
        (),
        "further topics that say whether a device is connected, where it names topics that are not "
        "usual; + stands for a level",
        grammar=_filter,
    )
    zigbee2mqtt_base: str = setting(ZIGBEE2MQTT, "base topic of Zigbee2MQTT", grammar=_base)
    home_assistant_prefix: str = setting(
        PREFIX, "prefix of Home Assistant's discovery topics", grammar=_base
    )
    thin_edge_root: str = setting(ROOT, "first level of the topics of thin-edge.io", grammar=_base)
    max_entries: int = setting(
        4000,
        "devices kept, in equal shares for each door; those that no rule matches leave first, then "
        "the oldest",
        low=16,
        high=20_000,
    )

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with the settings as a whole."""
        if not 0 < len(set(self.doors)) == len(self.doors) <= MAX_DOORS:
            yield f"doors must name 1 to {MAX_DOORS} doors, each once"
        if not 0 < len(set(self.dialects)) == len(self.dialects):
            yield "dialects must name at least one, each once"
        if len(self.availability) > MAX_FILTERS:
            yield f"availability lists {len(self.availability)}; at most {MAX_FILTERS} are read"
