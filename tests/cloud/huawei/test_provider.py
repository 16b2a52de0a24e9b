"""The provider: routes, the gateway itself by certificate, and what it says of its CA."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gatewayd.cloud.credentials import read_secret
from gatewayd.cloud.huawei.provider import Huawei
from gatewayd.cloud.huawei.settings import HuaweiCertificates, HuaweiGateway, HuaweiSettings
from gatewayd.cloud.provider import Issued, LoginFailed, LoginRefused, ProviderStatus, Refused
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError
from gatewayd.simulator.huawei.platform.device import HuaweiDeviceStatus
from gatewayd.testing.contracts.cloud import RecordingKeeper
from tests.cloud.huawei.certified import MemorySlots, certified, child, furnish
from tests.cloud.huawei.site import GATEWAYS, OWN, SENSORS

HOST = "abc123.st1.iotda-device.cn-north-4.myhuaweicloud.com"
OWN_ID = f"{GATEWAYS}_gw-1"
GATEWAY = HuaweiGateway(GATEWAYS, "gw-1")


def made(**given: Any) -> Huawei:
    return Huawei("cloud", HuaweiSettings(**({"host": HOST} | given)), partial(read_secret, None))


async def test_the_gateway_registers_itself_by_certificate(tmp_path: Path) -> None:
    async with certified(furnish(tmp_path), gateway=GATEWAY) as one:
        provider = one.provider
        assert provider.gateway_name == OWN
        assert provider.check_name(OWN) is None
        await one.connect(OWN, await one.secret(OWN))
        own = one.instance.devices.get(OWN_ID)
        assert (own.self_registered, own.status) == (True, HuaweiDeviceStatus.ONLINE)
        sensor = CloudName("cloud", SENSORS, "SEN-9", "sub-device")
        await one.connect(sensor, await one.secret(sensor))
        below = one.instance.devices.get(f"{SENSORS}_SEN-9")
        assert (below.gateway_id, below.status) == (OWN_ID, HuaweiDeviceStatus.ONLINE)
        assert provider.renew_at(sensor, Secret(b"x")) is None
        await one.connect(child(1), await one.secret(child(1)))


async def test_children_have_the_reason_of_a_refused_gateway(tmp_path: Path) -> None:
    async with certified(furnish(tmp_path), gateway=GATEWAY) as one:
        secret = await one.secret(OWN)
        one.ca.status = False
        one.instance.authorities.changed()
        with pytest.raises(LoginRefused):
            await one.connect(OWN, secret)
        sensor = CloudName("cloud", SENSORS, "SEN-9", "sub-device")
        not_ready = await one.provider.check_ready(sensor)
        assert not_ready is not None
        assert "CA" in f"{not_ready.text} {not_ready.remedy}"


async def test_a_gateway_without_a_ca_waits(tmp_path: Path) -> None:
    async with certified(furnish(tmp_path), gateway=GATEWAY) as one:
        assert await one.provider.check_ready(OWN) is None
        assert one.provider.issuer is not None
        one.provider.issuer.authority._current = None
        one.provider.issuer.authority.set_slots(MemorySlots().port)
        not_ready = await one.provider.check_ready(OWN)
        assert not_ready is not None
        assert not_ready.code == "authority-missing"


async def test_it_says_when_its_ca_ends(tmp_path: Path) -> None:
    async with certified(furnish(tmp_path)) as one:
        assert one.provider.issuer is not None
        end = one.provider.issuer.authority.expiry()
        assert end
        assert one.provider.status() == ProviderStatus(certificate_expiry=int(end) * 1_000_000)
    assert made().status() == ProviderStatus()


async def test_routes_that_are_not_configured() -> None:
    provider = made()
    for route in ("", "certificate", "sub-device", "gateway", "direct"):
        name = CloudName("cloud", SENSORS, "x", route)
        objection = provider.check_name(name)
        assert objection is not None
        assert objection.code == "route-not-available"
        assert await provider.check_ready(name) == objection
        kept = RecordingKeeper()
        assert await provider.register(name, kept.keep) == Refused(objection)
        assert not kept.secrets
        with pytest.raises(LoginFailed):
            await provider.connect(name, Secret(b"x"))
        assert await provider.unbind(name) is None
        assert provider.renew_at(name, Secret(b"x")) is None
    await provider.close()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"host": "192.0.2.1"}, "not an IP address"),
        ({"host": "[2001:db8::1]"}, "not an IP address"),
        ({"host": "localhost"}, "domain name"),
        ({"gateway": GATEWAY}, "table 'certificates'"),
        ({"gateway": HuaweiGateway("p", "a b", "secret")}, "gateway.device must be"),
        ({"gateway": HuaweiGateway("p p", "ab", "secret")}, "gateway.product must be"),
        ({"certificates": HuaweiCertificates(Path("/x"), days=30, renew_before=30)}, "less than"),
    ],
)
def test_settings_that_cannot_be(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        made(**given)


async def test_a_gateway_by_secret_needs_no_ca(tmp_path: Path) -> None:
    (tmp_path / "secret").touch(mode=0o600)
    (tmp_path / "secret").write_text("4f0c1a_gateway")
    gateway = HuaweiGateway(GATEWAYS, "gw-1", "secret", secret_file=tmp_path / "secret")
    provider = made(gateway=gateway)
    assert provider.issuer is None
    kept = RecordingKeeper()
    assert await provider.register(OWN, kept.keep) == Issued()
    assert provider.renew_at(OWN, kept.secrets[0]) is None
    await provider.close()
