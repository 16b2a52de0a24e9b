"""SSDP: the datagrams by which UPnP devices announce themselves, and answer a search.

Sources: UPnP Device Architecture 1.1 and 2.0, 1.1 to 1.3, and Annex A (IPv6); what devices send
beside them, from captures: no blank after a colon, no empty line at the end, fields in any case.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice

from gatewayd.discovery.probing.protocol import UnreadableAnswer
from gatewayd.discovery.sanitize import is_clean

PORT = 1900
GROUP4 = "239.255.255.250"
GROUP6, SITE_GROUP6 = "ff02::c", "ff05::c"
"""Of the link, and of the site: the latter only listened to."""

MAX_DATAGRAM = 2048
"""Bytes of a datagram; a real one has 200 to 600."""
MAX_FIELDS = 32
MAX_VALUE = 255
"""Characters of a value."""

ROOT = "upnp:rootdevice"
"""The target and type of root devices: a device says it once, and of each part something else."""
USUAL_AGE = 1800
"""Seconds for which an announcement without max-age is believed (1.2.2, what is recommended)."""
MAX_AGE = 86_400

_FIELD = re.compile(r"([!-9;-~]{1,64})[ \t]*:(.*)")
_AGE = re.compile(r'max-age\s*=\s*"?([0-9]{1,20})', re.IGNORECASE)
_RESPONSE = re.compile(r"HTTP/1\.[01] ([0-9]{3})(?: .*)?")
_UDN = re.compile(r"(?:(?:urn:)?uuid:)*(.*)", re.IGNORECASE)


class SsdpKind(StrEnum):
    """What a datagram is."""

    RESPONSE = "response"  # to a search
    ALIVE = "ssdp:alive"
    UPDATE = "ssdp:update"  # the device is about to restart its announcements
    BYEBYE = "ssdp:byebye"


@dataclass(frozen=True, slots=True)
class SsdpMessage:
    """A datagram that shows a device, or a part of one.

    udn: the unique device name without its "uuid:"; a UUID by the standard, and often another text.
    target: what it is about: ROOT, "uuid:..." or a type.
    location: of the description, a URL as it came; "" if there is none.
    max_age: seconds for which it may be believed, 0 to MAX_AGE.
    fields: all of them, by names in lower case.
    """

    kind: SsdpKind
    udn: str
    target: str
    location: str
    max_age: int
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_of_root(self) -> bool:
        """Whether it is about the root device as such."""
        return self.target.lower() == ROOT


def read_message(payload: bytes) -> SsdpMessage | None:
    """Return the message of a datagram; None for a search, as every host may send.

    Raises UnreadableAnswer.
    """
    if len(payload) > MAX_DATAGRAM:
        raise UnreadableAnswer("oversized")
    first, *lines = payload.decode("iso-8859-1").replace("\r\n", "\n").split("\n")
    fields = _fields(lines)
    if first.startswith("M-SEARCH "):
        return None
    if first.startswith("NOTIFY "):
        kind, target = _kind(fields.get("nts", "")), fields.get("nt", "")
    elif status := _RESPONSE.fullmatch(first):
        if status[1] != "200":
            raise UnreadableAnswer("refusal")
        kind, target = SsdpKind.RESPONSE, fields.get("st", "")
    else:
        raise UnreadableAnswer("no-ssdp")
    udn = bare_udn(fields.get("usn", "")).partition("::")[0].strip()
    if not udn or not is_clean(udn):
        raise UnreadableAnswer("no-udn")
    return SsdpMessage(
        kind=kind,
        udn=udn,
        target=target,
        location=fields.get("location", ""),
        max_age=_max_age(fields.get("cache-control", "")),
        fields=fields,
    )


def _fields(lines: list[str]) -> dict[str, str]:
    """Return the fields; of one that is there twice, the first.  Without those that are too long,
    and any line that is none."""
    found: dict[str, str] = {}
    for line in islice(lines, MAX_FIELDS):
        parts = _FIELD.fullmatch(line)
        value = parts[2].strip(" \t") if parts else ""
        if parts and len(value) <= MAX_VALUE:
            found.setdefault(parts[1].lower(), value)
    return found


def _kind(word: str) -> SsdpKind:
    try:
        kind = SsdpKind(word.lower())
    except ValueError as error:
        raise UnreadableAnswer("foreign-message") from error
    if kind is SsdpKind.RESPONSE:
        raise UnreadableAnswer("foreign-message")
    return kind


def _max_age(text: str) -> int:
    found = _AGE.search(text)
    return min(int(found[1]), MAX_AGE) if found else USUAL_AGE


def bare_udn(text: str) -> str:
    """Return a unique device name as it is written behind "uuid:", however often that is there."""
    found = _UDN.fullmatch(text.strip())
    return found[1].strip() if found else ""


def search(host: str, target: str, seconds: int) -> bytes:
    """Return a search (1.3.2).

    host: to whom it goes, an IP address.  target: ROOT, or "uuid:" and a UDN.
    seconds: MX, within which each device answers at a random moment.  A search that goes to one
    device needs none by the standard; some do not answer it without.
    """
    bare = host.partition("%")[0]
    written = f"[{bare}]" if ":" in bare else bare
    lines = (
        "M-SEARCH * HTTP/1.1",
        f"HOST: {written}:{PORT}",
        'MAN: "ssdp:discover"',
        f"MX: {seconds}",
        f"ST: {target}",
    )
    return "\r\n".join((*lines, "", "")).encode("iso-8859-1", "replace")
