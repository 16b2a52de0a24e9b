"""The dialects of open firmware: Tasmota's discovery, and ESPHome's.  Pure.

Both write their MAC, keep the message at the broker, and have a will that says whether they are
connected.

Sources: Tasmota, xdrv_12_discovery (retained `tasmota/discovery/MAC/config` since 9.2.0, with the
topics as `ft`, `tp` and `t`) and its page on MQTT (LWT, group topics); ESPHome, component mqtt
(`discover_ip`, `birth_message`) and its topics esphome/discover and esphome/ping.
"""

from __future__ import annotations

from collections.abc import Iterator

from gatewayd.discovery.births.port import (
    Alive,
    Announced,
    BirthNews,
    BirthQuestion,
    Dialect,
    Status,
    Subscription,
    Withdrawn,
    Words,
)
from gatewayd.discovery.births.reading import (
    JsonObject,
    attributes,
    claims,
    is_level,
    is_topic,
    mac_claim,
    own_mac,
    read_object,
    status_text,
    text,
    words,
)
from gatewayd.discovery.probing.protocol import Found, UnreadableAnswer

TASMOTA, ESPHOME = "tasmota", "esphome"
ASK_ONE_EVERY = 60.0
"""Seconds between two questions to one device."""
ASK_ALL_EVERY = 900.0
"""Seconds between two questions to all devices."""

_CONFIG = ("tasmota", "discovery", "config")
_PREFIXES = 3  # of commands, of answers and of telemetry
_USUAL_TOPIC = ("%prefix%/%topic%", "cmnd")


def tasmota() -> Dialect:
    """Return the dialect of Tasmota.

    The topic of LWT is known of the two usual forms of a full topic, and with other forms where
    the setting `availability` has it.
    """
    return Dialect(
        TASMOTA,
        (
            Subscription("tasmota/discovery/+/config"),
            Subscription("tele/+/LWT"),
            Subscription("+/tele/LWT"),
        ),
        _read_tasmota,
        asked=(Subscription("stat/+/STATUS"),),
        one_question=BirthQuestion("cmnd/{}/STATUS", b"", ASK_ONE_EVERY, "asks one Tasmota device"),
    )


def _read_tasmota(topic: str, payload: bytes) -> Iterator[BirthNews]:
    levels = topic.split("/")
    if (*levels[:2], levels[-1]) == _CONFIG:
        yield _config(topic, levels[2], read_object(payload)) if payload else Withdrawn(topic)
    elif levels[-1] == "LWT":
        yield Status(topic, status_text(payload))
    elif levels[-1] == "STATUS":
        yield Alive((levels[1],))


def _config(topic: str, named: str, config: JsonObject) -> Announced:
    mac = own_mac(text(config, "mac"))
    if named.lower() != mac:
        raise UnreadableAnswer("mac-not-of-topic")
    label = text(config, "dn", "hn") or mac
    written = (
        ("mac", mac),
        ("name", text(config, "dn")),
        ("model", text(config, "md")),
        ("mqtt.firmware", text(config, "sw")),
        ("mqtt.host", text(config, "hn")),
        ("mqtt.ip", text(config, "ip")),
        ("mqtt.id", text(config, "t")),
    )
    found = Found(
        f"{TASMOTA}/{mac}", claims(mac_claim(mac)), attributes(TASMOTA, written), label, 0.0
    )
    says = words(text(config, "onln") or "Online", text(config, "ofln") or "Offline")
    own, full, prefixes = text(config, "t"), text(config, "ft"), config.get("tp")
    will = ""
    named_so = ("", "")
    if isinstance(prefixes, list) and len(prefixes) == _PREFIXES and own and full:
        command, _, telemetry = map(str, prefixes)
        filled = full.replace("%topic%", own).replace("%prefix%", telemetry)
        filled = filled.replace("%hostname%", text(config, "hn")).replace("%id%", mac[6:].upper())
        will = f"{filled.rstrip('/')}/LWT"
        named_so = (full.rstrip("/"), command)
    return Announced(
        found,
        topic,
        availability={will: says} if is_topic(will) else {},
        question=(own,) if named_so == _USUAL_TOPIC and is_level(own) else (),
    )


def esphome() -> Dialect:
    """Return the dialect of ESPHome."""
    return Dialect(
        ESPHOME,
        (Subscription("esphome/discover/+"), Subscription("+/status")),
        _read_esphome,
        all_question=BirthQuestion(
            "esphome/discover", b"", ASK_ALL_EVERY, "asks all ESPHome nodes"
        ),
        one_question=BirthQuestion("esphome/ping/{}", b"", ASK_ONE_EVERY, "asks one ESPHome node"),
    )


def _read_esphome(topic: str, payload: bytes) -> Iterator[BirthNews]:
    if not topic.startswith("esphome/discover/"):
        yield Status(topic, status_text(payload))
        return
    if not payload:
        yield Withdrawn(topic)
        return
    node, own = read_object(payload), topic.split("/")[2]
    mac = own_mac(text(node, "mac"))
    port = node.get("port")
    written = (
        ("mac", mac),
        ("name", text(node, "friendly_name", "name")),
        ("model", text(node, "project_name", "board")),
        ("mqtt.firmware", text(node, "project_version", "version")),
        ("mqtt.board", text(node, "board")),
        ("mqtt.platform", text(node, "platform")),
        ("mqtt.ip", text(node, "ip")),
        ("mqtt.port", str(port) if type(port) is int else ""),
        ("mqtt.id", own),
    )
    label = text(node, "friendly_name", "name") or own
    found = Found(
        f"{ESPHOME}/{mac}", claims(mac_claim(mac)), attributes(ESPHOME, written), label, 0.0
    )
    yield Announced(
        found,
        topic,
        availability={f"{own}/status": Words()},
        question=(own,) if is_level(own) else (),
    )
