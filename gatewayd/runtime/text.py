"""Text of others, made fit for a terminal, a log, one line or the memory.  Pure."""

from __future__ import annotations

from functools import lru_cache

SHARED = 1024
"""Texts that are kept to be shared; those that were not seen for longest leave."""
LONGEST_SHARED = 64
"""Characters of a text that is shared: what a thousand hostile ones take is bounded, too."""


def shared(text: str) -> str:
    """Return the text, as one copy for all who have it.

    Each message that is decoded brings a copy of its own of what all devices of a kind show.
    """
    return _one_copy(text) if len(text) <= LONGEST_SHARED else text


@lru_cache(maxsize=SHARED)
def _one_copy(text: str) -> str:
    return text


def escaped(text: str) -> str:
    """Return the text with everything escaped that a terminal might obey: nothing is lost."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def one_line(text: str, most: int) -> str:
    """Return the text on one line, at most `most` characters.

    What does not print, and each run of spaces, becomes one space.
    """
    line = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(line.split())[:most].rstrip()


def plain_hex(text: str) -> str:
    """Return hexadecimal digits in lower case, without white space, colons and dashes between them.

    "" for anything else.  Fingerprints, checksums and signs are written both ways: what comes from
    others is compared by this.
    """
    digits = "".join(text.split()).replace(":", "").replace("-", "").lower()
    return digits if digits and set(digits) <= _HEX else ""


_HEX = frozenset("0123456789abcdef")


def without_unprintable(text: str) -> str:
    """Return the text without the characters that do not print."""
    return "".join(filter(str.isprintable, text))
