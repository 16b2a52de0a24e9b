"""The terminal: its width, its colours, and a sign of life while something takes long.

Elsewhere, as in a pipe, nothing is cut, nothing is coloured, and no sign of life is given.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO

from gatewayd.runtime.text import escaped

PATIENCE = 1.0
"""Seconds after which a sign of life is given."""
_TICK = 0.25
_CUT = "\N{HORIZONTAL ELLIPSIS}"
_MIN_CUT = 8
"""Columns below which a cell is not cut."""
_MIN_BAR = 10
"""Columns below which a bar is not drawn."""
_GAP = 2

RESET, BOLD, DIM = "\x1b[0m", "\x1b[1m", "\x1b[2m"
RED, GREEN, YELLOW, BLUE = "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[34m"

STATE_COLOURS: Mapping[str, str] = {
    "online": GREEN, "ready": GREEN, "unsealed": GREEN, "running": GREEN, "connected": GREEN,
    "ok": GREEN, "handed-over": GREEN,
    "pending": YELLOW, "discovered": YELLOW, "degraded": YELLOW, "connecting": YELLOW,
    "throttled": YELLOW, "dropping": YELLOW, "unsure": YELLOW, "registering": YELLOW,
    "admitted": YELLOW, "securing": YELLOW, "registered": YELLOW, "activating": YELLOW,
    "failed": RED, "frozen": RED, "sealed": RED, "cloned": RED, "blocked": RED, "full": RED,
    "rollback-suspected": RED,
    "offline": DIM, "rejected": DIM, "elsewhere": DIM, "retired": DIM, "idle": DIM, "disabled": DIM,
}  # fmt: skip
"""The colour of each word for a state."""


@dataclass(frozen=True, slots=True)
class Terminal:
    """How to print.  width: columns; 0 for no limit.  coloured: whether colours are wanted."""

    width: int = 0
    coloured: bool = False

    @classmethod
    def of(cls, out: TextIO, environ: Mapping[str, str]) -> Terminal:
        """Return the terminal behind a stream; without limit and colour where there is none.

        NO_COLOR (no-color.org) and TERM=dumb switch colours off.
        """
        if not out.isatty():
            return cls()
        plain = environ.get("NO_COLOR") or environ.get("TERM", "dumb") == "dumb"
        return cls(shutil.get_terminal_size().columns, not plain)

    def painted(self, text: str, word: str) -> str:
        """Return a text in the colour of a state."""
        colour = STATE_COLOURS.get(word, "") if self.coloured else ""
        return f"{colour}{text}{RESET}" if colour else text

    def bold(self, text: str) -> str:
        """Return a text that stands out."""
        return f"{BOLD}{text}{RESET}" if self.coloured else text

    def columns(self, head: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
        """Yield the lines of an aligned table, cut to the width; states in their colours."""
        cells = [tuple(head), *(tuple(escaped(str(cell)) for cell in row) for row in rows)]
        wanted = [max(map(columns_of, column)) for column in zip(*cells, strict=True)]
        widths = fitted(wanted, self.width)
        for number, row in enumerate(cells):
            yield self._row(row, widths, is_head=number == 0)

    def _row(self, row: Sequence[str], widths: Sequence[int], *, is_head: bool) -> str:
        parts = []
        for number, (cell, width) in enumerate(zip(row, widths, strict=True)):
            shown = cut(cell, width)
            padding = " " * (width - columns_of(shown)) if number < len(row) - 1 else ""
            parts.append((self.bold(shown) if is_head else self.painted(shown, cell)) + padding)
        return (" " * _GAP).join(parts).rstrip()


def columns_of(text: str) -> int:
    """Return how many columns a text takes: wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(map(_columns_of, text))


def _columns_of(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, width: int) -> str:
    """Return a text that takes so many columns at most."""
    if columns_of(text) <= width:
        return text
    kept, taken = [], 0
    for character in text:
        taken += _columns_of(character)
        if taken > width - 1:
            break
        kept.append(character)
    return "".join(kept) + _CUT


def fitted(widths: Sequence[int], most: int) -> Sequence[int]:
    """Return the widths of columns that fit, the widest made narrower first.

    most: columns of the terminal; 0 for no limit.
    """
    fitting = list(widths)
    room = most - _GAP * (len(widths) - 1)
    while most and sum(fitting) > room:
        widest = max(range(len(fitting)), key=fitting.__getitem__)
        if fitting[widest] <= _MIN_CUT:
            break
        fitting[widest] -= 1
    return fitting


class Progress:
    """How far some work is, as who does it counts.  total: 0 where that is not known."""

    def __init__(self) -> None:
        self.done = self.total = 0

    def at(self, done: int, total: int) -> None:
        """Note how much is done."""
        self.done, self.total = done, total

    def line(self, what: str, seconds: float, width: int) -> str:
        """Return what is shown: a bar, or the seconds where there is no total.

        width: columns of the terminal, of which the last stays empty.
        """
        if not self.total:
            return cut(f"{what}{_CUT} {seconds:.0f} s", width - 1)
        done = min(self.done, self.total)
        percent = f"{100 * done // self.total} %"
        room = width - 1 - columns_of(what) - len(percent) - len(" [] ")
        if room < _MIN_BAR:
            return cut(f"{what} {percent}", width - 1)
        full = room * done // self.total
        return f"{what} [{'#' * full}{' ' * (room - full)}] {percent}"


@contextmanager
def sign_of_life(
    what: str, stream: TextIO | None = None, *, wanted: bool = True
) -> Iterator[Progress]:
    """Show on a terminal that something goes on, and how far it is, once that takes a while.

    what: as "Waiting for gatewayd".  stream: where; the standard error by default.
    wanted: whether anything is to be shown: nothing is with --json.
    Yields what takes how far it is; without that, it shows for how long it goes on.
    """
    out, progress = stream or sys.stderr, Progress()
    if not wanted or not out.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        yield progress
        return
    ended = threading.Event()
    shown = threading.Thread(target=_show, args=(what, progress, ended, out), daemon=True)
    shown.start()
    try:
        yield progress
    finally:
        ended.set()
        shown.join()


def _show(what: str, progress: Progress, ended: threading.Event, out: TextIO) -> None:
    if ended.wait(PATIENCE):
        return
    seconds = PATIENCE
    while True:
        width = shutil.get_terminal_size().columns  # it may have changed
        out.write(f"\r{progress.line(what, seconds, width)}\x1b[K")
        out.flush()
        if ended.wait(_TICK):
            break
        seconds += _TICK
    out.write("\r\x1b[K")
    out.flush()
