"""The device CA of a real daemon: made over D-Bus, and there again after a restart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gatewayd.simulator.bus import PrivateBus
from gatewayd.simulator.site import POLICY, Site
from tests.cloud.huawei.certified import BODY
from tests.support.gatewayctl import ctl

pytestmark = pytest.mark.integration

CONFIG = """\
[gateway]
state_directory = "{site.directory}/state"
[bus]
address = "{site.bus}"
[secretstore.vault]
key = "development-file"
[cloud.west]
kind = "huawei"
host = "west.example.com"
[cloud.west.certificates]
template_file = "{site.directory}/template.json"
[cloud.east]
kind = "huawei"
host = "east.example.com"
"""


async def test_a_ca_outlives_the_daemon(tmp_path: Path) -> None:
    (tmp_path / "template.json").write_text(json.dumps(BODY))
    with PrivateBus(POLICY) as bus:
        site = Site(tmp_path, bus=bus.address)
        site.configure(CONFIG.format(site=site), "")
        west = ("ca", "show", "--cloud", "west")
        await site.start()
        try:
            made = ("--algorithm", "ec-p256", "--cloud", "west")
            status, pem = await ctl(bus, "ca", "make", *made)
            assert status == 0, pem
            assert pem.startswith("-----BEGIN CERTIFICATE-----")
            _, before = await ctl(bus, *west)
            status, _ = await ctl(bus, "ca", "show", "--cloud", "east")
            assert status == 1, "this cloud has no device CA"
        finally:
            await site.stop()
        assert "PRIVATE" not in site.log()
        await site.start()
        try:
            assert await ctl(bus, *west) == (0, before)
            assert "west device CA" in before
        finally:
            await site.stop()
