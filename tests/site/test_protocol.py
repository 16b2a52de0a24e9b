"""The protocol of ownership, explored in every order of what can happen, and with mistakes.

What takes longer than a test may: python -m tests.site.test_protocol
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable

import pytest

from gatewayd.site import shards
from tests.site.protocol_model import Explored, Fault, Mistake, Model, World, explore, settled

LEASE, STOP, LATE = {Fault.LEASE}, {Fault.STOP}, {Fault.LATE}
ALL = set(Fault)


def explored(monkeypatch: pytest.MonkeyPatch, model: Model, faults: int) -> Explored:
    monkeypatch.setattr(shards, "SHARDS", model.shards)
    found = explore(model, faults)
    print(
        f"{model.gateways} gateways, {model.shards} shards, {faults} faults, {model.mistake.name}:"
    )
    print(f"{found.states} states", *found.trace, sep="\n  ")
    return found


def test_of_two_gateways_none_acts_after_the_next_and_in_the_end_one_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = Model(2, 1)
    found = explored(monkeypatch, model, 1)
    assert not found.trace
    assert found.states > 4000
    some = list(found.known)[::4]  # all of them: main
    assert all_settle(model, some)


@pytest.mark.parametrize(
    ("model", "faults"),
    [
        (Model(3, 1), 0),
        (Model(2, 2), 0),
        (Model(2, 1, kinds=frozenset(LATE), blobs=True), 1),
    ],
    ids=["three gateways", "two shards", "blobs"],
)
def test_the_laws_hold(monkeypatch: pytest.MonkeyPatch, model: Model, faults: int) -> None:
    found = explored(monkeypatch, model, faults)
    assert not found.trace
    assert found.states > 100


@pytest.mark.parametrize(
    ("mistake", "kinds", "faults", "blobs"),
    [
        (Mistake.EARLY_RELEASE, set[Fault](), 0, False),
        (Mistake.NO_FENCE, LEASE, 1, False),
        (Mistake.NO_WAIT, LEASE, 1, False),
        (Mistake.NO_COMPARE, LATE | LEASE, 2, False),
        (Mistake.SECOND_THOUGHT, LATE | LEASE, 2, False),
        (Mistake.BLOB_WITHOUT_REVISION, LATE, 1, True),
    ],
)
def test_a_planted_mistake_is_found(
    monkeypatch: pytest.MonkeyPatch, mistake: Mistake, kinds: set[Fault], faults: int, blobs: bool
) -> None:
    model = Model(2, 1, mistake, frozenset(kinds), blobs)
    trace = explored(monkeypatch, model, faults).trace
    assert " after " in trace[-1] or "is overwritten" in trace[-1]


def all_settle(model: Model, worlds: Iterable[World]) -> bool:
    """Whether every shard works in the end, from each of these states."""
    good: set[World] = set()
    return all(settled(model, world, good) for world in worlds)


CAMPAIGN = (
    (Model(2, 1), 1),
    (Model(2, 1), 2),
    (Model(2, 2), 1),
    (Model(3, 1), 1),
    (Model(2, 1, kinds=frozenset(LATE | LEASE), blobs=True), 1),
    (Model(2, 1, Mistake.ANSWER_COUNTS, frozenset(STOP | LEASE)), 2),
)


MOST_SETTLED = 10_000
"""States of which each is followed to its end."""


def main() -> int:
    """Explore what takes some minutes; return how many models broke a law."""
    broken = 0
    for model, faults in CAMPAIGN:
        began = time.process_time()
        with pytest.MonkeyPatch.context() as patch:
            found = explored(patch, model, faults)
            is_lawful = not found.trace
            if is_lawful and found.states < MOST_SETTLED:
                is_lawful = all_settle(model, found.known)
                print("  every shard works in the end")
        broken += is_lawful is not (model.mistake is Mistake.NONE)
        print(f"  {time.process_time() - began:.0f} s", flush=True)
    return broken


if __name__ == "__main__":
    sys.exit(main())
