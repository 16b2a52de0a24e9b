"""What was measured, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

HEADER = ("what", "figure", "budget", "verdict")
WHOLE = 100  # from here on, decimals say nothing


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    value: in `unit`.  budget: the most that is allowed; None where nothing was promised.
    note: more of what was seen.  against: the value of another revision, if there is one.
    """

    what: str
    value: float
    unit: str
    budget: float | None = None
    note: str = ""
    against: float | None = None

    @property
    def verdict(self) -> str:
        """Whether the budget holds; "" where there is none."""
        if self.budget is None:
            return ""
        return "holds" if self.value <= self.budget else "EXCEEDED"

    @property
    def ratio(self) -> float | None:
        """How many times the value of the other revision it is; None where there is none."""
        return self.value / self.against if self.against else None

    def row(self, *, compared: bool) -> Sequence[str]:
        """Its cells.  compared: whether there are columns for the other revision."""
        budget = "" if self.budget is None else f"≤ {_number(self.budget)} {self.unit}"
        figure = f"{_number(self.value)} {self.unit}"
        against = "" if self.against is None else f"{_number(self.against)} {self.unit}"
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        more = (against, ratio) if compared else ()
        return self.what, figure, *more, budget, self.verdict, self.note


def table(figures: Iterable[Figure], against: str = "") -> str:
    """Return aligned lines under a header.  against: the name of the other revision, if any."""
    first, second, *rest = HEADER
    header = (first, second, *((against, "ratio") if against else ()), *rest)
    rows = [header, *(figure.row(compared=bool(against)) for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    return "\n".join(_line(row, widths) for row in rows)


def facts(figures: Iterable[Figure]) -> list[dict[str, object]]:
    """Return the figures for JSON."""
    return [
        {key: value for key, value in asdict(one).items() if value not in (None, "")}
        | ({"holds": one.verdict == "holds"} if one.verdict else {})
        for one in figures
    ]


def read_parts(found: Iterable[Mapping[str, Any]]) -> dict[str, list[Figure]]:
    """Return figures by part, as `facts` and the name of their part have been written."""
    parts = dict[str, list[Figure]]()
    for fact in found:
        known = {field.name: fact[field.name] for field in fields(Figure) if field.name in fact}
        parts.setdefault(fact["part"], []).append(Figure(**{"unit": "", **known}))
    return parts


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    what, figure, *rest = (cell.ljust(width) for cell, width in zip(row, widths, strict=False))
    cells = (what, figure.strip().rjust(widths[1]), *rest, *row[len(widths) :])
    return "  ".join(cells).rstrip()


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= WHOLE or value == int(value) else f"{value:.2f}"
