"""What the tests of the simulated Alibaba cloud share: the cloud, and a gateway that is online."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gatewayd.simulator.alibaba.cloud import AlibabaCloud
from tests.simulator.alibaba.gateway import Gateway, gateway, site


@pytest.fixture
async def cloud() -> AsyncIterator[AlibabaCloud]:
    async with site() as cloud:
        yield cloud


@pytest.fixture
async def gw(cloud: AlibabaCloud) -> AsyncIterator[Gateway]:
    async with gateway(cloud.port) as one:
        await one.listen()
        yield one
