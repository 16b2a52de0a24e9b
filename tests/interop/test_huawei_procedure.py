"""The vendor's procedure of self-registration, with gatewayd on one side and its SDK on the other.

Nothing of ours manages the platform: the SDK creates what is needed and verifies the device CA.
What certificates there are, gatewayd makes.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gatewayd.simulator.site import Site, run
from gatewayd.simulator.site_files import config
from tests.interop.huawei_owner import PRODUCT, create_product, create_template, enrol, let_register
from tests.interop.vendor_process import Sdk, vendor
from tests.simulator.huawei.client import Hello
from tests.simulator.wire import trusting, wire

pytestmark = pytest.mark.integration

PLATFORM, GATEWAY, OTHER = "east", "gateway-7", "probe-1"
GATEWAYCTL = "import sys; from gatewayd.cli.main import main; sys.exit(main())"
NEW_TEMPLATE = (
    "--product", "@organizational_unit", "--node-id", "common_name",
    "--device-name", "common_name", "--tag", "site=plant-7",
)  # fmt: skip
INSTANCE = """\
[cloud.huawei]
host = "{host}"
address = "127.0.0.1"
port = {port}
ca_file = "{directory}/ca.pem"
[cloud.huawei.certificates]
template_file = "{directory}/created.json"
key_algorithm = "ec-p256"
[cloud.huawei.gateway]
product = "{product}"
device = "{gateway}"
"""
RULE = """\
[[rule]]
name = "sensors"
match = {{ source = "mdns", service = "_gatewayd-child._tcp", "txt.model" = "TH-20" }}
extract = {{ serial = "txt.serial ~ (TH20-[0-9A-F]{{6}})" }}
list = "{directory}/serials.txt"
action = "register"
provider = "huawei"
product = "{product}"
device_name = "{{serial}}"
route = "{route}"
"""


@contextlib.asynccontextmanager
async def opened(folder: Path, route: str = "certificate") -> AsyncIterator[Site]:
    """A plant with one child that is still away, and gatewayd's configuration for one instance."""
    options = ("--children", "0", "--late", "1")
    site = Site(folder, cloud="huawei", route=route, plant_options=options)
    async with site.open():
        values = {
            "host": site.plant["hosts"][PLATFORM], "port": site.plant["port"], "directory": folder,
            "product": PRODUCT, "gateway": GATEWAY, "route": route,
        }  # fmt: skip
        common = config(site).partition("[cloud.")[0]
        site.configure(common + INSTANCE.format(**values), RULE.format(**values))
        yield site


@contextlib.asynccontextmanager
async def owner(site: Site) -> AsyncIterator[Sdk]:
    """The SDK, with the keys of the platform's owner."""
    keys = json.loads((site.directory / "management.json").read_text())
    facts = {
        "host": site.plant["hosts"][PLATFORM].replace("iotda-device", "iotda-app"),
        "port": site.plant["management"], "region": "cn-north-4", "project": "a project",
        "ca_file": str(site.directory / "ca.pem"),
    }  # fmt: skip
    async with vendor("huawei_peer.py", facts | keys) as sdk:
        yield sdk


async def gatewayctl(site: Site, *words: str) -> str:
    return await run(sys.executable, "-c", GATEWAYCTL, "--bus", site.bus, *words)


async def prepare(site: Site, sdk: Sdk) -> None:
    """Follow the procedure up to where devices may connect."""
    created = site.directory / "created.json"
    await gatewayctl(site, "huawei", "template", "new", *NEW_TEMPLATE, "--output", str(created))
    space = (await sdk.do("add_application", body={"app_name": "plant"}))["app_id"]
    assert await create_product(sdk, space) == PRODUCT
    template = await create_template(sdk, json.loads(created.read_text()))
    await site.start()
    made = await gatewayctl(site, "ca", "make", "--algorithm", "ec-p256")
    ca = await enrol(sdk, made, lambda code: gatewayctl(site, "huawei", "ca", "prove", code), space)
    await let_register(sdk, ca, template)


async def shown(sdk: Sdk, node: str) -> Any:
    """Return what the platform says of a device; None where there is none."""
    answer = await sdk.answer("show_device", device_id=f"{PRODUCT}_{node}")
    return answer.get("ok")


async def online(sdk: Sdk, node: str) -> bool:
    return ((await shown(sdk, node)) or {}).get("status") == "ONLINE"


async def test_the_vendors_procedure(tmp_path: Path) -> None:
    async with opened(tmp_path) as site, owner(site) as sdk:
        await prepare(site, sdk)
        (child,) = site.plant["serials"]
        assert await shown(sdk, child) is None
        await site.ask(do="announce", child=child)
        await site.wait_for(child, "online")
        seen = await shown(sdk, child)
        assert (seen["status"], seen["node_type"]) == ("ONLINE", "GATEWAY")
        assert (seen["device_name"], seen["auth_info"]["auth_type"]) == (child, "CERTIFICATES")
        assert seen["tags"] == [{"tag_key": "site", "tag_value": "plant-7"}]
        await site.until(lambda: online(sdk, GATEWAY), "the gateway to be online")
        listed = (await sdk.do("list_devices", product_id=PRODUCT))["devices"]
        assert {one["node_id"]: one["status"] for one in listed} == {
            child: "ONLINE", GATEWAY: "ONLINE",
        }  # fmt: skip
        assert await site.stop() == 0
        assert (await shown(sdk, child))["status"] == "OFFLINE"


async def test_a_certificate_for_a_key_that_is_not_gatewayds(tmp_path: Path) -> None:
    """Such a device connects by itself; what it registers as was foretold."""
    async with opened(tmp_path) as site, owner(site) as sdk:
        await prepare(site, sdk)
        key, certificate = tmp_path / "probe.key", tmp_path / "probe.pem"
        named = ("--product", PRODUCT, "--node-id", OTHER, "--algorithm", "ec-p256")
        certificate.write_text(await gatewayctl(site, "ca", "issue", "--new-key", str(key), *named))
        files = ("--template", str(tmp_path / "created.json"), "--cert", str(certificate))
        assert f"{PRODUCT}_{OTHER}" in await gatewayctl(
            site, "huawei", "template", "preview", *files
        )
        tls = trusting((tmp_path / "ca.pem").read_text())
        tls.load_cert_chain(certificate, key)
        hello, host = Hello(f"{PRODUCT}_{OTHER}"), site.plant["hosts"][PLATFORM]
        async with wire(site.plant["port"], tls, hello.packet, host) as link:
            assert await link.code() == 0
            assert await online(sdk, OTHER)


async def test_a_sub_device_behind_a_gateway_that_has_registered_itself(tmp_path: Path) -> None:
    async with opened(tmp_path, "sub-device") as site, owner(site) as sdk:
        await prepare(site, sdk)
        (child,) = site.plant["serials"]
        await site.ask(do="announce", child=child)
        await site.wait_for(child, "online")
        assert await online(sdk, GATEWAY)
        family = await sdk.do("list_devices", gateway_id=f"{PRODUCT}_{GATEWAY}")
        (seen,) = family["devices"]
        assert (seen["node_id"], seen["status"]) == (child, "ONLINE")
        assert seen["node_type"] == "ENDPOINT"


async def test_the_owner_freezes_a_child_and_lets_it_in_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as site, owner(site) as sdk:
        await prepare(site, sdk)
        (child,) = site.plant["serials"]
        one = {"device_id": f"{PRODUCT}_{child}"}
        await site.ask(do="announce", child=child)
        await site.wait_for(child, "online")
        await sdk.do("freeze_device", **one)
        await site.wait_for(child, "offline")
        assert (await sdk.do("show_device", **one))["status"] == "FROZEN"
        await sdk.do("unfreeze_device", **one)
        await site.wait_for(child, "online")
        assert await online(sdk, child)
