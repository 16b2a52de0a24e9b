"""Devices that have their certificate already: from its import to their first session."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from gatewayd.ca.authority import Authority
from gatewayd.ca.certificates import to_pem
from gatewayd.ca.keys import key_pem, make_key, read_key
from gatewayd.cloud.ca.given import GivenIdentities
from gatewayd.cloud.ca.identity import read_identity
from gatewayd.cloud.ca.service import AuthorityService
from gatewayd.cloud.huawei.preflight import preflight
from gatewayd.cloud.huawei.settings import HuaweiGateway, HuaweiSettings
from gatewayd.cloud.preflight import CheckResult
from gatewayd.cloud.provider import AcceptsCertificates, Issued, LoginRefused, Refused
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.device.views import Facts
from gatewayd.errors import InvalidArgs, NoSuchDevice, StoreFull
from gatewayd.simulator.huawei.platform.device import AuthSlot
from gatewayd.testing.contracts.cloud import RecordingKeeper
from gatewayd.testing.waiting import until
from tests.cloud.guarded import device_ca, subject
from tests.cloud.huawei.certified import Certified, certified, child, child_id, furnish
from tests.cloud.huawei.site import GATEWAYS, SENSORS
from tests.cloud.huawei.test_certificate_flow import CHILD, CHILD_ID, fingerprint, life, platform
from tests.cloud.looks import AROUND, all_of
from tests.cloud.mqtt_broker.certified import MemoryStore
from tests.support.fakes import MemoryRecords
from tests.support.stage import Stage

DAYS = 50


def elsewhere(one: Certified) -> Authority:
    """Make an authority that is not here, and that the platform has verified and bound."""
    made = device_ca("made elsewhere")
    trust(one, made)
    return made


def trust(one: Certified, made: Authority) -> None:
    """Have the platform verify an authority, and bind it to the template."""
    authorities = one.instance.authorities
    uploaded = authorities.upload(made.pem)
    authorities.verify(
        uploaded.certificate_id, to_pem(made.prove(uploaded.verify_code, time.time()))
    )
    (template,) = one.instance.templates.list()
    authorities.update(
        uploaded.certificate_id, {"provision_enable": True, "template_id": template.template_id}
    )


def made_for(authority: Authority, node: str, product: str = SENSORS) -> bytes:
    """Return a key and its certificate, of the subject that the template of these tests takes."""
    key = make_key("ec-p256")
    name = subject(common_name=node, organizational_unit_name=product, country_name="CN")
    leaf = authority.sign(name, key.public_key(), DAYS, time.time())
    return key_pem(key) + to_pem(leaf).encode()


def service(one: Certified, stage: Stage | None = None) -> AuthorityService:
    """Serve the commands on a provider, whose identities are kept in memory."""
    issuer = one.provider.issuer
    assert issuer is not None
    assert isinstance(issuer, AcceptsCertificates)
    store = GivenIdentities("cloud", MemoryStore(), issuer.renew_before, time.time)
    issuer.authority.set_slots(one.slots.port, given=store)

    def nobody(_: str) -> str:
        raise NoSuchDevice("No such device")

    if stage is None:
        return AuthorityService("cloud", issuer, nobody, lambda _: None, lambda _: False, str)  # type: ignore[arg-type]  # it only raises
    records = stage.records

    def named(device: object) -> CloudName | None:
        found = records.get(device)  # type: ignore[arg-type]  # an id
        return found.cloud if found else None

    return AuthorityService(
        "cloud", issuer, stage.app.commands.resolve, named, stage.app.keeper.renew, str
    )


async def give(to: AuthorityService, data: bytes, device: str = "", **options: str) -> Facts:
    source = os.memfd_create("given")
    try:
        os.write(source, data)
        os.lseek(source, 0, os.SEEK_SET)
        named: Mapping[str, object] = {k.replace("_", "-"): v for k, v in options.items()}
        return await to.import_certificate(device, source, named, "uid 0")
    finally:
        os.close(source)


async def test_a_device_registers_itself_by_the_certificate_that_it_had(tmp_path: Path) -> None:
    """Its name is the certificate's, no device CA is asked, and what is kept is what was given."""
    async with certified(furnish(tmp_path)) as one:
        to, data = service(one), made_for(elsewhere(one), "SEN-0001")
        facts = await give(to, data)
        assert (facts["Product"], facts["NodeId"]) == (SENSORS, "SEN-0001")
        assert facts["CloudDeviceId"] == child_id(1)
        one.slots.kept.clear()
        assert one.provider.issuer is not None
        one.provider.issuer.authority._current = None
        assert await one.provider.check_ready(child(1)) is None
        assert (await one.provider.check_ready(child(2))).code == "authority-missing"  # type: ignore[union-attr]  # else the test fails
        kept: list[Secret] = []

        async def keep(secret: Secret) -> None:
            kept.append(secret)

        await one.provider.register(child(1), keep)
        one.sessions.append(await one.provider.connect(child(1), kept[0]))
        assert one.devices() == {child_id(1)}
        known = one.instance.devices.get(child_id(1))
        assert known.auth.fingerprint == facts["Fingerprint"]
        await one.provider.issuer.authority.forget_given(child(1))
        assert (await one.provider.check_ready(child(1))).code == "authority-missing"  # type: ignore[union-attr]  # likewise


async def test_an_online_device_takes_the_certificate_that_is_imported_later(
    tmp_path: Path,
) -> None:
    """It stays online by the old one until the platform knows the new one, and keeps it after a
    restart."""
    register = MemoryRecords()
    async with platform(tmp_path) as one, life(one, register) as (stage, device, _):
        await stage.tape.wait_for(device, "online")
        to, before = service(one, stage), fingerprint(register)
        facts = await give(to, made_for(elsewhere(one), CHILD, "p"), device)
        assert (facts["Id"], facts["Renewing"]) == (device, True)
        view = await stage.tape.wait_for(device, "online", "renewal-refused")
        assert f"{facts['Fingerprint']} as SECONDARY" in view.remedy
        assert fingerprint(register) == before
        one.instance.devices.reset_fingerprint(
            CHILD_ID, str(facts["Fingerprint"]), slot=AuthSlot.SECONDARY
        )
        assert stage.app.keeper.renew(device)
        await stage.tape.wait_for(device, "online", "secret-renewed")
        assert fingerprint(register) == facts["Fingerprint"]
        (slot,) = register.slots.values()
        assert one.provider.renew_at(child_name(), slot) > time.time() + 86400  # type: ignore[operator]  # a certificate ends


async def test_a_child_whose_first_login_was_refused_registers_with_what_is_imported(
    tmp_path: Path,
) -> None:
    """Without one it keeps its certificate, as the platform may come to accept that."""
    async with certified(furnish(tmp_path)) as one:
        to, kept = service(one), RecordingKeeper()
        one.instance.authorities.update(one.ca.certificate_id, {"provision_enable": False})
        assert await one.provider.register(child(1), kept.keep) == Issued()
        for stale in (False, True):
            with pytest.raises(LoginRefused) as refused:
                await one.provider.connect(child(1), kept.secrets[0])
            assert refused.value.stale is stale
            if not stale:
                await give(to, made_for(elsewhere(one), "SEN-0001"))
        assert await one.provider.register(child(1), kept.keep) == Issued()
        one.sessions.append(await one.provider.connect(child(1), kept.secrets[1]))


@pytest.mark.parametrize("registered", [True, False])
async def test_a_child_that_is_forgotten_leaves_no_key_and_one_that_is_not_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registered: bool
) -> None:
    register = MemoryRecords()
    async with platform(tmp_path) as one:
        assert one.provider.issuer is not None
        authority = one.provider.issuer.authority
        if not registered:
            one.slots.kept.clear()
            authority._current = None
        async with life(one, register) as (stage, device, _):
            if registered:
                await stage.tape.wait_for(device, "online")
            else:
                waiting = stage.manager.children[device]
                await until(lambda: waiting.reason.code == "authority-missing")
            await give(service(one, stage), made_for(elsewhere(one), CHILD, "p"), device)
            assert bool(register[device].registered_at) is registered
            with monkeypatch.context() as broken:
                broken.setattr(register, "failing", StoreFull("no space"))
                with pytest.raises(StoreFull):
                    await stage.app.commands.forget(device, "uid 0")
            assert await authority.given_to(child_name()) is not None
            await stage.app.commands.forget(device, "uid 0")
            assert await authority.given_to(child_name()) is None


def child_name() -> CloudName:
    return CloudName("cloud", "p", CHILD)


async def test_a_device_that_was_created_by_hand_has_its_device_id_named(tmp_path: Path) -> None:
    """The platform knows its certificate by the fingerprint; the template makes nothing of it."""
    async with certified(furnish(tmp_path)) as one:
        to, authority = service(one), elsewhere(one)
        key = make_key("ec-p256")
        leaf = authority.sign(subject(common_name="any"), key.public_key(), DAYS, time.time())
        data = key_pem(key) + to_pem(leaf).encode()
        with pytest.raises(InvalidArgs, match="makes no device of this certificate's subject"):
            await give(to, data)
        with pytest.raises(InvalidArgs, match="needs the product and the node ID"):
            await give(to, data, device_id="own-id")
        with pytest.raises(InvalidArgs, match="The device ID must be"):
            await give(to, data, product=SENSORS, node_id="SEN-0001", device_id="own id")
        facts = await give(to, data, product=SENSORS, node_id="SEN-0001", device_id="own-id")
        assert facts["CloudDeviceId"] == "own-id"
        assert one.provider.issuer is not None
        given = await one.provider.issuer.authority.given_to(child(1))
        assert given is not None
        assert read_identity(given.secret).device_id == "own-id"


async def test_what_is_another_devices_or_does_not_fit_is_refused(tmp_path: Path) -> None:
    async with certified(furnish(tmp_path)) as one:
        to, authority = service(one), elsewhere(one)
        data = made_for(authority, "SEN-0001")
        with pytest.raises(InvalidArgs, match=f"another device .* {SENSORS}, node ID SEN-0001"):
            await give(to, data, product=SENSORS, node_id="SEN-0002")
        with pytest.raises(InvalidArgs, match="node_id would be"):
            await give(to, made_for(authority, "00:11:22"))
        other = key_pem(make_key("ec-p256")) + data.partition(b"-----END PRIVATE KEY-----\n")[2]
        with pytest.raises(InvalidArgs, match="does not belong"):
            await give(to, other)
        own = await asyncio.to_thread(lambda: authority.secret().reveal())
        with pytest.raises(InvalidArgs, match="is that of a CA"):
            await give(to, own, product=SENSORS, node_id="SEN-0001", device_id="own-id")
        with pytest.raises(InvalidArgs, match="Unknown option"):
            await give(to, data, passphrase="x")


async def test_the_routes_that_log_in_by_a_certificate_from_here(tmp_path: Path) -> None:
    """The gateway's own does, unless its settings name a secret, or files."""
    files = furnish_gateway(tmp_path, made_for(device_ca("made elsewhere"), "gw-1", GATEWAYS))
    plain = HuaweiGateway(GATEWAYS, "gw-1", login="certificate")
    for gateway, own in ((plain, True), (files, False)):
        async with certified(furnish(tmp_path), gateway=gateway) as one:
            issuer = one.provider.issuer
            assert isinstance(issuer, AcceptsCertificates)
            wanted = {"": True, "certificate": True, "sub-device": False, "gateway": own}
            for route, uses in wanted.items():
                assert issuer.uses_certificate(replace(child(1), route=route)) is uses


def furnish_gateway(folder: Path, data: bytes, passphrase: str = "") -> HuaweiGateway:
    """Write the gateway's certificate and its key, encrypted; return its settings."""
    key, _, certificate = data.partition(b"-----END PRIVATE KEY-----\n")
    private = read_key(key + b"-----END PRIVATE KEY-----\n").private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"open sesame"),
    )
    (folder / "gw.pem").write_bytes(certificate)
    for name, content in (("gw.key", private), ("gw.pass", passphrase.encode())):
        (folder / name).touch(mode=0o600)
        (folder / name).write_bytes(content)
    return HuaweiGateway(
        GATEWAYS, "gw-1", login="certificate", certificate_file=folder / "gw.pem",
        private_key_file=folder / "gw.key", passphrase_file=folder / "gw.pass",
    )  # fmt: skip


async def test_the_gateway_logs_in_by_the_certificate_that_its_settings_name(
    tmp_path: Path,
) -> None:
    """A wrong passphrase is a mistake that is named; a newer certificate is used at once."""
    vendor = device_ca("made elsewhere")
    own = furnish_gateway(tmp_path, made_for(vendor, "gw-1", GATEWAYS), "wrong")
    async with certified(furnish(tmp_path), gateway=own) as one:
        trust(one, vendor)
        provider, kept = one.provider, RecordingKeeper()
        name = provider.gateway_name
        assert name is not None
        refused = await provider.register(name, kept.keep)
        assert isinstance(refused, Refused)
        assert "cannot be read with this passphrase" in refused.reason.text
        checks = await all_of(preflight(provider._settings, AROUND))
        (wrong,) = [check for check in checks if check.step == "certificate"]
        assert wrong.verdict is CheckResult.FAILED
        (tmp_path / "gw.pass").write_text("open sesame\n")
        assert await provider.register(name, kept.keep) == Issued()
        session = await provider.connect(name, kept.secrets[0])
        assert one.devices() == {f"{GATEWAYS}_gw-1"}
        await session.close()
        due = provider.renew_at(name, kept.secrets[0])
        assert due is not None
        assert due > time.time() + 86400
        checks = await all_of(preflight(provider._settings, AROUND))
        (right,) = [check for check in checks if check.step == "certificate"]
        assert right.verdict is CheckResult.OK
        furnish_gateway(tmp_path, made_for(vendor, "gw-1", GATEWAYS), "open sesame")
        await provider.reread()
        assert provider.renew_at(name, kept.secrets[0]) == 0.0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"private_key_file": None}, "need each other"),
        ({"certificate_file": None}, "need each other"),
        ({"login": "secret"}, 'needs gateway.login = "certificate"'),
    ],
)
def test_settings_of_a_certificate_that_lack_something_are_refused(
    tmp_path: Path, changes: Mapping[str, Any], says: str
) -> None:
    own = HuaweiGateway(
        GATEWAYS, "gw-1", certificate_file=tmp_path / "c", private_key_file=tmp_path / "k"
    )
    assert list(HuaweiSettings(host="iot.example.com", gateway=own).problems()) == []
    broken = HuaweiSettings(host="iot.example.com", gateway=replace(own, **changes))
    assert says in "\n".join(broken.problems())
