"""Self-registration: the first login with a certificate made here is what registers a device."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from gatewayd.ca.certificates import Validity, read_certificates, read_request, same_key
from gatewayd.ca.keys import public_key
from gatewayd.cloud.ca.identity import read_identity
from gatewayd.cloud.provider import Failed, LoginError, LoginFailed, LoginRefused, Refused
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError, InvalidArgs, StoreSealed, WrongState
from gatewayd.simulator.huawei.options import HuaweiCloudOptions
from gatewayd.simulator.huawei.platform.device import AuthSlot, HuaweiDeviceStatus
from gatewayd.testing.contracts.cloud import check_reason
from tests.cloud.guarded import device_ca, identity, subject
from tests.cloud.huawei.certified import (
    BODY,
    Certified,
    MemorySlots,
    certified,
    child,
    child_id,
    furnish,
)
from tests.cloud.huawei.signing_requests import request
from tests.cloud.huawei.site import INSTANCE, SENSORS

DAY = 86_400.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return furnish(tmp_path)


async def refusal(one: Certified, name: CloudName, secret: Secret) -> LoginError:
    with pytest.raises(LoginError) as raised:
        await one.connect(name, secret)
    check_reason(raised.value.reason)
    return raised.value


async def test_the_first_login_registers_a_device(folder: Path) -> None:
    async with certified(folder) as one:
        assert one.provider.check_name(child(1)) is None
        assert await one.provider.check_ready(child(1)) is None
        secret = await one.secret(child(1))
        assert one.devices() == set(), "the platform was not asked"
        await one.connect(child(1), secret)
        device = one.instance.devices.get(child_id(1))
        assert (device.node_id, device.product_id) == (child(1).device, SENSORS)
        assert (device.self_registered, device.status) == (True, HuaweiDeviceStatus.ONLINE)
        assert device.tags == {"country": "CN"}
        assert device.auth.fingerprint in {read_identity(secret).fingerprint, None}


async def test_what_is_kept_is_key_certificate_and_device_id(folder: Path) -> None:
    async with certified(folder) as one:
        secret = await one.secret(child(1))
        who = read_identity(secret)
        assert who.device_id == child_id(1)
        leaf, ca = read_certificates(secret.reveal())
        assert ca.subject == leaf.issuer
        left = Validity.of(leaf).ends.timestamp() - time.time()
        assert left < 60 * DAY, "no longer than its CA"
        due = one.provider.renew_at(child(1), secret)
        assert due == Validity.of(leaf).ends.timestamp() - 30 * DAY
        assert one.provider.renew_at(child(1), Secret(b"a password")) is None


async def test_one_that_was_made_by_a_clock_that_was_wrong_is_replaced_at_once(
    folder: Path,
) -> None:
    now = time.time()
    async with certified(folder, wall=lambda: now) as one:
        now += 3 * DAY
        secret = await one.secret(child(1))
        now -= 3 * DAY
        assert one.provider.renew_at(child(1), secret) == 0.0


async def test_the_hint_says_how_to_make_a_certificate_known(folder: Path) -> None:
    async with certified(folder) as one:
        secret = await one.secret(child(1))
        hint = one.provider.enrolment_hint(child(1), secret)
        assert f"{read_identity(secret).fingerprint} as SECONDARY" in hint
        assert not one.provider.enrolment_hint(child(1), Secret(b"a password"))
        behind = CloudName("cloud", SENSORS, child(1).device, "sub-device")
        assert not one.provider.enrolment_hint(behind, secret)


async def test_each_identity_has_a_session_of_its_own(folder: Path) -> None:
    async with certified(folder) as one:
        secrets = [await one.secret(child(n)) for n in range(3)]
        assert len({read_identity(secret).fingerprint for secret in secrets}) == 3
        await asyncio.gather(*(one.connect(child(n), secrets[n]) for n in range(3)))
        await one.sessions[0].close()
        await one.connect(child(0), secrets[0])
        assert one.devices() == {child_id(n) for n in range(3)}


async def test_a_newer_session_of_a_device_ends_the_older(folder: Path) -> None:
    """A device has one connection ("Limitations", iot_04_0010)."""
    async with certified(folder) as one:
        secret = await one.secret(child(1))
        older = await one.connect(child(1), secret)
        await one.connect(child(1), secret)
        async with asyncio.timeout(60):
            assert (await older.wait_closed()).reason.code == "cloud-closed"
        assert one.devices() == {child_id(1)}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("late", [True, False])
async def test_a_ca_that_is_not_verified(folder: Path, version: ssl.TLSVersion, late: bool) -> None:
    options = HuaweiCloudOptions(oldest=version, newest=version, late_unverified=late)
    async with certified(folder, options) as one:
        secret = await one.secret(child(1))
        one.ca.status = False
        one.instance.authorities.changed()
        error = await refusal(one, child(1), secret)
        assert isinstance(error, LoginRefused)
        assert not error.stale
        code = "cloud-not-authorised" if late else "authority-unknown"
        assert error.reason.code == code
        assert "verif" in error.reason.remedy
        assert read_identity(secret).fingerprint in error.reason.remedy


async def test_a_certificate_that_has_expired(folder: Path) -> None:
    ahead = [0.0]
    async with certified(folder, wall=lambda: time.time() + ahead[0]) as one:
        ahead[0] = -8 * DAY  # it is made as if a week ago, for a day
        route: Any = one.provider.issuer
        object.__setattr__(route._own, "days", 2)
        secret = await one.secret(child(1))
        ahead[0] = 0.0
        error = await refusal(one, child(1), secret)
        assert isinstance(error, LoginRefused)
        assert error.stale, "a new one may do"
        assert error.reason.code == "certificate-expired"
        assert "has expired" in error.reason.text


async def test_another_certificate_than_the_platform_knows(folder: Path) -> None:
    async with certified(folder) as one:
        await (await one.connect(child(1), await one.secret(child(1)))).close()
        newer = await one.secret(child(1))
        error = await refusal(one, child(1), newer)
        fingerprint = read_identity(newer).fingerprint
        assert isinstance(error, LoginRefused)
        assert not error.stale
        assert error.reason.code == "cloud-auth-failed"
        assert f"{fingerprint} as SECONDARY" in error.reason.remedy
        one.instance.devices.reset_fingerprint(child_id(1), fingerprint, slot=AuthSlot.SECONDARY)
        await one.connect(child(1), newer)


async def test_a_device_that_is_frozen(folder: Path) -> None:
    async with certified(folder) as one:
        secret = await one.secret(child(1))
        await (await one.connect(child(1), secret)).close()
        one.instance.devices.freeze(child_id(1))
        error = await refusal(one, child(1), secret)
        assert error.reason.code == "cloud-not-authorised"
        assert "frozen" in error.reason.remedy


async def test_a_template_that_is_not_bound(folder: Path) -> None:
    async with certified(folder) as one:
        secret = await one.secret(child(1))
        one.instance.authorities.update(
            one.ca.certificate_id, {"provision_enable": False, "template_id": None}
        )
        error = await refusal(one, child(1), secret)
        assert isinstance(error, LoginRefused)
        assert error.reason.code == "cloud-not-authorised"
        assert "template" in error.reason.remedy


async def test_a_resource_space_without_the_product(folder: Path) -> None:
    async with certified(folder) as one:
        one.ca.app_id = one.instance.apps.create("elsewhere").app_id
        error = await refusal(one, child(1), await one.secret(child(1)))
        assert isinstance(error, LoginRefused)
        assert "resource space" in error.reason.remedy


async def test_a_name_that_the_platform_does_not_have(folder: Path) -> None:
    async with certified(folder, host="elsewhere.example.com") as one:
        error = await refusal(one, child(1), await one.secret(child(1)))
        assert isinstance(error, LoginFailed)
        assert error.reason.code == "tls-name-unknown"


async def test_a_connection_closed_without_an_answer(folder: Path) -> None:
    async with certified(folder) as one:
        secret = await one.secret(child(1))
        one.cloud.set_faults("hang-up@*")
        error = await refusal(one, child(1), secret)
        assert isinstance(error, LoginRefused)
        assert error.reason.code == "certificate-rejected"


async def test_what_is_no_identity(folder: Path) -> None:
    async with certified(folder) as one:
        keyless = read_identity(await one.secret(child(1))).secret.reveal()
        head, _, rest = keyless.partition(b"-----BEGIN PRIVATE KEY-----")
        chain = rest[rest.index(b"-----BEGIN CERT") :]
        for data in (b"", b"0" * 32, identity(device_ca()).reveal(), head + chain):
            error = await refusal(one, child(1), Secret(data))
            assert isinstance(error, LoginRefused)
            assert error.reason.code == "certificate-unusable"
            assert "fingerprint" in error.reason.remedy


async def test_without_a_ca_nothing_can_be_issued_yet(folder: Path) -> None:
    async with certified(folder) as one:
        assert one.provider.issuer is not None
        keeper = one.provider.issuer.authority
        keeper._current = None
        keeper.set_slots(MemorySlots().port)
        not_ready = await one.provider.check_ready(child(1))
        assert not_ready is not None
        assert not_ready.code == "authority-missing"
        outcome, kept = await one.register(child(1))
        assert outcome == Failed(not_ready)
        assert not kept.secrets
        assert one.provider.check_name(child(1)) is None, "it is no reason to give up"


async def test_a_sealed_store_is_an_obstacle(folder: Path) -> None:
    class Sealed(MemorySlots):
        async def generations(self) -> tuple[int, ...]:
            raise StoreSealed("no key")

    async with certified(folder) as one:
        assert one.provider.issuer is not None
        one.provider.issuer.authority._current = None
        one.provider.issuer.authority.set_slots(Sealed().port)
        not_ready = await one.provider.check_ready(child(1))
        assert not_ready is not None
        assert not_ready.code == "store-sealed"


async def test_a_ca_that_has_expired_is_an_obstacle(folder: Path) -> None:
    ahead = [0.0]
    async with certified(folder, wall=lambda: time.time() + ahead[0]) as one:
        ahead[0] = 60 * DAY
        not_ready = await one.provider.check_ready(child(1))
        assert not_ready is not None
        assert not_ready.code == "authority-expired"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        (CloudName("cloud", SENSORS, "aa:bb:cc:dd:ee:ff"), "node-id-invalid"),
        (CloudName("cloud", SENSORS, "x" * 65), "node-id-invalid"),
        (CloudName("cloud", "no such product", "x"), "product-id-invalid"),
        (CloudName("cloud", "another", "x"), "product-not-configured"),
        (CloudName("cloud", SENSORS, "x", "direct"), "route-not-available"),
        (CloudName("cloud", SENSORS, "x", "sub-device"), "route-not-available"),
        (CloudName("cloud", SENSORS, "x", "gateway"), "route-not-available"),
    ],
)
async def test_names_that_cannot_be(folder: Path, name: CloudName, code: str) -> None:
    async with certified(folder, products=(SENSORS,)) as one:
        objection = one.provider.check_name(name)
        assert objection is not None
        check_reason(objection)
        assert objection.code == code
        outcome, kept = await one.register(name)
        assert outcome == Refused(objection)
        assert not kept.secrets


async def test_a_template_of_another_product(tmp_path: Path) -> None:
    device = BODY["resources"]["device"] | {"product_id": "pumps"}
    furnish(tmp_path, {**BODY, "resources": {"device": device}})
    fixed = {"country": "CN", "organizational_unit": "x"}
    async with certified(tmp_path, certificates={"subject": fixed}) as one:
        objection = one.provider.check_name(child(1))
        assert objection is not None
        assert objection.code == "template-product"
        assert "'pumps'" in objection.text
        assert one.provider.check_name(child(1, "pumps")) is None


async def test_an_attribute_that_nothing_settles(folder: Path) -> None:
    async with certified(folder, certificates={"subject": {}}) as one:
        objection = one.provider.check_name(child(1))
        assert objection is not None
        assert objection.code == "template-unfit"
        assert "country" in objection.text


async def test_a_template_file_counts_at_once(folder: Path) -> None:
    async with certified(folder) as one:
        secret = await one.secret(child(1))
        one.template.write_text("{}")
        outcome, _ = await one.register(child(2))
        assert isinstance(outcome, Failed), "it may be being written, and is read again"
        assert outcome.reason.code == "template-unusable"
        body = json.loads(json.dumps(BODY))
        body["resources"]["device"]["device_id"] = {"ref": "iotda::certificate::state_name"}
        body["parameters"]["iotda::certificate::state_name"] = {"type": "String"}
        one.template.write_text(json.dumps(body))
        await one.secret(child(2))
        await one.connect(child(1), secret)
        assert one.devices() == {child_id(1)}, "the device ID is kept with the certificate"


async def test_a_corrected_template_counts_for_names_after_a_reload(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = (folder / "template.json").read_bytes()
    body = json.loads(json.dumps(BODY))
    body["resources"]["device"]["product_id"] = "pumps"
    (folder / "template.json").write_text(json.dumps(body))
    async with certified(folder) as one:
        assert one.provider.check_name(child(1)) is not None
        one.template.write_text("{}")
        await one.provider.reread()
        assert "template.json" in caplog.text
        assert one.provider.check_name(child(1)) is not None
        one.template.write_bytes(b"\xef\xbb\xbf" + good)
        await one.provider.reread()
        assert one.provider.check_name(child(1)) is None
        one.template.unlink()
        await one.provider.reread()
        assert one.provider.check_name(child(1)) is None


def test_a_template_that_cannot_be_used_ends_the_start(tmp_path: Path) -> None:
    furnish(tmp_path, {"parameters": {}, "resources": {"device": {"node_id": "x"}}})

    async def start() -> None:
        async with certified(tmp_path):
            raise AssertionError

    with pytest.raises(ConfigError) as raised:
        asyncio.run(start())
    assert len(str(raised.value).splitlines()) >= 2, "all that is wrong"
    assert "template.json" in str(raised.value)
    (tmp_path / "template.json").unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        asyncio.run(start())


@asynccontextmanager
async def certifying(folder: Path) -> AsyncIterator[Any]:
    async with certified(folder) as one:
        yield one.provider.issuer


async def test_a_request_gets_the_subject_of_a_device(folder: Path) -> None:
    async with certifying(folder) as issuer:
        made = request(subject(common_name="whatever", locality_name="x"))
        chain = await issuer.certify(made, child(7), 5)
        leaf, ca = read_certificates(chain.encode())
        assert {a.value for a in leaf.subject} == {child(7).device, SENSORS, "CN"}
        assert same_key(public_key(leaf.public_key()), read_request(made).key)
        assert ca.subject == leaf.issuer
        assert Validity.of(leaf).ends.timestamp() == pytest.approx(time.time() + 5 * DAY, abs=300)


async def test_a_request_is_judged_by_the_template(folder: Path) -> None:
    async with certifying(folder) as issuer:
        good = subject(common_name="n-1", organizational_unit_name=SENSORS, country_name="CN")
        (leaf, _) = read_certificates((await issuer.certify(request(good), None, 0)).encode())
        assert leaf.subject == good
        for bad, words in (
            (subject(common_name="n-1"), "OU"),
            (
                subject(common_name="n 1", organizational_unit_name=SENSORS, country_name="CN"),
                "n 1",
            ),
        ):
            with pytest.raises(InvalidArgs, match=words):
                await issuer.certify(request(bad), None, 0)
        with pytest.raises(InvalidArgs, match="node_id"):
            await issuer.certify(request(good), CloudName("cloud", SENSORS, "n 1"), 0)


def odd(before: str, after: str) -> bytes:
    """Return a request in which some bytes, hexadecimal, have become others."""
    der = x509.load_pem_x509_csr(request()).public_bytes(serialization.Encoding.DER)
    assert bytes.fromhex(before) in der
    data = base64.encodebytes(der.replace(bytes.fromhex(before), bytes.fromhex(after)))
    name = b"CERTIFICATE REQUEST-----\n"
    return b"-----BEGIN " + name + data + b"-----END " + name


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("0c0178", "030178"),  # the common name is a bit string
        ("0c0178", "3e0178"),  # of a type that there is not
        ("0c0178", "0c01ff"),  # not UTF-8
        ("2a8648ce3d030107", "2a8648ce3d030177"),  # an unknown curve
        ("2a8648ce3d040302", "2a8648ce3d04037f"),  # an unknown signature
    ],
)
def test_a_request_of_odd_parts_is_refused(before: str, after: str) -> None:
    with pytest.raises(InvalidArgs):
        read_request(odd(before, after))
    with pytest.raises(InvalidArgs, match="not signed"):
        read_request(odd("0c0178", "0c0179"))


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"", "BEGIN CERTIFICATE REQUEST"), (b"x" * 70_000, "at most"),
     (request(forged=True), "not signed"),
     (request(bits=1024), "2048")],
)  # fmt: skip
def test_what_is_no_request(data: bytes, words: str) -> None:
    with pytest.raises(InvalidArgs, match=words):
        read_request(data)


async def test_without_a_ca_no_request_is_granted(folder: Path) -> None:
    async with certified(folder) as one:
        assert one.provider.issuer is not None
        one.provider.issuer.authority._current = None
        one.provider.issuer.authority.set_slots(MemorySlots().port)
        with pytest.raises(WrongState, match="no device CA"):
            await one.provider.issuer.certify(request(), child(1), 0)


async def test_two_instances_side_by_side(folder: Path) -> None:
    async with certified(folder) as one, certified(folder) as other:
        await one.connect(child(1), await one.secret(child(1)))
        await other.connect(child(1), await other.secret(child(1)))
        assert one.devices() == other.devices() == {child_id(1)}
        error = await refusal(other, child(1), await one.secret(child(1)))
        assert isinstance(error, LoginRefused)
        assert error.reason.code == "authority-unknown"
        assert INSTANCE in one.cloud.platform.instances
