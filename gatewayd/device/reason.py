"""Why a child is in its state: a word for programs, a sentence for people, and what to do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reason:
    """One cause, told three ways.

    code: kebab-case, part of the D-Bus API: it never changes its meaning.
    text: one sentence without secrets or raw text of strangers; "" where the code says all.
    remedy: what somebody can do about it, as an imperative; "" where there is nothing to do.
    substate: what the child does meanwhile, kebab-case; "" leaves the state's own.
    """

    code: str
    text: str = ""
    remedy: str = ""
    substate: str = ""

    def __str__(self) -> str:
        return " ".join(part for part in (self.text or self.code, self.remedy) if part)


NONE = Reason("")
"""All goes as it should."""
