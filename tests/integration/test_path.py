"""A child's way from its first mDNS name to online leads through few modules."""

from __future__ import annotations

from tools.measure_path import Measured, measure

MODULES, HELPER_ALONE, EDGES = 70, 7, 148
"""Bounds of the modules, of those among them that run in the discovery helper alone, and of the
calls between files, in both processes; 70, 7 and 148 were measured for an Alibaba device that
connects directly."""
TRIES = 3
"""Measurements, of which one must be within the bounds: work that a timer starts, as the report of
the counters each second, may fall into any of them, and is no part of the child's way."""


def is_short(found: Measured) -> bool:
    """Whether the measured way is within the bounds."""
    return (
        len(found.modules) <= MODULES
        and len(found.helper_alone) <= HELPER_ALONE
        and len(found.edges) <= EDGES
    )


async def test_a_child_runs_few_modules() -> None:
    measured: list[Measured] = []
    while len(measured) < TRIES and not any(map(is_short, measured)):
        measured.append(await measure())
    assert "manager/manager.py" in measured[0].modules
    assert "sessions/keeper.py" in measured[0].modules
    assert any(map(is_short, measured)), measured
