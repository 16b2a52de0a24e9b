"""The checks of text from the LAN, and of addresses, before they are matched, kept or shown.

Text that is matched or kept is escaped or refused if it is unclean, never cleaned: a cleaned text
could become another device's.  Only a label, which identifies nothing, is cleaned.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Final

from gatewayd.discovery.discoverer import MAX_ATTRIBUTE
from gatewayd.runtime.text import escaped, one_line, shared

MAX_LABEL: Final = 64
MAX_KEY: Final = 64
UNNAMED: Final = "unnamed"
MAX_ADDRESSES: Final = 8
"""Addresses of one device."""
_V6: Final = 6

_REPLACEMENT = "\ufffd"  # what decoders leave where the bytes were no text
_KEY = re.compile(r"[!-<>-~]+")  # printable ASCII without space and "=" (RFC 6763, 6.4)
_ESCAPE = re.compile(r"\\(?:[\\nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")
_SHORT = {"\\": "\\", "n": "\n", "r": "\r", "t": "\t"}


def is_clean(text: str) -> bool:
    """Whether a text holds printable characters only.

    Refused are control, format, bidirectional, private and unassigned characters, lone
    surrogates, every space but U+0020, and the replacement character.
    """
    return text.isprintable() and _REPLACEMENT not in text


def is_text(text: str) -> bool:
    """Whether a text is what was sent: no decoder has replaced bytes in it, nor kept lone ones."""
    return _REPLACEMENT not in text and not any("\ud800" <= one <= "\udfff" for one in text)


def label(text: str) -> str:
    """Return a name to show: clean, on one line, of 1 to 64 characters."""
    return one_line(text[: 4 * MAX_LABEL].replace(_REPLACEMENT, " "), MAX_LABEL) or UNNAMED


def attribute(key: str, value: str) -> tuple[str, str] | None:
    """Return one attribute with its key in lower case; None if it cannot be matched.

    key: printable ASCII without space and "=", 1 to 64 characters.
    value: clean text of at most 255 characters; may be empty.
    """
    if len(key) > MAX_KEY or not _KEY.fullmatch(key):
        return None
    if len(value) > MAX_ATTRIBUTE or not is_clean(value):
        return None
    return shared(key.lower()), shared(value)


def escaped_attribute(key: str, value: str) -> tuple[str, str] | None:
    """Return one attribute as `attribute` does, with what does not print escaped in its value."""
    return attribute(key, value if value.isprintable() else escaped(value))


def escaped_attributes(named: Mapping[str, str]) -> dict[str, str]:
    """Return attributes as `escaped_attribute` does, without those that have no value, and those
    that cannot be matched."""
    pairs = (escaped_attribute(key, value) for key, value in named.items() if value)
    return dict(pair for pair in pairs if pair)


def escaped_name(raw: str) -> str:
    """Return a name with what does not print escaped, as "\\xa0"; each name has a text of its own.

    A name that prints stays as it is, unless it holds what looks like an escape: then its
    backslashes are doubled, lest another name is escaped to the same text.
    """
    if raw.isprintable() and not _ESCAPE.search(raw):
        return raw
    return escaped(raw.replace("\\", "\\\\"))


def refused_name(raw: str) -> str:
    """Return a name that is refused, fit to be shown: escaped, and at most 255 characters."""
    return escaped_name(raw[:MAX_ATTRIBUTE]).replace(_REPLACEMENT, r"\ufffd")[:MAX_ATTRIBUTE]


def original_name(text: str) -> str:
    """Return the name that `escaped_name` has made a text of."""
    return _ESCAPE.sub(_unescaped, text)


def _unescaped(found: re.Match[str]) -> str:
    code = found[0][1:]
    return _SHORT.get(code) or chr(min(int(code[1:], 16), 0x10FFFF))


def usable_addresses(addresses: tuple[str, ...], interface: str) -> tuple[str, ...]:
    """Return the addresses that a host can have, IPv4 first, at most 8.

    Loopback addresses count only on "lo": elsewhere they would mean this gateway itself.  A
    link-local address of IPv6 is one on that interface alone, and names it: "fe80::1%lan0".
    """
    parsed = (ipaddress.ip_address(one.partition("%")[0]) for one in addresses)
    fit = [
        one
        for one in dict.fromkeys(parsed)
        if not (one.is_multicast or one.is_unspecified or one.is_reserved)
        and (interface == "lo" or not one.is_loopback)
    ]
    fit.sort(key=lambda one: one.version)
    return tuple(_with_scope(one, interface) for one in fit)[:MAX_ADDRESSES]


def _with_scope(one: ipaddress.IPv4Address | ipaddress.IPv6Address, interface: str) -> str:
    return f"{one}%{interface}" if one.version == _V6 and one.is_link_local else str(one)
