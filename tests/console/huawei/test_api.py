"""The API of IoTDA, asked: what is put off is asked again, and a refusal says what to do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gatewayd.console.access_key import AccessKey
from gatewayd.console.client import ApiBusy, ConsoleClient
from gatewayd.console.huawei.api import DEVICE, PRODUCT, SPACE, IotdaApi, plain, text_of
from gatewayd.console.huawei.dialect import HuaweiDialect, api_request
from gatewayd.device.secret import Secret
from gatewayd.errors import ConsoleError, ConsoleRefused
from gatewayd.network.http_response import HttpResponse
from gatewayd.network.tls import Server, client_context
from gatewayd.simulator.huawei.management.server import Management
from tests.simulator.huawei.client import SENSORS, Clock, one, served
from tests.simulator.huawei.rest import ACCESS_KEY, SECRET_KEY
from tests.support.simulated_ca import AUTHORITY

KEY = AccessKey(ACCESS_KEY, Secret(SECRET_KEY.encode()))
DIALECT = HuaweiDialect(KEY, "", "one")
GET = api_request("GET", "/v5/iot/p/products", {}, None)


@dataclass
class Throttled:
    """The API of a platform that lets three requests through in a minute, and their time."""

    api: IotdaApi
    instance: Any
    clock: Clock


@pytest.fixture
async def throttled(tmp_path: Path) -> AsyncIterator[Throttled]:
    clock = Clock()

    async def sleep(seconds: float) -> None:
        clock.now += seconds

    (tmp_path / "ca.pem").write_text(AUTHORITY.pem)
    context = await asyncio.to_thread(client_context, tmp_path / "ca.pem")
    async with (
        served(clock=clock) as cloud,
        Management(
            cloud.platform, authority=AUTHORITY, credentials={ACCESS_KEY: SECRET_KEY}, rate=3
        ) as management,
    ):
        client = ConsoleClient(
            Server("localhost", management.port, context, 30.0, 30.0), DIALECT, dry_run=False,
            clock=clock, random=bytes, jitter=lambda: 0.0, sleep=sleep,
        )  # fmt: skip
        yield Throttled(IotdaApi(client, "p"), one(cloud), clock)


async def test_what_is_put_off_is_asked_again_until_it_is_done(throttled: Throttled) -> None:
    """A list of five pages, three requests a minute; each request is signed when it is sent."""
    for number in range(210):
        throttled.instance.devices.add(node_id=f"node-{number}", product_id=SENSORS)
    began = throttled.clock.now
    found = [entry async for entry in throttled.api.listed(DEVICE, product_id=SENSORS)]
    assert len({text_of(entry, DEVICE.id) for entry in found}) == 210
    assert 60 <= throttled.clock.now - began < 120
    made = await throttled.api.change("POST", SPACE.path, {"app_name": "plant"})
    assert throttled.instance.apps.get(made["app_id"]).name == "plant"


async def test_what_is_not_there(throttled: Throttled) -> None:
    assert await throttled.api.shown(DEVICE, "no such/device") is None
    assert await throttled.api.find(PRODUCT, "none") is None
    with pytest.raises(ConsoleError, match="There is no product 'none'"):
        await throttled.api.get(PRODUCT, "none")


def answer(status: int, code: str = "", text: str = "why") -> HttpResponse:
    return HttpResponse(status, json.dumps({"error_code": code, "error_msg": text}).encode())


@pytest.mark.parametrize("response", [
    answer(429, "APIG.0308"), answer(403, "IOTDA.021101"), HttpResponse(503, b""),
])  # fmt: skip
def test_what_is_put_off(response: HttpResponse) -> None:
    with pytest.raises(ApiBusy):
        DIALECT.read(GET, response)


@pytest.mark.parametrize(("response", "remedy"), [
    (answer(401, "APIGW.0301"), "Check that the access key"),
    (HttpResponse(401, b"<html>"), "Check that the access key"),
    (answer(404, "APIG.0101"), "--endpoint"),
    (answer(403, "IOTDA.000034"), "IAM"),
    (answer(400, "IOTDA.014307"), "new proof"),
    (answer(400, "IOTDA.999999"), "API reference"),
    (HttpResponse(302, b""), "API reference"),
])  # fmt: skip
def test_a_refusal_says_what_to_do(response: HttpResponse, remedy: str) -> None:
    with pytest.raises(ConsoleRefused, match=remedy) as error:
        DIALECT.read(GET, response)
    assert error.value.status == response.status


def test_what_a_stranger_answers_is_shown_on_one_line_and_shortened() -> None:
    with pytest.raises(ConsoleRefused) as error:
        DIALECT.read(GET, answer(400, "IOTDA.1", "a\n\x1b[31m" + "b" * 9_000))
    assert len(str(error.value)) < 1_000
    assert str(error.value).isprintable()
    deep = b'{"a":' * 100 + b"1" + b"}" * 100
    for body in (b"[]", b"{", b"[" * 100_000, deep):
        with pytest.raises(ConsoleError, match="no JSON object"):
            DIALECT.read(GET, HttpResponse(200, body))


def test_no_request_shows_a_secret() -> None:
    body = {"auth_info": {"secret": "s3cret"}, "list": [{"secret": "s3cret"}], "secret": None}
    asked = api_request("POST", "/a", {}, body)
    assert b"s3cret" in asked.body
    assert "s3cret" not in asked.shown + repr(asked)


def test_what_an_api_may_leave_out_is_no_difference() -> None:
    assert plain({"a": None, "b": [], "c": [{"d": "", "e": 0}]}) == plain({"c": [{"e": 0}]})
    assert plain({"a": False}) != plain({})
