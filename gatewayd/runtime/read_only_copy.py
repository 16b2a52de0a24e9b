"""Reading an SQLite file whose disk takes no writes, with the log beside it.

In WAL mode SQLite must write to read: it makes the index of the log (sqlite.org/wal.html, "Use of
WAL without shared memory", "Read-only databases").  So the file is read as bytes, the committed
pages of the log are put into it, and the result is a database in memory.  The format of the log:
sqlite.org/fileformat2.html, section 4.
"""

from __future__ import annotations

import sqlite3
import struct
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_HEADER = struct.Struct(">8I")
_FRAME = struct.Struct(">6I")
_MAGIC = {0x377F0682: "little", 0x377F0683: "big"}
"""How the words are ordered of which the check sums are made."""
_PAGE_SIZES = frozenset(1 << power for power in range(9, 17))
_MASK = 0xFFFFFFFF


class _Frame(NamedTuple):
    """A page in the log.  pages: how many the file has, where this ends a commit; else 0."""

    number: int
    pages: int
    content: bytes


def read_only_copy(path: Path) -> sqlite3.Connection:
    """Return a database in memory with all that was committed to a file; empty if there is none.

    No other process may write to the file meanwhile.  Raises OSError, sqlite3.Error.
    """
    whole = with_log(_content(path), _content(path.with_name(f"{path.name}-wal")))
    copy = sqlite3.connect(":memory:", isolation_level=None)
    if whole:
        copy.deserialize(whole)
    return copy


def with_log(file: bytes, log: bytes) -> bytes:
    """Return a database file with what is committed in its log, as one that has no log."""
    whole = bytearray(file)
    for pages, commit in _commits(log):
        size = len(next(iter(commit.values())))
        whole.extend(bytes(max(0, pages * size - len(whole))))
        for number, content in commit.items():
            if number <= pages:
                whole[(number - 1) * size : number * size] = content
        del whole[pages * size :]
    if whole:
        # versions for writing and reading: 1 is "rollback journal" (fileformat2.html, 1.3.3)
        whole[18:20] = b"\1\1"
    return bytes(whole)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _commits(log: bytes) -> Iterator[tuple[int, dict[int, bytes]]]:
    """Yield each transaction: how many pages the file has after it, and its pages by number."""
    under_way: dict[int, bytes] = {}
    for frame in _frames(log):
        under_way[frame.number] = frame.content
        if frame.pages:
            yield frame.pages, under_way
            under_way = {}


def _frames(log: bytes) -> Iterator[_Frame]:
    """Yield the valid frames of a log: those of its newest use, up to the first that is torn."""
    if len(log) < _HEADER.size:
        return
    magic, _, page_size, _, *salts, one, two = _HEADER.unpack_from(log)
    if magic not in _MAGIC or page_size not in _PAGE_SIZES:
        return
    order = _MAGIC[magic]
    sums = _check_sums(log[: _HEADER.size - 8], (0, 0), order)
    if sums != (one, two):
        return
    for start in range(
        _HEADER.size, len(log) - _FRAME.size - page_size + 1, _FRAME.size + page_size
    ):
        number, pages, *salt, one, two = _FRAME.unpack_from(log, start)
        content = log[start + _FRAME.size : start + _FRAME.size + page_size]
        sums = _check_sums(log[start : start + 8] + content, sums, order)
        if salt != salts or sums != (one, two) or not number:
            return
        yield _Frame(number, pages, content)


def _check_sums(data: bytes, sums: tuple[int, int], order: str) -> tuple[int, int]:
    """Continue the two check sums over some bytes (fileformat2.html, 4.2)."""
    words = array("I", data)
    if order != sys.byteorder:
        words.byteswap()
    one, two = sums
    for even, odd in zip(words[::2], words[1::2], strict=True):
        one = (one + even + two) & _MASK
        two = (two + odd + one) & _MASK
    return one, two
