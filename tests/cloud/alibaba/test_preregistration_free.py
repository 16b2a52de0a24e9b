"""The route of devices that were not created before, on the simulated cloud."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gatewayd.cloud.alibaba import preregistration_free
from gatewayd.cloud.alibaba.account import AlibabaAccount
from gatewayd.cloud.alibaba.preregistration_free import PreregistrationFreeRoute
from gatewayd.cloud.alibaba.settings import AlibabaSettings
from gatewayd.cloud.credentials import read_secret
from gatewayd.cloud.provider import (
    Failed,
    Issued,
    LoginError,
    LoginFailed,
    LoginRefused,
    Refused,
    Unknown,
)
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.network import tls
from gatewayd.simulator.alibaba.cloud import AlibabaCloud, AlibabaCloudOptions
from gatewayd.testing.contracts.cloud import RecordingKeeper, cancel, check_reason
from gatewayd.testing.waiting import until
from tests.cloud.alibaba.direct import PRODUCT, PRODUCT_SECRET, DirectStage, furnish, settings_for
from tests.support.simulated_ca import CERTIFICATE

VECTORS = json.loads(Path(__file__).with_name("vectors.json").read_text())
ONE = CloudName("cloud", PRODUCT, "TH20-0001", "direct-preregistration-free")
GRANT = {"clientId": "c1", "deviceToken": "t1"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return furnish(tmp_path)


def route_for(settings: AlibabaSettings) -> PreregistrationFreeRoute:
    trust, read = tls.TrustStore(settings.ca_file), partial(read_secret, None)
    return PreregistrationFreeRoute(AlibabaAccount(settings, read, trust))


@asynccontextmanager
async def staged(folder: Path, faults: str = "", **others: Any) -> AsyncIterator[DirectStage]:
    allowed = others.pop("allowed", True)
    cloud = AlibabaCloud(
        {PRODUCT: PRODUCT_SECRET},
        [],
        certificate=CERTIFICATE,
        clock=time.monotonic,
        random=os.urandom,
        options=AlibabaCloudOptions(
            preregistration_free=allowed, rate=0, instance_id=others.get("instance_id", "")
        ),
    )
    async with cloud:
        cloud.set_faults(faults)
        route = route_for(settings_for(folder, cloud.port, **others))
        stage = DirectStage(cloud, route, ONE)
        yield stage
        await until(lambda: not stage.connections())
        await route.close()


@pytest.mark.parametrize("securemode", [2, -2])
@pytest.mark.parametrize("instance_id", ["", "iot-06z00abcdefgh1j"])
async def test_what_is_issued_opens_a_session(
    folder: Path, securemode: int, instance_id: str
) -> None:
    async with staged(
        folder, securemode_preregistration_free=securemode, instance_id=instance_id
    ) as stage:
        secret = await stage.issued()
        assert json.loads(secret.reveal()).keys() == {"clientId", "deviceToken"}
        session = await stage.tested.connect(ONE, secret)
        assert stage.cloud.online == {(PRODUCT, ONE.device)}
        await session.close()
        await session.close()
        assert (await session.wait_closed()).reason.code == "closed"


async def test_two_that_share_a_name_are_online_together(folder: Path) -> None:
    async with staged(folder) as stage:
        first = await stage.tested.connect(ONE, await another(stage))
        second = await stage.tested.connect(ONE, await another(stage))
        assert stage.connections() == 2
        await first.close()
        await second.close()


async def another(stage: DirectStage) -> Secret:
    """Register while others are online."""
    kept = RecordingKeeper()
    assert await stage.tested.register(ONE, kept.keep) == Issued()
    return kept.secrets[0]


async def test_the_sixth_of_a_name_is_refused(folder: Path) -> None:
    async with staged(folder) as stage:
        for _ in range(5):
            await stage.issued()
        outcome = await stage.register()
        assert isinstance(outcome, Refused)
        assert outcome.reason.code == "cloud-not-authorised"
        assert "at most five" in outcome.reason.text


async def test_a_cloud_that_takes_none_is_explained(folder: Path) -> None:
    async with staged(folder, allowed=False) as stage:
        outcome = await stage.register()
        assert isinstance(outcome, Refused)
        assert outcome.reason.code == "cloud-auth-failed"
        assert preregistration_free.CONDITIONS in outcome.reason.text


async def test_switched_off_it_asks_nothing(folder: Path) -> None:
    route = route_for(settings_for(folder, 8883, preregistration_free=False))
    assert route.check_name(ONE) == preregistration_free.SWITCHED_OFF
    assert await route.check_ready(ONE) is None
    assert await route.unbind(ONE) is None


def test_a_product_that_is_not_configured(folder: Path) -> None:
    route = route_for(settings_for(folder, 8883))
    assert route.check_name(ONE) is None
    objection = route.check_name(CloudName("cloud", "other", "TH20-0001"))
    assert objection is not None
    assert objection.code == "product-not-configured"


async def test_a_product_secret_that_cannot_be_used(folder: Path) -> None:
    async with staged(folder) as stage:
        (folder / "secret").chmod(0o644)
        outcome = await stage.register()
        assert isinstance(outcome, Refused)
        assert outcome.reason.code == "product-secret-unusable"


@pytest.mark.parametrize(
    ("faults", "expected", "code"),
    [
        ("refuse:1", Refused, "cloud-protocol-refused"),
        ("refuse:2", Refused, "cloud-request-refused"),
        ("refuse:3", Failed, "cloud-unavailable"),
        ("silent", Unknown, "cloud-no-answer"),
        ("no-push", Unknown, "cloud-no-secret"),
        ("hang-up-after-connack", Unknown, "cloud-hung-up"),
        ("foreign-name", Unknown, "cloud-bad-secret"),
        ("empty-secret", Unknown, "cloud-bad-secret"),
        ("bad-json", Unknown, "cloud-bad-secret"),
        ("down", Failed, "tcp-refused"),
    ],
)
async def test_a_registration_that_fails(
    folder: Path, faults: str, expected: type, code: str
) -> None:
    async with staged(folder, faults, reply_timeout=1.0) as stage:
        kept = RecordingKeeper()
        outcome = await stage.register(kept)
        assert isinstance(outcome, expected)
        assert not isinstance(outcome, Issued)
        check_reason(outcome.reason)
        assert outcome.reason.code == code
        assert not kept.secrets


async def test_what_keep_raises_is_passed_on(folder: Path) -> None:
    async with staged(folder) as stage:

        async def fail() -> None:
            assert stage.connections() == 1
            raise RuntimeError("the disk is full")

        with pytest.raises(RuntimeError, match="the disk is full"):
            await stage.tested.register(ONE, RecordingKeeper(fail).keep)


async def test_cancelled_it_leaves_nothing(folder: Path) -> None:
    async with staged(folder, "silent") as stage:
        task = asyncio.create_task(stage.tested.register(ONE, RecordingKeeper().keep))
        await until(lambda: stage.connections() == 1)
        assert await cancel(task)


@pytest.mark.parametrize(("code", "kind"), [(3, LoginFailed), (5, LoginRefused)])
async def test_a_login_that_is_refused(folder: Path, code: int, kind: type) -> None:
    async with staged(folder, f"login.refuse:{code}") as stage:
        with pytest.raises(LoginError) as raised:
            await stage.tested.connect(ONE, Secret(json.dumps(GRANT).encode()))
        assert type(raised.value) is kind


@pytest.mark.parametrize(
    "kept",
    [
        b"7f3c9a1e5b2d4860a7c1e9f3b5d20846",
        b"[]",
        b'{"clientId": "c1"}',
        b'{"clientId": "c1", "deviceToken": ""}',
        b'{"clientId": "c|1", "deviceToken": "t"}',
        b'{"clientId": "c1", "deviceToken": 5}',
        b'{"clientId": "c1", "deviceToken": "t", "more": "x"}',
        b'{"clientId": "c1", "deviceToken": "%b"}' % (b"t" * 1025),
        b"\xff",
    ],
)
async def test_a_secret_that_is_none_of_this_route(folder: Path, kept: bytes) -> None:
    route = route_for(settings_for(folder, 8883))
    with pytest.raises(LoginRefused) as raised:
        await route.connect(ONE, Secret(kept))
    check_reason(raised.value.reason)
    assert raised.value.reason.substate == "credential-rejected"


@pytest.mark.parametrize("topic", ["/ext/regnwl", "/ext/register"])
def test_a_push_is_recognised_by_its_keys(topic: str) -> None:
    fields = {"productKey": PRODUCT, "deviceName": ONE.device, **GRANT, "more": 1}
    secret = preregistration_free.parse_grant(topic, json.dumps(fields).encode(), ONE)
    assert secret is not None
    assert json.loads(secret.reveal()) == GRANT


@pytest.mark.parametrize(
    ("topic", "others"),
    [
        ("/ext/other", {}),
        ("/ext/regnwl", {"deviceName": "TH20-0002"}),
        ("/ext/regnwl", {"productKey": 7}),
        ("/ext/regnwl", {"clientId": ""}),
        ("/ext/regnwl", {"deviceToken": None}),
        ("/ext/regnwl", {"clientId": "a|b"}),
        ("/ext/regnwl", {"clientId": "a b"}),
        ("/ext/regnwl", {"pad": "x" * 5000}),
    ],
)
def test_any_other_message_is_none(topic: str, others: dict[str, object]) -> None:
    fields = {"productKey": PRODUCT, "deviceName": ONE.device, **GRANT} | others
    assert preregistration_free.parse_grant(topic, json.dumps(fields).encode(), ONE) is None


def test_the_connect_of_a_registration() -> None:
    (vector,) = (one for one in VECTORS["vectors"] if one["name"].startswith("V04-"))
    inputs = vector["inputs"]
    settings = AlibabaSettings(sign_method=vector["algorithm"], instance_id=inputs["instanceId"])
    name = CloudName("cloud", inputs["productKey"], inputs["deviceName"])
    secret = Secret(vector["key"].encode())
    login = preregistration_free.register_login(name, secret, settings, inputs["random"])
    assert login.client_id == vector["mqtt_client_id"]
    assert login.user_name == vector["mqtt_username"]
    assert login.password.reveal().decode() == vector["mqtt_password"]


def test_the_connect_of_a_login() -> None:
    (vector,) = VECTORS["format_only"]
    inputs = vector["inputs"]
    name = CloudName("cloud", inputs["productKey"], inputs["deviceName"])
    grant = {key: inputs[key] for key in ("clientId", "deviceToken")}
    login = preregistration_free.connect_login(name, Secret(json.dumps(grant).encode()))
    assert login is not None
    assert login.client_id == vector["mqtt_client_id"].removesuffix("|") + ",ext=1|"
    assert login.user_name == vector["mqtt_username"]
    assert login.password.reveal().decode() == vector["mqtt_password"]
