"""The vendor's own SDK for Node.js against the simulated Alibaba cloud, over TLS, as it is.

What is asserted is what the cloud's ledger says; what the SDK says comes on top.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gatewayd.simulator.alibaba.cloud import AlibabaCloud
from gatewayd.simulator.alibaba.thing import specification
from gatewayd.simulator.alibaba.thing.commands import ThingCommand
from gatewayd.testing.waiting import until
from tests.interop.vendor_process import Sdk, vendor
from tests.simulator.alibaba.client import PRODUCT, PRODUCT_SECRET
from tests.simulator.alibaba.gateway import (
    CHILD,
    GATEWAY,
    GATEWAYS,
    SECOND,
    SENSORS,
    ledger_of,
    meaning,
    site,
)
from tests.simulator.alibaba.test_thing import TSL
from tests.support.simulated_ca import AUTHORITY

DIRECT = "direct-1"
MODEL = specification.parse(TSL)


@pytest.fixture
async def cloud() -> AsyncIterator[AlibabaCloud]:
    async with site(https_port=0, models={PRODUCT: MODEL, SENSORS: MODEL}) as cloud:
        yield cloud


@contextlib.asynccontextmanager
async def sdk(cloud: AlibabaCloud, folder: Path) -> AsyncIterator[Sdk]:
    """The SDK has no setting for roots, and Node.js has a variable."""
    roots = folder / "ca.pem"
    roots.write_text(AUTHORITY.pem)
    environ = {**os.environ, "NODE_EXTRA_CA_CERTS": str(roots)}
    facts = {"port": cloud.port, "https_port": cloud.https_port}
    async with vendor("node/peer.js", facts, environ) as one:
        yield one


@contextlib.asynccontextmanager
async def connected(
    cloud: AlibabaCloud, folder: Path, product: str = PRODUCT, name: str = DIRECT
) -> AsyncIterator[Sdk]:
    async with sdk(cloud, folder) as one:
        secret = cloud.show_secret(product, name)
        gateway = product == GATEWAYS
        proof = {"product": product, "device": name, "secret": secret, "gateway": gateway}
        assert await one.do("connect", **proof) == "connect"
        yield one


def device(cloud: AlibabaCloud, product: str = PRODUCT, name: str = DIRECT) -> Any:
    truth: Any = cloud.truth()
    return truth["devices"][product][name]


async def outcome(command: ThingCommand) -> Any:
    async with asyncio.timeout(60):
        return await command.reply


async def test_a_device_registers_over_https_and_logs_in(
    cloud: AlibabaCloud, tmp_path: Path
) -> None:
    async with sdk(cloud, tmp_path) as one:
        who = {"product": PRODUCT, "device": DIRECT}
        granted = await one.do("register", **who, key=PRODUCT_SECRET)
        secret = granted["data"]["deviceSecret"]
        assert (granted["code"], secret) == (200, cloud.secret(PRODUCT, DIRECT))
        assert (await one.do("register", **who, key="wrong"))["code"] == 6600
        assert await one.do("connect", **who, secret=secret) == "connect"
        assert cloud.online == {(PRODUCT, DIRECT)}
    await until(lambda: not cloud.online)


async def test_a_wrong_secret_is_refused(cloud: AlibabaCloud, tmp_path: Path) -> None:
    async with sdk(cloud, tmp_path) as one:
        cloud.show_secret(PRODUCT, DIRECT)
        said = await one.do("connect", product=PRODUCT, device=DIRECT, secret="0" * 32)
        assert "Not authorized" in said
    assert device(cloud)["refused_logins"]["5"] >= 1


async def test_a_device_reports_and_obeys(cloud: AlibabaCloud, tmp_path: Path) -> None:
    async with connected(cloud, tmp_path) as one:
        reply = await one.do("post_props", values={"Temperature": 21.5, "Height": 1})
        assert (reply["code"], reply["data"]) == (200, {"Height": specification.UNKNOWN})
        hot = {"value": {"Temperature": 80.5}}
        assert (await one.do("post_event", event="Hot", values=hot))["code"] == 200
        kept = [(report["method"], report["values"]) for report in cloud.reports(PRODUCT, DIRECT)]
        assert kept == [
            ("thing.event.property.post", {"Temperature": 21.5}),
            ("thing.event.Hot.post", {"Temperature": 80.5}),
        ]
        await one.do("on_props")
        cloud.set_properties(PRODUCT, DIRECT, {"Interval": 30})
        assert (await one.do("wait"))["params"] == {"Interval": 30}
        await one.do("on_service", service="Restart", answer={"done": 1})
        subscribed = f"/sys/{PRODUCT}/{DIRECT}/thing/service/Restart"
        await until(lambda: cloud.subscribes(PRODUCT, DIRECT, subscribed))
        call = cloud.invoke(PRODUCT, DIRECT, "Restart", {"Delay": 5})
        assert (await one.do("wait"))["params"] == {"Delay": 5}
        assert await outcome(call) == {"code": 200, "data": {"done": 1}}


async def test_a_device_obeys_at_once(cloud: AlibabaCloud, tmp_path: Path) -> None:
    """It does not take RRPCs on topics of their own, so a synchronous service is a general one."""
    services = [{"identifier": "Measure", "callType": "sync"}]
    cloud.set_model(PRODUCT, {**TSL, "services": services})
    async with connected(cloud, tmp_path) as one:
        await one.do("on_service", service="Measure", answer={"done": 1}, how="sync")
        subscribed = f"/sys/{PRODUCT}/{DIRECT}/rrpc/request/1"
        await until(lambda: cloud.subscribes(PRODUCT, DIRECT, subscribed))
        call = cloud.invoke(PRODUCT, DIRECT, "Measure", {})
        assert (await one.do("wait"))["method"] == "thing.service.Measure"
        assert await outcome(call) == {"code": 200, "data": {"done": 1}}


async def test_a_gateway_with_its_sub_devices(cloud: AlibabaCloud, tmp_path: Path) -> None:
    async with connected(cloud, tmp_path, GATEWAYS, GATEWAY) as one:
        granted = await one.do("register_sub", devices=[meaning(CHILD), meaning(SECOND)])
        assert granted["code"] == 200
        assert [x["deviceSecret"] for x in granted["data"]] == [
            cloud.secret(SENSORS, name) for name in (CHILD, SECOND)
        ]
        known = [
            {**meaning(entry["deviceName"]), "deviceSecret": entry["deviceSecret"]}
            for entry in granted["data"]
        ]
        assert (await one.do("add_topo", devices=known))["code"] == 200
        attached = await one.do("get_topo")
        assert [entry["deviceName"] for entry in attached["data"]] == [CHILD, SECOND]
        for entry in known:
            assert (await one.do("login", device=entry))["code"] == 200
        assert ledger_of(cloud)["online"] == [[SENSORS, CHILD], [SENSORS, SECOND]]
        assert (await one.do("logout", device=meaning(SECOND)))["code"] == 200
        assert (await one.do("remove_topo", devices=[meaning(SECOND)]))["code"] == 200
        assert ledger_of(cloud)["children"] == [[SENSORS, CHILD]]
        wrong = {**meaning(CHILD), "deviceSecret": "0" * 32}
        assert (await one.do("add_topo", devices=[wrong]))["code"] == 401
        assert (await one.do("login", device=wrong))["code"] == 6287


async def test_a_sub_device_reports_and_obeys(cloud: AlibabaCloud, tmp_path: Path) -> None:
    async with connected(cloud, tmp_path, GATEWAYS, GATEWAY) as one:
        cloud.attach((GATEWAYS, GATEWAY), (SENSORS, CHILD))
        who = {**meaning(CHILD), "deviceSecret": cloud.show_secret(SENSORS, CHILD)}
        assert (await one.do("login", device=who))["code"] == 200
        replies = f"/sys/{SENSORS}/{CHILD}/thing/event/property/post_reply"
        await until(lambda: cloud.subscribes(SENSORS, CHILD, replies))
        reply = await one.do("post_props", child=CHILD, values={"Light": 1})
        assert (reply["code"], reply["data"]) == (200, {})
        assert [report["values"] for report in cloud.reports(SENSORS, CHILD)] == [{"Light": 1}]
        await one.do("on_props", child=CHILD)
        cloud.set_properties(SENSORS, CHILD, {"Light": 0})
        assert (await one.do("wait"))["params"] == {"Light": 0}
    assert device(cloud, SENSORS, CHILD)["published"] == 1
