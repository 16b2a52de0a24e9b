"""script/soak, shortened: SIGKILL at random moments, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from script.soaking.campaign import Campaign

KILLS = 40


@pytest.mark.integration
async def test_a_short_campaign(tmp_path: Path) -> None:
    tally = await Campaign(tmp_path, KILLS, at_once=2, seed=20261122).run()
    assert tally.kills == KILLS
    assert not tally.lost
    assert not tally.stranded
    assert tally.amid, "some must be killed while they register"
    assert tally.issued >= tally.acknowledged == tally.registered
