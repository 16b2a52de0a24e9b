"""gatewayctl console alibaba and the vendor's SDK see the same products and devices."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gatewayd.cli.main import main
from gatewayd.simulator.alibaba.account import MODEL
from gatewayd.simulator.alibaba.cloud import AlibabaCloud
from gatewayd.simulator.alibaba.open_api.management import OpenApiOptions
from gatewayd.simulator.alibaba.open_api.server import OpenApi
from tests.interop.vendor_process import Sdk, vendor
from tests.simulator.alibaba.gateway import CHILD, SENSORS, site
from tests.support.simulated_ca import AUTHORITY

KEYS = {"access_key": "LTAIexample", "secret_key": "s3cr3t-of+the/owner="}
REGION = "cn-shanghai"


@dataclass
class Both:
    """One account, used by the vendor's SDK and by our command."""

    sdk: Sdk
    cloud: AlibabaCloud
    words: tuple[str, ...]
    capsys: pytest.CaptureFixture[str]

    async def ours(self, *words: str) -> list[dict[str, Any]]:
        """Return what our command prints, for programs."""
        given = ["console", "alibaba", *words, *self.words, "--json"]
        status = await asyncio.to_thread(main, given, {})
        out = self.capsys.readouterr().out
        assert status == 0, out
        return [json.loads(line) for line in out.splitlines()]

    async def theirs(self, action: str, **parameters: Any) -> Any:
        """Return the answer to a call of the SDK that succeeds."""
        answer = await self.sdk.do("call", action=action, **parameters)
        assert answer["Success"], answer
        return answer


@pytest.fixture
async def both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[Both]:
    ca, key = tmp_path / "ca.pem", tmp_path / "key"
    ca.write_text(AUTHORITY.pem)
    key.write_text("\n".join(KEYS.values()))
    key.chmod(0o600)
    cloud = site(clock=time.monotonic)
    served = OpenApi(
        cloud,
        authority=AUTHORITY,
        credentials={KEYS["access_key"]: KEYS["secret_key"]},
        options=OpenApiOptions(REGION, batch_seconds=0.05),
        wall=time.time,
    )
    async with served:
        facts = {"host": "localhost", "port": served.port, "region": REGION, "ca_file": str(ca)}
        words = ("--endpoint", f"localhost:{served.port}", "--address", "127.0.0.1",
                 "--ca-file", str(ca), "--key-file", str(key))  # fmt: skip
        async with vendor("alibaba_owner_peer.py", facts | KEYS) as sdk:
            yield Both(sdk, cloud, words, capsys)


async def test_what_our_command_made_the_sdk_lists(both: Both, tmp_path: Path) -> None:
    listed, names = tmp_path / "names", ["TH20-0001A7", "pump@hall:3", "a_b.c-1"]
    listed.write_text("\n".join(names))
    steps = await both.ours(
        "prepare", "--product", "Sensors_2", "--node", "sub-device", "--names", str(listed)
    )
    key = steps[0]["Id"]
    products = await both.theirs("QueryProductList", CurrentPage=1, PageSize=200)
    found = {one["ProductKey"]: one for one in products["Data"]["List"]["ProductInfo"]}
    assert (found[key]["ProductName"], found[key]["DeviceCount"]) == ("Sensors_2", 3)
    product = (await both.theirs("QueryProduct", ProductKey=key))["Data"]
    assert (product["NodeType"], product["ProtocolType"]) == (0, "customize")
    details = await both.theirs("BatchQueryDeviceDetail", ProductKey=key, DeviceNames=names)
    assert [one["DeviceName"] for one in details["Data"]["Data"]] == names
    assert {one["Status"] for one in details["Data"]["Data"]} == {"UNACTIVE"}


async def test_what_the_sdk_made_our_command_sees(both: Both, tmp_path: Path) -> None:
    made = await both.theirs("CreateProduct", NodeType=1, ProductName="Gateways_2")
    key = made["ProductKey"]
    names = [f"gateway-{number}" for number in range(60)]
    checked = await both.theirs("BatchCheckDeviceNames", ProductKey=key, DeviceNames=names)
    batch = {"ProductKey": key, "ApplyId": checked["Data"]["ApplyId"]}
    async with asyncio.timeout(60):
        while await _status(both, batch) != "CHECK_SUCCESS":
            await asyncio.sleep(0.05)
        await both.theirs("BatchRegisterDeviceWithApplyId", **batch)
        while await _status(both, batch) != "CREATE_SUCCESS":
            await asyncio.sleep(0.05)
    page = await both.theirs(
        "QueryPageByApplyId", ApplyId=batch["ApplyId"], PageSize=50, CurrentPage=2
    )
    assert (page["Total"], len(page["ApplyDeviceList"]["ApplyDeviceInfo"])) == (60, 10)
    one = await both.theirs("RegisterDevice", ProductKey=key, DeviceName="gateway-60")
    assert one["Data"]["DeviceName"] == "gateway-60"
    products = await both.ours("product", "list")
    assert {"Name": "Gateways_2", "Id": key, "Detail": "61 gateways"}.items() <= products[0].items()
    listed = tmp_path / "names"
    listed.write_text("\n".join([*names, "gateway-60", "gateway-61"]))
    steps = await both.ours("device", "register", key, str(listed))
    assert [(step["Outcome"], step["Detail"]) for step in steps] == [
        ("present", "61 devices"),
        ("made", "1 device"),
    ]


async def test_a_model_that_the_sdk_published_is_there_for_us(both: Both, tmp_path: Path) -> None:
    made = await both.theirs("CreateProduct", NodeType=0, ProductName="Pumps_2")
    key, model = made["ProductKey"], tmp_path / "model.json"
    model.write_text(json.dumps(MODEL))
    tsl = json.dumps({**MODEL, "profile": {"productKey": key}})
    await both.theirs("ImportThingModelTsl", ProductKey=key, TslStr=tsl)
    await both.theirs("PublishThingModel", ProductKey=key)
    words = ("prepare", "--product", "Pumps_2", "--node", "direct", "--model", str(model))
    assert [step["Outcome"] for step in await both.ours(*words)] == ["present", "present", "left"]
    found = await both.theirs("GetThingModelTslPublished", ProductKey=key)
    assert json.loads(found["Data"]["TslStr"])["services"] == MODEL["services"]


async def test_a_reset_and_an_end_by_either(both: Both) -> None:
    named = {"ProductKey": SENSORS, "DeviceName": CHILD}
    device = both.cloud.registry.devices[SENSORS, CHILD]
    for reset in (
        lambda: both.ours("device", "reset", f"{SENSORS}/{CHILD}"),
        lambda: both.theirs("ResetThing", **named),
    ):
        both.cloud.registry.issue((SENSORS, CHILD))
        both.cloud.registry.admit((SENSORS, CHILD))
        assert not device.may_register
        await reset()
        assert device.may_register
    (shown,) = await both.ours("device", "show", f"{SENSORS}/{CHILD}")
    detail = (await both.theirs("QueryDeviceDetail", **named))["Data"]
    assert detail["Status"].lower() in shown["Detail"]
    assert detail["UtcActive"] in shown["Detail"]
    await both.theirs("DeleteDevice", **named)
    (step,) = await both.ours("device", "delete", f"{SENSORS}/{CHILD}", "--yes")
    assert step["Outcome"] == "absent"


async def _status(both: Both, batch: dict[str, Any]) -> str:
    found = await both.theirs("QueryBatchRegisterDeviceStatus", **batch)
    return str(found["Data"]["Status"])
