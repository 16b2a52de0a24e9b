"""Registration over HTTPS at the simulated Alibaba cloud, by Python's own client and by bytes."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.simulator.alibaba.cloud import AlibabaCloud
from gatewayd.simulator.alibaba.https import read_form
from gatewayd.testing.waiting import until
from tests.simulator.alibaba.client import PRODUCT, PRODUCT_SECRET, knock, logging_in
from tests.simulator.alibaba.gateway import CHILD, SENSORS, SENSORS_SECRET, sign, site
from tests.simulator.wire import trusting, wire

DEVICE = "direct-1"
FORM = "application/x-www-form-urlencoded"


@pytest.fixture
async def cloud() -> AsyncIterator[AlibabaCloud]:
    async with site(https_port=0) as cloud:
        yield cloud


def form(name: str = DEVICE, key: str = PRODUCT_SECRET, **changes: str | None) -> dict[str, str]:
    fields = {"productKey": PRODUCT, "deviceName": name, "random": "567345"}
    whole = fields | {"signMethod": "hmacsha256", "sign": sign(key, **fields)} | changes
    return {field: value for field, value in whole.items() if value is not None}


async def test_a_sub_device_does_not_register_for_itself(cloud: AlibabaCloud) -> None:
    """Page: "Register sub-devices" (document_detail/89298), on the node type."""
    fields = {"productKey": SENSORS, "deviceName": CHILD, "random": "567345"}
    proof = {"signMethod": "hmacsha256", "sign": sign(SENSORS_SECRET, **fields)}
    assert (await ask(cloud, {**fields, **proof}))["code"] == 460
    assert cloud.secret(SENSORS, CHILD) is None


def post(cloud: AlibabaCloud, fields: dict[str, str]) -> Any:
    """Blocks."""
    url = f"https://localhost:{cloud.https_port}/auth/register/device"
    data = urllib.parse.urlencode(fields).encode()
    with urllib.request.urlopen(url, data, timeout=240, context=trusting()) as answer:
        return json.load(answer)


async def ask(cloud: AlibabaCloud, fields: dict[str, str]) -> Any:
    return await asyncio.to_thread(post, cloud, fields)


async def test_registering(cloud: AlibabaCloud) -> None:
    answer = await ask(cloud, form())
    secret = cloud.secret(PRODUCT, DEVICE)
    granted = {"productKey": PRODUCT, "deviceName": DEVICE, "deviceSecret": secret}
    assert answer == {"code": 200, "data": granted, "message": "success"}
    assert await knock(cloud.port, logging_in(DEVICE, secret or ""), trusting()) == 0
    assert (await ask(cloud, form()))["code"] == 6289
    assert cloud.truth()["https"] == {"200": 1, "6289": 1}


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        (form(key="wrong"), 6600),
        (form(productKey="a1Missing"), 6250),
        (form("unknown"), 6100),
        (form(signMethod="sha256"), 6292),
        (form(random=None), 460),
        (form(sign=None), 460),
        (form(sign="x" * 300), 460),
        ({}, 460),
    ],
)
async def test_codes(cloud: AlibabaCloud, fields: dict[str, str], code: int) -> None:
    assert (await ask(cloud, fields))["code"] == code
    assert cloud.secret(PRODUCT, DEVICE) is None


async def test_registration_switched_off(cloud: AlibabaCloud) -> None:
    cloud.set_dynreg(PRODUCT, on=False)
    assert (await ask(cloud, form()))["code"] == 6288


async def test_faults(cloud: AlibabaCloud) -> None:
    cloud.set_faults(
        f"reply:500:x1@auth.register.device/{DEVICE} reply-late:0.05@auth.register.device"
    )
    assert (await ask(cloud, form()))["code"] == 500
    assert cloud.secret(PRODUCT, DEVICE) is None
    assert (await ask(cloud, form()))["code"] == 200


@pytest.mark.parametrize(("fault", "done"), [("lose-request", 0), ("lose-reply", 1)])
async def test_silence(cloud: AlibabaCloud, fault: str, done: int) -> None:
    cloud.set_faults(f"{fault}@auth.register.device")
    async with wire(cloud.https_port, trusting(), written(form())):
        await until(lambda: device(cloud)["faults"] == {fault: 1})
    assert device(cloud)["registrations"] == done


async def test_hanging_up_and_garbage(cloud: AlibabaCloud) -> None:
    cloud.set_faults("reply-hang-up:x1@auth.register.device reply-garbled@auth.register.device")
    async with wire(cloud.https_port, trusting(), written(form())) as one:
        assert await one.ended() == b""
    with pytest.raises(json.JSONDecodeError):
        await ask(cloud, form())


async def test_down(cloud: AlibabaCloud) -> None:
    port = cloud.https_port
    cloud.set_faults("down")
    with pytest.raises(urllib.error.URLError):
        await ask(cloud, form())
    cloud.set_faults("")
    assert cloud.https_port == port
    assert (await ask(cloud, form()))["code"] == 200


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /auth/register/device HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"404"),
        (b"\xff\r\n\r\n", b"404"),
        (b"POST /auth/register/device HTTP/1.1\r\n\r\n", b"200"),
    ],
)
async def test_other_requests(cloud: AlibabaCloud, request_bytes: bytes, status: bytes) -> None:
    async with wire(cloud.https_port, trusting(), request_bytes) as one:
        assert (await one.ended()).startswith(b"HTTP/1.1 " + status)
    assert cloud.secret(PRODUCT, DEVICE) is None


async def test_a_request_in_pieces(cloud: AlibabaCloud) -> None:
    whole = written(form())
    async with wire(cloud.https_port, trusting(), whole[:40]) as one:
        for piece in (whole[40:-3], whole[-3:]):
            await one.writer.drain()
            one.writer.write(piece)
        assert b'"code":200' in await one.ended()


async def test_a_request_without_end(cloud: AlibabaCloud) -> None:
    async with wire(cloud.https_port, trusting(), b"x" * 9000) as one:
        assert await one.ended() == b""


async def test_plain_http_is_not_served(cloud: AlibabaCloud) -> None:
    async with wire(cloud.https_port, None, written(form())) as one:
        assert b"200" not in await one.ended()


@given(st.binary(max_size=80))
def test_any_bytes_are_a_form_or_none(body: bytes) -> None:
    assert all(isinstance(value, str) for value in read_form(body).values())


def test_a_form_names_a_field_once() -> None:
    assert read_form(b"a=1&b=%40%3A") == {"a": "1", "b": "@:"}
    assert read_form(b"a=1&a=2") == {}


def device(cloud: AlibabaCloud) -> Any:
    truth: Any = cloud.truth()
    return truth["devices"][PRODUCT][DEVICE]


def written(fields: dict[str, str]) -> bytes:
    body = urllib.parse.urlencode(fields)
    head = f"POST /auth/register/device HTTP/1.1\r\nContent-Type: {FORM}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
