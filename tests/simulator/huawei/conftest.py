"""What the tests of the simulated Huawei cloud share: cloud, gateway, and management interface."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gatewayd.simulator.huawei.cloud import HuaweiCloud
from tests.simulator.huawei.client import Gateway, device, served
from tests.simulator.huawei.rest import Rest, managed


@pytest.fixture
async def cloud() -> AsyncIterator[HuaweiCloud]:
    async with served() as cloud:
        yield cloud


@pytest.fixture
async def gw(cloud: HuaweiCloud) -> AsyncIterator[Gateway]:
    async with device(cloud) as one:
        yield one


@pytest.fixture
async def rest() -> AsyncIterator[Rest]:
    async with managed() as rest:
        yield rest
