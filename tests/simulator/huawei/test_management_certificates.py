"""CAs, device certificates, templates and policies at the management interface."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from gatewayd.simulator.huawei.platform.policies import DEFAULT_NAME
from tests.simulator.huawei.client import (
    BEGIN,
    BY_NAME,
    CN,
    DEVICE_CA,
    END,
    GATEWAY,
    GATEWAYS,
    SENSORS,
    STRANGE_CA,
    Hello,
    certificate,
    device,
    fingerprint,
    greet,
)
from tests.simulator.huawei.rest import Rest

NOW = "20260102T030405Z"


async def upload(rest: Rest) -> dict[str, Any]:
    made: dict[str, Any] = await rest.post("/certificates", {"content": DEVICE_CA.pem})
    return made


async def verify(rest: Rest, made: dict[str, Any]) -> str:
    """Prove a CA; return its path."""
    path = f"/certificates/{made['certificate_id']}"
    proof = DEVICE_CA.issue_client([(CN, made["verify_code"])], BEGIN, END).certificate_pem
    body = {"verify_content": proof}
    assert await rest.post(f"{path}/action", body, status=200, action_id="verify") is None
    return path


async def test_a_ca_is_uploaded_verified_and_bound(rest: Rest) -> None:
    made = await upload(rest)
    path = f"/certificates/{made['certificate_id']}"
    assert made == {
        "certificate_id": made["certificate_id"], "cn_name": "Device CA", "owner": "",
        "status": False, "verify_code": made["verify_code"], "provision_enable": False,
        "template_id": None, "ocsp_enable": False, "ocsp_server_ca_id": None,
        "ocsp_ssl_enable": False, "create_date": NOW, "effective_date": f"{BEGIN:%Y%m%dT%H%M%SZ}",
        "expiry_date": f"{END:%Y%m%dT%H%M%SZ}",
    }  # fmt: skip
    assert await verify(rest, made) == path
    shown = await rest.get(path)
    assert shown == made | {"status": True, "content": DEVICE_CA.pem}
    template = await rest.post(
        "/provisioning-templates", {"template_name": "by-name", "template_body": BY_NAME}
    )
    changes = {"template_id": template["template_id"], "provision_enable": True}
    changed = await rest.put(path, changes)
    assert changed == made | changes | {"status": True}
    assert (await rest.get("/certificates"))["certificates"] == [changed]
    hello = Hello(f"{GATEWAYS}_gateway-0001")
    async with device(rest.cloud, hello, certificate()):
        seen = await rest.get(f"/devices/{hello.device_id}")
        assert (seen["status"], seen["node_id"]) == ("ONLINE", "gateway-0001")
        assert seen["tags"] == [{"tag_key": "site", "tag_value": "plant-7"}]
        assert seen["auth_info"]["auth_type"] == "CERTIFICATES"
    unbound = await rest.put(path, {"template_id": None, "provision_enable": False})
    assert unbound == made | {"status": True}
    await rest.delete(path)
    with pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):
        await greet(rest.cloud, hello, certificate())


async def test_a_ca_that_is_not_proven(rest: Rest) -> None:
    made = await upload(rest)
    path = f"/certificates/{made['certificate_id']}/action"
    for authority, code, error in (
        (DEVICE_CA, "another", "IOTDA.014307"),
        (STRANGE_CA, made["verify_code"], "IOTDA.014308"),
    ):
        proof = authority.issue_client([(CN, code)], BEGIN, END).certificate_pem
        body = {"verify_content": proof}
        status, said = await rest.ask("POST", path, body, action_id="verify")
        assert (status, said["error_code"]) == (400, error)
    status, said = await rest.ask("POST", path, {"verify_content": "x"}, action_id="verify")
    assert (status, said["error_code"]) == (400, "IOTDA.014301")
    for query in (dict[str, Any](), {"action_id": "generateCode"}):
        status, said = await rest.ask("POST", path, {"verify_content": "x"}, **query)
        assert (status, said["error_code"]) == (400, "IOTDA.000006")
    assert not (await rest.get("/certificates"))["certificates"][0]["status"]


async def test_invalid_cas(rest: Rest) -> None:
    await upload(rest)
    leaf = certificate().certificate_pem
    for content, error in ((DEVICE_CA.pem, "IOTDA.014912"), (leaf, "IOTDA.014301")):
        status, said = await rest.ask("POST", "/certificates", {"content": content})
        assert (status, said["error_code"]) == (400, error)
    assert (await rest.ask("POST", "/certificates", {}))[0] == 400
    path = f"/certificates/{(await rest.get('/certificates'))['certificates'][0]['certificate_id']}"
    for changes in ({"provision_enable": True}, {"provision_enable": "yes"}, {"template_id": 7}):
        status, said = await rest.ask("PUT", path, changes)
        assert (status, said["error_code"]) == (400, "IOTDA.000006")
    assert (await rest.ask("PUT", path, {"template_id": "0" * 24}))[0] == 404


async def test_certificates_that_devices_have_shown(rest: Rest) -> None:
    made = await upload(rest)
    await verify(rest, made)
    auth = {"auth_type": "CERTIFICATES"}
    new = {"node_id": "gateway-0001", "product_id": GATEWAYS, "auth_info": auth}
    device_id = (await rest.post("/devices", new))["device_id"]
    shown, hello = certificate(), Hello(device_id)
    async with device(rest.cloud, hello, shown) as gateway:
        query = {"common_name": "gateway-0001", "fingerprint": fingerprint(shown)}
        (seen,) = (await rest.get("/device-certificates", **query))["device_certificates"]
        assert seen == {
            "certificate_id": seen["certificate_id"], "common_name": "gateway-0001",
            "expiry_date": f"{END:%Y%m%dT%H%M%SZ}", "fingerprint": fingerprint(shown),
            "status": "ACTIVE",
        }  # fmt: skip
        path = f"/device-certificates/{seen['certificate_id']}"
        assert (await rest.get(path)) == seen | {"certificate_pem": shown.certificate_pem}
        users = await rest.post(f"{path}/list-device", {"limit": 5}, status=200)
        assert [one["device_id"] for one in users["devices"]] == [device_id]
        assert (await rest.put(path, {"status": "INACTIVE"}))["status"] == "INACTIVE"
        assert await gateway.wire.reader.read() == b""
    assert await greet(rest.cloud, hello, shown) != 0
    assert (await rest.ask("PUT", path, {"status": "ASLEEP"}))[0] == 400
    await rest.put(path, {"status": "ACTIVE"})
    assert await greet(rest.cloud, hello, shown) == 0
    found = await rest.get("/device-certificates", common_name="another")
    assert found["device_certificates"] == []
    await rest.delete(path)


async def test_templates(rest: Rest) -> None:
    new = {"template_name": "by-name", "description": "of-the-mill", "template_body": BY_NAME}
    made = await rest.post("/provisioning-templates", new)
    times = {"create_time": NOW, "update_time": NOW}
    assert made == new | {"template_id": made["template_id"]} | times
    path = f"/provisioning-templates/{made['template_id']}"
    assert await rest.get(path) == made
    (listed,) = (await rest.get("/provisioning-templates", template_name="by-name"))["templates"]
    assert listed == {key: value for key, value in made.items() if key != "template_body"}
    changed = await rest.put(path, {"description": "of-another"})
    assert changed == made | {"description": "of-another"}
    status, said = await rest.ask("PUT", path, {"template_name": "other"})
    assert (status, said["error_code"]) == (400, "IOTDA.000006")
    for body in ({}, None, {"parameters": {}, "resources": {"device": {"node_id": "x"}}}):
        status, said = await rest.ask("POST", "/provisioning-templates", {
            "template_name": "bad", "template_body": body
        })  # fmt: skip
        assert (status, said["error_code"]) == (400, "IOTDA.000006")
    await rest.delete(path)


async def test_the_eleventh_template(rest: Rest) -> None:
    for number in range(10):
        new = {"template_name": f"t-{number}", "template_body": BY_NAME}
        await rest.post("/provisioning-templates", new)
    status, said = await rest.ask(
        "POST", "/provisioning-templates", {"template_name": "t-10", "template_body": BY_NAME}
    )
    assert (status, said["error_code"]) == (403, "IOTDA.014922")


async def test_policies(rest: Rest) -> None:
    rule = {
        "effect": "DENY", "actions": ["iotda:devices:publish"], "resources": ["topic:secret/*"],
    }  # fmt: skip
    made = await rest.post("/device-policies", {"policy_name": "quiet", "statement": [rule]})
    app_id, path = rest.instance.apps.default.app_id, f"/device-policies/{made['policy_id']}"
    assert made == {
        "app_id": app_id, "policy_id": made["policy_id"], "policy_name": "quiet",
        "statement": [rule], "create_time": NOW, "update_time": NOW,
    }  # fmt: skip
    assert await rest.get(path) == made
    everything = (await rest.get("/device-policies", app_id=app_id))["policies"]
    assert [one["policy_name"] for one in everything] == ["quiet", DEFAULT_NAME]
    (listed,) = (await rest.get("/device-policies", policy_name="quiet"))["policies"]
    assert listed == {key: value for key, value in made.items() if key != "statement"}
    assert (await rest.put(path, {"policy_name": "still"}))["policy_name"] == "still"
    assert (await rest.ask("PUT", path, {"statement": [{}]}))[0] == 400
    await rest.delete(path)


async def test_what_a_policy_is_bound_to(rest: Rest) -> None:
    rule = {"effect": "DENY", "actions": ["iotda:devices:publish"], "resources": ["topic:*"]}
    made = await rest.post("/device-policies", {"policy_name": "quiet", "statement": [rule]})
    path = f"/device-policies/{made['policy_id']}"
    targets = {"target_type": "device", "target_ids": [GATEWAY, "unknown"]}
    bound = await rest.post(f"{path}/bind", targets, status=200)
    assert bound["success_targets"] == [GATEWAY]
    (failed,) = bound["failure_targets"]
    assert (failed["target_id"], failed["error_code"]) == ("unknown", "IOTDA.014000")
    gateway = rest.instance.devices.get(GATEWAY)
    assert not rest.instance.policies.allows(gateway, "publish", "news")
    products = {"target_type": "product", "target_ids": [SENSORS, GATEWAYS]}
    await rest.post(f"{path}/bind", products, status=200)
    seen, marker = [], "f" * 24
    for _ in range(3):
        body = {"limit": 1, "marker": marker}
        found = await rest.post(f"{path}/list-targets", body, status=200)
        assert found["page"]["count"] == 3
        seen += [one["target_id"] for one in found["targets"]]
        marker = found["page"]["marker"]
    assert sorted(seen) == sorted([GATEWAY, SENSORS, GATEWAYS])
    only = await rest.post(f"{path}/list-targets", {"target_type": "device"}, status=200)
    assert only["targets"] == [{"target_type": "device", "target_id": GATEWAY}]
    unbound = await rest.post(f"{path}/unbind", targets, status=200)
    assert unbound["success_targets"] == [GATEWAY]
    assert [one["target_id"] for one in unbound["failure_targets"]] == ["unknown"]
    await rest.post(f"{path}/unbind", products, status=200)
    assert rest.instance.policies.allows(gateway, "publish", "news")
