"""gatewayd killed with SIGKILL at each durable step, on real parts."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatewayd.simulator.site import Site
from tests.support.kill_points import STEPS
from tests.support.sites import kill_at

ISSUED = dict.fromkeys(STEPS, 1) | {"secret-issued": 2}
"""How many secrets the cloud issues in all.  What it issued and had not reached the disk when
gatewayd died is the one that must be asked for again."""


@pytest.mark.integration
@pytest.mark.parametrize("step", STEPS)
async def test_a_child_survives_a_kill_at_any_step(step: str, tmp_path: Path) -> None:
    site = Site(tmp_path, plant_options=("--children", "0", "--late", "1"))
    async with site.open():
        (child,) = site.plant["serials"]
        await kill_at(step, site, child)
        await site.start()
        await site.wait_for(child, "online")
        ledger = await site.ledger(child)
        assert ledger["online"]
        assert len(ledger["secrets_sha256"]) == ISSUED[step]
        assert not ledger["refused_logins"]
        assert (await site.describe(child))["SecretState"] == "stored"
        assert await site.stop() == 0
