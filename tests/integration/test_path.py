"""A child's way from its first mDNS name to online leads through few modules."""

from __future__ import annotations

from tools.measure_path import measure

MODULES, EDGES = 80, 155
"""Bounds; 76 and 149 were measured for an Alibaba device that connects directly."""


async def test_a_child_runs_few_modules() -> None:
    found = await measure()
    assert "manager/manager.py" in found.modules
    assert "sessions/keeper.py" in found.modules
    assert len(found.modules) <= MODULES, found.modules
    assert len(found.edges) <= EDGES, found.edges
