"""The port of the vendor's own examples: TLS on 1883, by the old root, and nothing in the clear."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import pytest

from gatewayd.cloud.alibaba.preflight import preflight
from gatewayd.cloud.alibaba.provider import Alibaba
from gatewayd.cloud.credentials import read_secret
from gatewayd.cloud.provider import Issued
from gatewayd.device.record import CloudName
from gatewayd.simulator import pki
from gatewayd.simulator.alibaba.cloud import AlibabaCloud, AlibabaCloudOptions
from gatewayd.testing.contracts.cloud import RecordingKeeper
from tests.cloud.alibaba.direct import PRODUCT, PRODUCT_SECRET, furnish, settings_for
from tests.cloud.looks import AROUND, OK, UNSURE, all_of
from tests.support.simulated_ca import AUTHORITY, NOW

pytestmark = pytest.mark.integration

PORT = 1883
HOST = f"{PRODUCT}.iot-as-mqtt.cn-shanghai.aliyuncs.com"


async def test_a_child_registers_and_logs_in_at_port_1883(tmp_path: Path) -> None:
    """The simulated cloud has the name of the vendor's endpoint, and a root of its own."""
    name = CloudName("cloud", PRODUCT, "TH20-0001", "direct")
    low = os.getpid()  # an address of its own: other runs of this test may be under way
    address = f"127.83.{low >> 8 & 255}.{low & 255}"
    cloud = AlibabaCloud(
        {PRODUCT: PRODUCT_SECRET},
        [(PRODUCT, name.device)],
        certificate=AUTHORITY.issue([HOST], [], NOW - pki.LIFE, NOW + pki.LIFE),
        clock=time.monotonic,
        random=os.urandom,
        options=AlibabaCloudOptions(address=address, port=PORT, host=HOST),
    )
    async with cloud:
        settings = settings_for(furnish(tmp_path), PORT, host=HOST, address=address)
        checks = await all_of(preflight(settings, AROUND))
        found = {check.step: check for check in reversed(checks)}
        assert (found["endpoint"].verdict, found["tls"].verdict) == (OK, OK)
        assert f"{HOST} port 1883, an old public instance" in found["endpoint"].text
        assert found["root"].verdict is UNSURE, "the simulated cloud has no root of the vendor's"
        assert "GlobalSign Root CA (R1), which port 1883 needs" in found["root"].text
        kept = RecordingKeeper()
        provider = Alibaba("cloud", settings, partial(read_secret, None), os.urandom)
        assert await provider.register(name, kept.keep) == Issued()
        session = await provider.connect(name, kept.secrets[0])
        await session.close()
        await provider.close()
