"""gatewayctl console huawei, against the simulated platform's management interface."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gatewayd.cli.main import commands_for, main
from gatewayd.simulator.huawei.cloud import HuaweiCloud
from gatewayd.simulator.huawei.platform.platform import Platform
from tests.simulator.huawei.client import GATEWAYS, SENSORS
from tests.simulator.huawei.rest import ACCESS_KEY, PROJECT, SECRET_KEY, Rest, manage
from tests.support.gatewayctl import validate
from tests.support.simulated_ca import AUTHORITY

pytestmark = pytest.mark.integration

FIELDS = {command.words: command.fields for command in commands_for(())}
OWN = "one.st1.iotda-app.cn-north-4.myhuaweicloud.com"


@dataclass
class Operator:
    """An operator's machine, where nothing of gatewayd is but gatewayctl and an access key."""

    rest: Rest
    folder: Path
    capsys: pytest.CaptureFixture[str]

    async def run(self, *words: str, key: str = "key", host: str = OWN) -> tuple[int, str, str]:
        """Return the exit status, the output and the errors of a command."""
        where = (
            "--project", PROJECT, "--endpoint", f"{host}:{self.rest.port}",
            "--address", "127.0.0.1", "--ca-file", str(self.folder / "ca.pem"),
            "--key-file", str(self.folder / key),
        )  # fmt: skip
        status = await asyncio.to_thread(main, ["console", "huawei", *words, *where], {})
        out, errors = self.capsys.readouterr()
        assert SECRET_KEY not in out + errors
        return status, out, errors

    async def json(self, *words: str) -> list[dict[str, Any]]:
        """Return the objects of a command, validated."""
        status, out, _ = await self.run(*words, "--json")
        assert status == 0, out
        longest = max((one for one in FIELDS if " ".join(words).startswith(one[15:])), key=len)
        validate(out, FIELDS[longest], status)
        return [json.loads(line) for line in out.splitlines()]

    async def good(self, *words: str) -> str:
        """Return the output of a command that succeeds."""
        status, out, errors = await self.run(*words)
        assert status == 0, errors
        return out

    async def refused(self, *words: str, **more: str) -> str:
        """Return the error of a command that fails."""
        status, _, errors = await self.run(*words, **more)
        assert status == 1
        return errors


@pytest.fixture
async def operator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[Operator]:
    (tmp_path / "ca.pem").write_text(AUTHORITY.pem)
    (tmp_path / "key").write_text(f"{ACCESS_KEY}\n{SECRET_KEY}\n")
    (tmp_path / "stale").write_text(f"{ACCESS_KEY}\nanother\n")
    for name in ("key", "stale"):
        (tmp_path / name).chmod(0o600)
    platform = Platform(clock=time.time, random=secrets.token_bytes)
    instance = platform.create("one")
    for product in (GATEWAYS, SENSORS):
        instance.products.create(product_id=product, name=product, device_type="thing")
    async with HuaweiCloud(platform, authority=AUTHORITY) as cloud, manage(cloud) as rest:
        yield Operator(rest, tmp_path, capsys)


async def test_what_there_is_is_listed(operator: Operator) -> None:
    products = await operator.json("product", "list")
    assert {one["Id"] for one in products} == {GATEWAYS, SENSORS}
    assert {one["Outcome"] for one in products} == {"found"}
    (space,) = await operator.json("space", "list")
    assert space["Name"] == "DefaultApp"
    gateway = operator.rest.instance.devices.add(node_id="gw-1", product_id=GATEWAYS)
    assert gateway.device_id in await operator.good("device", "list", "--product", GATEWAYS)
    assert await operator.good("template", "list") == "There is none.\n"


async def test_a_list_is_read_page_by_page(operator: Operator) -> None:
    for number in range(120):
        operator.rest.instance.devices.add(node_id=f"node-{number}", product_id=SENSORS)
    found = await operator.json("device", "list", "--product", SENSORS)
    assert {one["Name"] for one in found} >= {f"node-{number}" for number in range(120)}
    assert len({one["Id"] for one in found}) == len(found)


async def test_an_access_key_that_is_refused(operator: Operator) -> None:
    said = await operator.refused("product", "list", key="stale")
    assert "APIGW.0301" in said
    assert "Check that the access key" in said


async def test_a_host_that_several_instances_share(operator: Operator) -> None:
    host = "iotda.cn-north-4.myhuaweicloud.com"
    status, out, _ = await operator.run("product", "list", "--instance", "one", host=host)
    assert (status, SENSORS in out) == (0, True)
    said = await operator.refused("product", "list", "--instance", "other", host=host)
    assert "IOTDA." in said


async def test_options_that_cannot_be(operator: Operator) -> None:
    for words, why in (
        (("--endpoint", "https://a"), "scheme"),
        (("--endpoint", "a:0"), "port"),
        (("--address", "a b"), "white space"),
        (("--ca-file", "/dev/null"), "PEM"),
        (("--region", "", "--endpoint", ""), "Use --region"),
        (("--proxy", "127.0.0.1:9"), "proxy"),
    ):
        status = await asyncio.to_thread(
            main,
            ["console", "huawei", "product", "list", "--project", "p", "--key-file",
             str(operator.folder / "key"), "--endpoint", "localhost", *words],
            {},
        )  # fmt: skip
        assert status == 1
        assert why in operator.capsys.readouterr().err
