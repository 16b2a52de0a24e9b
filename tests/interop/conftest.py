"""A simulated Huawei platform with its management, for the vendor's SDKs."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gatewayd.simulator.huawei.cloud import HuaweiCloud
from gatewayd.simulator.huawei.management.server import Management
from gatewayd.simulator.huawei.platform.platform import Platform
from tests.interop.huawei_owner import KEYS, Served
from tests.support.simulated_ca import AUTHORITY


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    platform = Platform(clock=time.time, random=secrets.token_bytes)
    platform.create("one")
    (tmp_path / "ca.pem").write_text(AUTHORITY.pem)
    facts = {"region": "cn-north-4", "project": "a project", "ca_file": str(tmp_path / "ca.pem")}
    keys = {KEYS["access_key"]: KEYS["secret_key"]}
    async with (
        HuaweiCloud(platform, authority=AUTHORITY) as cloud,
        Management(platform, authority=AUTHORITY, credentials=keys) as management,
    ):
        yield Served(cloud, facts | KEYS | {"port": management.port})
