"""The dialects of Shelly devices: of the first generation, and of the second and later.  Pure.

Sources: Shelly's API reference, "Gen1: MQTT support" (announce, online, shellies/command) and
"Gen2+: MQTT" (topic prefix, online, events/rpc, rpc), Shelly.GetDeviceInfo, NotifyFullStatus.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from gatewayd.discovery.births.port import (
    Alive,
    Announced,
    BirthNews,
    BirthQuestion,
    Candidate,
    Dialect,
    Status,
    Subscription,
    Words,
)
from gatewayd.discovery.births.reading import (
    JsonObject,
    attributes,
    claims,
    inner,
    is_level,
    mac_claim,
    own_mac,
    read_object,
    status_text,
    text,
)
from gatewayd.discovery.probing.protocol import Found, UnreadableAnswer

GEN1, GEN2 = "shelly-gen1", "shelly"
VENDOR = "Shelly"
ASK_ALL_EVERY = 3600.0
"""Seconds between two questions to all of the first generation: some run on batteries."""
ASK_ONE_EVERY = 60.0
ANSWERS = "gatewayd-births"
"""Whom an answer of the second generation is for: it comes at the topic `gatewayd-births/rpc`."""

_ONLINE = Words("true", "false")
_INFO = json.dumps({"id": 1, "src": ANSWERS, "method": "Shelly.GetDeviceInfo"}).encode()
_OWN_TOPIC = 3  # levels of shellies/ID/announce


def gen1() -> Dialect:
    """Return the dialect of the first generation."""
    return Dialect(
        GEN1,
        (
            Subscription("shellies/announce"),
            Subscription("shellies/+/announce"),
            Subscription("shellies/+/online"),
        ),
        _read_gen1,
        all_question=BirthQuestion(
            "shellies/command", b"announce", ASK_ALL_EVERY, "asks all Shelly of generation 1"
        ),
    )


def _read_gen1(topic: str, payload: bytes) -> Iterator[BirthNews]:
    levels = topic.split("/")
    if levels[-1] == "online":
        yield Status(topic, status_text(payload))
        return
    if not payload:
        return
    said = read_object(payload)
    own, mac = text(said, "id"), own_mac(text(said, "mac"))
    if not is_level(own) or (len(levels) == _OWN_TOPIC and levels[1] != own):
        raise UnreadableAnswer("id-not-of-topic")
    written = (
        ("mqtt.id", own),
        ("mqtt.generation", "1"),
        ("model", text(said, "model")),
        ("mqtt.firmware", text(said, "fw_ver")),
        ("mqtt.ip", text(said, "ip")),
    )
    # the same message comes at two topics, and neither is kept
    yield _device(GEN1, mac, own, written, f"shellies/{own}/announce", f"shellies/{own}/online")


def gen2() -> Dialect:
    """Return the dialect of the second generation and later.

    The topic prefix can be set: nothing is read from its form.
    """
    return Dialect(
        GEN2,
        (Subscription("+/online"), Subscription("+/events/rpc")),
        _read_gen2,
        asked=(Subscription(f"{ANSWERS}/rpc"),),
        one_question=BirthQuestion("{}/rpc", _INFO, ASK_ONE_EVERY, "asks one Shelly for its model"),
    )


def _read_gen2(topic: str, payload: bytes) -> Iterator[BirthNews]:
    prefix, _, kind = topic.partition("/")
    if kind == "online":
        said = status_text(payload)
        yield Status(topic, said)
        if said == _ONLINE.online and is_level(prefix):
            yield Candidate((prefix,))
        return
    message = read_object(payload)
    if prefix == ANSWERS:
        yield from _information(message)
    elif text(message, "method") == "NotifyFullStatus":
        params = inner(message, "params")
        mac = own_mac(text(inner(params, "sys"), "mac"))
        ip = text(inner(params, "wifi"), "sta_ip") or text(inner(params, "eth"), "ip")
        written = (("mqtt.id", text(message, "src")), ("mqtt.ip", ip))
        yield _device(GEN2, mac, prefix, written, topic, f"{prefix}/online")
    else:
        yield Alive((prefix,))


def _information(message: JsonObject) -> Iterator[Announced]:
    """Yield what an answer to Shelly.GetDeviceInfo says; its prefix is the id, if that is usual."""
    result = inner(message, "result")
    own, generation = text(message, "src"), result.get("gen")
    written = (
        ("mqtt.id", text(result, "id")),
        ("name", text(result, "name")),
        ("model", text(result, "model")),
        ("mqtt.app", text(result, "app")),
        ("mqtt.firmware", text(result, "ver")),
        ("mqtt.generation", str(generation) if type(generation) is int else ""),
    )
    if not is_level(own):
        raise UnreadableAnswer("bad-name")
    mac = own_mac(text(result, "mac"))
    yield _device(GEN2, mac, own, written, f"{own}/rpc", f"{own}/online")


def _device(
    dialect: str,
    mac: str,
    own: str,
    written: tuple[tuple[str, str], ...],
    part: str,
    will: str,
) -> Announced:
    known = attributes(dialect, (("mac", mac), ("vendor", VENDOR), *written))
    label = known.get("name") or known.get("mqtt.id") or mac
    found = Found(f"{dialect}/{mac}", claims(mac_claim(mac)), known, label, 0.0)
    asked = (own,) if dialect == GEN2 and is_level(own) else ()
    return Announced(found, part, availability={will: _ONLINE}, question=asked)
