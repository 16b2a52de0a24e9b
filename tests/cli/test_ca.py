"""gatewayctl huawei ca, from the command line to the platform that verifies what it printed."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from gatewayd.ca.certificates import read_certificates, same_key
from gatewayd.ca.keys import public_key, read_key
from gatewayd.cli.main import main
from gatewayd.cloud.ca.service import AuthorityService
from gatewayd.dbus.methods import AUTHORITY_METHODS
from gatewayd.dbus.names import AUTHORITY, ObjectInterface, provider_path
from gatewayd.dbus.objects import ExportedObject
from gatewayd.device.identity import DeviceId
from gatewayd.errors import NoSuchDevice
from gatewayd.simulator.bus import PrivateBus
from tests.cloud.guarded import device_ca
from tests.cloud.huawei.certified import Certified, MemorySlots, certified, furnish
from tests.cloud.huawei.site import SENSORS
from tests.dbus.support import RecordingCommands, served
from tests.support.gatewayctl import ctl

pytestmark = pytest.mark.integration

PASSPHRASE = b"open sesame"


def no_such_device(_: str) -> DeviceId:
    raise NoSuchDevice("No such device")


@pytest.fixture
async def site(bus: PrivateBus, tmp_path: Path) -> AsyncIterator[Certified]:
    """A platform, and a provider that has no CA yet, served on the bus."""
    async with certified(furnish(tmp_path)) as one:
        assert one.provider.issuer is not None
        one.provider.issuer.authority.set_slots(MemorySlots().port)
        one.provider.issuer.authority._current = None
        one.instance.authorities.delete(one.ca.certificate_id)
        service = AuthorityService(
            "huawei", one.provider.issuer, no_such_device, lambda _: None, lambda _: False, str
        )
        place = ObjectInterface(provider_path("huawei"), AUTHORITY)
        exported = ExportedObject(place, None, AUTHORITY_METHODS.bind(service), "huawei")
        async with served(bus, RecordingCommands(), further=(exported,)):
            yield one


async def ca(bus: PrivateBus, *words: str) -> str:
    """Return its output."""
    group = ("huawei", "ca") if words[0] == "prove" else ("ca",)
    status, printed = await ctl(bus, *group, *words)
    assert status == 0, printed
    return printed


async def fails(bus: PrivateBus, *words: str) -> str:
    """Return its error."""
    group = ("huawei", "ca") if words[0] == "prove" else ("ca",)
    status, printed = await ctl(bus, *group, *words)
    assert status == 1
    return printed


async def test_a_ca_from_its_making_to_a_device_certificate(
    bus: PrivateBus, site: Certified, tmp_path: Path
) -> None:
    assert "gatewayctl ca make" in await ca(bus, "show")
    pem = await ca(bus, "make", "--organization", "ACME", "--algorithm", "ec-p256", "--days", "90")
    uploaded = site.instance.authorities.upload(pem)
    proof = await ca(bus, "prove", uploaded.verify_code)
    site.instance.authorities.verify(uploaded.certificate_id, proof)
    assert site.instance.authorities.get(uploaded.certificate_id).status

    key, wanted = tmp_path / "device.key", ("--product", SENSORS, "--node-id", "n-1")
    issue = ("issue", "--new-key", str(key), "--algorithm", "ec-p256", *wanted)
    leaf, issuer = read_certificates((await ca(bus, *issue)).encode())
    assert same_key(public_key(leaf.public_key()), read_key(key.read_bytes()).public_key())
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert issuer.subject == leaf.issuer
    assert "n-1" in leaf.subject.rfc4514_string()
    assert "File exists" in await fails(bus, *issue)

    shown = await ca(bus, "show")
    assert "Generation: 1" in shown
    assert "ACME" in shown
    assert "PRIVATE" not in pem + proof + shown


async def test_a_ca_is_made_once(bus: PrivateBus, site: Certified) -> None:
    await ca(bus, "make", "--algorithm", "ec-p256")
    assert "already" in await fails(bus, "make", "--algorithm", "ec-p256")
    await ca(bus, "make", "--algorithm", "ec-p256", "--replace")
    assert "Generation: 2" in await ca(bus, "show")


async def test_a_ca_is_imported(bus: PrivateBus, site: Certified, tmp_path: Path) -> None:
    authority = await asyncio.to_thread(device_ca, "made elsewhere")
    plain, locked = tmp_path / "plain.pem", tmp_path / "locked.pem"
    plain.write_bytes(authority.secret().reveal())
    key = read_key(authority.secret().reveal())
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(PASSPHRASE),
        )
        + authority.pem.encode()
    )
    (tmp_path / "passphrase").write_bytes(PASSPHRASE + b"\n")
    (tmp_path / "wrong").write_bytes(b"wrong\n")
    assert await ca(bus, "import", str(plain)) == authority.pem
    given = ("import", str(locked), "--passphrase-file")
    assert await ca(bus, *given, str(tmp_path / "passphrase")) == authority.pem
    assert "passphrase" in await fails(bus, *given, str(tmp_path / "wrong"))
    assert "cannot be read" in await fails(bus, "import", str(tmp_path / "none"))
    assert "private key" in await fails(bus, "import", str(tmp_path / "passphrase"))
    assert "Generation: 2" in await ca(bus, "show")


async def test_errors_name_what_is_wrong(bus: PrivateBus, site: Certified, tmp_path: Path) -> None:
    assert "CA" in await fails(bus, "prove", "code")
    assert "No such device" in await fails(bus, "renew", "child-1")
    await ca(bus, "make", "--algorithm", "ec-p256")
    (tmp_path / "request").write_text("no request")
    assert "BEGIN CERTIFICATE REQUEST" in await fails(
        bus, "issue", "--request", str(tmp_path / "request")
    )
    assert await fails(bus, "show", "--cloud", "none")


async def test_the_only_cloud_with_a_ca_need_not_be_named(bus: PrivateBus, site: Certified) -> None:
    """The bus shows another cloud, which has none."""
    assert await ca(bus, "show") == await ca(bus, "show", "--cloud", "huawei")


@pytest.mark.parametrize("word", ["make", "import", "issue", "show", "renew"])
def test_an_earlier_name_is_refused_with_that_of_now(
    capsys: pytest.CaptureFixture[str], word: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--bus", "unix:path=/nowhere", "huawei", "ca", word, "--cloud", "east"], {})
    assert ended.value.code == 2
    assert f"is called ca {word} now: run gatewayctl ca {word}" in capsys.readouterr().err
