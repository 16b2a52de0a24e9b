"""Rounds: what is compared runs in turn, some times over, and the median counts.

The machine is never quiet.  What disturbs one round disturbs all that ran in it, so a ratio is
taken within a round, and the median of those is shown.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeAlias

from script.benchmarks.subject import Subject
from script.benchmarks.table import Figure

ROUNDS = 3

Sample: TypeAlias = Mapping[str, float]
"""What one contender took in one round, by name."""
Contender: TypeAlias = Callable[[], Awaitable[Sample]]


@dataclass(frozen=True, slots=True)
class Rounds:
    """The samples of each contender, round by round.

    subjects: the first is measured, the second is what it is compared with, if there is one.
    """

    subjects: Sequence[Subject]
    samples: Mapping[str, Sequence[Sample]]

    def values(self, who: str, key: str, of: tuple[str, str] | None = None) -> list[float]:
        """Return a value of each round; divided by that of another contender, if one is named."""
        found = [sample[key] for sample in self.samples[who]]
        if of is None:
            return found
        return [a / b for a, b in zip(found, self.values(*of), strict=True)]

    def median(self, who: str, key: str, of: tuple[str, str] | None = None) -> float:
        """Return the median of that."""
        return median(self.values(who, key, of))

    def spread(self, who: str, key: str, of: tuple[str, str] | None = None) -> str:
        """Return how much it varies."""
        found = self.values(who, key, of)
        count = f"{len(found)} round{'s' * (len(found) > 1)}"
        return f"{count}, {min(found):.2f} to {max(found):.2f}"

    def figure(
        self,
        what: str,
        key: str,
        unit: str,
        *,
        of: tuple[str, str] | None = None,
        budget: float | None = None,
        note: str = "",
    ) -> Figure:
        """Return a figure of the subjects.  of: another contender, and its key: then a ratio."""
        first, *others = (one.name for one in self.subjects)
        notes = "; ".join(filter(None, (self.spread(first, key, of), note)))
        against = self.median(others[0], key, of) if others else None
        return Figure(what, self.median(first, key, of), unit, budget, notes, against)

    def beside(self, what: str, who: str, key: str, unit: str, note: str = "") -> Figure:
        """Return a figure of a contender that is no subject."""
        notes = "; ".join(filter(None, (self.spread(who, key), note)))
        return Figure(what, self.median(who, key), unit, note=notes)


async def alternate(
    subjects: Sequence[Subject],
    measure: Callable[[Subject], Awaitable[Sample]],
    others: Mapping[str, Contender],
    rounds: int = ROUNDS,
) -> Rounds:
    """Run all in turn, so many times; every second round backwards, so that drift favours none."""

    def contender(one: Subject) -> Contender:
        return lambda: measure(one)

    contenders = {one.name: contender(one) for one in subjects} | dict(others)
    samples: dict[str, list[Sample]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name in list(contenders)[:: -1 if number % 2 else 1]:
            samples[name].append(await contenders[name]())
    return Rounds(subjects, samples)
