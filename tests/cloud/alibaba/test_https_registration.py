"""Registration over HTTPS: each code has its reason, and no answer is no refusal."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest

from gatewayd.cloud.alibaba import https_registration
from gatewayd.cloud.alibaba.account import AlibabaAccount
from gatewayd.cloud.alibaba.https_registration import (
    ExplainedRoute,
    HttpsRegistration,
    parse_response,
)
from gatewayd.cloud.alibaba.settings import AlibabaProduct, AlibabaSettings
from gatewayd.cloud.credentials import read_secret
from gatewayd.cloud.paho_socket import MAY_SEND
from gatewayd.cloud.provider import Failed, Issued, Outcome, Refused, Unknown
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.network import tls
from gatewayd.network.http_response import HttpResponse
from gatewayd.simulator import pki
from gatewayd.simulator.alibaba.cloud import AlibabaCloud
from gatewayd.testing.contracts.cloud import RecordingKeeper, check_reason

Serve = Callable[..., AbstractAsyncContextManager[Any]]

VECTORS = json.loads(Path(__file__).with_name("vectors.json").read_text())["vectors"]
NOW = datetime.now(UTC)
PRODUCT, PRODUCT_SECRET = "a1Gt7n5yTt8", "p5Tq0Zx8Wv3Rk1Ls"
SECRET = "7f3c9a1e5b2d4860a7c1e9f3b5d20846"
ONE = CloudName("cloud", PRODUCT, "TH20@a:1")
DATA = {"productKey": PRODUCT, "deviceName": ONE.device, "deviceSecret": SECRET}
GOOD = {"code": 200, "data": DATA, "message": "success"}


def answer(content: object, status: int = 200) -> HttpResponse:
    return HttpResponse(status, json.dumps(content).encode())


def response(content: object, status: int = 200) -> bytes:
    body = json.dumps(content).encode()
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body


@pytest.fixture
def folder(tmp_path: Path, authority: pki.RootAuthority) -> Path:
    (tmp_path / "ca.pem").write_text(authority.pem)
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    secret.write_text(PRODUCT_SECRET)
    return tmp_path


def settings_for(folder: Path, **others: Any) -> AlibabaSettings:
    product = AlibabaProduct(secret_file=folder / "secret")
    given: dict[str, Any] = {
        "host": "localhost",
        "ca_file": folder / "ca.pem",
        "connect_timeout": 20.0,
        "reply_timeout": 20.0,
        "products": {PRODUCT: product},
    }
    return AlibabaSettings(**(given | others))


def registration(folder: Path, port: int, **others: Any) -> HttpsRegistration:
    trust = tls.TrustStore(folder / "ca.pem")
    account = AlibabaAccount(settings_for(folder, **others), partial(read_secret, None), trust)
    return HttpsRegistration(account, "localhost", port, trust)


class Desk:
    """Answers each request with the same bytes; forms: what it was asked."""

    def __init__(self, says: bytes) -> None:
        self.says, self.forms = says, list[Mapping[str, str]]()

    async def __call__(self, client: Any) -> None:
        head = (await client.reader.readuntil(b"\r\n\r\n")).decode()
        assert head.startswith("POST /auth/register/device HTTP/1.1\r\n")
        assert "Content-Type: application/x-www-form-urlencoded\r\n" in head
        length = int(head.partition("Content-Length: ")[2].partition("\r\n")[0])
        body = await client.reader.readexactly(length)
        self.forms.append(dict(parse_qsl(body.decode(), strict_parsing=True)))
        if self.says:
            await client.send(self.says)
            await client.gone()


async def register(
    registration: HttpsRegistration | ExplainedRoute, kept: RecordingKeeper | None = None
) -> Outcome:
    async with asyncio.timeout(30):
        outcome = await registration.register(ONE, (kept or RecordingKeeper()).keep)
    if not isinstance(outcome, Issued):
        check_reason(outcome.reason)
    return outcome


@pytest.mark.parametrize("method", ["hmacmd5", "hmacsha1", "hmacsha256"])
async def test_what_was_issued_is_kept(serve: Serve, folder: Path, method: str) -> None:
    desk, kept = Desk(response(GOOD)), RecordingKeeper()
    async with serve(desk) as broker:
        ours = registration(folder, broker.port, sign_method=method)
        assert await register(ours, kept) == Issued()
        assert kept.done
        assert kept.secrets == [Secret(SECRET.encode())]
        await broker.until(0)
    (form,) = desk.forms
    assert form == https_registration.form_of(
        ONE, Secret(PRODUCT_SECRET.encode()), method, form["random"]
    )
    assert len(form["random"]) == 16


def test_the_form_that_others_send() -> None:
    (vector,) = (one for one in VECTORS if one["kind"] == "https_register")
    inputs = vector["inputs"]
    name = CloudName("cloud", inputs["productKey"], inputs["deviceName"])
    secret = Secret(inputs["productSecret"].encode())
    form = https_registration.form_of(name, secret, vector["algorithm"], inputs["random"])
    assert urlencode(form) == vector["form_body"]


async def test_the_connection_stays_until_the_secret_is_kept(serve: Serve, folder: Path) -> None:
    async with serve(Desk(response(GOOD))) as broker:

        async def fail() -> None:
            assert broker.open == 1
            raise RuntimeError("the disk is full")

        with pytest.raises(RuntimeError, match="the disk is full"):
            await registration(folder, broker.port).register(ONE, RecordingKeeper(fail).keep)
        await broker.until(0)


@pytest.mark.parametrize(
    ("code", "expected", "reason"),
    [
        (429, Failed, "cloud-throttled"),
        (460, Refused, "cloud-request-refused"),
        (500, Failed, "cloud-error"),
        (5005, Refused, "cloud-no-product"),
        (6100, Refused, "cloud-no-device"),
        (6250, Refused, "cloud-no-product"),
        (6288, Refused, "cloud-registration-off"),
        (6289, Refused, "cloud-already-activated"),
        (6292, Refused, "cloud-sign-method-refused"),
        (6600, Refused, "cloud-auth-failed"),
        ("6288", Refused, "cloud-registration-off"),
        (6999, Failed, "cloud-code-unknown"),
    ],
)
@pytest.mark.parametrize("status", [200, 403, 500])
def test_a_code_tells_why_not(code: int | str, expected: type, reason: str, status: int) -> None:
    outcome = parse_response(answer({"code": code, "message": "?", "data": {}}, status), ONE)
    assert not isinstance(outcome, Issued | Secret)
    assert type(outcome) is expected
    assert outcome.reason.code == reason
    check_reason(outcome.reason)


def test_an_activated_device_needs_a_reset() -> None:
    outcome = parse_response(answer({"code": 6289}), ONE)
    assert isinstance(outcome, Refused)
    assert outcome.reason.substate == "needs-reset"


@pytest.mark.parametrize(
    ("status", "expected"),
    [(302, Refused), (404, Refused), (429, Failed), (500, Unknown), (503, Unknown), (200, Unknown)],
)
def test_without_a_code_the_status_decides(status: int, expected: type) -> None:
    for body in (b"<html>", b"{}", b"[]", b'{"code": true}', b'{"code": -1}', b'{"code": 1e3}'):
        assert type(parse_response(HttpResponse(status, body), ONE)) is expected


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        DATA | {"deviceName": "other"},
        DATA | {"productKey": "other"},
        DATA | {"deviceSecret": ""},
        DATA | {"deviceSecret": 7},
        DATA | {"deviceSecret": "x" * 65},
        DATA | {"deviceSecret": "a b"},
    ],
)
def test_a_success_without_a_secret_for_us_is_no_success(data: object) -> None:
    assert type(parse_response(answer(GOOD | {"data": data}), ONE)) is Unknown


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        (b"", "cloud-hung-up"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9", "cloud-protocol-error"),
        (b"\x20\x02\x00\x00\r\n\r\n", "cloud-protocol-error"),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "cloud-broken-answer"),
    ],
)
async def test_no_answer_may_be_an_issue(
    serve: Serve, folder: Path, says: bytes, reason: str
) -> None:
    kept = RecordingKeeper()

    async def script(client: Any) -> None:
        await client.reader.readuntil(b"signMethod=hmacsha256")
        await client.send(says)

    async with serve(script) as broker:
        outcome = await register(registration(folder, broker.port), kept)
        assert isinstance(outcome, Unknown)
        assert outcome.reason.code == reason
        assert not kept.secrets
        await broker.until(0)


async def test_a_silent_cloud(serve: Serve, folder: Path) -> None:
    async def script(client: Any) -> None:
        await client.gone()

    async with serve(script) as broker:
        outcome = await register(registration(folder, broker.port, reply_timeout=1.0))
        assert isinstance(outcome, Unknown)
        assert outcome.reason.code == "cloud-no-answer"
        await broker.until(0)


async def test_a_server_that_is_not_trusted_gets_nothing(serve: Serve, folder: Path) -> None:
    desk = Desk(response(GOOD))
    stranger = pki.make_ca("stranger", NOW - pki.LIFE, NOW + pki.LIFE)
    async with serve(desk, pki.localhost(stranger, NOW)) as broker:
        outcome = await register(registration(folder, broker.port))
        assert isinstance(outcome, Failed)
        assert outcome.reason.code == "tls-unknown-ca"
    assert not desk.forms


async def test_a_product_secret_that_cannot_be_used(folder: Path) -> None:
    (folder / "secret").unlink()
    outcome = await register(registration(folder, 1))
    assert isinstance(outcome, Refused)
    assert outcome.reason.code == "product-secret-unusable"


def test_hosts() -> None:
    assert https_registration.host_of("cn-shanghai") == "iot-auth.cn-shanghai.aliyuncs.com"
    assert https_registration.host_of("") == ""


@asynccontextmanager
async def explained(
    serve: Serve, folder: Path, faults: str, says: bytes
) -> AsyncIterator[tuple[ExplainedRoute, Desk]]:
    """The direct route, whose cloud has these faults, and says this over HTTPS."""
    desk = Desk(says)
    cloud = AlibabaCloud(
        {PRODUCT: PRODUCT_SECRET},
        [(PRODUCT, ONE.device)],
        certificate=pki.localhost(pki.make_ca("mqtt", NOW - pki.LIFE, NOW + pki.LIFE), NOW),
        clock=time.monotonic,
        random=os.urandom,
    )
    (folder / "mqtt.pem").write_text(cloud.ca_pem)
    async with serve(desk) as broker, cloud:
        cloud.set_faults(faults)
        settings = settings_for(folder, port=cloud.port, ca_file=folder / "mqtt.pem")
        ours = registration(folder, broker.port)
        trust, read = tls.TrustStore(settings.ca_file), partial(read_secret, None)
        yield ExplainedRoute(AlibabaAccount(settings, read, trust), time.monotonic, ours), desk


@pytest.mark.parametrize(
    ("faults", "says", "expected", "reason"),
    [
        ("refuse:4", response({"code": 6288}), Refused, "cloud-registration-off"),
        ("refuse:5", response({"code": 6289}), Refused, "cloud-already-activated"),
        ("refuse:4", response({"code": 6250}), Refused, "cloud-auth-failed"),
        ("refuse:4", response({"code": 500}), Refused, "cloud-auth-failed"),
        ("refuse:4", b"", Unknown, "cloud-hung-up"),
        ("refuse:2", b"never asked", Refused, "cloud-request-refused"),
        ("refuse:3", b"never asked", Failed, "cloud-unavailable"),
        ("hang-up-after-connack", b"never asked", Unknown, "cloud-hung-up"),
    ],
)
async def test_a_vague_refusal_is_explained(
    serve: Serve, folder: Path, faults: str, says: bytes, expected: type, reason: str
) -> None:
    async with explained(serve, folder, faults, says) as (route, desk):
        outcome = await register(route)
        assert type(outcome) is expected
        assert not isinstance(outcome, Issued)
        assert outcome.reason.code == reason
        assert bool(desk.forms) == (says != b"never asked")
        await route.close()


async def test_a_wrong_product_secret_is_explained(serve: Serve, folder: Path) -> None:
    async with explained(serve, folder, "refuse:4", response({"code": 6600})) as (route, _):
        outcome = await register(route)
        assert isinstance(outcome, Refused)
        assert (
            outcome.reason.text
            == "The cloud does not accept the product secret of this child's product."
        )


async def test_the_explanation_may_be_a_secret(serve: Serve, folder: Path) -> None:
    kept = RecordingKeeper()
    async with explained(serve, folder, "refuse:4", response(GOOD)) as (route, _):
        assert await register(route, kept) == Issued()
        assert kept.secrets == [Secret(SECRET.encode())]


async def test_https_is_asked_only_after_a_refusal(serve: Serve, folder: Path) -> None:
    async with explained(serve, folder, "", response(GOOD)) as (route, desk):
        kept = RecordingKeeper()
        assert await register(route, kept) == Issued()
        assert kept.secrets != [Secret(SECRET.encode())]
        assert not desk.forms


async def test_a_gateway_that_may_not_send_asks_nothing(serve: Serve, folder: Path) -> None:
    """The request may not leave; that it never did is not known to what handles the outcome."""
    asked: list[bytes] = []

    async def script(client: Any) -> None:
        asked.append(await client.reader.read())

    MAY_SEND.set(lambda: False)
    async with serve(script) as server:
        outcome = await registration(folder, server.port).register(ONE, RecordingKeeper().keep)
        await server.until(0)
    assert isinstance(outcome, Unknown)
    assert not any(asked)
