"""gatewayctl console huawei and the vendor's management SDK at one platform: each sees the other's.

The last test has both ends: an empty platform, the command, gatewayd, and a child online.
"""

from __future__ import annotations

import asyncio
import json
import shlex
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gatewayd.ca.authority import authority_name, make_authority
from gatewayd.cli.main import main
from tests.interop.huawei_owner import CLIMATE, KEYS, OWN, Served, create_template
from tests.interop.test_huawei_procedure import (
    GATEWAY,
    PLATFORM,
    gatewayctl,
    online,
    opened,
    owner,
    shown,
)
from tests.support.gatewayctl import GATEWAYCTL

pytestmark = pytest.mark.integration

BODY = {
    "parameters": {"iotda::certificate::common_name": {"type": "String"}},
    "resources": {
        "device": {"node_id": {"ref": "iotda::certificate::common_name"}, "product_id": "meters"},
    },
}  # fmt: skip
Console = Callable[..., Awaitable[list[dict[str, Any]]]]


@pytest.fixture
def console(served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Console:
    """Runs a command at the platform, and returns its objects."""
    key = tmp_path / "key"
    key.write_text("\n".join(KEYS.values()))
    key.chmod(0o600)
    where = (
        "--json", "--project", "a project", "--key-file", str(key), "--address", "127.0.0.1",
        "--endpoint", f"{OWN}:{served.facts['port']}", "--ca-file", served.facts["ca_file"],
    )  # fmt: skip

    async def run(*words: str) -> list[dict[str, Any]]:
        status = await asyncio.to_thread(main, ["console", "huawei", *words, *where], {})
        out = capsys.readouterr().out
        assert status == 0, out
        return [json.loads(line) for line in out.splitlines()]

    return run


async def test_what_the_command_made_is_what_the_sdk_lists(
    served: Served, console: Console, tmp_path: Path
) -> None:
    authority = make_authority(
        authority_name({"common-name": "plant CA"}), "ec-p256", 30, time.time()
    )
    (tmp_path / "ca.both.pem").write_bytes(authority.secret().reveal())
    (tmp_path / "services.json").write_text(json.dumps([CLIMATE]))
    (tmp_path / "list").write_text("SN-1\nSN-2\n")
    ca, secret = str(tmp_path / "ca.both.pem"), tmp_path / "secret"
    await console(
        "prepare", "--name", "meters", "--product-id", "meters", "--space", "plant",
        "--services", str(tmp_path / "services.json"), "--template", str(tmp_path / "t.json"),
        "--ca", ca, "--ca-key", ca, "--publish", "/a/*",
    )  # fmt: skip
    await console("device", "make", "gw-1", "--product", "meters", "--secret-file", str(secret))
    behind = ("--product", "meters", "--gateway", "meters_gw-1")
    await console("device", "add", str(tmp_path / "list"), *behind)
    async with served.sdk(host=OWN) as sdk:
        spaces = (await sdk.do("show_applications"))["applications"]
        space = next(one["app_id"] for one in spaces if one["app_name"] == "plant")
        product = await sdk.do("show_product", product_id="meters")
        assert (product["name"], product["app_id"]) == ("meters", space)
        assert [one["service_id"] for one in product["service_capabilities"]] == ["climate"]
        (template,) = (await sdk.do("list_provisioning_templates"))["templates"]
        (listed,) = (await sdk.do("list_certificates", app_id=space))["certificates"]
        assert (listed["status"], listed["provision_enable"]) == (True, True)
        assert listed["template_id"] == template["template_id"]
        (policy,) = (await sdk.do("list_device_policies", policy_name="meters"))["policies"]
        bound = await sdk.do(
            "show_targets_in_device_policy", policy_id=policy["policy_id"],
            body={"target_type": "product"},
        )  # fmt: skip
        assert [one["target_id"] for one in bound["targets"]] == ["meters"]
        gateway = await sdk.do("show_device", device_id="meters_gw-1")
        assert gateway["auth_info"]["secret"] == secret.read_text().strip()
        family = (await sdk.do("list_devices", gateway_id="meters_gw-1"))["devices"]
        assert {one["node_id"] for one in family} == {"SN-1", "SN-2"}


async def test_what_the_sdk_made_is_there_for_the_command(
    served: Served, console: Console, tmp_path: Path
) -> None:
    async with served.sdk(host=OWN) as sdk:
        body = {"product_id": "meters", "name": "meters", "device_type": "device",
                "protocol_type": "MQTT", "data_format": "json",
                "service_capabilities": [CLIMATE]}  # fmt: skip
        await sdk.do("create_product", body=body)
        template = await create_template(sdk, BODY)
        for number in range(60):
            node = {"node_id": f"SN-{number}", "product_id": "meters"}
            await sdk.do("add_device", body=node)
    file = tmp_path / "t.json"
    file.write_text(json.dumps({"template_name": "by-name", "template_body": BODY}))
    (found,) = await console("template", "make", str(file))
    assert (found["Outcome"], found["Id"]) == ("present", template)
    (product,) = await console("product", "make", "meters", "--product-id", "meters")
    assert product["Outcome"] == "present"
    assert len(await console("device", "list", "--product", "meters")) == 60
    (tmp_path / "list").write_text("SN-59\nSN-60\n")
    added = await console("device", "add", str(tmp_path / "list"), "--product", "meters")
    assert [one["Outcome"] for one in added] == ["present", "made"]
    await console("device", "delete", "meters_SN-0", "--yes")
    async with served.sdk(host=OWN) as sdk:
        error = (await sdk.answer("show_device", device_id="meters_SN-0"))["error"]
        assert error["status"] == 404


async def test_an_empty_platform_the_command_and_a_child_online(tmp_path: Path) -> None:
    async with opened(tmp_path) as site:
        keys = json.loads((tmp_path / "management.json").read_text())
        key = tmp_path / "access-key"
        key.write_text(f"{keys['access_key']}\n{keys['secret_key']}\n")
        key.chmod(0o600)
        host = site.plant["hosts"][PLATFORM].replace("iotda-device", "iotda-app")
        prepare = (
            "console", "huawei", "prepare", "--name", "plant", "--space", "plant",
            "--product-id", "th-20", "--template", str(tmp_path / "created.json"),
            "--project", "a project", "--key-file", str(key), "--address", "127.0.0.1",
            "--endpoint", f"{host}:{site.plant['management']}",
            "--ca-file", str(tmp_path / "ca.pem"),
        )  # fmt: skip
        assert "run gatewayctl ca make" in await gatewayctl(site, *prepare)
        await site.start()
        device_ca = tmp_path / "device-ca.pem"
        device_ca.write_text(await gatewayctl(site, "ca", "make", "--algorithm", "ec-p256"))
        prove = f"{shlex.join(GATEWAYCTL)} --bus {site.bus} huawei ca prove"
        done = await gatewayctl(site, *prepare, "--ca", str(device_ca), "--prove-with", prove)
        assert "registers devices by template" in done
        assert "Nothing was changed" in await gatewayctl(site, *prepare, "--ca", str(device_ca))
        (child,) = site.plant["serials"]
        await site.ask(do="announce", child=child)
        await site.wait_for(child, "online")
        async with owner(site) as sdk:
            assert (await shown(sdk, child))["status"] == "ONLINE"
            await site.until(lambda: online(sdk, GATEWAY), "the gateway to be online")
