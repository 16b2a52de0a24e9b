"""Huawei's own management SDK against the simulated platform, over TLS and with real signatures."""

from __future__ import annotations

import pytest

from gatewayd.testing.waiting import until
from tests.interop.huawei_owner import (
    OWN,
    PRODUCT,
    SHARED,
    Served,
    create_product,
    create_template,
    enrol,
    let_register,
    refusal,
)
from tests.interop.vendor_process import Sdk
from tests.simulator.huawei.client import (
    BEGIN,
    CN,
    DEVICE_CA,
    END,
    Hello,
    certificate,
    device,
    fingerprint,
    greet,
)

NODE = "th20-0001"
DEVICE = f"{PRODUCT}_{NODE}"
NAMED = {"ref": "iotda::certificate::common_name"}
BY_NAME = {
    "parameters": {"iotda::certificate::common_name": {"type": "String"}},
    "resources": {
        "device": {
            "device_name": NAMED,
            "node_id": NAMED,
            "product_id": PRODUCT,
            "tags": [{"tag_key": "site", "tag_value": "plant-7"}],
        }
    },
}


async def prove(code: str) -> str:
    return DEVICE_CA.issue_client([(CN, code)], BEGIN, END).certificate_pem


async def prepare(sdk: Sdk) -> str:
    """Let devices of our CA register; return the CA's id."""
    await create_product(sdk)
    ca = await enrol(sdk, DEVICE_CA.pem, prove)
    await let_register(sdk, ca, await create_template(sdk, BY_NAME))
    return ca


@pytest.mark.parametrize("host", [SHARED, OWN])
async def test_a_device_registers_itself_and_is_managed(served: Served, host: str) -> None:
    hello, shown, other = Hello(DEVICE), certificate(NODE), certificate(NODE)
    async with served.sdk(host) as sdk:
        await prepare(sdk)
        assert (await sdk.do("list_devices"))["devices"] == []
        async with device(served.cloud, hello, shown):
            (listed,) = (await sdk.do("list_devices", product_id=PRODUCT))["devices"]
            assert (listed["device_id"], listed["status"]) == (DEVICE, "ONLINE")
            assert listed["product_name"] == "Thermometer"
            seen = await sdk.do("show_device", device_id=DEVICE)
            assert (seen["status"], seen["device_name"]) == ("ONLINE", NODE)
            assert seen["tags"] == [{"tag_key": "site", "tag_value": "plant-7"}]
            assert seen["auth_info"]["fingerprint"] == fingerprint(shown)
        assert await greet(served.cloud, hello, other) != 0
        await sdk.do("reset_fingerprint", device_id=DEVICE, body={})
        async with device(served.cloud, hello, other) as link:
            await sdk.do("freeze_device", device_id=DEVICE)
            assert await link.wire.reader.read() == b""
        assert (await sdk.do("show_device", device_id=DEVICE))["status"] == "FROZEN"
        assert await greet(served.cloud, hello, other) != 0
        await sdk.do("unfreeze_device", device_id=DEVICE)
        assert await greet(served.cloud, hello, other) == 0
        await sdk.do("delete_device", device_id=DEVICE)
        assert await refusal(sdk, "show_device", device_id=DEVICE) == (404, "IOTDA.014000")


@pytest.mark.parametrize("host", [SHARED, OWN])
async def test_wrong_keys(served: Served, host: str) -> None:
    for wrong in ({"secret_key": "wrong"}, {"access_key": "unknown"}):
        async with served.sdk(host, **wrong) as sdk:
            assert await refusal(sdk, "list_devices") == (401, "APIGW.0301")


async def test_two_instances_behind_one_host(served: Served) -> None:
    served.cloud.platform.create("two")
    async with served.sdk() as sdk:
        assert await refusal(sdk, "list_products") == (403, "IOTDA.000902")
        body = {"app_name": "plant"}
        await sdk.do("add_application", instance_id="two", body=body)
        for instance, spaces in (("one", 1), ("two", 2)):
            found = await sdk.do("show_applications", instance_id=instance)
            assert len(found["applications"]) == spaces


async def test_resource_spaces_and_products(served: Served) -> None:
    async with served.sdk() as sdk:
        made = await sdk.do("add_application", body={"app_name": "plant"})
        app = {"app_id": made["app_id"]}
        assert await create_product(sdk, made["app_id"]) == PRODUCT
        shown = await sdk.do("show_product", product_id=PRODUCT, **app)
        (service,) = shown["service_capabilities"]
        assert (service["service_id"], service["properties"][0]["data_type"]) == (
            "climate", "decimal",
        )  # fmt: skip
        changed = await sdk.do("update_product", product_id=PRODUCT, body={**app, "name": "Other"})
        assert changed["name"] == "Other"
        (listed,) = (await sdk.do("list_products", **app))["products"]
        assert (listed["name"], listed["app_name"]) == ("Other", "plant")
        await sdk.do("update_application", **app, body={"app_name": "mill"})
        assert (await sdk.do("show_application", **app))["app_name"] == "mill"
        kept = (await sdk.do("show_applications", default_app=True))["applications"]
        assert [one["default_app"] for one in kept] == [True]
        await sdk.do("delete_product", product_id=PRODUCT, **app)
        await sdk.do("delete_application", **app)
        assert await refusal(sdk, "show_application", **app) == (404, "IOTDA.001000")


async def test_cas_and_templates(served: Served) -> None:
    async with served.sdk() as sdk:
        ca = await prepare(sdk)
        (listed,) = (await sdk.do("list_certificates"))["certificates"]
        assert (listed["certificate_id"], listed["cn_name"]) == (ca, "Device CA")
        (template,) = (await sdk.do("list_provisioning_templates"))["templates"]
        one = {"template_id": template["template_id"]}
        body = (await sdk.do("show_provisioning_template", **one))["template_body"]
        assert body["resources"]["device"]["node_id"] == NAMED
        assert body["parameters"] == BY_NAME["parameters"]
        assert (await refusal(sdk, "delete_provisioning_template", **one))[0] == 400
        await sdk.do("update_provisioning_template", **one, body={"description": "other"})
        await sdk.do("delete_certificate", certificate_id=ca)
        await sdk.do("delete_provisioning_template", **one)
        assert (await sdk.do("list_provisioning_templates"))["templates"] == []
        wrong = {"template_name": "x", "template_body": {"parameters": {}, "resources": {}}}
        assert await refusal(sdk, "create_provisioning_template", body=wrong) == (
            400, "IOTDA.000006",
        )  # fmt: skip


async def test_a_proof_by_a_strangers_key(served: Served) -> None:
    async with served.sdk() as sdk:
        made = await sdk.do("add_certificate", body={"content": DEVICE_CA.pem})
        one = {"certificate_id": made["certificate_id"], "action_id": "verify"}
        body = {"verify_content": await prove("another-code")}
        assert await refusal(sdk, "check_certificate", **one, body=body) == (400, "IOTDA.014307")


async def test_devices_by_pages_with_tags_secrets_and_gateways(served: Served) -> None:
    async with served.sdk() as sdk:
        await create_product(sdk)
        for number in range(12):
            body = {"node_id": f"n-{number}", "product_id": PRODUCT, "device_name": "a b"}
            if number == 0:
                assert await refusal(sdk, "add_device", body=body) == (400, "IOTDA.000006")
            body |= {"device_name": f"sensor#{number}&more"}
            made = await sdk.do("add_device", body=body)
            assert len(made["auth_info"]["secret"]) == 32
        first = await sdk.do("list_devices")
        marker = first["page"]["marker"]
        second = await sdk.do("list_devices", marker=marker, limit=5, offset=1)
        assert [one["node_id"] for one in second["devices"]] == ["n-0"]
        (found,) = (await sdk.do("list_devices", device_name="sensor#7&more"))["devices"]
        assert found["node_id"] == "n-7"
        gateway = f"{PRODUCT}_n-0"
        for node in ("c-1", "c-2"):
            body = {"node_id": node, "product_id": PRODUCT, "gateway_id": gateway}
            assert (await sdk.do("add_device", body=body))["node_type"] == "ENDPOINT"
        one = {"device_id": f"{PRODUCT}_c-1"}
        await sdk.do("change_gateway", **one, body={"gateway_id": f"{PRODUCT}_n-1"})
        left = (await sdk.do("list_devices", gateway_id=gateway, is_cascade_query=True))["devices"]
        assert [child["node_id"] for child in left] == ["c-2"]
        changes = {"description": "moved", "auth_info": {"timeout": 0, "secure_access": True}}
        assert (await sdk.do("update_device", **one, body=changes))["description"] == "moved"
        answer = await sdk.do(
            "reset_device_secret", device_id=gateway, action_id="resetSecret",
            body={"secret": "another-one"},
        )  # fmt: skip
        assert (answer["secret"], answer["secret_type"]) == ("another-one", "PRIMARY")
        bound = {"resource_type": "device", "resource_id": gateway}
        tags = [{"tag_key": "hall", "tag_value": "3"}]
        await sdk.do("tag_device", body={**bound, "tags": tags})
        wanted = {"resource_type": "device", "tags": tags}
        found = await sdk.do("list_resources_by_tags", body=wanted)
        assert found["resources"] == [{"resource_id": gateway}]
        await sdk.do("untag_device", body={**bound, "tag_keys": ["hall"]})
        assert (await sdk.do("list_resources_by_tags", body=wanted))["resources"] == []


async def test_policies(served: Served) -> None:
    rule = {"effect": "DENY", "actions": ["iotda:devices:publish"], "resources": ["topic:*"]}
    async with served.sdk() as sdk:
        await create_product(sdk)
        made = await sdk.do("create_device_policy", body={"policy_name": "a", "statement": [rule]})
        assert made["statement"] == [rule]
        one = {"policy_id": made["policy_id"]}
        targets = {"target_type": "product", "target_ids": [PRODUCT, "none"]}
        bound = await sdk.do("bind_device_policy", **one, body=targets)
        assert bound["success_targets"] == [PRODUCT]
        assert [failed["target_id"] for failed in bound["failure_targets"]] == ["none"]
        body = {"target_type": "product"}
        listed = await sdk.do("show_targets_in_device_policy", **one, body=body)
        assert listed["targets"] == [{"target_type": "product", "target_id": PRODUCT}]
        unbound = await sdk.do("unbind_device_policy", **one, body=targets)
        assert unbound["success_targets"] == [PRODUCT]
        changed = await sdk.do("update_device_policy", **one, body={"policy_name": "b"})
        assert changed["policy_name"] == "b"
        assert (await sdk.do("show_device_policy", **one))["policy_name"] == "b"
        await sdk.do("delete_device_policy", **one)
        names = [one["policy_name"] for one in (await sdk.do("list_device_policies"))["policies"]]
        assert names == ["system_default_policy"]


async def test_a_certificate_is_switched_off(served: Served) -> None:
    hello, shown = Hello(DEVICE), certificate(NODE)
    async with served.sdk() as sdk:
        await prepare(sdk)
        async with device(served.cloud, hello, shown) as link:
            (seen,) = (await sdk.do("list_device_certificate", common_name=NODE))[
                "device_certificates"
            ]
            one = {"certificate_id": seen["certificate_id"]}
            whole = await sdk.do("show_device_certificate", **one)
            assert whole["certificate_pem"] == shown.certificate_pem
            users = await sdk.do("list_device_by_device_certificate", **one, body={"limit": 1})
            assert [user["device_id"] for user in users["devices"]] == [DEVICE]
            await sdk.do("update_device_certificate", **one, body={"status": "INACTIVE"})
            assert await link.wire.reader.read() == b""
        await until(lambda: not online(served))
        await sdk.do("delete_device_certificate", **one)
        assert (await refusal(sdk, "show_device_certificate", **one))[0] == 404


def online(served: Served) -> bool:
    return served.cloud.platform.instances["one"].devices.get(DEVICE).status == "ONLINE"
