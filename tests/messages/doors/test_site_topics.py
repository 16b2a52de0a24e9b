"""The table of a site's topics, with payloads as each project documents them.

The recipes are those of docs/how-to/use-a-broker-of-the-site.md, read from there.
"""

from __future__ import annotations

import json
import struct
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.messages.door_settings import DoorSettings
from gatewayd.messages.doors.packets import PublishPacket
from gatewayd.messages.doors.site.topic_pattern import ChildKey
from gatewayd.messages.doors.site.topics import SiteTopics
from gatewayd.messages.doors.translation import ChildMessage, Unread
from gatewayd.settings.build import SettingsBuilder
from gatewayd.settings.files import Document, Problems
from tests.messages.doors.intakes import CHILD, OTHER, Children

PAGE = Path(__file__).parents[3] / "docs/how-to/use-a-broker-of-the-site.md"
RECIPES = {
    section.partition("\n")[0]: section.partition("```toml\n")[2].partition("```")[0]
    for section in PAGE.read_text().split("\n## ")
}
KNOWN = {
    (ChildKey.ID, CHILD): CHILD,
    (ChildKey.NAME, "kitchen"): CHILD,
    (ChildKey.NAME, "greenhouse"): OTHER,
    (ChildKey.MAC, "a8032abe54dc"): OTHER,
    (ChildKey.SERIAL, "00a7"): OTHER,
}


def door_settings(text: str) -> DoorSettings:
    """Return [messages.doors.site] of a text."""
    text = f'[messages.doors.site]\nhost = "broker.example"\n{text}'
    problems = Problems()
    settings = SettingsBuilder(Document(Path("/x"), {}, {}), problems).build(
        DoorSettings, tomllib.loads(text)["messages"]["doors"]["site"], ()
    )
    assert settings is not None, problems.found
    return settings


def made(text: str) -> SiteTopics:
    """Return the table of topics in a text."""
    return SiteTopics(door_settings(text), Children(KNOWN))


def read(topics: SiteTopics, topic: str, payload: str | bytes) -> Any:
    """Return child, topic and values of a message; why there are none; "" for a topic not read."""
    assert all("{" not in one for one in topics.filters)
    data = payload.encode() if isinstance(payload, str) else payload
    translated = topics.translate(PublishPacket(topic, data, 1))
    if not isinstance(translated, ChildMessage):
        return translated
    return translated.child, translated.topic, json.loads(translated.payload)


def recipe(name: str) -> SiteTopics:
    return made(RECIPES[name])


# Recipes, by project.


def test_zigbee2mqtt() -> None:
    topics = recipe("Zigbee2MQTT")
    payload = (
        '{"battery":100,"humidity":44.72,"linkquality":156,"temperature":27.34,"voltage":3005,'
        '"last_seen":"2026-03-17T12:13:04+01:00","update":{"state":null}}'
    )
    assert read(topics, "zigbee2mqtt/kitchen", payload) == (
        CHILD, "properties",
        {"battery": 100, "humidity": 44.72, "temperature": 27.34, "voltage": 3.005,
         "time": 1773745984000},
    )  # fmt: skip
    assert read(topics, "zigbee2mqtt/0x00158d0001a2b3c4", '{"temperature":1}')[0] == CHILD
    assert read(topics, "zigbee2mqtt/kitchen", '{"action":"single"}') is Unread.NO_VALUE
    assert read(topics, "zigbee2mqtt/attic", '{"temperature":1}') is Unread.UNKNOWN_CHILD
    assert read(topics, "zigbee2mqtt/bridge/state", '{"state":"online"}') is Unread.TOPIC
    assert read(topics, "zigbee2mqtt/kitchen/action", "single") == (
        CHILD, "events/action", {"action": "single"},
    )  # fmt: skip


def test_tasmota() -> None:
    topics = recipe("Tasmota")
    assert read(
        topics, "tele/kitchen/SENSOR",
        '{"Time":"2026-11-03T20:45:37","DS18B20":{"Id":"0316A279","Temperature":69.1},'
        '"ENERGY":{"Total":0.123,"Power":25,"Voltage":229,"Current":0.11},"TempUnit":"F"}',
    ) == (
        CHILD, "properties",
        {"temperature": 20.6111111111, "power": 25, "voltage": 229, "energy": 0.123},
    )  # fmt: skip
    assert read(topics, "stat/kitchen/POWER", "ON") == (CHILD, "properties", {"relay": True})
    assert read(topics, "tele/kitchen/LWT", "Online") is Unread.TOPIC


def test_shelly_of_the_first_generation() -> None:
    topics = recipe("Shelly, first generation")
    assert read(topics, "shellies/shellyht-6a55b1/sensor/temperature", "22.38") == (
        CHILD, "properties", {"temperature": 22.38},
    )  # fmt: skip
    assert read(topics, "shellies/shelly1pm-9c9d1e/relay/0/energy", "60000") == (
        OTHER, "properties", {"energy": 1.0},
    )  # fmt: skip
    assert read(topics, "shellies/shelly1pm-9c9d1e/relay/0", "off") == (
        OTHER, "properties", {"relay": False},
    )  # fmt: skip


def test_shelly_of_the_second_generation() -> None:
    topics = recipe("Shelly, second generation and later")
    assert read(
        topics, "shellyplus1pm-a8032abe54dc/events/rpc",
        '{"src":"shellyplus1pm-a8032abe54dc","dst":"shellyplus1pm-a8032abe54dc/events",'
        '"method":"NotifyStatus","params":{"ts":1790000000.27,"switch:0":{"id":0,"apower":8.9,'
        '"aenergy":{"total":11.679},"temperature":{"tC":40.4,"tF":104.7}}}}',
    ) == (
        OTHER, "properties",
        {"power": 8.9, "energy": 0.011679, "temperature": 40.4, "time": 1790000000270},
    )  # fmt: skip


def test_esphome() -> None:
    topics = recipe("ESPHome")
    assert read(topics, "kitchen/sensor/room_temperature/state", "21.5") == (
        CHILD, "properties", {"room_temperature": 21.5},
    )  # fmt: skip
    assert read(topics, "kitchen/sensor/room_temperature/state", "nan") is Unread.NO_VALUE
    assert read(topics, "kitchen/binary_sensor/door/state", "ON") == (
        CHILD, "properties", {"door": "ON"},
    )  # fmt: skip
    assert read(topics, "kitchen/status", "online") is Unread.TOPIC


def test_thin_edge() -> None:
    topics = recipe("thin-edge.io")
    assert read(
        topics, "te/device/kitchen///m/environment",
        '{"time":"2026-10-15T05:30:47+00:00","temperature":25.2,"location":{"x":1}}',
    ) == (CHILD, "properties", {"temperature": 25.2, "time": 1792042247000})  # fmt: skip
    assert read(topics, "te/device/kitchen///e/login", '{"text":"A user has logged in"}') == (
        CHILD, "events/login", {"text": "A user has logged in"},
    )  # fmt: skip
    assert read(topics, "te/device/kitchen///a/fire", "{}") is Unread.TOPIC


# Sparkplug B, written as its schema says.


def varint(number: int) -> bytes:
    encoded = b""
    while True:
        number, digit = number >> 7, number & 0x7F
        encoded += bytes((digit | (0x80 if number else 0),))
        if not number:
            return encoded


def field(number: int, value: bytes | float) -> bytes:
    if isinstance(value, float):
        return varint(number << 3 | 1) + struct.pack("<d", value)
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value)


def metric(name: str = "", alias: int | None = None, **fields: Any) -> bytes:
    numbers: Mapping[str, int] = {
        "datatype": 4, "is_null": 7, "int_value": 10, "long_value": 11, "double": 13, "boolean": 14,
        "string": 15,
    }  # fmt: skip
    body = field(1, name.encode()) if name else b""
    body += field(2, alias) if alias is not None else b""
    body += b"".join(field(numbers[key], value) for key, value in fields.items())
    return field(2, body)


TIME = field(1, 1_790_000_000_123)
BIRTH = TIME + metric("Sensors/Temperature", 7, datatype=10, double=20.5) + metric(
    "Sensors/Offset", 8, datatype=3, int_value=2**32 - 5
) + metric("Properties/Model", datatype=12, string=b"T1")  # fmt: skip


def test_sparkplug_b() -> None:
    topics = recipe("Sparkplug B")
    assert read(topics, "spBv1.0/plant/DBIRTH/edge1/kitchen", BIRTH) == (
        CHILD, "properties", {"temperature": 20.5, "offset": -5, "time": 1790000000123},
    )  # fmt: skip
    data = TIME + metric(alias=7, double=21.5) + metric(alias=8, int_value=3)
    assert read(topics, "spBv1.0/plant/DDATA/edge1/kitchen", data)[2] == {
        "temperature": 21.5, "offset": 3, "time": 1790000000123,
    }  # fmt: skip
    named = TIME + metric("Sensors/Temperature", datatype=9, is_null=1)
    assert read(topics, "spBv1.0/plant/DDATA/edge1/kitchen", named) is Unread.NO_VALUE
    assert read(topics, "spBv1.0/plant/DDEATH/edge1/kitchen", TIME) is Unread.NO_VALUE


def test_an_alias_means_nothing_before_its_birth_and_after_another() -> None:
    topics = made(
        RECIPES["Sparkplug B"] + '[[messages.doors.site.topics]]\ntopic = "spBv1.0/plant/+/edge1"\n'
        'format = "sparkplug-b"\nchild = "greenhouse"\nvalues.load = "Load"\n'
    )
    data = TIME + metric(alias=7, double=21.5)
    assert read(topics, "spBv1.0/plant/DDATA/edge1/kitchen", data) is Unread.NO_VALUE
    read(topics, "spBv1.0/plant/DBIRTH/edge1/kitchen", BIRTH)
    assert read(topics, "spBv1.0/plant/DDATA/edge1/kitchen", data)[2]["temperature"] == 21.5
    assert read(topics, "spBv1.0/plant/NBIRTH/edge1", TIME + metric("Load", 1, double=0.5)) == (
        OTHER, "properties", {"load": 0.5, "time": 1790000000123},
    )  # fmt: skip
    assert read(topics, "spBv1.0/plant/DDATA/edge1/kitchen", data) is Unread.NO_VALUE


# What else a table may say.


@pytest.mark.parametrize(
    ("entry", "topic", "payload", "expected"),
    [
        ('topic = "x/+"\nchild = "kitchen"', "x/y", '{"a":1}', (CHILD, "properties", {"a": 1})),
        ('topic = "x"\nchild_path = "d.mac"\nchild_by = "mac"', "x",
         '{"d":{"mac":"a8032abe54dc"},"t":1.5}', (OTHER, "properties", {"t": 1.5})),
        ('topic = "x"\nchild_path = "sn"\nchild_by = "serial"', "x", '{"sn":"00a7","t":true}',
         (OTHER, "properties", {"sn": "00a7", "t": True})),
        ('topic = "x"\nchild_path = "sn"\nchild_by = "serial"', "x", '{"sn":{},"t":true}',
         Unread.UNKNOWN_CHILD),
        ('topic = "{name}/{key}"', "kitchen/t", "3.5", (CHILD, "properties", {"t": 3.5})),
        ('topic = "{name}/{key}"\ninto = "events/{key}"', "kitchen/alarm", '{"level":2}',
         (CHILD, "events/alarm", {"level": 2})),
        ('topic = "{name}/{key}"\ninto = "events/{key}"', "kitchen/a b", '{"level":2}',
         Unread.NO_VALUE),
        ('topic = "{name}"\nvalues = { k = { path = "t", unit = "kelvin" } }', "kitchen",
         '{"t":"300.15"}', (CHILD, "properties", {"k": 27.0})),
        ('topic = "{name}"\nvalues = { t = { path = "t", scale = 0.1, offset = -40 } }', "kitchen",
         '{"t":655}', (CHILD, "properties", {"t": 25.5})),
        ('topic = "{name}"\nvalues = { t = { path = "t", scale = 0.1 } }', "kitchen",
         '{"t":true}', Unread.NO_VALUE),
        ('topic = "{name}"\nvalues = { t = "a[1].b" }', "kitchen", '{"a":[0,{"b":7}]}',
         (CHILD, "properties", {"t": 7})),
        ('topic = "{name}"', "kitchen", '{"t":1e999,"n":null,"o":{},"i":99999999999999999999}',
         Unread.NO_VALUE),
        ('topic = "{name}"', "kitchen", '{"a b":1,"time":5,"ok":1}',
         (CHILD, "properties", {"ok": 1})),
        ('topic = "{name}"', "kitchen", "[1]", Unread.NO_VALUE),
        ('topic = "{name}"', "kitchen", b"\xff\x00", Unread.UNREADABLE),
        ('topic = "{name}"', "kitchen", "NaN", Unread.UNREADABLE),
        ('topic = "{name}"', "kitchen", b"[" * 100_000, Unread.UNREADABLE),
        ('topic = "{name}"', "kitchen", b'{"a":' * 5_000, Unread.UNREADABLE),
        ('topic = "{name}"', "kitchen", b"1" * 5_000, Unread.UNREADABLE),
        ('topic = "{name}"', "kitchen", b" " * 300_000, Unread.UNREADABLE),
        ('topic = "{name}"', "nobody", b"\xff", Unread.UNKNOWN_CHILD),
    ],
)  # fmt: skip
def test_an_entry(entry: str, topic: str, payload: str | bytes, expected: object) -> None:
    topics = made(f"[[messages.doors.site.topics]]\n{entry}\n")
    assert read(topics, topic, payload) == expected


def test_a_raw_payload_passes_as_it_is() -> None:
    topics = made(
        '[[messages.doors.site.topics]]\ntopic = "x/{name}"\nformat = "raw"\ninto = "user/update"\n'
    )
    assert topics.translate(PublishPacket("x/kitchen", b"\xff\x00")) == ChildMessage(
        CHILD, "user/update", b"\xff\x00"
    )


def test_the_first_entry_that_fits_counts() -> None:
    topics = made(
        '[[messages.doors.site.topics]]\ntopic = "a/{name}/x"\ninto = "events/first"\n'
        '[[messages.doors.site.topics]]\ntopic = "a/{name}/#"\n'
    )
    assert topics.filters == ("a/+/#",)
    assert read(topics, "a/kitchen/x", '{"v":1}')[1] == "events/first"
    assert read(topics, "a/kitchen/y", '{"v":1}')[1] == "properties"


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("1790000000", 1790000000000),
        ("1790000000.5", 1790000000500),
        ("1790000000123", 1790000000123),
        ('"2026-09-21T13:33:20Z"', 1789997600000),
        ('"2026-09-21T13:33:20"', None),
        ('"soon"', None),
        ("true", None),
        ("-5", None),
        ("1e300", None),
        ("9e15", None),
        ("9" * 400, None),
    ],
)
def test_a_time_is_passed_on_where_it_is_one(time: str, expected: int | None) -> None:
    topics = made('[[messages.doors.site.topics]]\ntopic = "{name}"\ntime = "when"\n')
    values = read(topics, "kitchen", f'{{"v":1,"when":{time}}}')[2]
    assert values == ({"v": 1} if expected is None else {"v": 1, "time": expected})


def test_what_was_retained_or_is_too_large_is_not_read() -> None:
    topics = made('[[messages.doors.site.topics]]\ntopic = "{name}"\n')
    assert topics.translate(PublishPacket("kitchen", b"1", retained=True)) is Unread.RETAINED
    assert topics.translate(PublishPacket("kitchen", b"", too_large=True)) is Unread.TOO_LARGE
    assert topics.receipt(PublishPacket("kitchen", b"", response_topic="c/x/down/r")) is None


@given(
    st.sampled_from(
        ["zigbee2mqtt/kitchen", "tele/kitchen/SENSOR", "kitchen/sensor/x/state",
         "spBv1.0/plant/DDATA/edge1/kitchen", "spBv1.0/plant/DBIRTH/edge1/kitchen"]
    ),
    st.one_of(
        st.binary(max_size=300),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3)
            | st.dictionaries(st.text(max_size=8), inner, max_size=3),
            max_leaves=8,
        ).map(lambda value: json.dumps(value).encode()),
    ),
)  # fmt: skip
def test_any_payload_is_read_or_refused(topic: str, payload: bytes) -> None:
    for topics in TABLES:
        translated = topics.translate(PublishPacket(topic, payload))
        if isinstance(translated, ChildMessage):
            values = json.loads(translated.payload)
            assert values
            assert all(isinstance(one, str | int | float) for one in values.values())


@given(st.binary(max_size=200), st.integers(0, 150))
def test_a_damaged_sparkplug_payload_is_refused(noise: bytes, at: int) -> None:
    topics = TABLES[-1]
    for payload in (BIRTH[:at], BIRTH[:at] + noise, noise):
        topics.translate(PublishPacket("spBv1.0/plant/DBIRTH/edge1/kitchen", payload))


TABLES = [recipe(name) for name in ("Zigbee2MQTT", "Tasmota", "ESPHome", "Sparkplug B")]
