"""The metadata of a device of DPWS, as printers and Windows hosts serve them over HTTP.

Sources: Devices Profile for Web Services, February 2006, 5 (ThisDevice, ThisModel, Relationship),
and OASIS DPWS 1.1, whose elements differ in their namespace alone; WS-Transfer, 3.1 (Get);
WS-MetadataExchange, 3; the sources of wsdd 0.7.0 (Computer).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gatewayd.discovery import sanitize
from gatewayd.discovery.probing.protocol import UnreadableAnswer
from gatewayd.discovery.protocols.guarded_xml import XmlElement, parse
from gatewayd.discovery.protocols.ws_discovery.messages import (
    ADDRESSING,
    DEVICES_PROFILE,
    PUBLICATION,
    envelope,
    opened,
)

MAX_METADATA = 64 * 1024
"""Bytes of a response; a real one has 2,000 to 10,000."""

_TRANSFER = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
_EXCHANGE = "{http://schemas.xmlsoap.org/ws/2004/09/mex}"
_EDITIONS = {
    DEVICES_PROFILE: ADDRESSING,
    "http://docs.oasis-open.org/ws-dd/ns/dpws/2009/01": "http://www.w3.org/2005/08/addressing",
}
"""The namespace of each edition, and that of the addressing that goes with it."""

_KEYS: Mapping[str, str] = {
    "FriendlyName": "wsd.name",
    "FirmwareVersion": "wsd.firmware",
    "SerialNumber": "serial",
    "Manufacturer": "vendor",
    "ModelName": "model",
    "ModelNumber": "wsd.model-number",
}
"""The elements of ThisDevice and ThisModel, and the attributes that they are."""


@dataclass(frozen=True, slots=True)
class WsMetadata:
    """What a device says of itself; it identifies nothing, as all wsdd have one serial number.

    address: of its endpoint.  attributes: the keys of gatewayd-rules(5).
    """

    address: str
    attributes: Mapping[str, str]

    @property
    def name(self) -> str:
        """What it is called; "" if it says nothing of that."""
        return self.attributes.get("wsd.name", "")


def get(identifier: str, address: str) -> bytes:
    """Return the question for the metadata of a device.  address: of its endpoint."""
    return envelope(f"{_TRANSFER}/Get", identifier, "", to=address)


def read_metadata(body: bytes) -> WsMetadata:
    """Return the metadata of a response.  Raises UnreadableAnswer."""
    _, metadata = opened(parse(body, MAX_METADATA))
    if metadata.name != f"{_EXCHANGE}Metadata":
        raise UnreadableAnswer("no-metadata")
    address, texts = "", dict[str, str]()
    for profile, word, element in _sections(metadata):
        if word == "Relationship":
            host = element.first(f"{{{profile}}}Host")
            if host is not None and not address:
                addressing = f"{{{_EDITIONS[profile]}}}"
                address = host.text_of(f"{addressing}EndpointReference", f"{addressing}Address")
                texts["wsd.computer"] = host.text_of(f"{{{PUBLICATION}}}Computer")
        else:
            for name, key in _KEYS.items():
                text = " ".join(element.text_of(f"{{{profile}}}{name}").split())
                texts[key] = texts.get(key) or text
    if not address:
        raise UnreadableAnswer("no-metadata")
    return WsMetadata(address, sanitize.escaped_attributes(texts))


def _sections(metadata: XmlElement) -> Iterator[tuple[str, str, XmlElement]]:
    """Yield namespace, name and element of what the sections hold."""
    for section in metadata.named(f"{_EXCHANGE}MetadataSection"):
        for element in section.children:
            profile, _, word = element.name.removeprefix("{").partition("}")
            if profile in _EDITIONS and word in ("ThisDevice", "ThisModel", "Relationship"):
                yield profile, word, element
