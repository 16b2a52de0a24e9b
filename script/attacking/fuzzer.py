"""A fuzzer that is guided by coverage: an input that reaches something new is changed further.

atheris is in no release of Debian, and needs a compiler of its own; hypothesis is guided by a
number that a test reports, and not by coverage.  The parsers here are small and pure, so that a
loop over sys.settrace reaches all of them in seconds.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from script.attacking.coverage import Edge, edges_of
from script.attacking.mutations import mutated

SLOW = 2.0
"""Seconds of processor time that one input may take; an input has some kilobytes."""
MOST_CRASHES = 20
"""Crashes that are kept of one parser: more of them say no more."""


@dataclass(frozen=True, slots=True)
class Parser:
    """A parser of foreign bytes.

    refusals: what it may raise.  words: of its format.
    """

    name: str
    run: Callable[[bytes], object]
    seeds: Sequence[bytes]
    refusals: tuple[type[Exception], ...] = ()
    words: Sequence[bytes] = ()


@dataclass(frozen=True, slots=True)
class Crash:
    """An input, and what is wrong with it."""

    data: bytes
    what: str


@dataclass(slots=True)
class Campaign:
    """The inputs tried on one parser so far.

    corpus: those that reached something new.
    """

    parser: Parser
    chance: random.Random
    corpus: list[bytes] = field(default_factory=list)
    crashes: list[Crash] = field(default_factory=list)
    inputs: int = 0
    _edges: set[Edge] = field(default_factory=set)
    _kinds: set[str] = field(default_factory=set)

    @property
    def edges(self) -> int:
        """How many steps from line to line were reached."""
        return len(self._edges)

    def run(self, seconds: float, most: int | None = None) -> None:
        """Try inputs for some seconds of processor time, or so many; go on where it ended."""
        if not self.inputs:
            for seed in self.parser.seeds:
                self._try(seed)
        end = time.process_time() + seconds
        while time.process_time() < end and (most is None or self.inputs < most):
            self._try(self._next())

    def _next(self) -> bytes:
        """Return another input: newer ones are changed more often, as they reached further."""
        corpus = self.corpus or [b""]
        newest = corpus[-8:] if self.chance.random() < 0.3 else corpus  # a share
        others = self.chance.sample(corpus, min(4, len(corpus)))
        return mutated(self.chance, self.chance.choice(newest), (*self.parser.words, *others))

    def _try(self, data: bytes) -> None:
        self.inputs += 1
        began = time.process_time()
        reached, error = edges_of(lambda: self.parser.run(data))
        if time.process_time() - began > SLOW:
            self._note(data, "it is slow")
        if error is not None and not isinstance(error, self.parser.refusals):
            self._note(data, f"{type(error).__name__}: {error}")
        if not reached <= self._edges:
            self._edges |= reached
            self.corpus.append(data)

    def _note(self, data: bytes, what: str) -> None:
        kind = what.partition(":")[0]
        if len(self.crashes) < MOST_CRASHES and (kind not in self._kinds or not self.crashes):
            self.crashes.append(Crash(data, what))
        self._kinds.add(kind)
