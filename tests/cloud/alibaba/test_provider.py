"""Alibaba Cloud, on the simulated one: the laws of any provider, and what is peculiar to it."""

from __future__ import annotations

import json
import os
import re
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gatewayd.cloud.alibaba.provider import FORMER_FREE_ROUTE, FREE_ROUTE, Alibaba
from gatewayd.cloud.alibaba.rate_limits import CHILD_LOGINS, EXHAUSTED
from gatewayd.cloud.alibaba.settings import AlibabaGateway, AlibabaProduct, AlibabaSettings
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
from gatewayd.errors import ConfigError
from gatewayd.simulator import pki
from gatewayd.simulator.alibaba.answers import PushOptions
from gatewayd.simulator.alibaba.cloud import AlibabaCloud, AlibabaCloudOptions
from gatewayd.testing.contracts.cloud import CloudProviderContract, RecordingKeeper
from gatewayd.testing.waiting import until
from tests.cloud.alibaba.direct import PRODUCT, PRODUCT_SECRET, DirectStage, furnish, settings_for
from tests.support.simulated_ca import AUTHORITY, CERTIFICATE, NOW

Serve = Callable[..., AbstractAsyncContextManager[Any]]

NAMES = tuple(CloudName("cloud", PRODUCT, f"TH20-{n:04}") for n in range(2))
ONE = NAMES[0]
SECRET = "7f3c9a1e5b2d4860a7c1e9f3b5d20846"
ACCEPTED = b"\x20\x02\x00\x00"


@dataclass
class AlibabaStage(DirectStage):
    """A provider, and the simulated cloud: the testbed of the contract."""

    provider: Alibaba
    names: tuple[CloudName, CloudName] = (NAMES[0], NAMES[1])

    def refuse(self) -> None:
        self.cloud.set_faults("refuse:4 login.refuse:5")

    def silence(self) -> None:
        self.cloud.set_faults("silent login.silent")

    def stop(self) -> None:
        self.cloud.set_faults("down")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the roots to trust and the product secret."""
    return furnish(tmp_path)


def provider_for(settings: AlibabaSettings) -> Alibaba:
    return Alibaba("cloud", settings, partial(read_secret, None), os.urandom)


@asynccontextmanager
async def staged(
    folder: Path,
    faults: str = "",
    options: AlibabaCloudOptions | None = None,
    certificate: pki.KeyedCertificate = CERTIFICATE,
    **others: Any,
) -> AsyncIterator[AlibabaStage]:
    """Set a stage; end it when no client is connected any more."""
    cloud = AlibabaCloud(
        {PRODUCT: PRODUCT_SECRET},
        [(name.product, name.device) for name in NAMES],
        certificate=certificate,
        clock=time.monotonic,
        random=os.urandom,
        options=options,
    )
    async with cloud:
        cloud.set_faults(faults)
        provider = provider_for(settings_for(folder, cloud.port, **others))
        stage = AlibabaStage(cloud, provider, ONE, provider)
        yield stage
        await until(lambda: not stage.connections())
        await stage.provider.close()


class TestAlibaba(CloudProviderContract):
    """Keeps the laws of any provider."""

    @pytest.fixture(autouse=True)
    def _own_folder(self, folder: Path) -> None:
        self._folder = folder

    def make_testbed(self) -> AbstractAsyncContextManager[AlibabaStage]:
        options = AlibabaCloudOptions(manner=PushOptions(linger=3600.0))  # it is for us to close
        return staged(self._folder, options=options, reply_timeout=1.0)


@pytest.mark.parametrize("method", ["hmacmd5", "hmacsha1", "hmacsha256"])
@pytest.mark.parametrize("qos", [0, 1])
async def test_what_was_issued_is_what_the_cloud_issued(
    folder: Path, method: str, qos: int
) -> None:
    options = AlibabaCloudOptions(manner=PushOptions(qos=qos))
    async with staged(folder, options=options, sign_method=method) as stage:
        kept = RecordingKeeper()
        assert await stage.register(kept) == Issued()
        assert kept.secrets[0].reveal().decode() == stage.cloud.secret(ONE.product, ONE.device)
        session = await stage.provider.connect(ONE, kept.secrets[0])
        assert stage.cloud.online == {(ONE.product, ONE.device)}
        await session.close()


async def test_an_instance_is_named(folder: Path) -> None:
    options = AlibabaCloudOptions(instance_id="iot-06z00abcdefgh1j")
    async with staged(folder, options=options, instance_id="iot-06z00abcdefgh1j") as stage:
        assert await stage.register() == Issued()


@pytest.mark.parametrize(
    ("faults", "expected", "code"),
    [
        ("refuse:1", Refused, "cloud-protocol-refused"),
        ("refuse:2", Refused, "cloud-request-refused"),
        ("refuse:3", Failed, "cloud-unavailable"),
        ("refuse:4", Refused, "cloud-auth-failed"),
        ("refuse:5", Refused, "cloud-not-authorised"),
        ("garbage", Unknown, "cloud-protocol-error"),
        ("hang-up", Unknown, "cloud-hung-up"),
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
        assert outcome.reason.code == code
        assert not kept.secrets


@pytest.mark.parametrize("faults", ["slow:0.1", "late:0.1", "secret-then-hang-up", "answer-twice"])
async def test_a_registration_that_succeeds_all_the_same(folder: Path, faults: str) -> None:
    async with staged(folder, faults) as stage:
        kept = RecordingKeeper()
        assert await stage.register(kept) == Issued()
        valid = stage.cloud.secret(ONE.product, ONE.device)
        assert [secret.reveal().decode() for secret in kept.secrets] == [valid]


async def test_an_activated_device_needs_a_reset(folder: Path) -> None:
    async with staged(folder) as stage:
        kept = RecordingKeeper()
        await stage.register(kept)
        session = await stage.provider.connect(ONE, kept.secrets[0])
        await session.close()
        outcome = await stage.register()
        assert isinstance(outcome, Refused)
        assert outcome.reason.substate == "needs-reset"
        stage.cloud.reset(ONE.product, ONE.device)
        assert await stage.register() == Issued()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (1, LoginFailed),
        (2, LoginFailed),
        (3, LoginFailed),
        (4, LoginRefused),
        (5, LoginRefused),
    ],
)
async def test_a_login_that_is_refused(folder: Path, code: int, kind: type) -> None:
    async with staged(folder, f"login.refuse:{code}") as stage:
        with pytest.raises(LoginError) as raised:
            await stage.provider.connect(ONE, Secret(SECRET.encode()))
        assert type(raised.value) is kind


@pytest.mark.parametrize(("region", "known"), [("cn-shanghai", True), ("us-west-1", False)])
async def test_a_product_belongs_to_a_region(folder: Path, region: str, known: bool) -> None:
    """Each region has endpoints of its own ("Manage endpoints", document_detail/147356)."""
    endpoint = f"{ONE.product}.iot-as-mqtt.{region}.aliyuncs.com"
    certificate = AUTHORITY.issue([endpoint], [], NOW - pki.LIFE, NOW + pki.LIFE)
    options = AlibabaCloudOptions(hosts=("{product}.iot-as-mqtt.cn-shanghai.aliyuncs.com",))
    given = {"host": "", "region": region, "address": "127.0.0.1"}
    async with staged(folder, options=options, certificate=certificate, **given) as stage:
        outcome = await stage.register()
        assert isinstance(outcome, Issued) is known
        if isinstance(outcome, Refused):
            assert endpoint in outcome.reason.remedy


async def test_a_session_that_is_taken_over_ends(folder: Path) -> None:
    async with staged(folder) as stage:
        kept = RecordingKeeper()
        await stage.register(kept)
        older = await stage.provider.connect(ONE, kept.secrets[0])
        newer = await stage.provider.connect(ONE, kept.secrets[0])
        assert (await older.wait_closed()).reason.code == "cloud-closed"
        await newer.close()
        assert (await newer.wait_closed()).reason.code == "closed"


@pytest.mark.parametrize(
    ("certificate", "code"),
    [
        (pki.expired(AUTHORITY, NOW), "tls-expired"),
        (pki.wrong_host(AUTHORITY, NOW), "tls-host-name"),
        (pki.localhost(pki.make_ca("x", NOW - pki.LIFE, NOW + pki.LIFE), NOW), "tls-unknown-ca"),
    ],
)
async def test_a_certificate_that_is_not_trusted(
    folder: Path, certificate: pki.KeyedCertificate, code: str
) -> None:
    async with staged(folder, certificate=certificate) as stage:
        outcome = await stage.register()
        assert isinstance(outcome, Failed)
        assert outcome.reason.code == code
        # a server that is not trusted is looked at once more: it may be a captive portal
        connections = 2 if code == "tls-unknown-ca" else 1
        assert stage.cloud.truth()["server"] == {"connections": connections, "peak": 1}


async def test_the_roots_are_looked_for_again_after_a_failure(folder: Path) -> None:
    async with staged(folder) as stage:
        (folder / "ca.pem").rename(folder / "elsewhere")
        outcome = await stage.register()
        assert isinstance(outcome, Failed)
        assert outcome.reason.code == "ca-file-unusable"
        (folder / "elsewhere").rename(folder / "ca.pem")
        assert await stage.register() == Issued()


async def test_a_product_secret_is_read_anew(folder: Path) -> None:
    async with staged(folder) as stage:
        file = folder / "secret"
        file.write_text("wrong")
        outcome = await stage.register()
        assert isinstance(outcome, Refused)
        assert outcome.reason.code == "cloud-auth-failed"
        file.write_text(PRODUCT_SECRET)
        assert await stage.register() == Issued()


async def test_the_limit_of_connects_does_not_hide_why(folder: Path) -> None:
    """The cloud takes five connects of a device in a minute ("Limits", document_detail/30527)."""
    async with staged(folder) as stage:
        (folder / "secret").write_text("wrong")
        outcomes = [await stage.register() for _ in range(CHILD_LOGINS + 1)]
        assert [type(one) for one in outcomes] == [Refused] * CHILD_LOGINS + [Failed]
        assert {one.reason.code for one in outcomes if not isinstance(one, Issued)} == {
            "cloud-auth-failed"
        }
        assert EXHAUSTED in str(outcomes[-1])
        counts: Any = stage.cloud.truth()
        refused = counts["devices"][ONE.product][ONE.device]["refused_registrations"]
        assert refused == {"4": CHILD_LOGINS}


async def test_the_limit_of_connects_does_not_hide_why_a_login_fails(folder: Path) -> None:
    async with staged(folder) as stage:
        failures = []
        for _ in range(CHILD_LOGINS + 1):
            with pytest.raises(LoginError) as raised:
                await stage.provider.connect(ONE, Secret(SECRET.encode()))
            failures.append(raised.value)
        assert [type(one) for one in failures] == [LoginRefused] * CHILD_LOGINS + [LoginFailed]
        assert {one.reason.code for one in failures} == {"cloud-not-authorised"}


async def test_the_limit_of_connects_is_the_cause_where_all_went_well(folder: Path) -> None:
    async with staged(folder) as stage:
        kept = RecordingKeeper()
        assert await stage.register(kept) == Issued()
        for _ in range(CHILD_LOGINS - 1):
            await (await stage.provider.connect(ONE, kept.secrets[0])).close()
        with pytest.raises(LoginFailed) as raised:
            await stage.provider.connect(ONE, kept.secrets[0])
        assert raised.value.reason.code == "connects-exhausted"


async def test_what_does_not_reach_the_cloud_does_not_count_as_a_connect(folder: Path) -> None:
    async with staged(folder) as stage:
        kept = RecordingKeeper()
        assert await stage.register(kept) == Issued()
        stage.cloud.set_faults("down")
        for _ in range(2 * CHILD_LOGINS):
            with pytest.raises(LoginFailed) as raised:
                await stage.provider.connect(ONE, kept.secrets[0])
            assert raised.value.reason.code == "tcp-refused"
        stage.cloud.set_faults("")
        await (await stage.provider.connect(ONE, kept.secrets[0])).close()


async def test_a_certificate_that_is_refused_does_not_count_as_a_connect(folder: Path) -> None:
    async with staged(folder) as stage:
        kept = RecordingKeeper()
        assert await stage.register(kept) == Issued()
        (folder / "ca.pem").write_text(pki.make_ca("x", NOW - pki.LIFE, NOW + pki.LIFE).pem)
        await stage.provider.reread()
        for _ in range(2 * CHILD_LOGINS):
            with pytest.raises(LoginFailed) as raised:
                await stage.provider.connect(ONE, kept.secrets[0])
            assert raised.value.reason.code == "tls-unknown-ca"
        furnish(folder)
        await stage.provider.reread()
        await (await stage.provider.connect(ONE, kept.secrets[0])).close()


async def test_a_product_secret_that_cannot_be_used(folder: Path) -> None:
    async with staged(folder) as stage:
        file = folder / "secret"
        file.chmod(0o644)
        outcome = await stage.register()
        assert isinstance(outcome, Refused)
        assert outcome.reason.code == "product-secret-unusable"
        assert f"chmod 0600 {file}" in outcome.reason.text
        file.unlink()
        outcome = await stage.register()
        assert isinstance(outcome, Refused)
        assert not stage.cloud.truth()["server"]


@pytest.mark.parametrize(
    "device", ["abc", "x" * 33, "a b c d", "a|bcd", "a&bcd", "äbcd", "abcd\n", ""]
)
def test_a_device_name_the_cloud_does_not_take(folder: Path, device: str) -> None:
    provider = provider_for(settings_for(folder, 8883))
    objection = provider.check_name(replace(ONE, device=device))
    assert objection is not None
    assert objection.code == "device-name-invalid"


@pytest.mark.parametrize("device", ["abcd", "x" * 32, "a-b_c@d.e:f"])
def test_a_device_name_the_cloud_takes(folder: Path, device: str) -> None:
    assert provider_for(settings_for(folder, 8883)).check_name(replace(ONE, device=device)) is None


def test_settings_that_cannot_be_are_refused(folder: Path) -> None:
    settings = settings_for(folder, 8883)
    with pytest.raises(ConfigError, match=r"cloud\.cloud: securemode_register"):
        provider_for(replace(settings, securemode_register=0))


def publish(topic: str, payload: bytes) -> bytes:
    body = struct.pack("!H", len(topic)) + topic.encode() + payload
    length = bytes([len(body) & 0x7F | 0x80, len(body) >> 7])
    return b"\x30" + length + body


async def test_the_secret_is_found_among_messages_that_are_not_it(
    folder: Path, serve: Serve, ca_file: Path
) -> None:
    push = {"productKey": ONE.product, "deviceName": ONE.device, "deviceSecret": SECRET}
    right = json.dumps(push).encode()
    wrong = (
        publish("/ext/other", right),
        publish("/ext/register", right.replace(b"TH20-0000", b"TH20-0001")),
        publish("/ext/register", right.ljust(8000)),
        publish("/ext/register", b"\xff" * 200),
    )

    async def script(client: Any) -> None:
        await client.packet()
        await client.send(ACCEPTED, *wrong, publish("/ext/register", right))
        assert await client.packet() == b"\xe0\x00"
        await client.gone()

    async with serve(script) as broker:
        provider = provider_for(settings_for(folder, broker.port, ca_file=ca_file))
        kept = RecordingKeeper()
        assert await provider.register(ONE, kept.keep) == Issued()
        assert kept.secrets == [Secret(SECRET.encode())]
        await broker.until(0)


async def test_of_several_secrets_the_newest_is_kept(
    folder: Path, serve: Serve, ca_file: Path
) -> None:
    push = {"productKey": ONE.product, "deviceName": ONE.device}
    pushed = [json.dumps(push | {"deviceSecret": one}).encode() for one in ("older", SECRET)]

    async def script(client: Any) -> None:
        await client.packet()
        await client.send(ACCEPTED, *(publish("/ext/register", one) for one in pushed))
        await client.gone()

    async with serve(script) as broker:
        kept = RecordingKeeper()
        provider = provider_for(settings_for(folder, broker.port, ca_file=ca_file))
        assert await provider.register(ONE, kept.keep) == Issued()
        assert kept.secrets == [Secret(SECRET.encode())]
        await broker.until(0)


async def test_each_registration_is_signed_with_another_random(
    folder: Path, serve: Serve, ca_file: Path
) -> None:
    push = {"productKey": ONE.product, "deviceName": ONE.device, "deviceSecret": SECRET}
    connects: list[bytes] = []

    async def script(client: Any) -> None:
        connects.append(await client.packet())
        await client.send(ACCEPTED, publish("/ext/register", json.dumps(push).encode()))
        await client.gone()

    async with serve(script) as broker:
        provider = provider_for(settings_for(folder, broker.port, ca_file=ca_file))
        for _ in range(2):
            assert await provider.register(ONE, RecordingKeeper().keep) == Issued()
        await broker.until(0)
    randoms = [re.findall(rb"random=([0-9a-f]{16}),", connect) for connect in connects]
    assert [len(one) for one in randoms] == [1, 1]
    assert randoms[0] != randoms[1]


@pytest.mark.parametrize("faults", ["", "hang-up-after-connack", "refuse:3"])
async def test_a_registration_is_one_connection(folder: Path, faults: str) -> None:
    """A client that reconnects by itself registers once more, which replaces the secret."""
    async with staged(folder, faults) as stage:
        await stage.register()
        assert stage.cloud.truth()["server"] == {"connections": 1, "peak": 1}


async def test_a_cloud_that_hangs_in_the_handshake(folder: Path, serve_plain: Serve) -> None:
    async def script(client: Any) -> None:
        await client.gone()

    async with serve_plain(script) as broker:
        settings = settings_for(folder, broker.port, connect_timeout=0.3)
        outcome = await provider_for(settings).register(ONE, RecordingKeeper().keep)
        assert isinstance(outcome, Failed)
        assert outcome.reason.code == "tls-timeout"
        await broker.until(0)


@pytest.mark.parametrize("route", ["sub-device", "sub-device-known", "gateway", "no-such-route"])
async def test_a_route_that_is_not_switched_on(folder: Path, route: str) -> None:
    provider, name = provider_for(settings_for(folder, 8883)), replace(ONE, route=route)
    assert provider.gateway_name is None
    objection = provider.check_name(name)
    assert objection is not None
    assert objection.code == "route-not-available"
    assert await provider.check_ready(name) == objection
    assert await provider.register(name, RecordingKeeper().keep) == Refused(objection)
    with pytest.raises(LoginFailed) as raised:
        await provider.connect(name, Secret(SECRET.encode()))
    assert raised.value.reason == objection
    assert await provider.unbind(name) is None
    await provider.close()


@pytest.mark.parametrize(
    ("route", "code"),
    [
        ("direct", "product-secret-missing"),
        ("", "product-secret-missing"),
        ("sub-device-secret", "product-secret-missing"),
        ("sub-device-known", "device-secret-missing"),
        ("sub-device", ""),
    ],
)
def test_what_a_route_needs_of_a_product(folder: Path, route: str, code: str) -> None:
    settings = settings_for(
        folder,
        8883,
        products={PRODUCT: AlibabaProduct()},
        gateway=AlibabaGateway("a1Gateways1", "gateway-1", "gateway-secret"),
    )
    provider = provider_for(settings)
    objection = provider.check_name(replace(ONE, route=route))
    assert (objection.code if objection else "") == code
    elsewhere = provider.check_name(replace(ONE, route=route, product="a1Unknown"))
    assert elsewhere is not None
    assert elsewhere.code == "product-not-configured"


def test_the_gateways_own_name(folder: Path) -> None:
    own = AlibabaGateway("a1Gateways1", "gateway-1", "gateway-secret")
    provider = provider_for(settings_for(folder, 8883, gateway=own))
    assert provider.gateway_name == CloudName("cloud", "a1Gateways1", "gateway-1")
    assert provider.gateway_name.route == "gateway"
    assert provider.check_name(provider.gateway_name) is None
    with pytest.raises(ConfigError, match=r"cloud\.cloud: gateway\.device"):
        provider_for(settings_for(folder, 8883, gateway=replace(own, device="x")))


def test_children_on_record_keep_a_route_that_has_another_name_now(folder: Path) -> None:
    settings = settings_for(folder, 8883, preregistration_free=True)
    provider = provider_for(settings)
    for route in (FREE_ROUTE, FORMER_FREE_ROUTE):
        assert provider.check_name(replace(ONE, route=route)) is None
    assert provider.check_name(replace(ONE, route="direct-unknown")) is not None
