"""What a preflight finds of an instance, simulated over real TLS, and of its settings."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gatewayd.cloud.huawei.preflight import preflight
from gatewayd.cloud.huawei.provider import Huawei
from gatewayd.cloud.huawei.settings import HuaweiCertificates, HuaweiGateway, HuaweiSettings
from gatewayd.cloud.preflight import Check
from gatewayd.simulator.huawei.cloud import HuaweiCloud
from tests.cloud.huawei.certified import BODY, furnish, platform, settings
from tests.cloud.huawei.site import GATEWAYS
from tests.cloud.looks import AROUND, FAILED, OK, SECRET, UNSURE, all_of, verdicts
from tests.support.simulated_ca import AUTHORITY
from tests.support.tinyproxy import tinyproxy


async def run(given: HuaweiSettings) -> list[Check]:
    return await all_of(preflight(given, AROUND))


def of(found: list[Check], step: str) -> list[Check]:
    return [check for check in found if check.step == step]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = furnish(tmp_path) / "secret"
    path.touch(mode=0o600)
    path.write_text(SECRET)
    return tmp_path


@pytest.fixture
def offline(folder: Path) -> HuaweiSettings:
    """Settings of an unreachable instance."""
    own = HuaweiCertificates(folder / "template.json", {"country": "CN"})
    return HuaweiSettings(host="iot.invalid", address="127.0.0.1", port=1, certificates=own)


@asynccontextmanager
async def simulated(folder: Path) -> AsyncIterator[HuaweiSettings]:
    async with HuaweiCloud(platform(), authority=AUTHORITY) as cloud:
        secret = folder / "secret"
        gateway = HuaweiGateway(GATEWAYS, "gw-1", login="secret", secret_file=secret)
        yield settings(folder, cloud, gateway=gateway)


async def test_all_is_well(folder: Path) -> None:
    async with simulated(folder) as given:
        found = await run(given)
    assert verdicts(found) == [
        ("endpoint", OK),
        ("dns", OK),
        ("tcp", OK),
        ("tls", OK),
        ("root", OK),
        ("clock", OK),
        ("template", OK),
        ("ca", UNSURE),
        ("secret", OK),
        ("cloud", UNSURE),
    ]
    assert given.host in found[0].text
    assert "127.0.0.1" in found[0].text
    assert "ca show" in found[7].remedy


async def test_through_a_proxy_it_goes_the_same_way(folder: Path) -> None:
    """The proxy connects to `address`; TLS is verified for `host`."""
    async with simulated(folder) as given:
        with tinyproxy(allowed=["^127[.]0[.]0[.]1$"]) as proxy:
            found = await run(replace(given, proxy=proxy.url))
    assert verdicts(found)[:3] == [("endpoint", OK), ("proxy", OK), ("tls", OK)]


async def test_a_proxy_whose_password_is_missing(offline: HuaweiSettings) -> None:
    file = Path("/nowhere/proxy")
    found = await run(replace(offline, proxy="http://192.0.2.7:3128", proxy_file=file))
    assert verdicts(found)[:3] == [("endpoint", OK), ("secret", FAILED), ("proxy", UNSURE)]


async def test_a_host_that_is_no_instance(folder: Path) -> None:
    async with simulated(folder) as given:
        found = await run(replace(given, host=f"other-{given.host}"))
    (tls,) = of(found, "tls")
    assert tls.verdict is FAILED
    assert "does not know the name" in tls.text


async def test_without_certificates_there_is_no_template(offline: HuaweiSettings) -> None:
    found = await run(replace(offline, certificates=None))
    assert ("template", OK) in verdicts(found)
    assert not of(found, "ca")
    assert ("tcp", FAILED) in verdicts(found)
    assert not of(found, "secret"), "no gateway needs one"


async def test_a_region_that_may_have_no_self_registration(offline: HuaweiSettings) -> None:
    assert not of(await run(offline), "instance")
    host = "0123456789.st1.iotda-device.cn-east-3.myhuaweicloud.com"
    (check,) = of(await run(replace(offline, host=host)), "instance")
    assert check.verdict is UNSURE
    assert "CN East-Shanghai1" in check.text
    assert "sub-device" in check.remedy


async def test_a_template_that_cannot_be_used(folder: Path, offline: HuaweiSettings) -> None:
    (folder / "template.json").write_text('{"parameters": {}}')
    found = of(await run(offline), "template")
    assert {check.verdict for check in found} == {FAILED}
    (folder / "template.json").unlink()
    (check,) = of(await run(offline), "template")
    assert check.verdict is FAILED
    assert "No such file" in check.text


async def test_a_template_that_is_unwise(folder: Path, offline: HuaweiSettings) -> None:
    body = json.loads(json.dumps(BODY))
    body["parameters"]["iotda::certificate::organization"] = {"type": "String"}
    (folder / "template.json").write_text(json.dumps(body))
    (check,) = of(await run(offline), "template")
    assert check.verdict is UNSURE
    assert "organization" in check.text


async def test_a_template_that_does_not_make_the_gateway(
    folder: Path, offline: HuaweiSettings
) -> None:
    gateway = HuaweiGateway(GATEWAYS, "gw-1")
    own = HuaweiCertificates(folder / "template.json")  # nothing says which country
    (check,) = of(await run(replace(offline, gateway=gateway, certificates=own)), "template")
    assert check.verdict is FAILED
    assert "cannot make the gateway" in check.text
    (check,) = of(await run(replace(offline, gateway=gateway)), "template")
    assert check.verdict is OK


@pytest.mark.parametrize(
    ("text", "words"), [("short", "must be 8 to 32"), (None, "cannot be read")]
)
async def test_a_secret_that_is_none(
    folder: Path, offline: HuaweiSettings, text: str | None, words: str
) -> None:
    if text is None:
        (folder / "secret").unlink()
    else:
        (folder / "secret").write_text(text)
    gateway = HuaweiGateway(GATEWAYS, "gw-1", login="secret", secret_file=folder / "secret")
    (check,) = of(await run(replace(offline, gateway=gateway)), "secret")
    assert check.verdict is FAILED
    assert words in check.text


def test_the_provider_has_it() -> None:
    assert Huawei.preflight is preflight
