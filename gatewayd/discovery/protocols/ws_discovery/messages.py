"""The messages of WS-Discovery: SOAP over UDP, in the edition of April 2005 that devices speak.

Sources: Web Services Dynamic Discovery, April 2005, 4 to 6 and appendix I; OASIS WS-Discovery 1.1,
whose messages differ in their namespaces alone, and are read, too; ONVIF Core Specification, 7
(the edition, and the types that are asked for).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from uuid import UUID
from xml.sax.saxutils import escape

from gatewayd.discovery.probing.protocol import UnreadableAnswer
from gatewayd.discovery.protocols.guarded_xml import XmlElement, parse
from gatewayd.discovery.sanitize import is_clean

MAX_MESSAGE = 8 * 1024
"""Bytes of a message."""
MAX_TARGETS = 32
"""Services that one answer may show."""
MAX_SCOPES, MAX_XADDRS, MAX_TYPES = 64, 8, 32
MAX_TEXT = 255
"""Characters of an address, a scope, a type or a URL."""

SOAP = "http://www.w3.org/2003/05/soap-envelope"
DISCOVERY = "http://schemas.xmlsoap.org/ws/2005/04/discovery"
ADDRESSING = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
ONVIF_NETWORK = "http://www.onvif.org/ver10/network/wsdl"
ONVIF_DEVICE = "http://www.onvif.org/ver10/device/wsdl"
DEVICES_PROFILE = "http://schemas.xmlsoap.org/ws/2006/02/devprof"
PUBLICATION = "http://schemas.microsoft.com/windows/pub/2005/07"

_EDITIONS = {
    DISCOVERY: ADDRESSING,
    "http://docs.oasis-open.org/ws-dd/ns/discovery/2009/01": "http://www.w3.org/2005/08/addressing",
}
"""The namespace of each edition, and that of the addressing that goes with it."""
_SOAP_NAMESPACES = (SOAP, "http://schemas.xmlsoap.org/soap/envelope/")
_URN = "urn:schemas-xmlsoap-org:ws:2005:04:discovery"


class WsMessageKind(StrEnum):
    """What a message is, by the element in its body: its Action is missing in places."""

    HELLO = "Hello"
    BYE = "Bye"
    PROBE_MATCHES = "ProbeMatches"
    RESOLVE_MATCHES = "ResolveMatches"


_MATCHES = {
    WsMessageKind.PROBE_MATCHES: "ProbeMatch",
    WsMessageKind.RESOLVE_MATCHES: "ResolveMatch",
}
_REQUESTS = ("Probe", "Resolve")


@dataclass(frozen=True, slots=True)
class TargetService:
    """A service, as a message shows it.

    address: of its endpoint reference, which stays the same (2.6).
    types: as "{namespace}local"; "local" alone where its prefix is not declared.
    scopes, xaddrs: URIs, as they came.
    version: of what it says of itself, which rises when that changes (4.1); "" where it has none.
    """

    address: str
    types: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    xaddrs: tuple[str, ...] = ()
    version: str = ""


@dataclass(frozen=True, slots=True)
class WsMessage:
    """A message that shows services.

    relates_to: the id of the message that it answers, as `bare_id` has it; "" for none.
    """

    kind: WsMessageKind
    relates_to: str
    targets: tuple[TargetService, ...]


def read_message(payload: bytes) -> WsMessage | None:
    """Return the message of a datagram; None for one that asks, as every host may.

    Raises UnreadableAnswer.
    """
    header, content = opened(parse(payload, MAX_MESSAGE))
    edition, _, word = content.name.removeprefix("{").partition("}")
    if edition not in _EDITIONS:
        raise UnreadableAnswer("foreign-message")
    if word in _REQUESTS:
        return None
    try:
        kind = WsMessageKind(word)
    except ValueError as error:
        raise UnreadableAnswer("foreign-message") from error
    addressing = _EDITIONS[edition]
    related = header.text_of(f"{{{addressing}}}RelatesTo") if header else ""
    targets = tuple(_targets(content, kind, edition))
    if not targets:
        raise UnreadableAnswer("no-endpoint")
    return WsMessage(kind, bare_id(related[:MAX_TEXT]), targets)


def opened(message: XmlElement) -> tuple[XmlElement | None, XmlElement]:
    """Return the header of a message of SOAP, None without one, and the element in its body.

    Raises UnreadableAnswer, also where that is a fault.
    """
    soap = next((one for one in _SOAP_NAMESPACES if message.name == f"{{{one}}}Envelope"), "")
    body = message.first(f"{{{soap}}}Body") if soap else None
    content = body.children[0] if body and body.children else None
    if content is None:
        raise UnreadableAnswer("no-soap")
    if content.name.endswith("}Fault"):
        raise UnreadableAnswer("fault")
    return message.first(f"{{{soap}}}Header"), content


def _targets(content: XmlElement, kind: WsMessageKind, edition: str) -> Iterator[TargetService]:
    match = _MATCHES.get(kind)
    shown = content.named(f"{{{edition}}}{match}") if match else iter((content,))
    addressing = _EDITIONS[edition]
    for one in islice(shown, MAX_TARGETS):
        address = one.text_of(f"{{{addressing}}}EndpointReference", f"{{{addressing}}}Address")
        if 0 < len(address) <= MAX_TEXT and is_clean(address):
            yield TargetService(
                address=address,
                types=_types(one.first(f"{{{edition}}}Types")),
                scopes=_words(one.text_of(f"{{{edition}}}Scopes"), MAX_SCOPES),
                xaddrs=_words(one.text_of(f"{{{edition}}}XAddrs"), MAX_XADDRS),
                version=one.text_of(f"{{{edition}}}MetadataVersion")[:MAX_TEXT],
            )


def _types(element: XmlElement | None) -> tuple[str, ...]:
    """Return the qualified names of an element, whose prefixes are those in scope there."""
    if element is None:
        return ()
    made = []
    for word in _words(element.text, MAX_TYPES):
        prefix, colon, local = word.rpartition(":")
        uri = element.prefixes.get(prefix, "") if colon else element.prefixes.get("", "")
        made.append(f"{{{uri}}}{local}" if uri else local)
    return tuple(made)


def _words(text: str, most: int) -> tuple[str, ...]:
    """Return the first words of a text, without those that are too long."""
    return tuple(one for one in text.split(maxsplit=most)[:most] if len(one) <= MAX_TEXT)


def bare_id(text: str) -> str:
    """Return an id of a message in one spelling: devices answer with and without "urn:"."""
    return text.strip().lower().removeprefix("urn:").removeprefix("uuid:")


def message_id(token: bytes, number: int) -> str:
    """Return the id of a message, as `bare_id` has it: a UUID that shows nothing of the token.

    number: of the message, among those that are sent with one token.
    """
    digest = hashlib.sha256(token + bytes((number,))).digest()
    return str(UUID(bytes=digest[:16], version=4))


def probe(identifier: str, namespace: str = "", name: str = "") -> bytes:
    """Return a Probe for services of a type, or for all.

    name: of the type, with the usual prefix of its namespace: Debian's wsdd compares that as a
    text.  The prefix is declared at the very element: some cameras find it nowhere else.  No
    scopes: some answer a fault to them.
    """
    prefix = name.partition(":")[0]
    types = f'<d:Types xmlns:{prefix}="{namespace}">{name}</d:Types>' if name else ""
    return envelope(f"{DISCOVERY}/Probe", identifier, f"<d:Probe>{types}</d:Probe>")


def resolve(identifier: str, address: str) -> bytes:
    """Return a Resolve of the service whose endpoint reference has this address."""
    reference = f"<a:EndpointReference><a:Address>{escape(address)}</a:Address>"
    body = f"<d:Resolve>{reference}</a:EndpointReference></d:Resolve>"
    return envelope(f"{DISCOVERY}/Resolve", identifier, body)


def envelope(action: str, identifier: str, body: str, to: str = _URN) -> bytes:
    """Return a message; its id is without "urn:", which some cameras answer with a fault."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<s:Envelope xmlns:s="{SOAP}" xmlns:a="{ADDRESSING}" xmlns:d="{DISCOVERY}">'
        f"<s:Header><a:Action>{action}</a:Action>"
        f"<a:MessageID>uuid:{identifier}</a:MessageID><a:To>{escape(to)}</a:To></s:Header>"
        f"<s:Body>{body}</s:Body></s:Envelope>"
    ).encode()
