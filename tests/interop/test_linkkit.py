"""The vendor's own SDK for Python against the simulated Alibaba cloud, over TLS.

What is asserted is what the cloud's ledger says; what the SDK says comes on top.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gatewayd.cloud.alibaba.provider import Alibaba
from gatewayd.cloud.credentials import read_secret
from gatewayd.cloud.provider import MessageAccepted, SupportsMessages
from gatewayd.device.message import Message
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.simulator import pki
from gatewayd.simulator.alibaba.cloud import AlibabaCloud
from gatewayd.simulator.alibaba.thing import specification
from gatewayd.simulator.mqtt.link import MqttLink
from gatewayd.simulator.mqtt.packets import Publish
from gatewayd.testing.waiting import until
from tests.cloud.alibaba.direct import furnish, settings_for
from tests.interop.vendor_process import Sdk, vendor
from tests.simulator.alibaba.client import PRODUCT, PRODUCT_SECRET
from tests.simulator.alibaba.gateway import (
    CHILD,
    CHILDREN,
    GATEWAY,
    GATEWAYS,
    GATEWAYS_SECRET,
    OTHER_GATEWAY,
    SECOND,
    SENSORS,
    SENSORS_SECRET,
    device,
    ledger_of,
    site,
)
from tests.simulator.alibaba.test_thing import TSL
from tests.support.simulated_ca import AUTHORITY, NOW

DIRECT = "direct-1"
HOSTS = ["localhost", "iot-auth.cn-shanghai.aliyuncs.com"]
CERTIFICATE = AUTHORITY.issue(HOSTS, ["127.0.0.1"], NOW - pki.LIFE, NOW + pki.LIFE)


@contextlib.asynccontextmanager
async def sdk(cloud: AlibabaCloud) -> AsyncIterator[Sdk]:
    facts = {"host": cloud.host, "port": cloud.port, "https_port": cloud.https_port}
    async with vendor("linkkit_peer.py", facts | {"ca": cloud.ca_pem}) as one:
        yield one


@pytest.fixture
async def cloud() -> AsyncIterator[AlibabaCloud]:
    models = {PRODUCT: specification.parse(TSL)}
    options: dict[str, Any] = {"https_port": 0, "preregistration_free": True, "models": models}
    async with site(certificate=CERTIFICATE, **options) as cloud:
        yield cloud


@pytest.fixture
async def gw(cloud: AlibabaCloud) -> AsyncIterator[Sdk]:
    """A gateway that the SDK has registered and logged in."""
    secret = await registered(cloud, GATEWAYS, GATEWAY, GATEWAYS_SECRET)
    async with sdk(cloud) as one:
        assert await one.do("connect", product=GATEWAYS, device=GATEWAY, device_secret=secret) == 0
        yield one


async def registered(cloud: AlibabaCloud, product: str, name: str, key: str) -> str:
    async with sdk(cloud) as one:
        code, secret = await one.do(
            "register", product=product, device=name, key=key, kind="register"
        )
    assert (code, secret) == (0, cloud.secret(product, name))
    return str(secret)


def ledger(cloud: AlibabaCloud, product: str, name: str) -> Any:
    truth: Any = cloud.truth()
    return truth["devices"][product][name]


async def test_a_device_registers_and_logs_in(cloud: AlibabaCloud) -> None:
    secret = await registered(cloud, PRODUCT, DIRECT, PRODUCT_SECRET)
    seen = ledger(cloud, PRODUCT, DIRECT)
    assert seen["secrets_sha256"] == [hashlib.sha256(secret.encode()).hexdigest()]
    async with sdk(cloud) as one:
        assert await one.do("connect", product=PRODUCT, device=DIRECT, device_secret=secret) == 0
        assert cloud.online == {(PRODUCT, DIRECT)}
    await until(lambda: not cloud.online)
    assert ledger(cloud, PRODUCT, DIRECT)["logins"] == 1


async def test_a_wrong_secret_is_refused(cloud: AlibabaCloud) -> None:
    async with sdk(cloud) as one:
        code, secret = await one.do(
            "register", product=PRODUCT, device=DIRECT, key="wrong", kind="register"
        )
    assert (code, secret) == (-769, None)
    assert ledger(cloud, PRODUCT, DIRECT)["refused_registrations"] == {"4": 1}


async def test_a_device_without_creation(cloud: AlibabaCloud) -> None:
    async with sdk(cloud) as one:
        code, client, user, token = await one.do(
            "register", product=PRODUCT, device="new-1", key=PRODUCT_SECRET, kind="regnwl"
        )
    assert code == 0
    assert ledger(cloud, PRODUCT, "new-1")["registrations"] == 1
    async with sdk(cloud) as one:
        proof = {"client_id": client, "username": user, "password": token}
        assert await one.do("connect", product=PRODUCT, device="new-1", **proof) == 0
        assert cloud.online == {(PRODUCT, "new-1")}


async def test_a_device_registers_over_https(cloud: AlibabaCloud) -> None:
    async with sdk(cloud) as one:
        (code, secret), connected = await one.do(
            "register_by_https", product=PRODUCT, device=DIRECT, key=PRODUCT_SECRET
        )
        assert (code, secret, connected) == (0, cloud.secret(PRODUCT, DIRECT), "connected")
        assert cloud.online == {(PRODUCT, DIRECT)}
    assert cloud.truth()["https"] == {"200": 1}


async def test_a_device_reports_and_obeys(cloud: AlibabaCloud, tmp_path: Path) -> None:
    """Page: "Device properties, events, and services" (document_detail/89301)."""
    secret = cloud.show_secret(PRODUCT, DIRECT)
    (tmp_path / "tsl.json").write_text(json.dumps(TSL))
    async with sdk(cloud) as one:
        proof = {"device_secret": secret, "tsl": str(tmp_path / "tsl.json")}
        assert await one.do("connect", product=PRODUCT, device=DIRECT, **proof) == 0
        code, data = await one.do("report", values={"Temperature": 21.5, "Height": 1})
        assert (code, data) == (200, {"Height": specification.UNKNOWN})
        assert await one.do("raise_event", event="Hot", values={"Temperature": 80.5}) == [
            "Hot",
            200,
        ]
        assert [report["values"] for report in cloud.reports(PRODUCT, DIRECT)][-2:] == [
            {"Temperature": 21.5},
            {"Temperature": 80.5},
        ]
        setting = cloud.set_properties(PRODUCT, DIRECT, {"Interval": 30})
        assert await one.do("wait") == {"Interval": 30}
        call = cloud.invoke(PRODUCT, DIRECT, "Restart", {"Delay": 5})
        assert await one.do("wait") == ["Restart", {"Delay": 5}]
        async with asyncio.timeout(60):
            assert await setting.reply == {"code": 200, "data": {}}
            assert await call.reply == {"code": 200, "data": {"done": 1}}


def published(cloud: AlibabaCloud, patch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Record from now on what devices publish: topic, and JSON."""
    found: list[tuple[str, Any]] = []
    handle = cloud.on_publish

    def record(link: MqttLink, packet: Publish) -> None:
        found.append((packet.topic, json.loads(packet.payload)))
        handle(link, packet)

    patch.setattr(cloud, "on_publish", record)
    return found


def without_times(params: dict[str, Any]) -> dict[str, Any]:
    return {
        name: one["value"] if isinstance(one, dict) and "value" in one else one
        for name, one in params.items()
    }


async def test_gatewayd_reports_as_the_sdk_does(
    cloud: AlibabaCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Topics and envelopes are the SDK's; besides, each value has its time, and `ack` is said."""
    secret, values = cloud.show_secret(PRODUCT, DIRECT), {"Temperature": 21.5, "Interval": 30}
    (tmp_path / "tsl.json").write_text(json.dumps(TSL))
    async with sdk(cloud) as one:
        proof = {"device_secret": secret, "tsl": str(tmp_path / "tsl.json")}
        assert await one.do("connect", product=PRODUCT, device=DIRECT, **proof) == 0
        seen = published(cloud, monkeypatch)
        assert await one.do("report", values=values) == [200, {}]
        await one.do("raise_event", event="Hot", values={"Temperature": 80.5})
        of_sdk = seen[-2:]
        seen.clear()
    settings = settings_for(furnish(tmp_path), cloud.port)
    provider = Alibaba("cloud", settings, partial(read_secret, None))
    name = CloudName("cloud", PRODUCT, DIRECT)
    session = await provider.connect(name, Secret(secret.encode()))
    assert isinstance(session, SupportsMessages)
    for topic, said in (("properties", values), ("events/Hot", {"Temperature": 80.5})):
        message = Message(topic, json.dumps(said).encode(), 1_764_444_000_123)
        assert await session.publish(message) == MessageAccepted()
    await session.close()
    await provider.close()
    assert [topic for topic, _ in seen] == [topic for topic, _ in of_sdk]
    for (_, ours), (_, theirs) in zip(seen, of_sdk, strict=True):
        assert ours.pop("sys") == {"ack": 0}
        assert ours.keys() == theirs.keys()
        assert (ours["version"], ours["method"]) == (theirs["version"], theirs["method"])
        assert ours["id"].isdecimal()
    properties, event = (params for _, params in seen)
    assert without_times(properties["params"]) == of_sdk[0][1]["params"] == values
    assert event["params"]["value"] == of_sdk[1][1]["params"]["value"]


async def adopt(cloud: AlibabaCloud, gw: Sdk, names: list[str]) -> list[list[str]]:
    """Register and attach sub-devices; return product, name and secret of each."""
    code, data = await gw.do("ask", name="register_subdev", devices=[[SENSORS, x] for x in names])
    assert code == 200
    known = [[SENSORS, one["deviceName"], one["deviceSecret"]] for one in data]
    assert [secret for *_, secret in known] == [cloud.secret(SENSORS, name) for name in names]
    code, _ = await gw.do("ask", name="add_subdev_topo", devices=known)
    assert code == 200
    return known


async def test_sub_devices_register_and_go_online_and_offline(cloud: AlibabaCloud, gw: Sdk) -> None:
    names = CHILDREN[:20]
    known = await adopt(cloud, gw, names)
    everybody = [[SENSORS, name] for name in names]
    assert ledger_of(cloud)["children"] == everybody
    assert (await gw.do("ask", name="login_subdev", devices=known))[0] == 200
    assert ledger_of(cloud)["online"] == everybody
    assert device(cloud)["activated"]
    assert (await gw.do("ask", name="logout_subdev", devices=everybody[:5]))[0] == 200
    assert ledger_of(cloud)["online"] == everybody[5:]
    assert (await gw.do("ask", name="delete_subdev_topo", devices=everybody[5:10]))[0] == 200
    assert ledger_of(cloud)["online"] == everybody[10:]
    assert ledger_of(cloud)["calls"] == {
        "thing.sub.register": {"200": 1},
        "thing.topo.add": {"200": 1},
        "thing.topo.delete": {"200": 1},
        "combine.batch_login": {"200": 1},
        "combine.batch_logout": {"200": 1},
    }


async def test_sub_devices_register_with_their_products_secret(
    cloud: AlibabaCloud, gw: Sdk
) -> None:
    code, data = await gw.do(
        "ask",
        name="product_register_subdev",
        devices=[[SENSORS, CHILD, SENSORS_SECRET], [SENSORS, SECOND, "wrong"]],
    )
    assert code == 200
    assert [one["deviceName"] for one in data["successes"]] == [CHILD]
    assert [one["errorDetail"]["code"] for one in data["failures"]] == [6600]
    secret = data["successes"][0]["deviceSecret"]
    assert secret == cloud.secret(SENSORS, CHILD)
    assert cloud.secret(SENSORS, SECOND) is None
    known = [[SENSORS, CHILD, secret]]
    assert (await gw.do("ask", name="add_subdev_topo", devices=known))[0] == 200
    assert (await gw.do("ask", name="login_subdev", devices=known))[0] == 200
    assert ledger_of(cloud)["online"] == [[SENSORS, CHILD]]


async def test_what_goes_wrong_has_the_vendors_code(cloud: AlibabaCloud, gw: Sdk) -> None:
    (known,) = await adopt(cloud, gw, [CHILD])
    wrong = [[SENSORS, CHILD, "0" * 32]]
    assert (await gw.do("ask", name="add_subdev_topo", devices=wrong))[0] == 401
    code, data = await gw.do("ask", name="login_subdev", devices=wrong)
    assert (code, data) == (6287, [{"productKey": SENSORS, "deviceName": CHILD}])
    assert (await gw.do("ask", name="logout_subdev", devices=[known[:2]]))[0] == 520
    cloud.set_faults("reply:6288@thing.sub.register")
    unheard = await gw.do("ask", name="register_subdev", devices=[[SENSORS, SECOND]])
    assert unheard[0] == 6288
    assert ledger_of(cloud)["online"] == []
    assert ledger_of(cloud)["calls"]["combine.batch_login"] == {"6287": 1}


async def test_a_change_made_at_the_console_arrives(cloud: AlibabaCloud, gw: Sdk) -> None:
    await adopt(cloud, gw, [CHILD])
    cloud.attach((GATEWAYS, OTHER_GATEWAY), (SENSORS, CHILD))
    change = await gw.do("wait")
    assert change["status"] == 1
    assert change["subList"] == [{"productKey": SENSORS, "deviceName": CHILD}]
    assert ledger_of(cloud)["pushed"]["thing.topo.change"] == 1


async def test_children_go_offline_with_their_gateway(cloud: AlibabaCloud) -> None:
    secret = await registered(cloud, GATEWAYS, GATEWAY, GATEWAYS_SECRET)
    async with sdk(cloud) as one:
        assert await one.do("connect", product=GATEWAYS, device=GATEWAY, device_secret=secret) == 0
        known = await adopt(cloud, one, [CHILD])
        assert (await one.do("ask", name="login_subdev", devices=known))[0] == 200
        assert (SENSORS, CHILD) in cloud.online
    await until(lambda: not cloud.online)
    assert ledger_of(cloud)["children"] == [[SENSORS, CHILD]]
