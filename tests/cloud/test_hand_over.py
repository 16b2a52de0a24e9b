"""What a holder gets opens a session at each cloud: its own program logs in, and reports."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gatewayd.ca.certificates import Validity
from gatewayd.cloud.alibaba.provider import Alibaba
from gatewayd.cloud.ca.identity import read_identity
from gatewayd.cloud.credentials import read_secret
from gatewayd.cloud.huawei.provider import Huawei
from gatewayd.cloud.provider import Credential, SupportsHandOver
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError, SecretCorrupt
from gatewayd.simulator.alibaba.cloud import AlibabaCloud, AlibabaCloudOptions
from tests.cloud.alibaba.direct import PRODUCT, PRODUCT_SECRET, DirectStage, furnish, settings_for
from tests.cloud.huawei import certified as huawei
from tests.support.simulated_ca import CERTIFICATE

READING = '{"id": "1", "version": "1.0", "params": {"CurrentTemperature": 21.5}}'


@asynccontextmanager
async def staged(folder: Path, route: str) -> AsyncIterator[tuple[DirectStage, Alibaba]]:
    """A simulated Alibaba cloud, with a device that gatewayd may register by this route."""
    name = CloudName("cloud", PRODUCT, "TH20-0001", route)
    free = route == "direct-preregistration-free"
    cloud = AlibabaCloud(
        {PRODUCT: PRODUCT_SECRET}, [] if free else [(PRODUCT, name.device)],
        certificate=CERTIFICATE, clock=time.monotonic, random=os.urandom,
        options=AlibabaCloudOptions(preregistration_free=free, rate=0),
    )  # fmt: skip
    async with cloud:
        provider = Alibaba("cloud", settings_for(folder, cloud.port), partial(read_secret, None))
        yield DirectStage(cloud, provider, name), provider
        await provider.close()


async def report(credential: Credential, folder: Path) -> int:
    """Report by mosquitto_pub(1), with nothing but the credential; return its exit status."""
    roots = folder / "roots.pem"
    roots.write_text(credential.ca)
    process = await asyncio.create_subprocess_exec(
        "mosquitto_pub", "-h", credential.host, "-p", str(credential.port), "-V", "mqttv311",
        "--cafile", str(roots), "-i", credential.client_id, "-u", credential.user,
        "-P", credential.password.reveal().decode(), "-q", "1",
        "-t", credential.topics["properties"], "-m", READING,
    )  # fmt: skip
    async with asyncio.timeout(60):
        return await process.wait()


@pytest.mark.parametrize("route", ["", "direct", "direct-preregistration-free"])
async def test_a_program_logs_in_at_alibaba_by_the_values_alone(route: str, tmp_path: Path) -> None:
    async with staged(furnish(tmp_path), route) as (stage, provider):
        secret = await stage.issued()
        session = await provider.connect(stage.name, secret)  # the first login commits
        await session.close()
        credential = await provider.credential(stage.name, secret)
        assert await report(credential, tmp_path) == 0
        assert secret.reveal() not in credential.password.reveal()
        assert credential.valid_until is None
        assert (credential.certificate, credential.key.reveal()) == ("", b"")
        prefix = f"/sys/{PRODUCT}/{stage.name.device}/"
        assert all(topic.startswith(prefix) for topic in credential.topics.values())


async def test_a_device_gets_a_certificate_and_its_key_at_huawei(tmp_path: Path) -> None:
    async with huawei.certified(huawei.furnish(tmp_path)) as one:
        name = huawei.child(1)
        secret = await one.secret(name)
        found = await one.provider.credential(name, secret)
        identity = read_identity(secret)
        assert found.client_id.startswith(f"{identity.device_id}_0_0_")
        assert found.user == identity.device_id
        assert found.password.reveal() == b""
        assert found.valid_until == Validity.of(identity.certificate).ends.timestamp()
        assert found.ca == (tmp_path / "ca.pem").read_text()
        shown, key = tmp_path / "shown.pem", tmp_path / "key.pem"
        shown.write_text(found.certificate)
        key.write_bytes(found.key.reveal())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_cert_chain(shown, key)  # they belong together
        assert found.certificate.count("BEGIN CERTIFICATE") == 2, "and that of the CA"
        assert "PRIVATE" not in found.certificate
        assert (
            found.topics["properties"] == f"$oc/devices/{identity.device_id}/sys/properties/report"
        )


@pytest.mark.parametrize(("provider", "able", "unable"), [
    (Alibaba, ("", "direct", "direct-preregistration-free"),
     ("sub-device", "sub-device-secret", "sub-device-known", "gateway", "x")),
    (Huawei, ("", "certificate"), ("sub-device", "gateway", "direct")),
])  # fmt: skip
def test_who_has_no_session_of_its_own_has_no_holder(
    provider: Any, able: tuple[str, ...], unable: tuple[str, ...]
) -> None:
    assert all(map(provider.hands_over, able))
    assert not any(map(provider.hands_over, unable))


async def test_a_secret_of_another_kind_is_no_credential(tmp_path: Path) -> None:
    async with staged(furnish(tmp_path), "direct-preregistration-free") as (stage, provider):
        assert isinstance(provider, SupportsHandOver)
        with pytest.raises(SecretCorrupt):
            await provider.credential(stage.name, Secret(b"no grant"))
        other = CloudName("cloud", PRODUCT, "TH20-0001", "sub-device")
        with pytest.raises(SecretCorrupt):
            await provider.credential(other, Secret(b"x"))
    async with huawei.certified(huawei.furnish(tmp_path)) as one:
        with pytest.raises(SecretCorrupt):
            await one.provider.credential(huawei.child(1), Secret(b"no certificate"))
        secret = await one.secret(huawei.child(1))
        (tmp_path / "ca.pem").unlink()
        with pytest.raises(ConfigError, match=r"ca\.pem"):
            await one.provider.credential(huawei.child(1), secret)
