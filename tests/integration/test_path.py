"""A child's way from its first mDNS name to online leads through few modules."""

from __future__ import annotations

from tools.measure_path import measure

MODULES, EDGES = 70, 155
"""Bounds of gatewayd's own modules, and of the calls between files in both processes; 70 and 151
were measured for an Alibaba device that connects directly."""
HELPER_ALONE = 10
"""Bound of the modules that run in the discovery helper alone; 8 were measured."""


async def test_a_child_runs_few_modules() -> None:
    found = await measure()
    assert "manager/manager.py" in found.modules
    assert "sessions/keeper.py" in found.modules
    assert len(found.modules) - len(found.helper_alone) <= MODULES, found.modules
    assert len(found.helper_alone) <= HELPER_ALONE, found.helper_alone
    assert len(found.edges) <= EDGES, found.edges
