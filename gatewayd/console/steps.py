"""What a command does at a console: one step for each thing there, whose outcome is shown.

A step first asks what is there, so that a second run changes nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


class StepOutcome(StrEnum):
    """What became of a thing at the console."""

    FOUND = "found"  # listed, or shown
    PRESENT = "present"  # as wanted already: nothing was changed
    MADE = "made"
    CHANGED = "changed"
    DELETED = "deleted"
    ABSENT = "absent"  # what was to be deleted is not there: nothing was changed
    LEFT = "left"  # the operator's to do elsewhere, if it is not done yet


CHANGES = frozenset({StepOutcome.MADE, StepOutcome.CHANGED, StepOutcome.DELETED})


@dataclass(frozen=True, slots=True)
class ConsoleStep:
    """One thing at a console, and what became of it.

    kind: what it is, as "product".  name: as its owner calls it.  id: as the cloud does; "" for
    what has none.
    detail: what else is to be known of it, for people.
    code: what its owner has to prove something with, as the verification code of a device CA.
    asked: in a dry run, the requests that would have led there; then nothing was changed.
    """

    outcome: StepOutcome
    kind: str
    name: str
    id: str = ""
    detail: str = ""
    asked: tuple[str, ...] = ()
    code: str = ""


Steps: TypeAlias = AsyncGenerator[ConsoleStep, None]
"""The steps of a command, in their order, each once it is done."""


async def all_of(steps: Steps) -> list[ConsoleStep]:
    """Have all steps done, and return them."""
    async with contextlib.aclosing(steps) as running:
        return [step async for step in running]
