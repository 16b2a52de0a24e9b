"""script/soak messages, shortened: many children behind one gateway speak at a cloud's limits."""

from __future__ import annotations

from pathlib import Path

import pytest

from script.soaking.messages import fleet

CHILDREN, VALUES = 100, 3


@pytest.mark.integration
@pytest.mark.parametrize("cloud", sorted(fleet.FLEETS))
async def test_nothing_is_lost_or_out_of_order(cloud: str, tmp_path: Path) -> None:
    tally = await fleet.run(cloud, tmp_path, CHILDREN, VALUES)
    assert not tally.wrong
    assert tally.arrived == tally.said == CHILDREN * VALUES
