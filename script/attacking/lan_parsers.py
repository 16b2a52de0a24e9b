"""Parsers of what the sources of discovery read from the LAN: a function for each source."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from gatewayd.discovery.births.catalogue import dialects_of, subscriptions_of
from gatewayd.discovery.births.port import Birth
from gatewayd.discovery.births.roster import Roster
from gatewayd.discovery.births.settings import BirthsSettings, DialectName
from gatewayd.discovery.discoverer import Health
from gatewayd.discovery.probing.fetch import FetchRefused, own_target
from gatewayd.discovery.probing.protocol import Datagram, UnreadableAnswer
from gatewayd.discovery.protocols.guarded_xml import parse
from gatewayd.discovery.protocols.upnp.description import MAX_DESCRIPTION, read_description
from gatewayd.discovery.protocols.upnp.discoverer import UpnpProtocol
from gatewayd.discovery.protocols.ws_discovery.discoverer import WsDiscoveryProtocol
from gatewayd.network.mqtt_rules import covers
from script.attacking.fuzzer import Parser

VECTORS = Path(__file__).parents[2] / "tests/discovery/protocols/vectors"
SENDER = "10.77.0.2"


def lan_parsers() -> Iterator[Parser]:
    """Yield all of them."""
    yield from _of_ws_discovery()
    yield from _of_upnp()
    yield from _of_births()


def _texts(name: str, prefix: str = "") -> list[bytes]:
    """Return the captured texts of a file, of those whose id begins so."""
    vectors = json.loads((VECTORS / f"{name}.json").read_text())
    return [one["text"].encode() for one in vectors if one["id"].startswith(prefix)]


def _of_ws_discovery() -> Iterator[Parser]:
    messages = _texts("ws_discovery")
    yield Parser(
        "XML of a device", lambda data: parse(data, MAX_DESCRIPTION),
        [*messages, b'<a:r xmlns:a="u"><b/>t</a:r>'], (UnreadableAnswer,),
        (b"<!DOCTYPE a [", b"<!ENTITY e '", b"<![CDATA[", b"xmlns:a='", b"&#x", b"<?xml encoding="),
    )  # fmt: skip
    yield Parser(
        "message of WS-Discovery",
        lambda data: [
            *WsDiscoveryProtocol().read(Datagram(data, SENDER, 3702, is_answer=False))
        ],
        messages, (UnreadableAnswer,),
        (b"wsdd:Hello", b"wsdd:Bye", b"ProbeMatches", b"onvif://www.onvif.org/", b"urn:uuid:"),
    )  # fmt: skip


def _of_upnp() -> Iterator[Parser]:
    yield Parser(
        "datagram of SSDP", _ssdp, _texts("upnp", "ssdp"), (UnreadableAnswer,),
        (b"HTTP/1.1 200 OK\r\n", b"NTS:ssdp:byebye", b"USN:uuid:", b"max-age=", b"LOCATION:http://"),
    )  # fmt: skip
    yield Parser(
        "description of UPnP", read_description, _texts("upnp", "upnp-description"),
        (UnreadableAnswer,),
        (b"<UDN>uuid:", b"<serialNumber>", b"<deviceList><device>", b"<MACAddress>", b"&#10;"),
    )  # fmt: skip
    yield Parser(
        "URL of a description", lambda data: own_target(data.decode("latin-1"), SENDER),
        [b"http://10.77.0.2:8200/rootDesc.xml", b"http://[fe80::1]/"], (FetchRefused,),
        (b"http://", b"@", b":80/", b"%0d%0a", b"\\", b"#"),
    )  # fmt: skip


def _ssdp(data: bytes) -> None:
    async def fetch(_address: str, _port: int, _path: str, _interface: str) -> bytes:
        return b""

    protocol = UpnpProtocol(fetch)
    with suppress(UnreadableAnswer):
        [*protocol.read(Datagram(data, SENDER, 1900, is_answer=True))]
    [*protocol.read(Datagram(data, SENDER, 1900, is_answer=False))]


def _of_births() -> Iterator[Parser]:
    file = VECTORS.parents[1] / "births/vectors/births.json"
    seeds = [
        one["topic"].encode() + b"\n" + (one.get("text", "").encode() or bytes.fromhex(one["hex"]))
        for one in json.loads(file.read_text())
    ]
    yield Parser(
        "what a device announces at a broker", _births, [*seeds, b"tele/plug/LWT\nOnline"],
        (UnreadableAnswer,),
        (b'"availability":[{"topic":', b'"connections":[["mac","', b'"~":', b"NDEATH/edge1\n",
         b"bdSeq", b"zigbee2mqtt/bridge/event\n", b'"@health":', b"%prefix%", b"/events/rpc\n"),
    )  # fmt: skip


def _births(data: bytes) -> None:
    """Read a topic, a line feed and a payload in all dialects, as kept and as just published."""
    settings = BirthsSettings(doors=("plant",), dialects=tuple(DialectName), ask=True)
    name, _, payload = data.partition(b"\n")
    topic = name.decode(errors="replace")
    roster = Roster(4, lambda _: 0, Health())
    for dialect in dialects_of(settings):
        if any(covers(one.filter, topic) for one in subscriptions_of(dialect, ask=True)):
            for retained in (True, False):
                birth = Birth("births", "plant", topic, payload, retained, 0.0)
                for news in dialect.read(topic, payload):
                    for key in tuple(roster.apply(dialect.name, news, birth)):
                        if (entry := roster.get(key)) is not None:
                            roster.standing(entry)
