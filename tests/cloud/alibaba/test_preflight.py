"""What a preflight finds, with real TLS servers good and bad."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gatewayd.ca import certificates
from gatewayd.cloud import preflight as shared
from gatewayd.cloud.alibaba import preflight
from gatewayd.cloud.alibaba import settings as endpoint
from gatewayd.cloud.alibaba.settings import AlibabaGateway, AlibabaProduct, AlibabaSettings
from gatewayd.cloud.credentials import read_secret
from gatewayd.cloud.preflight import Check, CheckResult, PreflightContext, secret_check
from gatewayd.errors import ConfigError
from gatewayd.simulator import pki
from tests.cloud.conftest import stay
from tests.cloud.looks import AROUND, FAILED, OK, SECRET, UNSURE, all_of, verdicts
from tests.cloud.test_websocket import Echo, simulated
from tests.support.tinyproxy import tinyproxy

Serve = Callable[..., AbstractAsyncContextManager[Any]]

NOW = datetime.now(UTC)
PRODUCT = "a1Gt7n5yTt8"
VENDOR = f"{PRODUCT}.iot-as-mqtt.cn-shanghai.aliyuncs.com"
ROOT = certificates.RootCertificate("some root", "AB" * 32, 0.0, 4e9)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.touch(mode=0o600)
    path.write_text(SECRET)
    return path


@pytest.fixture
def settings(secret: Path, ca_file: Path) -> AlibabaSettings:
    return AlibabaSettings(
        host="localhost",
        ca_file=ca_file,
        connect_timeout=20.0,
        products={PRODUCT: AlibabaProduct(secret_file=secret)},
    )


async def run(settings: AlibabaSettings, around: PreflightContext = AROUND) -> list[Check]:
    return await all_of(preflight.preflight(settings, around))


def of(found: list[Check], step: str) -> Check:
    (check,) = (check for check in found if check.step == step)
    return check


async def test_all_is_well(serve: Serve, settings: AlibabaSettings) -> None:
    async with serve(stay) as broker:
        found = await run(replace(settings, port=broker.port))
        await broker.until(0)
    assert verdicts(found) == [
        ("endpoint", OK),
        ("dns", OK),
        ("tcp", OK),
        ("tls", OK),
        ("root", OK),
        ("clock", OK),
        ("route", UNSURE),
        ("secret", OK),
        ("cloud", UNSURE),
    ]
    assert "127.0.0.1" in of(found, "dns").text
    assert "TLSv1." in of(found, "tls").text
    assert "nothing was registered" in of(found, "cloud").text


async def test_all_is_well_through_a_proxy(serve: Serve, settings: AlibabaSettings) -> None:
    async with serve(stay) as broker:
        with tinyproxy(allowed=["^localhost$"]) as proxy:
            found = await run(replace(settings, port=broker.port, proxy=proxy.url))
            await broker.until(0)
    assert verdicts(found)[:4] == [("endpoint", OK), ("proxy", OK), ("tls", OK), ("root", OK)]
    assert f"127.0.0.1 port {proxy.port}" in of(found, "proxy").text


async def test_a_websocket_is_tried_after_tls(
    certificate: pki.KeyedCertificate, settings: AlibabaSettings
) -> None:
    async with simulated(certificate, Echo()) as server:
        over = replace(settings, port=server.port, transport="websocket")
        found = await run(over)
        assert verdicts(found)[1:5] == [
            ("dns", OK), ("tcp", OK), ("tls", OK), ("websocket", OK)
        ]  # fmt: skip
        found = await run(replace(over, websocket_path="/other"))
        assert verdicts(found)[3:6] == [("tls", OK), ("websocket", FAILED), ("root", OK)]


async def test_a_proxy_that_refuses(settings: AlibabaSettings) -> None:
    with tinyproxy(allowed=["^other[.]example$"]) as proxy:
        found = await run(replace(settings, proxy=proxy.url))
    assert verdicts(found)[1] == ("proxy", FAILED)
    assert "does not allow CONNECT to localhost port 8883" in of(found, "proxy").text


async def test_a_proxy_with_a_password(
    serve: Serve, settings: AlibabaSettings, tmp_path: Path
) -> None:
    file = tmp_path / "of-the-proxy"
    async with serve(stay) as broker:
        with tinyproxy([f"BasicAuth factory {SECRET}"]) as proxy:
            proxied = replace(settings, port=broker.port, proxy=proxy.url, proxy_file=file)
            found = await run(proxied)
            assert verdicts(found)[:2] == [("secret", FAILED), ("proxy", UNSURE)]
            file.touch(mode=0o600)
            file.write_text(SECRET)
            found = await run(proxied)
            assert verdicts(found)[:2] == [("secret", FAILED), ("proxy", UNSURE)]
            file.write_text(f"factory:{SECRET}")
            found = await run(proxied)
    assert verdicts(found)[:4] == [("secret", OK), ("endpoint", OK), ("proxy", OK), ("tls", OK)]


async def test_a_credential_of_the_proxy_that_only_the_service_has(
    settings: AlibabaSettings,
) -> None:
    """Nothing is connected to: the refusal of the proxy would mean nothing."""
    found = await run(replace(settings, proxy="http://192.0.2.7:3128", proxy_credential="proxy"))
    assert verdicts(found)[:2] == [("secret", UNSURE), ("proxy", UNSURE)]
    assert "gatewayctl preflight" in of(found[:1], "secret").remedy


async def test_the_fingerprint_is_shown(
    serve: Serve, settings: AlibabaSettings, authority: pki.RootAuthority
) -> None:
    (root,) = certificates.parse_roots(authority.pem.encode())
    async with serve(stay) as broker:
        text = of(await run(replace(settings, port=broker.port)), "root").text
    assert root.sha256 in text
    assert "not known to be the vendor's" in text


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("stranger", "authority that is not trusted"),
        ("expired", "has expired"),
        ("future", "is not valid yet"),
        ("wrong host", "belongs to another host"),
    ],
)
async def test_a_certificate_that_is_not_trusted(
    serve: Serve,
    settings: AlibabaSettings,
    authority: pki.RootAuthority,
    kind: str,
    words: str,
) -> None:
    later = NOW + timedelta(days=1)
    stranger = pki.make_ca("stranger", NOW - pki.LIFE, NOW + pki.LIFE)
    certificate = {
        "stranger": pki.localhost(stranger, NOW),
        "expired": pki.expired(authority, NOW),
        "future": authority.issue(["localhost"], [], later, later + pki.LIFE),
        "wrong host": pki.wrong_host(authority, NOW),
    }[kind]
    async with serve(stay, certificate) as broker:
        found = await run(replace(settings, port=broker.port))
    assert verdicts(found)[1:4] == [("dns", OK), ("tcp", OK), ("tls", FAILED)]
    assert words in of(found, "tls").text
    assert of(found, "clock").verdict is OK, "the clock is synchronised"


async def test_a_clock_that_may_be_wrong(
    serve: Serve, settings: AlibabaSettings, authority: pki.RootAuthority
) -> None:
    around = replace(AROUND, synchronised=lambda: False)
    async with serve(stay, pki.expired(authority, NOW)) as broker:
        check = of(await run(replace(settings, port=broker.port), around), "clock")
    assert check.verdict is FAILED
    assert "timedatectl" in check.remedy


async def test_a_port_without_a_server(serve: Serve, settings: AlibabaSettings) -> None:
    async with serve(stay) as broker:
        port = broker.port
    found = await run(replace(settings, port=port))
    assert verdicts(found)[1:3] == [("dns", OK), ("tcp", FAILED)]
    assert "tls" not in dict(verdicts(found))


async def test_a_name_that_is_not_known(settings: AlibabaSettings) -> None:
    found = await run(replace(settings, host="host.invalid"))
    assert verdicts(found)[1:3] == [("dns", FAILED), ("root", OK)]


async def test_no_tls(serve_plain: Serve, settings: AlibabaSettings) -> None:
    async def http(client: Any) -> None:
        await client.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await client.gone()

    async with serve_plain(http) as broker:
        found = await run(replace(settings, port=broker.port))
        assert verdicts(found)[1:4] == [("dns", OK), ("tcp", OK), ("tls", FAILED)]


async def test_roots_that_cannot_be_read(
    serve: Serve, settings: AlibabaSettings, tmp_path: Path
) -> None:
    async with serve(stay) as broker:
        found = await run(replace(settings, port=broker.port, ca_file=tmp_path / "none"))
        await broker.until(0)
    assert verdicts(found)[1:5] == [
        ("dns", OK),
        ("tcp", OK),
        ("tls", FAILED),
        ("root", FAILED),
    ]
    assert "No such file" in of(found, "root").text


async def test_not_read_to_its_end_it_leaves_nothing(
    serve: Serve, settings: AlibabaSettings
) -> None:
    async with serve(stay) as broker:
        looking = preflight.preflight(replace(settings, port=broker.port), AROUND)
        async with contextlib.aclosing(looking) as checks:
            async for check in checks:
                if check.step == "tls":
                    break
        await broker.until(0)


async def test_cancelled_it_leaves_nothing(serve_plain: Serve, settings: AlibabaSettings) -> None:
    async with serve_plain(stay) as broker:
        task = asyncio.create_task(run(replace(settings, port=broker.port)))
        await broker.until(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        await broker.until(0)


async def test_without_a_host_nothing_is_reached(settings: AlibabaSettings) -> None:
    found = await run(replace(settings, host="", region="cn-shanghai", products={}))
    assert verdicts(found)[0] == ("endpoint", FAILED)
    assert "dns" not in dict(verdicts(found))


async def test_not_too_many_hosts_are_checked(settings: AlibabaSettings) -> None:
    products = {f"p{n}": AlibabaProduct() for n in range(preflight.MAX_HOSTS + 2)}
    many = replace(settings, host="", region="xn--a--b", products=products, connect_timeout=0.1)
    found = await run(many)
    endpoints = [check for check in found if check.step == "endpoint"]
    assert len(endpoints) == preflight.MAX_HOSTS + 1
    assert endpoints[-1].text == "2 more were not checked."


def test_each_endpoint_once(settings: AlibabaSettings) -> None:
    gateway = AlibabaGateway(product="gw", device="gate-0001", register=True)
    old = replace(settings, host="", region="cn-shanghai", gateway=gateway)
    assert preflight.hosts_of(old) == (VENDOR, VENDOR.replace(PRODUCT, "gw"))
    assert preflight.hosts_of(replace(old, instance_id="iot-1")) == (
        "iot-1.mqtt.iothub.aliyuncs.com",
    )
    assert preflight.hosts_of(replace(old, host="mqtt.example", products={})) == ("mqtt.example",)


@pytest.mark.parametrize(
    ("host", "port", "verdict"),
    [(VENDOR, 8883, OK), (VENDOR, 9, UNSURE), ("mqtt.example", 9, OK)],
)
def test_the_endpoint_is_described(host: str, port: int, verdict: CheckResult) -> None:
    assert preflight.endpoint_check(host, port).verdict is verdict


def root_like(root: endpoint.AlibabaRoot) -> certificates.RootCertificate:
    return replace(ROOT, sha256=root.sha256)


@pytest.mark.parametrize(
    ("roots", "port", "trusted", "verdict"),
    [
        (None, 8883, True, OK),
        (None, 8883, False, FAILED),
        (None, 1883, False, UNSURE),
        (None, 1883, True, OK),
        ([root_like(endpoint.GLOBALSIGN)], 1883, True, OK),
        ([root_like(endpoint.PRIVATE)], 8883, False, OK),
        ([ROOT, root_like(endpoint.GLOBALSIGN)], 443, True, OK),
        ([root_like(endpoint.GLOBALSIGN)], 8883, False, FAILED),
        ([ROOT], 8883, True, UNSURE),
        ([ROOT], 9, False, None),
        (ConfigError("no"), 8883, False, None),
    ],
)
def test_the_root_that_an_endpoint_needs(
    roots: shared.ConfiguredRoots, port: int, trusted: bool, verdict: CheckResult | None
) -> None:
    check = preflight.needed_root_check(roots, VENDOR, port, trusted=trusted)
    assert (check and check.verdict) is verdict
    if check and port != 9 and roots != [ROOT]:
        needed = endpoint.PRIVATE if port == 8883 else endpoint.GLOBALSIGN
        assert needed.name in check.text
        assert f"port {port}" in check.text.lower()
    if check and verdict is FAILED:
        assert endpoint.PRIVATE.sha256 in check.remedy
        assert "set ca_file" in check.remedy or "add it to ca_file" in check.remedy


@pytest.mark.parametrize(
    ("root", "host", "verdict", "words"),
    [
        (root_like(endpoint.PRIVATE), VENDOR, OK, "is the vendor's Aliyun IoT Root CA"),
        (root_like(endpoint.GLOBALSIGN), VENDOR, OK, "is the vendor's GlobalSign"),
        (ROOT, VENDOR, UNSURE, "not known to be the vendor's"),
        (ROOT, "mqtt.example", OK, "not known to be the vendor's"),
        (replace(ROOT, ends=1.0), "mqtt.example", UNSURE, "until 1970-01-01 00:00 UTC"),
    ],
)
def test_each_root_is_named(
    root: certificates.RootCertificate, host: str, verdict: CheckResult, words: str
) -> None:
    (check,) = preflight.alibaba_root_checks([root], [host], NOW.timestamp())
    assert check.verdict is verdict
    assert words in check.text
    assert root.sha256 in check.text


def test_not_too_many_roots_are_named() -> None:
    many = [ROOT] * (shared.MAX_ROOTS + 3)
    found = list(preflight.alibaba_root_checks(many, [], NOW.timestamp()))
    assert len(found) == shared.MAX_ROOTS + 1
    assert found[-1].text == "ca_file has 3 more."


async def test_the_roots_of_the_system() -> None:
    (check,) = preflight.alibaba_root_checks(shared.load_roots(None), [], NOW.timestamp())
    assert check.verdict is OK


async def credentials(settings: AlibabaSettings, around: PreflightContext = AROUND) -> list[Check]:
    return [await secret_check(held, around) for held in preflight.configured_secrets(settings)]


async def test_a_secret_that_can_be_read(settings: AlibabaSettings) -> None:
    (check,) = await credentials(settings)
    assert check == Check("secret", OK, f"The secret of product {PRODUCT} can be read by operator.")


async def test_a_secret_of_a_device_in_its_place(settings: AlibabaSettings, secret: Path) -> None:
    secret.write_text("7f3c9a1e5b2d4860a7c1e9f3b5d20846")
    (check,) = await credentials(settings)
    assert check.verdict is UNSURE
    assert "productSecret" in check.remedy


async def test_a_product_without_a_secret(settings: AlibabaSettings) -> None:
    (check,) = await credentials(replace(settings, products={PRODUCT: AlibabaProduct()}))
    assert check.verdict is OK
    assert "No secret" in check.text


async def test_credentials(settings: AlibabaSettings, tmp_path: Path) -> None:
    product = AlibabaProduct(secret_credential="product")
    gateway = AlibabaGateway(product=PRODUCT, device="gate-0001", secret_credential="gate")
    given = replace(settings, products={PRODUCT: product}, gateway=gateway)
    assert [check.verdict for check in await credentials(given)] == [UNSURE, UNSURE]
    (tmp_path / "product").write_text(SECRET)
    around = replace(AROUND, credentials=True, read_secret=partial(read_secret, tmp_path))
    assert [check.verdict for check in await credentials(given, around)] == [OK, FAILED]
    (tmp_path / "gate").write_text("7f3c9a1e5b2d4860a7c1e9f3b5d20846")
    assert [check.verdict for check in await credentials(given, around)] == [OK, OK]
