"""The description of a UPnP device: what it says of the root device, and whether it may be fetched.

Sources: UPnP Device Architecture 1.1, 2.3 (elements) and 1.1.4 (LOCATION); elements beside it, as
MACAddress and serialNum, from what players of Sonos serve.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from gatewayd.device.identity import MAX_VALUE, Claim, claim, macs
from gatewayd.discovery import sanitize
from gatewayd.discovery.probing.protocol import UnreadableAnswer
from gatewayd.discovery.protocols.guarded_xml import XmlElement, parse
from gatewayd.discovery.protocols.upnp.ssdp import bare_udn

MAX_DESCRIPTION = 64 * 1024
"""Bytes of a description; a real one has 1,000 to 10,000."""
NAMESPACE = "upnp"
"""Of the claims; that of a serial number has the manufacturer's name behind it."""

_XML = "{urn:schemas-upnp-org:device-1-0}"
_NOT_IN_A_NAMESPACE = re.compile(r"[^a-z0-9]+")
_MAX_MANUFACTURER = 40

_KEYS: Mapping[str, tuple[str, ...]] = {
    "model": ("modelName",),
    "vendor": ("manufacturer",),
    "serial": ("serialNumber", "serialNum"),
    "upnp.name": ("friendlyName",),
    "upnp.type": ("deviceType",),
    "upnp.model-number": ("modelNumber",),
    "upnp.model-description": ("modelDescription",),
    "upnp.version": ("softwareVersion",),
    "upnp.mac": ("MACAddress",),
}
"""The attributes, and the elements that they are of; the first that is there counts."""


@dataclass(frozen=True, slots=True)
class UpnpDescription:
    """What a description says of the root device; it proves nothing of who made it.

    udn: as `bare_udn` has it.  name: the friendly name.
    attributes: the keys of gatewayd-rules(5).
    """

    udn: str
    name: str
    attributes: Mapping[str, str]
    claims: frozenset[Claim]


def read_description(body: bytes) -> UpnpDescription:
    """Return the description of a document.  Raises UnreadableAnswer.

    Devices that are embedded in the root device have UDNs of their own, and are not read.
    """
    root = parse(body, MAX_DESCRIPTION)
    device = root.first(f"{_XML}device") if root.name == f"{_XML}root" else None
    udn = bare_udn(device.text_of(f"{_XML}UDN")) if device else ""
    if device is None or not udn:
        raise UnreadableAnswer("no-description")
    texts = {key: _text(device, names) for key, names in _KEYS.items()}
    return UpnpDescription(
        udn=udn,
        name=texts["upnp.name"],
        attributes=sanitize.escaped_attributes(texts),
        claims=_claims(texts),
    )


def _text(device: XmlElement, names: tuple[str, ...]) -> str:
    """Return the text of the first element that has any, without line breaks in it."""
    found = (device.text_of(f"{_XML}{name}") for name in names)
    return " ".join(next((text for text in found if text), "").split())


def _claims(texts: Mapping[str, str]) -> frozenset[Claim]:
    made = [claim("mac", NAMESPACE, one) for one in macs(texts["upnp.mac"])]
    maker = _NOT_IN_A_NAMESPACE.sub("-", texts["vendor"].lower())[:_MAX_MANUFACTURER].strip("-")
    serial = texts["serial"].lower()
    if maker and len(serial) <= MAX_VALUE and sanitize.is_clean(serial):
        made.append(claim("serial", f"{NAMESPACE}.{maker}", serial))
    return frozenset(one for one in made if one)
