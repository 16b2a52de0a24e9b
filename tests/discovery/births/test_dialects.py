"""What each dialect makes of what devices have published, and of what strangers may."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.device.identity import Claim
from gatewayd.discovery import sanitize
from gatewayd.discovery.births.catalogue import dialects_of, subscriptions_of
from gatewayd.discovery.births.home_assistant import HOME_ASSISTANT
from gatewayd.discovery.births.open_firmware import ESPHOME, TASMOTA
from gatewayd.discovery.births.port import (
    Alive,
    Announced,
    BirthNews,
    Candidate,
    Departed,
    Dialect,
    Listed,
    Status,
    Withdrawn,
    Words,
)
from gatewayd.discovery.births.reading import MAX_BRACKETS, read_json
from gatewayd.discovery.births.shelly import GEN1, GEN2
from gatewayd.discovery.births.sparkplug import MAX_METRICS, SPARKPLUG, read_metrics
from gatewayd.discovery.births.thin_edge import THIN_EDGE
from gatewayd.discovery.births.zigbee2mqtt import MAX_DEVICES, ZIGBEE2MQTT
from gatewayd.discovery.discoverer import MAX_ATTRIBUTE
from gatewayd.discovery.probing.protocol import UnreadableAnswer
from gatewayd.network.mqtt_rules import covers
from tests.discovery.births.published import ALL, VECTORS, dialect, payload_of

DIALECTS = dialects_of(ALL)


def read(name: str, topic: str, payload: object) -> tuple[BirthNews, ...]:
    made = dialect(DIALECTS, name)
    assert any(covers(one.filter, topic) for one in subscriptions_of(made, ask=True)), topic
    written = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return tuple(made.read(topic, written))


def recorded(name: str, vector: str) -> tuple[BirthNews, ...]:
    one = VECTORS[vector]
    return read(name, one["topic"], payload_of(one))


def device(news: tuple[BirthNews, ...]) -> Announced:
    (one,) = [found for found in news if isinstance(found, Announced)]
    return one


@pytest.mark.parametrize(
    ("name", "vector", "key"),
    [
        (TASMOTA, "mqtt-tasmota-01", "tasmota/00000049a3bc"),
        (GEN1, "mqtt-shelly-gen1-01", "shelly-gen1/98cdac0a0b0c"),
        (GEN2, "mqtt-shelly-gen2-01", "shelly/c049ef0a0b0c"),
        (GEN2, "mqtt-shelly-gen2-03", "shelly/b8d61a0a0b0c"),
        (ESPHOME, "mqtt-esphome-01", "esphome/a020a60a0b0c"),
        (
            HOME_ASSISTANT,
            "mqtt-homeassistant-01",
            "home-assistant/id/zigbee2mqtt_0x00158d00010a0b0c",
        ),
        (HOME_ASSISTANT, "home-assistant-device-01", "home-assistant/id/0AFFD2"),
        (SPARKPLUG, "mqtt-sparkplug-01", "sparkplug-b/plant/edge1"),
        (THIN_EDGE, "thin-edge-01", "thin-edge/device/child01"),
    ],
)
def test_what_devices_have_published_is_read(name: str, vector: str, key: str) -> None:
    announced, expected = device(recorded(name, vector)), VECTORS[vector]["expect"]
    found = announced.found
    assert found.key == key
    shown = {**found.attributes, "firmware": found.attributes.get("mqtt.firmware")}
    for word in ("mac", "model", "vendor", "firmware", "name", "serial"):
        assert word not in expected or shown.get(word) == expected[word], word
    if "mac" in expected:
        assert Claim("mac", "mqtt-births", expected["mac"]) in found.claims
    if "address" in expected:
        assert found.attributes["mqtt.ip"] == expected["address"]
    if "availability_topic" in expected:
        assert expected["availability_topic"] in announced.availability
    assert not any(one.namespace == "l2" for one in found.claims)


def test_the_words_of_a_tasmota_device_are_its_own() -> None:
    announced = device(recorded(TASMOTA, "mqtt-tasmota-01"))
    assert announced.availability == {"tasmota_49A3BC/tele/LWT": Words("Online", "Offline")}
    assert announced.question == (), "its commands are not at the usual topic"


def test_a_tasmota_device_speaks_for_itself_alone() -> None:
    topic = "tasmota/discovery/A0B7A5000001/config"
    with pytest.raises(UnreadableAnswer, match="mac-not-of-topic"):
        read(TASMOTA, topic, {"mac": "A0B7A5000002"})
    assert read(TASMOTA, topic, b"") == (Withdrawn(topic),)
    assert read(TASMOTA, "tele/plug/LWT", b"Online") == (Status("tele/plug/LWT", "Online"),)
    assert read(TASMOTA, "stat/plug/STATUS", b"{}") == (Alive(("plug",)),)


def test_shelly_of_either_generation_says_whether_it_is_connected() -> None:
    assert read(GEN1, "shellies/x/online", b"false") == (Status("shellies/x/online", "false"),)
    assert read(GEN2, "x/online", b"true") == (Status("x/online", "true"), Candidate(("x",)))
    assert read(GEN2, "x/events/rpc", {"method": "NotifyStatus"}) == (Alive(("x",)),)
    said = {"id": "other", "mac": "98CDAC0A0B0C"}
    with pytest.raises(UnreadableAnswer, match="id-not-of-topic"):
        read(GEN1, "shellies/one/announce", said)
    announced = device(read(GEN1, "shellies/announce", said))
    assert announced.part == "shellies/other/announce"


def test_a_bridge_lists_its_devices_and_is_none_itself() -> None:
    (listed,) = recorded(ZIGBEE2MQTT, "mqtt-zigbee2mqtt-01")
    assert isinstance(listed, Listed)
    expected = VECTORS["mqtt-zigbee2mqtt-01"]["expect"]["devices"]
    children = [one for one in expected if one["child"]]
    assert len(listed.devices) == len(children) == 3
    for announced, one in zip(listed.devices, children, strict=True):
        assert announced.found.claims == {Claim("serial", "zigbee", one["eui64"])}, "no MAC"
        assert announced.found.attributes["model"] == one["model"]
        assert announced.found.attributes["vendor"] == one["vendor"]
        assert announced.found.label == one["name"]
        assert announced.found.is_behind
        assert f"zigbee2mqtt/{one['name']}/availability" in announced.availability


def test_a_bridge_leaves_out_what_is_not_ready() -> None:
    usual = {"type": "EndDevice", "ieee_address": "0x00158d0001a2b3c4", "interview_completed": True}
    several = [
        usual,
        {**usual, "interview_completed": False},
        {**usual, "disabled": True},
        {**usual, "type": "Coordinator"},
        {**usual, "ieee_address": "odd"},
        "text",
    ]
    (listed,) = read(ZIGBEE2MQTT, "zigbee2mqtt/bridge/devices", several)
    assert isinstance(listed, Listed)
    assert len(listed.devices) == 1
    (many,) = read(ZIGBEE2MQTT, "zigbee2mqtt/bridge/devices", [usual] * (MAX_DEVICES + 1))
    assert isinstance(many, Listed)
    assert (len(many.devices), many.is_whole) == (MAX_DEVICES, False)
    leaves = {"type": "device_leave", "data": {"ieee_address": "0x00158D0001A2B3C4"}}
    assert read(ZIGBEE2MQTT, "zigbee2mqtt/bridge/event", leaves) == (
        Departed("zigbee/00158d0001a2b3c4"),
    )


def test_home_assistant_names_a_device_by_identifiers_and_mac() -> None:
    announced = device(recorded(HOME_ASSISTANT, "home-assistant-device-01"))
    assert announced.aliases == ("id/0AFFD2", "mac/a020a60affd2")
    assert announced.found.claims == {
        Claim("mac", "mqtt-births", "a020a60affd2"),
        Claim("serial", "home-assistant.bla-electronics", "ea334450945afc"),
    }
    of_bridge = device(recorded(HOME_ASSISTANT, "mqtt-homeassistant-01"))
    assert of_bridge.found.claims == {Claim("serial", "zigbee", "00158d00010a0b0c")}


@pytest.mark.parametrize("serial", ["a\0b", "\u202ea", "n/a"])
def test_a_serial_number_that_does_not_print_identifies_nothing(serial: str) -> None:
    config = {"dev": {"ids": "x", "mf": "A Ü", "sn": serial}}
    announced = device(read(HOME_ASSISTANT, "homeassistant/sensor/x/config", config))
    assert not announced.found.claims


@pytest.mark.parametrize(
    ("config", "cause"),
    [
        ({"name": "x"}, "no-device"),
        ({"device": {"name": "x"}}, "no-identifier"),
        ({"device": {"identifiers": [7, ""]}}, "no-identifier"),
        ([], "no-object"),
    ],
)
def test_what_names_no_device_is_counted(config: Any, cause: str) -> None:
    with pytest.raises(UnreadableAnswer, match=cause):
        read(HOME_ASSISTANT, "homeassistant/sensor/x/config", config)


def test_topics_of_availability_may_be_several_with_words_of_their_own() -> None:
    config = {
        "~": "base",
        "dev": {"ids": "x"},
        "avty": [{"t": "~/a", "pl_avail": "1", "pl_not_avail": "0"}, {"topic": "b/~"}, 7],
        "avty_mode": "any",
    }
    announced = device(read(HOME_ASSISTANT, "homeassistant/sensor/n/x/config", config))
    assert announced.availability == {"base/a": Words("1", "0"), "b/base": Words()}
    assert announced.any_topic


def test_sparkplug_births_and_deaths_have_a_session() -> None:
    born = recorded(SPARKPLUG, "mqtt-sparkplug-01")
    assert born[0] == Departed("sparkplug-b/plant/edge1", others=True, itself=False)
    announced = device(born)
    assert (announced.session, announced.is_lasting) == (88, True)
    assert announced.question == ("plant", "edge1")
    assert not announced.found.claims, "names that people choose"
    (died,) = recorded(SPARKPLUG, "mqtt-sparkplug-02")
    assert died == Departed("sparkplug-b/plant/edge1", 0, others=True)
    assert read(SPARKPLUG, "spBv1.0/g/DDEATH/n/d", b"") == (Departed("sparkplug-b/g/n/d"),)
    assert read(SPARKPLUG, "spBv1.0/g/NDATA/n", b"") == (Candidate(("g", "n")),)


def test_sparkplug_properties_are_read_by_their_usual_names() -> None:
    def metric(name: bytes, value: bytes) -> bytes:
        inside = b"\x0a%c%b\x7a%c%b" % (len(name), name, len(value), value)
        return b"\x12%c%b" % (len(inside), inside)

    payload = metric(b"Properties/Serial Number", b"SN-77") + metric(b"Other/Model", b"x")
    payload += metric(b"Device Info/Model", b"M2") + b"\x18\x07"
    announced = device(read(SPARKPLUG, "spBv1.0/g/DBIRTH/n/d", payload))
    assert announced.found.attributes["serial"] == "SN-77"
    assert announced.found.attributes["model"] == "M2"
    assert announced.found.attributes["mqtt.via"] == "n"
    with pytest.raises(UnreadableAnswer, match="sequence-not-0"):
        read(SPARKPLUG, "spBv1.0/g/NBIRTH/n", payload)
    with pytest.raises(UnreadableAnswer, match="too-many-metrics"):
        read_metrics(b"\x12\x00" * (MAX_METRICS + 1))


def test_thin_edge_registers_services_too_which_are_none() -> None:
    assert read(THIN_EDGE, "te/device/main/service/x", {"@type": "service"}) == ()
    topic = "te/device/a//"
    assert read(THIN_EDGE, topic, b"") == (Withdrawn(topic),)
    entity = {"@type": "child-device", "@health": "device/a/service/own"}
    announced = device(read(THIN_EDGE, topic, entity))
    assert list(announced.availability) == [
        "te/device/a/service/own/status/health",
        "te/device/main/service/tedge-agent/status/health",
    ]
    (status,) = recorded(THIN_EDGE, "thin-edge-02")
    assert status == Status(VECTORS["thin-edge-02"]["topic"], "up")


# Strangers.

TOPICS = {
    TASMOTA: ["tasmota/discovery/{}/config", "tele/{}/LWT", "stat/{}/STATUS"],
    ESPHOME: ["esphome/discover/{}", "{}/status"],
    GEN1: ["shellies/announce", "shellies/{}/announce", "shellies/{}/online"],
    GEN2: ["{}/online", "{}/events/rpc", "gatewayd-births/rpc"],
    ZIGBEE2MQTT: ["zigbee2mqtt/bridge/devices", "zigbee2mqtt/bridge/event",
                  "zigbee2mqtt/{}/availability"],
    HOME_ASSISTANT: ["homeassistant/sensor/{}/config", "homeassistant/device/a/{}/config",
                     "{}/status"],
    SPARKPLUG: ["spBv1.0/{}/NBIRTH/a", "spBv1.0/a/DBIRTH/b/{}", "spBv1.0/{}/NDEATH/a",
                "spBv1.0/a/DDEATH/b/{}"],
    THIN_EDGE: ["te/device/{}//", "te/device/{}/service/x/status/health"],
}  # fmt: skip
LEVELS = st.text(st.characters(codec="utf-8", exclude_characters="/+#\0"), max_size=20)
WORDS = st.sampled_from(
    ["mac", "t", "ft", "tp", "onln", "md", "id", "src", "params", "sys", "method", "result",
     "ieee_address", "friendly_name", "type", "interview_completed", "definition", "device", "dev",
     "ids", "identifiers", "cns", "connections", "avty", "~", "availability",
     "availability_topic", "topic", "@type", "@id", "@health", "name", "mdl", "mf", "sn", "state",
     "status"]
)  # fmt: skip
TEXTS = st.one_of(
    st.text(max_size=30),
    st.sampled_from(["A0B7A5000001", "EndDevice", "0x00158d0001a2b3c4", "NotifyFullStatus",
                     "child-device", "%prefix%/%topic%/", "~/x", "\u202egnp\n"]),
)  # fmt: skip
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS),
    lambda inside: st.one_of(
        st.lists(inside, max_size=4), st.dictionaries(WORDS | TEXTS, inside, max_size=6)
    ),
    max_leaves=20,
)
PAYLOADS = st.one_of(st.binary(max_size=200), JSON.map(lambda one: json.dumps(one).encode()))


@pytest.mark.parametrize("made", DIALECTS, ids=lambda made: made.name)
@given(data=st.data())
def test_nothing_but_what_may_be_said_comes_of_strangers(
    made: Dialect, data: st.DataObject
) -> None:
    topic = data.draw(st.sampled_from(TOPICS[made.name])).format(data.draw(LEVELS))
    try:
        news = tuple(made.read(topic, data.draw(PAYLOADS)))
    except UnreadableAnswer:
        return
    for one in news:
        devices = one.devices if isinstance(one, Listed) else [one]
        for announced in devices:
            if isinstance(announced, Announced):
                assert sanitize.is_clean(announced.found.key)
                for key, value in announced.found.attributes.items():
                    assert sanitize.attribute(key, value) == (key, value)
                    assert len(value) <= MAX_ATTRIBUTE
                for claimed in announced.found.claims:
                    assert sanitize.attribute(claimed.namespace, claimed.value) is not None
                assert not any(set(topic) & set("+#") for topic in announced.availability)


def test_documents_that_cost_much_are_not_read() -> None:
    for payload, cause in (
        (b"[" * 100 + b"]" * 100, "too-deep"),
        (b"[" * 20_000, "no-json"),
        (b"[]," * (MAX_BRACKETS + 1), "too-many-parts"),
        (b'{"a":' + b"9" * 60_000 + b"}", "no-json"),
        (b"\xff\xfe", "no-json"),
    ):
        with pytest.raises(UnreadableAnswer, match=cause):
            read_json(payload)
