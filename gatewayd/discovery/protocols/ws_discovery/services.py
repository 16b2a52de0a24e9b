"""What a service of WS-Discovery says of its device: by its endpoint, its types and its scopes.

Sources: Web Services Dynamic Discovery, April 2005, 2.6 and 5; ONVIF Core Specification, 7.3.2.2
(scopes); scopes beside the standard, as MAC and manufacturer, from captures of cameras.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import ip_address
from urllib.parse import unquote

from gatewayd.device.identity import Claim, claim, claim_of_id, macs
from gatewayd.discovery import sanitize
from gatewayd.discovery.probing.fetch import FetchRefused, own_target
from gatewayd.discovery.probing.protocol import Found
from gatewayd.discovery.protocols.ws_discovery.messages import (
    DEVICES_PROFILE,
    ONVIF_DEVICE,
    ONVIF_NETWORK,
    PUBLICATION,
    TargetService,
    bare_id,
)

NAMESPACE = "wsd"
"""Of the claims."""
PATH = "wsd.path"
"""The attribute that has the path of the service, at the port of the device."""
MAX_REMEMBERED = 500
"""Services of which is remembered what they have said: at most 8 KiB of each."""

PREFIXES: Mapping[str, str] = {
    ONVIF_NETWORK: "dn",
    ONVIF_DEVICE: "tds",
    DEVICES_PROFILE: "wsdp",
    PUBLICATION: "pub",
    "http://schemas.microsoft.com/windows/2006/08/wdp/print": "wprt",
    "http://schemas.microsoft.com/windows/2006/08/wdp/scan": "wscn",
}
"""The usual prefixes of the namespaces of types, for rules: a device may choose any."""

_ID = re.compile(r"(?:urn:)?uuid:\S+", re.IGNORECASE)
_SCOPE = re.compile(r"onvif://www\.onvif\.org/([A-Za-z]+)/(\S+)", re.IGNORECASE)
_XADDR = re.compile(
    r"(https?)://(?:\[([0-9a-f:.]+)\]|([0-9.]+))(?::([0-9]{1,5}))?(?:[/?#].*)?", re.IGNORECASE
)
_USUAL_PORTS = {"http": 80, "https": 443}
_MAX_PORT = 65_535

_MODEL, _NAME, _VENDOR = ("hardware", "model"), ("name",), ("manufacturer",)
_SCOPE_KEYS: Mapping[str, tuple[str, ...]] = {
    "onvif.hardware": ("hardware",),
    "onvif.name": _NAME,
    "onvif.location": ("location",),
    "onvif.mac": ("mac",),
    "model": _MODEL,
    "vendor": _VENDOR,
    "serial": ("serialnumber",),
}
"""The attributes, and the words of scopes that they are of; the first that is there counts."""


class ServiceMemory:
    """What services have said of themselves, as a message may leave out what another one had.

    Debian's wsdd shows its types in an answer to a Probe alone, and its URL in a Hello, or in an
    answer to a Resolve.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], TargetService] = OrderedDict()

    def completed(self, target: TargetService, sender: str) -> TargetService:
        """Return a service with what it has said before, from the same address, of this version."""
        place = (target.address, sender)
        known = self._known.get(place)
        if known is not None and known.version == target.version:
            target = replace(
                target,
                types=target.types or known.types,
                scopes=target.scopes or known.scopes,
                xaddrs=target.xaddrs or known.xaddrs,
            )
        self._known[place] = target
        self._known.move_to_end(place)
        if len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)
        return target


def found(target: TargetService, sender: str, *, is_behind: bool) -> Found:
    """Return the device of a service.

    sender: the IP address of the datagram, which is the device's.  is_behind: whether it is one of
    several that the datagram shows, as of a proxy (April 2005, 3): some may be elsewhere.
    """
    scopes = scope_values(target.scopes)
    claims = _claims(target.address, scopes)
    port, path = _place(target.xaddrs, sender)
    texts = {
        "wsd.epr": target.address,
        "wsd.types": " ".join(map(_type_name, target.types)),
        PATH: path,
        "onvif.profiles": " ".join(scopes.get("profile", ())),
        "uuid": next((one.value for one in claims if one.kind == "uuid"), ""),
    }
    for key, words in _SCOPE_KEYS.items():
        texts[key] = next((scopes[word][0] for word in words if word in scopes), "")
    name = texts["onvif.name"] or texts["model"] or texts["wsd.types"]
    return Found(
        key=target.address,
        claims=claims,
        attributes=sanitize.escaped_attributes(texts),
        label=name or bare_id(target.address),
        valid_for=0.0,
        port=port,
        is_behind=is_behind,
    )


def scope_values(scopes: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
    """Return the values of ONVIF's scopes by their words in lower case: devices vary them.

    Any other scope, as those that vendors invent, is left out.
    """
    values: dict[str, tuple[str, ...]] = {}
    for scope in scopes:
        if parts := _SCOPE.fullmatch(scope):
            word, value = parts[1].lower(), unquote(parts[2]).strip()
            if value:
                values[word] = (*values.get(word, ()), value)
    return values


def _claims(address: str, scopes: Mapping[str, tuple[str, ...]]) -> frozenset[Claim]:
    """Return who a service says to be.

    An address that is no id, as a URL, may hold the device's place, and identifies nothing.
    """
    made: list[Claim | None] = []
    if _ID.fullmatch(address):
        made.append(claim_of_id(NAMESPACE, bare_id(address)))
    made += (claim("mac", NAMESPACE, one) for text in scopes.get("mac", ()) for one in macs(text))
    return frozenset(one for one in made if one)


def _type_name(name: str) -> str:
    uri, _, local = name.removeprefix("{").rpartition("}")
    prefix = PREFIXES.get(uri)
    return f"{prefix}:{local}" if prefix else local


def _place(xaddrs: Iterable[str], sender: str) -> tuple[int | None, str]:
    """Return port and path of the first URL that leads to the sender; None and "" without one.

    path: "" where nothing is fetched from there, as by https.
    """
    for url in xaddrs:
        parts = _XADDR.fullmatch(url)
        if parts and _is_at(parts[2] or parts[3], sender):
            port = int(parts[4] or _USUAL_PORTS[parts[1].lower()])
            if 0 < port <= _MAX_PORT:
                return port, _fetchable(url, sender)
    return None, ""


def _fetchable(url: str, sender: str) -> str:
    try:
        return own_target(url, sender)[1]
    except FetchRefused:
        return ""


def _is_at(host: str, sender: str) -> bool:
    try:
        return ip_address(host) == ip_address(sender.partition("%")[0])
    except ValueError:
        return False
