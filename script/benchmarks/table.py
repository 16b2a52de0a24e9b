"""What was measured, as a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

HEADER = ("what", "figure", "budget", "verdict")
WHOLE = 100  # from here on, decimals say nothing


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    value: in `unit`.  budget: the most that is allowed; None where nothing was promised.
    note: more of what was seen.
    """

    what: str
    value: float
    unit: str
    budget: float | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        """Whether the budget holds; "" where there is none."""
        if self.budget is None:
            return ""
        return "holds" if self.value <= self.budget else "EXCEEDED"

    @property
    def row(self) -> Sequence[str]:
        """Its cells."""
        budget = "" if self.budget is None else f"≤ {_number(self.budget)} {self.unit}"
        figure = f"{_number(self.value)} {self.unit}"
        return self.what, figure, budget, self.verdict, self.note


def table(figures: Iterable[Figure]) -> str:
    """Return aligned lines under a header."""
    rows = [HEADER, *(figure.row for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    return "\n".join(_line(row, widths) for row in rows)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    what, figure, *rest = (cell.ljust(width) for cell, width in zip(row, widths, strict=False))
    cells = (what, figure.strip().rjust(widths[1]), *rest, *row[len(widths) :])
    return "  ".join(cells).rstrip()


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= WHOLE or value == int(value) else f"{value:.2f}"
