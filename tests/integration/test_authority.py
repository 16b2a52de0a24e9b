"""The device CA of a real daemon, and what is imported: there again after a restart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gatewayd.simulator.bus import PrivateBus
from gatewayd.simulator.site import POLICY, Site
from tests.cli.test_certificate import PASSPHRASE
from tests.cli.test_certificate import made as made_elsewhere
from tests.cloud.huawei.certified import BODY
from tests.cloud.huawei.site import SENSORS
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
subject = {{ country = "CN" }}
[cloud.east]
kind = "huawei"
host = "east.example.com"
"""


async def test_a_ca_outlives_the_daemon(tmp_path: Path) -> None:
    (tmp_path / "template.json").write_text(json.dumps(BODY))
    made_elsewhere(tmp_path, 1)
    (tmp_path / "passphrase").write_text(PASSPHRASE)
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
            files = (str(tmp_path / "1.pem"), "--key", str(tmp_path / "1.key"))
            opened = ("--passphrase-file", str(tmp_path / "passphrase"))
            imported = ("certificate", "import", *files, *opened, "--cloud", "west")
            status, printed = await ctl(bus, *imported)
            assert status == 0, printed
            assert "SEN-0001, not known here yet: valid until" in printed
        finally:
            await site.stop()
        assert "PRIVATE" not in site.log()
        assert PASSPHRASE not in site.log()
        await site.start()
        try:
            assert await ctl(bus, *west) == (0, before)
            assert "west device CA" in before
            whose = ("--product", SENSORS, "--node-id", "SEN-0001", "--cloud", "west")
            assert await ctl(bus, "certificate", "remove", *whose) == (0, ""), "it was kept"
        finally:
            await site.stop()
