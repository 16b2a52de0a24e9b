"""The checks of text from the LAN, before it is matched, kept or shown.

Text that is matched or kept is refused if it is unclean, never cleaned: a cleaned text could
become another device's.  Only a label, which identifies nothing, is cleaned.
"""

from __future__ import annotations

import re
from typing import Final

from gatewayd.discovery.discoverer import MAX_ATTRIBUTE
from gatewayd.runtime.text import escaped, one_line

MAX_LABEL: Final = 64
MAX_KEY: Final = 64
UNNAMED: Final = "unnamed"

_REPLACEMENT = "\ufffd"  # what decoders leave where the bytes were no text
_KEY = re.compile(r"[!-<>-~]+")  # printable ASCII without space and "=" (RFC 6763, 6.4)


def is_clean(text: str) -> bool:
    """Whether a text holds printable characters only.

    Refused are control, format, bidirectional, private and unassigned characters, lone
    surrogates, every space but U+0020, and the replacement character.
    """
    return text.isprintable() and _REPLACEMENT not in text


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
    return key.lower(), value


def escaped_attribute(key: str, value: str) -> tuple[str, str] | None:
    """Return one attribute as `attribute` does, with what does not print escaped in its value."""
    return attribute(key, value if value.isprintable() else escaped(value))
