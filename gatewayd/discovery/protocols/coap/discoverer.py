"""The discoverer of CoAP: devices with resources, and those registered at a resource directory.

Source of facts: RFC 7252, 6690, 7959 and 9176.  A list of resources identifies no device: what does
is the name of an endpoint in a directory, or a resource that the configuration names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar
from urllib.parse import parse_qsl, quote, urlencode

from gatewayd.device.identity import claim
from gatewayd.discovery import sanitize
from gatewayd.discovery.discoverer import MAX_ATTRIBUTE
from gatewayd.discovery.probing.discoverer import DatagramDiscoverer
from gatewayd.discovery.probing.protocol import (
    Datagram,
    Enquiry,
    Found,
    News,
    Own,
    Probe,
    Transmission,
    UnreadableAnswer,
)
from gatewayd.discovery.probing.settings import ProbingSettings, time_between_rounds
from gatewayd.discovery.protocols.coap.messages import (
    CONTENT,
    LINK_FORMAT,
    TEXT,
    Block,
    CoapAnswer,
    CoapLink,
    get,
    parse_links,
    parse_response,
)
from gatewayd.settings.declare import setting

PORT = 5683
GROUPS = ("224.0.1.187", "ff02::fd")
"""All CoAP nodes (RFC 7252, 12.8)."""
WELL_KNOWN = "/.well-known/core"
NAMESPACE = "coap"
ENDPOINTS, IN_SECTORS = "coap.ep", "coap.d"
"""The namespaces of the names of endpoints: alone, and behind that of a sector and a slash."""
MAX_NAME = 63
"""Bytes of the name and of the sector of an endpoint (RFC 9176, 5)."""
MAX_DIRECTORIES = 64
ENQUIRED = "when a rule could match, or it is a directory: once in 10 min, in parts"

_LOOKUP, _ENDPOINT = "core.rd-lookup-ep", "core.rd-ep"  # resource types of RFC 9176, 9.1
_ANSWERS = 2.0  # seconds until a device is asked a second time: ACK_TIMEOUT of RFC 7252, 4.8
_TRIES = 2


@dataclass(frozen=True, slots=True)
class Portion:
    """How much of one resource is fetched.  parts: messages.  size: bytes."""

    parts: int
    size: int


LIST = Portion(16, 4 << 10)
DIRECTORY = Portion(64, 64 << 10)
IDENTITY = Portion(1, 255)


@dataclass(frozen=True, slots=True)
class IdentityResource:
    """The resource that says who a device is.

    kind: of the claim, as "serial".  path: absolute and percent-encoded.
    """

    kind: str
    path: str


class CoapProtocol:
    """CoAP as a protocol of datagrams: a `DatagramProtocol`.

    identity: what is read of each device that the rules may want; None for nothing.
    It remembers where MAX_DIRECTORIES directories list their endpoints.
    """

    kind = "coap"
    groups: Sequence[str] = ()
    port = PORT
    listens = False
    ipv4_only = False
    answer_time = 7.0  # an answer to a group waits for up to 5 s (RFC 7252, 8.2)

    def __init__(self, identity: IdentityResource | None = None) -> None:
        self._identity = identity
        self._lookups: dict[str, str] = {}

    def probes(self, token: bytes, own: Own) -> Sequence[Probe]:
        """Return the question for resources, by multicast.  A directory is among the answers."""
        question = get(WELL_KNOWN, token)
        return (Probe(question, GROUPS[":" in own.address], PORT, "list of resources", token),)

    def probe_of(self, address: str, key: str, token: bytes, own: Own) -> Sequence[Probe]:  # noqa: ARG002  # no part of the question
        """Return the question for a device's resources, or for an endpoint in a directory."""
        queries = [f"{name}={value}" for name, value in parse_qsl(key)]
        path = self._lookups.get(address, WELL_KNOWN) if queries else WELL_KNOWN
        purpose = "an endpoint in a directory" if queries else "list of resources"
        return (Probe(get(path, token, queries=queries), address, PORT, purpose, token),)

    def read(self, datagram: Datagram) -> Iterable[News]:
        """Return the device that has the resources in an answer, or the endpoints in it.

        Raises UnreadableAnswer.
        """
        answer = parse_response(datagram.payload, datagram.asked)
        _check(answer, LINK_FORMAT)
        block = answer.block
        if block and block.number:
            raise UnreadableAnswer("parts-do-not-fit")
        is_cut = block is not None and block.has_more
        return found_in(
            parse_links(answer.payload, has_more=is_cut), datagram.sender, is_cut=is_cut
        )

    async def enquire(self, found: Found, enquiry: Enquiry) -> Sequence[Found]:
        """Read the whole list of a device, who it is, and what is registered there.

        Raises OSError, UnreadableAnswer.
        """
        if found.is_behind:
            return (found,)
        links = await _links(enquiry, WELL_KNOWN, LIST)
        there = found_in(links, enquiry.address)
        device = next((one for one in there if one.key == found.key), found)
        device = await self._identified(device, enquiry)
        lookup = next((one.target for one in links if _LOOKUP in one.types), "")
        if not lookup:
            return (device,)
        registered = await _links(enquiry, lookup, DIRECTORY)
        self._remember(enquiry.address, lookup)
        return (device, *filter(None, map(_endpoint, registered)))

    async def _identified(self, device: Found, enquiry: Enquiry) -> Found:
        """Return a device with the identity that it shows."""
        if self._identity is None:
            return device
        path, kind = self._identity.path, self._identity.kind
        try:
            body, is_cut = await _fetch(enquiry, path, TEXT, IDENTITY)
        except (TimeoutError, UnreadableAnswer):  # it has no such resource
            return device
        text = body.decode("utf-8", "replace").strip(" \t\r\n\0")
        one = claim(kind, NAMESPACE, text) if sanitize.is_clean(text) and not is_cut else None
        if one is None:
            return device
        named = sanitize.escaped_attributes({"coap.mac" if kind == "mac" else kind: text})
        return replace(device, claims=frozenset({one}), attributes={**device.attributes, **named})

    def _remember(self, address: str, lookup: str) -> None:
        self._lookups.pop(address, None)
        self._lookups[address] = lookup
        if len(self._lookups) > MAX_DIRECTORIES:
            del self._lookups[next(iter(self._lookups))]


def found_in(links: Sequence[CoapLink], sender: str, *, is_cut: bool = False) -> Sequence[Found]:
    """Return the device that has resources, and the endpoints of which a directory says so.

    sender: the IP address of the device.  is_cut: whether there are more links.
    """
    listed = [one for one in links if _ENDPOINT not in one.types]
    registered = (_endpoint(one) for one in links if _ENDPOINT in one.types)
    device = (_device(listed, sender, is_cut=is_cut),) if listed or is_cut else ()
    return (*device, *filter(None, registered))


def _device(links: Sequence[CoapLink], sender: str, *, is_cut: bool) -> Found:
    """Return a device, of which the address is all that stays the same.

    Of a list that is cut nothing is matched, lest its attributes change with what comes next; it
    may be that of a directory.
    """
    title = next((one.about.get("title", "") for one in links if one.target == "/"), "")
    attributes = {
        "coap.rt": _words(word for one in links for word in one.types),
        "coap.if": _words(word for one in links for word in one.about.get("if", "").split()),
        "coap.title": title,
    }
    return Found(
        key=sender,
        claims=frozenset(),
        attributes={} if is_cut else sanitize.escaped_attributes(attributes),
        label=title or f"CoAP device {sender}",
        valid_for=0.0,
        port=PORT,
        is_directory=is_cut or any(_LOOKUP in one.types for one in links),
    )


def _endpoint(link: CoapLink) -> Found | None:
    """Return a device that is registered at a directory; None for one without a valid name.

    Its own address, the base, may be anything, and is a hint.
    """
    name, sector = link.about.get("ep", ""), link.about.get("d", "")
    if not name or not all(map(_is_name, (name, sector))):
        return None
    identity = f"{quote(sector, safe='')}/{name}" if sector else name
    one = claim("serial", IN_SECTORS if sector else ENDPOINTS, identity)
    attributes = {
        "serial": identity if one else "",
        "coap.ep": name,
        "coap.d": sector,
        "coap.et": link.about.get("et", ""),
        "coap.base": link.about.get("base", ""),
    }
    key = {"ep": name, "d": sector} if sector else {"ep": name}
    return Found(
        key=urlencode(key),
        claims=frozenset({one} if one else ()),
        attributes=sanitize.escaped_attributes(attributes),
        label=name,
        valid_for=0.0,
        is_behind=True,
    )


def _is_name(text: str) -> bool:
    return len(text.encode()) <= MAX_NAME and sanitize.is_clean(text)


def _words(words: Iterable[str]) -> str:
    """Return as many words, each once, as an attribute has room for."""
    text = ""
    for word in dict.fromkeys(filter(sanitize.is_clean, words)):
        longer = f"{text} {word}".lstrip()
        text = longer if len(longer) <= MAX_ATTRIBUTE else text
    return text


async def _links(enquiry: Enquiry, path: str, portion: Portion) -> Sequence[CoapLink]:
    body, is_cut = await _fetch(enquiry, path, LINK_FORMAT, portion)
    return parse_links(body, has_more=is_cut)


async def _fetch(
    enquiry: Enquiry, path: str, content_format: int, portion: Portion
) -> tuple[bytes, bool]:
    """Return a resource, and whether there is more of it than is fetched.

    Parts of two versions are not put together.  Raises UnreadableAnswer, OSError and, if an answer
    is missing, TimeoutError.
    """
    body, version = b"", b""
    block: Block | None = None
    for _ in range(portion.parts):
        answer = await _ask(enquiry, path, block)
        _check(answer, content_format)
        part = answer.block or Block(0, has_more=False, size=portion.size)
        is_next = part.start == len(body) and (not body or answer.version == version)
        if not is_next or (part.has_more and len(answer.payload) != part.size):
            raise UnreadableAnswer("parts-do-not-fit")
        body, version = body + answer.payload, answer.version
        if not part.has_more or len(body) > portion.size:
            return body[: portion.size], part.has_more or len(body) > portion.size
        block = Block(len(body) // part.size, has_more=False, size=part.size)
    return body, True


async def _ask(enquiry: Enquiry, path: str, block: Block | None) -> CoapAnswer:
    """Return the answer to a question, which is sent twice.  Raises OSError, or TimeoutError."""
    for _ in range(_TRIES):
        token = enquiry.token()
        question = get(path, token, block=block)
        probe = Probe(question, enquiry.address, PORT, "a resource of a device", token)
        datagram = await enquiry.ask(probe, _ANSWERS, partial(_is_answer, token))
        if datagram is not None:
            return parse_response(datagram.payload, (token,))
    raise TimeoutError


def _is_answer(token: bytes, datagram: Datagram) -> bool:
    try:
        parse_response(datagram.payload, (token,))
    except UnreadableAnswer:
        return False
    return True


def _check(answer: CoapAnswer, content_format: int) -> None:
    """Raise UnreadableAnswer for an answer that does not hold what was asked for."""
    if answer.code != CONTENT:
        raise UnreadableAnswer("refusal")
    if answer.payload and (answer.content_format or TEXT) != content_format:
        raise UnreadableAnswer("no-link-format")


@dataclass(frozen=True, slots=True)
class CoapSettings(ProbingSettings):
    """[discovery.<name>] with kind = "coap".  The bounds hold for each interface."""

    probe_every: float = time_between_rounds(300)
    identity_path: str = setting(
        "",
        "path of the resource with which a device says who it is, as /dev/serial, read of each "
        "that a rule could match (default: only endpoints of a directory have an identity)",
    )
    identity_kind: str = setting(
        "serial", "what that resource holds, as plain text", choices=("serial", "uuid", "mac")
    )

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with the settings as a whole."""
        yield from ProbingSettings.problems(self)
        try:
            get(self.identity_path or WELL_KNOWN, b"")
        except UnreadableAnswer:
            yield (
                "identity_path must begin with / and have at most 8 segments of at most 255 bytes"
            )


class Coap(DatagramDiscoverer):
    """The discoverer.  Raises ConfigError."""

    port_version: ClassVar[str] = "1.0"
    Settings: ClassVar[type] = CoapSettings

    def __init__(self, name: str, settings: CoapSettings) -> None:
        path = self._path = settings.identity_path
        identity = IdentityResource(settings.identity_kind, path) if path else None
        super().__init__(name, settings, CoapProtocol(identity))

    def transmissions(self) -> Sequence[Transmission]:
        """Return what is sent on each interface, what is asked of single devices included."""
        path = f", its identity at {self._path}" if self._path else ""
        what = f"all of its list{path}, and what is registered at it"
        asked = (
            Transmission(f"the device, port {PORT} by UDP", one, 0.0, 0, what, ENQUIRED)
            for one in dict.fromkeys(self._settings.interfaces)
        )
        return [*super().transmissions(), *asked]
