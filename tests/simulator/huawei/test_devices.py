"""What the management side does on the simulated Huawei platform: its rules and limits."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest

from gatewayd.simulator import pki
from gatewayd.simulator.huawei import times
from gatewayd.simulator.huawei.platform.device import (
    AuthSlot,
    DeviceAuth,
    HuaweiAuthType,
    HuaweiDeviceStatus,
)
from gatewayd.simulator.huawei.platform.errors import IotdaCode, PlatformError
from gatewayd.simulator.huawei.platform.instance import Edition, IotdaInstance
from gatewayd.simulator.huawei.platform.limits import InstanceLimits
from gatewayd.simulator.huawei.x509 import read_pem
from tests.simulator.huawei.client import (
    BEGIN,
    BY_NAME,
    CN,
    DEVICE_CA,
    END,
    EPOCH,
    GATEWAY,
    GATEWAYS,
    RSA_CA,
    SENSORS,
    STRANGE_CA,
    VECTORS,
    certificate,
    fingerprint,
    furnish,
    platform,
    provision,
    vouch,
)


@pytest.fixture
def instance() -> IotdaInstance:
    made = furnish(platform(limits=InstanceLimits(devices=6, children=3, apps=3)).create("one"))
    made.devices.add(node_id="gw-0001", product_id=GATEWAYS)
    return made


def refusal(act: Callable[[], object]) -> IotdaCode:
    with pytest.raises(PlatformError) as caught:
        act()
    assert caught.value.body["error_code"] == caught.value.code
    return caught.value.code


def test_instances_have_names() -> None:
    made = platform()
    one = made.create("one", region="cn-north-4")
    assert one.domain == "one.st1.iotda-device.cn-north-4.myhuaweicloud.com"
    assert made.by_domain(one.domain.upper()) is one
    assert made.get("one") is one
    assert made.by_domain("two") is None
    assert refusal(lambda: made.get("two")) is IotdaCode.UNKNOWN_INSTANCE
    with pytest.raises(ValueError, match="already"):
        made.create("two", domain=one.domain)


@pytest.mark.parametrize(
    ("edition", "region", "offered"),
    [
        (Edition.BASIC, "cn-north-4", False),
        (Edition.STANDARD, "cn-north-4", True),
        (Edition.STANDARD, "cn-east-3", False),
        (Edition.ENTERPRISE, "cn-east-3", True),
    ],
)
def test_editions_with_self_registration(edition: Edition, region: str, offered: bool) -> None:
    made = platform().create("one", region=region, edition=edition)
    assert made.self_registers is offered
    if offered:
        assert made.templates.create("t", BY_NAME).name == "t"
    else:
        assert refusal(lambda: made.templates.create("t", BY_NAME)) is IotdaCode.NOT_OFFERED


def test_times_are_written_as_the_vendor_does() -> None:
    assert times.basic(EPOCH) == "20260102T030405Z"
    assert times.dashed(EPOCH + 0.25) == "2026-01-02T03:04:05.250Z"


def test_resource_spaces(instance: IotdaInstance) -> None:
    apps = instance.apps
    made = apps.create("another")
    assert [one.name for one in apps.list()] == ["another", "DefaultApp"]
    assert apps.rename(made.app_id, "renamed").name == "renamed"
    assert apps.find(None).default
    instance.products.create(name="p", device_type="t", product_id="p9", app_id=made.app_id)
    instance.devices.add(node_id="n", product_id="p9", app_id=made.app_id)
    instance.devices.add(
        node_id="m", product_id="p9", app_id=made.app_id, gateway_id="p9_n", auth=DeviceAuth()
    )
    ca = instance.authorities.upload(DEVICE_CA.pem, made.app_id)
    apps.delete(made.app_id)
    assert instance.devices.lookup("p9_n") is None
    assert instance.devices.lookup("p9_m") is None
    assert refusal(lambda: instance.authorities.get(ca.certificate_id)) is IotdaCode.UNKNOWN_CA
    assert refusal(lambda: apps.get(made.app_id)) is IotdaCode.UNKNOWN_APP
    assert refusal(lambda: apps.delete(apps.default.app_id)) is IotdaCode.APP_PROTECTED
    for name in "ab":
        apps.create(name)
    assert refusal(lambda: apps.create("c")) is IotdaCode.APP_LIMIT


def test_products(instance: IotdaInstance) -> None:
    products = instance.products
    made = products.create(name="lamp", device_type="Lamp")
    assert len(made.product_id) == 24
    assert [one.name for one in products.list(name="lamp")] == ["lamp"]
    assert len(products.list(instance.apps.default.app_id)) == 3
    assert refusal(lambda: products.create(name="x y", device_type="t")) is IotdaCode.INVALID_INPUT
    again: dict[str, Any] = {"name": "x", "device_type": "t", "product_id": GATEWAYS}
    assert refusal(lambda: products.create(**again)) is IotdaCode.PRODUCT_EXISTS
    odd: dict[str, Any] = {"name": "x", "device_type": "t", "protocol_type": "Pigeon"}
    assert refusal(lambda: products.create(**odd)) is IotdaCode.INVALID_INPUT
    other = instance.apps.create("other").app_id
    assert refusal(lambda: products.get(GATEWAYS, other)) is IotdaCode.UNKNOWN_PRODUCT
    assert refusal(lambda: products.delete(GATEWAYS)) is IotdaCode.PRODUCT_IN_USE
    products.delete(made.product_id)
    assert refusal(lambda: products.get(made.product_id)) is IotdaCode.UNKNOWN_PRODUCT


def test_what_is_changed_of_a_product(instance: IotdaInstance) -> None:
    products = instance.products
    products.update(SENSORS, {"name": "lamps", "description": "for halls; all", "industry": None})
    changed = products.get(SENSORS)
    assert (changed.name, changed.description, changed.model) == ("lamps", "for halls; all", "m1")
    odd: list[dict[str, object]] = [
        {"product_id": "x"}, {"name": "fine", "device_type": "a b"}, {"data_format": "xml"},
        {"service_capabilities": "text"},
    ]  # fmt: skip
    for one in odd:
        assert refusal(partial(products.update, SENSORS, one)) is IotdaCode.INVALID_INPUT
    assert changed.name == "lamps"


def test_a_devices_id_and_secret_are_made_up(instance: IotdaInstance) -> None:
    made = instance.devices.get(GATEWAY)
    assert made.direct
    assert (made.node_type, made.status) == ("GATEWAY", HuaweiDeviceStatus.INACTIVE)
    assert made.auth.auth_type is HuaweiAuthType.SECRET
    assert len(made.auth.secret or "") == 32
    own = instance.devices.add(
        node_id="n", product_id=SENSORS, device_id="my-own", gateway_id=GATEWAY
    )
    assert (own.device_id, own.node_type, own.auth.secret) == ("my-own", "ENDPOINT", None)
    assert instance.devices.children(GATEWAY) == [own]
    assert own.record_id > made.record_id


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"node_id": "gw-0001"}, IotdaCode.DEVICE_EXISTS),
        ({"node_id": "gw-0001", "device_id": "another"}, IotdaCode.DEVICE_EXISTS),
        ({"device_id": GATEWAY}, IotdaCode.DEVICE_EXISTS),
        ({"node_id": "aa:bb"}, IotdaCode.INVALID_INPUT),
        ({"node_id": "n" * 65}, IotdaCode.INVALID_INPUT),
        ({"device_id": "a b"}, IotdaCode.INVALID_INPUT),
        ({"name": "a b"}, IotdaCode.INVALID_INPUT),
        ({"product_id": "nothing"}, IotdaCode.UNKNOWN_PRODUCT),
        ({"app_id": "nowhere"}, IotdaCode.UNKNOWN_APP),
        ({"gateway_id": "unknown"}, IotdaCode.UNKNOWN_DEVICE),
        ({"auth": DeviceAuth(secret="short")}, IotdaCode.INVALID_INPUT),
        (
            {"auth": DeviceAuth(HuaweiAuthType.CERTIFICATES, fingerprint="ab")},
            IotdaCode.INVALID_INPUT,
        ),
        ({"extension_info": {"a": "b" * 1100}}, IotdaCode.INVALID_INPUT),
        ({"extension_info": "text"}, IotdaCode.INVALID_INPUT),
        ({"tags": {str(key): "v" for key in range(11)}}, IotdaCode.TAG_LIMIT),
        ({"tags": {"a b": "v"}}, IotdaCode.INVALID_INPUT),
    ],
)  # fmt: skip
def test_devices_that_cannot_be(
    instance: IotdaInstance, fields: dict[str, Any], code: IotdaCode
) -> None:
    given = {"node_id": "n", "product_id": GATEWAYS, **fields}
    assert refusal(lambda: instance.devices.add(**given)) is code
    assert len(instance.devices.list()) == 1


def test_there_is_room_for_so_many(instance: IotdaInstance) -> None:
    devices = instance.devices
    first = devices.add(node_id="c1", product_id=SENSORS, gateway_id=GATEWAY)
    second = devices.add(node_id="c2", product_id=SENSORS, gateway_id=first.device_id)
    below: dict[str, Any] = {"node_id": "c3", "product_id": SENSORS}
    assert refusal(lambda: devices.add(**below, gateway_id=second.device_id)) is IotdaCode.TOO_DEEP
    assert [one.node_id for one in devices.descendants(GATEWAY)] == ["c1", "c2"]
    devices.add(**below, gateway_id=GATEWAY)
    more: dict[str, Any] = {"node_id": "c4", "product_id": SENSORS}
    assert refusal(lambda: devices.add(**more, gateway_id=GATEWAY)) is IotdaCode.CHILD_LIMIT
    assert refusal(lambda: devices.delete(first.device_id)) is IotdaCode.HAS_CHILDREN
    devices.delete(second.device_id)
    devices.add(**more, gateway_id=GATEWAY)
    for node in "ab":
        devices.add(node_id=node, product_id=GATEWAYS)
    assert refusal(lambda: devices.add(node_id="c", product_id=GATEWAYS)) is IotdaCode.DEVICE_LIMIT


def test_a_child_is_moved_with_its_children(instance: IotdaInstance) -> None:
    devices = instance.devices
    other = devices.add(node_id="gw-2", product_id=GATEWAYS).device_id
    child = devices.add(node_id="c1", product_id=SENSORS, gateway_id=GATEWAY).device_id
    below = devices.add(node_id="c2", product_id=SENSORS, gateway_id=child).device_id
    assert devices.change_gateway(child, other).gateway_id == other
    assert [one.device_id for one in devices.descendants(other)] == [child, below]
    assert devices.descendants(GATEWAY) == []
    assert devices.belongs(below, other)
    mate = devices.add(node_id="c3", product_id=SENSORS, gateway_id=GATEWAY).device_id
    assert refusal(lambda: devices.change_gateway(child, mate)) is IotdaCode.TOO_DEEP
    assert refusal(lambda: devices.change_gateway(child, child)) is IotdaCode.INVALID_INPUT
    assert refusal(lambda: devices.change_gateway(other, GATEWAY)) is IotdaCode.INVALID_INPUT


def test_what_is_changed_of_a_device(instance: IotdaInstance) -> None:
    devices = instance.devices
    devices.update(
        GATEWAY,
        {
            "name": "a-name", "description": "some.where", "extension_info": {"a": 1},
            "auth_type": "CERTIFICATES", "secure_access": False, "timeout": 5,
        },
    )  # fmt: skip
    made = devices.get(GATEWAY)
    assert (made.name, made.description, made.extension_info) == (
        "a-name", "some.where", {"a": 1},
    )  # fmt: skip
    assert (made.auth.auth_type, made.auth.secure_access, made.auth.timeout) == (
        HuaweiAuthType.CERTIFICATES, False, 5,
    )  # fmt: skip
    odd: list[dict[str, object]] = [{"node_id": "x"}, {"auth_type": "GUESS"}, {"name": 5}]
    for one in odd:
        assert refusal(partial(devices.update, GATEWAY, one)) is IotdaCode.INVALID_INPUT
    devices.bind_tags(GATEWAY, {"a": "1", "b": "2"})
    devices.unbind_tags(GATEWAY, ["a", "nothing"])
    assert made.tags == {"b": "2"}
    devices.freeze(GATEWAY)
    assert str(made.status) == "FROZEN"
    devices.unfreeze(GATEWAY)
    assert str(made.status) == "INACTIVE"
    assert [one.device_id for one in devices.list(name="a-name", product_id=GATEWAYS)] == [GATEWAY]
    assert devices.list(node_id="unknown") == []


def test_secrets_and_fingerprints_are_set_and_emptied(instance: IotdaInstance) -> None:
    devices, auth = instance.devices, instance.devices.get(GATEWAY).auth
    assert devices.reset_secret(GATEWAY, "another_secret") == "another_secret"
    assert auth.secrets == ("another_secret",)
    assert devices.reset_secret(GATEWAY, slot=AuthSlot.SECONDARY) == auth.secondary_secret
    assert len(auth.secrets) == 2
    assert refusal(lambda: devices.reset_secret(GATEWAY, "a" * 33)) is IotdaCode.INVALID_INPUT
    devices.reset_fingerprint(GATEWAY, "ab" * 20)
    devices.reset_fingerprint(GATEWAY, "CD" * 32, slot=AuthSlot.SECONDARY)
    assert (auth.fingerprint, auth.secondary_fingerprint) == ("ab" * 20, "CD" * 32)
    devices.reset_fingerprint(GATEWAY)
    assert auth.fingerprint is None
    assert refusal(lambda: devices.reset_fingerprint(GATEWAY, "xy")) is IotdaCode.INVALID_INPUT


@pytest.mark.parametrize("authority", [DEVICE_CA, RSA_CA], ids=["EC", "RSA"])
def test_a_ca_is_verified_by_its_code(
    instance: IotdaInstance, authority: pki.RootAuthority
) -> None:
    authorities = instance.authorities
    made = authorities.upload(authority.pem)
    assert not made.status
    assert str(uuid.UUID(made.verify_code)) == made.verify_code
    assert made.cn_name.startswith("Device CA")
    assert made.effective == pytest.approx(BEGIN.timestamp(), abs=1)
    assert made.expiry == pytest.approx(END.timestamp(), abs=1)

    def proof(name: str, by: pki.RootAuthority) -> str:
        return by.issue_client([(CN, name)], BEGIN, END).certificate_pem

    for content, code in (
        (proof(made.verify_code, STRANGE_CA), IotdaCode.VERIFY_PATH),
        (proof("another", authority), IotdaCode.VERIFY_CODE),
        (proof(made.verify_code.upper(), authority), IotdaCode.VERIFY_CODE),
        ("no certificate", IotdaCode.BAD_CERTIFICATE),
    ):
        assert refusal(partial(authorities.verify, made.certificate_id, content)) is code
    assert not made.status
    assert authorities.verify(made.certificate_id, proof(made.verify_code, authority)).status


def test_the_proof_of_the_vectors() -> None:
    vectors = VECTORS["self_registration"]
    proof = read_pem(vectors["verification"]["verify_content_pem"])
    assert proof.common_name == vectors["verification"]["verify_code"]
    assert proof.signed_by(read_pem(vectors["ca_pem"]))


def test_which_cas_are_taken(instance: IotdaInstance) -> None:
    authorities = instance.authorities
    made = authorities.upload(DEVICE_CA.pem)
    assert refusal(lambda: authorities.upload(DEVICE_CA.pem)) is IotdaCode.CA_EXISTS
    leaf = certificate("leaf").certificate_pem
    assert refusal(lambda: authorities.upload(leaf)) is IotdaCode.BAD_CERTIFICATE
    assert refusal(lambda: authorities.upload("text")) is IotdaCode.BAD_CERTIFICATE
    assert refusal(lambda: authorities.upload(RSA_CA.pem, "nowhere")) is IotdaCode.UNKNOWN_APP
    authorities.delete(made.certificate_id)
    assert refusal(lambda: authorities.delete(made.certificate_id)) is IotdaCode.UNKNOWN_CA


def test_a_hundred_cas_and_no_more() -> None:
    made = platform(limits=InstanceLimits(authorities=2)).create("one")
    for authority in (DEVICE_CA, RSA_CA):
        made.authorities.upload(authority.pem)
    assert refusal(lambda: made.authorities.upload(STRANGE_CA.pem)) is IotdaCode.CA_LIMIT
    assert InstanceLimits().authorities == 100


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"provision_enable": True}, IotdaCode.INVALID_INPUT),
        ({"template_id": "nothing"}, IotdaCode.UNKNOWN_TEMPLATE),
        ({"ocsp_ssl_enable": True}, IotdaCode.INVALID_INPUT),
        ({"provision_enable": "yes"}, IotdaCode.INVALID_INPUT),
        ({"status": True}, IotdaCode.INVALID_INPUT),
    ],
)
def test_what_a_ca_cannot_be_made(
    instance: IotdaInstance, changes: Mapping[str, object], code: IotdaCode
) -> None:
    certificate_id = vouch(instance)
    assert refusal(lambda: instance.authorities.update(certificate_id, changes)) is code
    assert not instance.authorities.get(certificate_id).provision_enable


def test_templates_are_bound_and_unbound(instance: IotdaInstance) -> None:
    templates, authorities = instance.templates, instance.authorities
    certificate_id = vouch(instance)
    template_id = provision(instance, certificate_id)
    assert refusal(lambda: templates.delete(template_id)) is IotdaCode.TEMPLATE_IN_USE
    unbind = {"template_id": None}
    assert refusal(lambda: authorities.update(certificate_id, unbind)) is IotdaCode.INVALID_INPUT
    authorities.update(certificate_id, {"template_id": None, "provision_enable": False})
    templates.delete(template_id)
    assert refusal(lambda: templates.get(template_id)) is IotdaCode.UNKNOWN_TEMPLATE


def test_ten_templates_and_no_eleventh(instance: IotdaInstance) -> None:
    templates = instance.templates
    made = [templates.create(f"template-{number}", BY_NAME) for number in range(10)]
    assert refusal(lambda: templates.create("eleventh", BY_NAME)) is IotdaCode.TEMPLATE_LIMIT
    assert next(one.name for one in templates.list()) == "template-9"
    templates.delete(made[0].template_id)
    assert refusal(lambda: templates.create("template-9", BY_NAME)) is IotdaCode.TEMPLATE_EXISTS
    assert templates.create("\u6a21\u677f_1", BY_NAME, "as-it-is").description == "as-it-is"


def test_what_is_changed_of_a_template(instance: IotdaInstance) -> None:
    templates = instance.templates
    template_id = templates.create("t", BY_NAME).template_id
    body = {**BY_NAME, "parameters": {"iotda::certificate::email": {"type": "String"}}}
    assert (
        refusal(lambda: templates.update(template_id, {"template_body": body}))
        is IotdaCode.INVALID_INPUT
    )
    assert (
        refusal(lambda: templates.update(template_id, {"template_name": "u"}))
        is IotdaCode.INVALID_INPUT
    )
    templates.update(template_id, {"description": "better"})
    assert templates.get(template_id).description == "better"
    assert templates.get(template_id).body == BY_NAME
    for name in ("", "a b", "a.b", "n" * 129):
        assert refusal(partial(templates.create, name, BY_NAME)) is IotdaCode.INVALID_INPUT


def test_device_certificates_are_objects() -> None:
    made = platform(limits=InstanceLimits(device_certificates=1)).create("one")
    shown, other = (certificate(name) for name in ("gw-1", "gw-2"))
    made.certificates.seen(read_pem(shown.certificate_pem), "app", "d1")
    made.certificates.seen(read_pem(shown.certificate_pem), "app", "d2")
    made.certificates.seen(read_pem(other.certificate_pem), "app", "d3")
    (stored,) = made.certificates.list()
    assert (stored.common_name, stored.fingerprint) == ("gw-1", fingerprint(shown))
    assert (stored.status, stored.pem.strip()) == ("ACTIVE", shown.certificate_pem.strip())
    assert made.certificates.devices(stored.certificate_id) == ["d1", "d2"]
    assert made.certificates.list(common_name="gw-2") == []
    assert (
        refusal(lambda: made.certificates.update(stored.certificate_id, "GONE"))
        is IotdaCode.INVALID_INPUT
    )
    made.certificates.delete(stored.certificate_id)
    assert (
        refusal(lambda: made.certificates.get(stored.certificate_id))
        is IotdaCode.UNKNOWN_CERTIFICATE
    )


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (IotdaCode.INVALID_INPUT, 400),
        (IotdaCode.UNKNOWN_DEVICE, 404),
        (IotdaCode.TEMPLATE_LIMIT, 403),
        (IotdaCode.CA_LIMIT, 400),
        (IotdaCode.VERIFY_CODE, 400),
    ],
)
def test_errors_have_a_status_and_a_text(code: IotdaCode, status: int) -> None:
    error = PlatformError(code, "(detail)")
    assert error.status == status
    assert error.message.endswith(" (detail)")
    assert len(error.message) > len(" (detail)")
