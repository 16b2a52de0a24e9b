"""script/soak site, shortened: one of three gateways is killed, and etcd's leader is paused."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from gatewayd.simulator.site_files import SWIFT
from script.soaking.site.campaign import SiteCampaign, SiteOptions
from script.soaking.site.events import FaultKind
from script.soaking.site.faults import PlannedFault
from tests.support.lacking import give_up

pytestmark = pytest.mark.namespace

CHILDREN, LATE = 9, 3


def _one_of_each(
    _: random.Random, gateways: Sequence[str], members: Sequence[str]
) -> Sequence[PlannedFault]:
    """A gateway is away until its children are elsewhere; a member of etcd for some seconds."""
    return (
        PlannedFault(FaultKind.KILL, gateways[0], 0.0, 40.0),
        PlannedFault(FaultKind.PAUSE_ETCD, members[0], 1.0, 6.0),
    )


async def test_a_short_campaign(tmp_path: Path) -> None:
    if shutil.which("etcd") is None:
        give_up("etcd is not installed")
    options = SiteOptions(
        CHILDREN,
        late=LATE,
        faults=2,
        rest=5.0,
        period=3.0,
        tuning=SWIFT,
        plan=_one_of_each,
        seed=20261130,
    )
    said: list[str] = []
    campaign = SiteCampaign(tmp_path, options, said.append)
    verdict = await campaign.run()
    assert not verdict.offences, said
    assert verdict.epochs == 1
    assert verdict.tokens >= 64
    assert verdict.registrations >= CHILDREN + LATE, "some register while the fault lasts"
    assert verdict.said, "children speak"
    assert verdict.moved, "the killed gateway had children"
    assert campaign.figures.rest.requests, "gateways read etcd at rest"
