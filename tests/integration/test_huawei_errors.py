"""What goes wrong at Huawei Cloud IoTDA ends in a clear reason, and the other instance goes on.

By the real daemon.  An expired certificate needs a clock of its own: tests/cloud/huawei has it.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gatewayd.__main__ import EX_CONFIG
from gatewayd.simulator.site import Site
from gatewayd.simulator.site_files import config, rules

pytestmark = pytest.mark.integration

BROKEN, SOUND = "east", "west"
REJECTED = "credential-rejected"


@contextlib.asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[Site, str, str]]:
    """A site whose sound instance is ready; its children there, and at the other one."""
    options = ("--children", "0", "--late", "2", "--seed", "5")
    site = Site(folder, cloud="huawei", route="certificate", plant_options=options)
    async with site.open():
        broken, sound = site.plant["serials"]
        yield site, broken, sound


async def start(site: Site) -> None:
    await site.start()
    await site.enrol(SOUND)


async def explain(site: Site, broken: str, sound: str) -> dict[str, Any]:
    """Announce both; return what D-Bus says of the one, when the other is online."""
    await site.ask(do="announce", child=broken)
    await site.ask(do="announce", child=sound)
    await site.wait_for(sound, "online")

    async def explained() -> dict[str, Any] | None:
        facts = await site.describe(broken)
        return facts if facts["Remedy"] else None

    facts: dict[str, Any] = await site.until(explained, f"{broken} to be explained")
    return facts


async def test_a_ca_that_is_not_verified(tmp_path: Path) -> None:
    async with opened(tmp_path) as (site, broken, sound):
        await start(site)
        made = await site.authority(BROKEN, "Make", "a{sv}", "1", "common-name", "s", "CA")
        await site.ask(do="upload", instance=BROKEN, pem=made)
        facts = await explain(site, broken, sound)
        assert (facts["Reason"], facts["SubState"]) == ("authority-unknown", REJECTED)
        assert "verify" in facts["Remedy"]


async def test_an_attribute_that_the_platform_wants_and_the_file_does_not(tmp_path: Path) -> None:
    async with opened(tmp_path) as (site, broken, sound):
        await start(site)
        await site.enrol(BROKEN)
        await site.ask(do="demand", instance=BROKEN, parameter="organization")
        facts = await explain(site, broken, sound)
        assert facts["SubState"] == REJECTED
        assert "template" in facts["Remedy"]


async def test_a_template_that_is_disabled(tmp_path: Path) -> None:
    async with opened(tmp_path) as (site, broken, sound):
        await start(site)
        await site.enrol(BROKEN)
        await site.ask(do="provision", instance=BROKEN, on=False)
        facts = await explain(site, broken, sound)
        assert facts["SubState"] == REJECTED
        assert "self-registration on" in facts["Remedy"]
        await site.ask(do="provision", instance=BROKEN, on=True)
        await site.wait_for(broken, "online")


async def test_a_ca_in_another_resource_space(tmp_path: Path) -> None:
    async with opened(tmp_path) as (site, broken, sound):
        await start(site)
        await site.enrol(BROKEN, apart=True)
        facts = await explain(site, broken, sound)
        assert facts["SubState"] == REJECTED
        assert "resource space" in facts["Remedy"]


async def test_without_a_ca_children_wait(tmp_path: Path) -> None:
    async with opened(tmp_path) as (site, broken, sound):
        await start(site)
        facts = await explain(site, broken, sound)
        assert "gatewayctl ca make" in facts["Remedy"]
        await site.enrol(BROKEN)
        await site.wait_for(broken, "online")


async def test_a_mac_with_colons_is_no_node_id(tmp_path: Path) -> None:
    async with opened(tmp_path) as (site, broken, sound):
        named = 'device_name = "{serial}"', 'device_name = "00:11:22:{serial}"'
        one, other = rules(site).split("[[rule]]")[1:]
        site.configure(config(site), f"[[rule]]{one.replace(*named)}[[rule]]{other}")
        await start(site)
        facts = await explain(site, broken, sound)
        assert (facts["State"], facts["Reason"]) == ("pending", "node-id-invalid")


async def test_a_domain_that_is_no_instance_of_the_platform(tmp_path: Path) -> None:
    async with opened(tmp_path) as (site, broken, sound):
        host = site.plant["hosts"][BROKEN]
        site.configure(config(site).replace(host, f"other-{host}"), rules(site))
        await start(site)
        await site.authority(BROKEN, "Make", "a{sv}", "1", "common-name", "s", "CA")
        facts = await explain(site, broken, sound)
        assert facts["Reason"] == "tls-name-unknown"
        assert "domain" in facts["Remedy"]


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [("host", '"192.0.2.7"', "SNI"), ("keepalive", "15", "30"), ("keepalive", "1500", "1200")],
)
async def test_settings_that_the_platform_would_refuse(
    tmp_path: Path, key: str, value: str, words: str
) -> None:
    async with opened(tmp_path) as (site, _, _):
        table = f"[cloud.{BROKEN}]\n"
        lines = config(site).replace(f'host = "{site.plant["hosts"][BROKEN]}"\n', "")
        host = "" if key == "host" else 'host = "one.example.com"\n'
        site.configure(lines.replace(table, f"{table}{host}{key} = {value}\n"), rules(site))
        await site.launch()
        assert site.daemon is not None
        assert await site.daemon.wait() == EX_CONFIG
        assert key in site.log()
        assert words in site.log()
