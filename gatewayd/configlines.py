"""Finds the lines on which the keys of a TOML text stand: parsers do not tell."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeAlias

KeyPath: TypeAlias = tuple[str | int, ...]
"""Where a value is: keys of tables, and indices of arrays."""

_KEY = r"""(?:[A-Za-z0-9_-]+|"[^"\\]*"|'[^']*')"""
_KEYS = rf"\s*{_KEY}(?:\s*\.\s*{_KEY})*\s*"
_HEADER = re.compile(rf"\s*(\[\[?)({_KEYS})\]")
_VALUE = re.compile(rf"({_KEYS})=")


def lines(text: str) -> Iterator[tuple[KeyPath, int]]:
    """Yield table and line number of each header, and of each key that begins a line.

    What stands inside an array or an inline table has the line of the key it belongs to.
    """
    table: KeyPath = ()
    counts: dict[KeyPath, int] = {}
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        if not inside and (header := _HEADER.match(line)):
            table = _split(header[2])
            if header[1] == "[[":
                if table not in counts:
                    yield table, number
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            elif table[:1] in counts:  # a table of the newest element of an array
                table = (table[0], counts[table[:1]], *table[1:])
            yield table, number
        elif not inside and (value := _VALUE.match(line)):
            yield (*table, *_split(value[1])), number
        inside ^= (line.count('"""') + line.count("'''")) % 2 == 1


def _split(dotted: str) -> KeyPath:
    return tuple(part.strip("\"' \t") for part in re.findall(_KEY, dotted))
