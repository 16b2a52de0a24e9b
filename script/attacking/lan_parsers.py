"""Parsers of what the sources of discovery read from the LAN: a function for each source."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from gatewayd.discovery.probing.fetch import FetchRefused, target_of
from gatewayd.discovery.probing.protocol import Datagram, UnreadableAnswer
from gatewayd.discovery.protocols.guarded_xml import parse
from gatewayd.discovery.protocols.upnp.description import MAX_DESCRIPTION, read_description
from gatewayd.discovery.protocols.upnp.discoverer import UpnpProtocol
from gatewayd.discovery.protocols.ws_discovery.discoverer import WsDiscoveryProtocol
from script.attacking.fuzzer import Parser

VECTORS = Path(__file__).parents[2] / "tests/discovery/protocols/vectors"
SENDER = "10.77.0.2"


def lan_parsers() -> Iterator[Parser]:
    """Yield all of them."""
    yield from _of_ws_discovery()
    yield from _of_upnp()


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
        "URL of a description", lambda data: target_of(data.decode("latin-1"), SENDER),
        [b"http://10.77.0.2:8200/rootDesc.xml", b"http://[fe80::1]/"], (FetchRefused,),
        (b"http://", b"@", b":80/", b"%0d%0a", b"\\", b"#"),
    )  # fmt: skip


def _ssdp(data: bytes) -> None:
    async def fetch(_url: str, _sender: str, _interface: str) -> bytes:
        return b""

    protocol = UpnpProtocol(fetch)
    with suppress(UnreadableAnswer):
        [*protocol.read(Datagram(data, SENDER, 1900, is_answer=True))]
    [*protocol.read(Datagram(data, SENDER, 1900, is_answer=False))]
