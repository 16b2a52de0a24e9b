"""What the owner of a Huawei instance does with the vendor's management SDK, and with nothing else.

Who makes certificates is the caller's business.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gatewayd.simulator.huawei.cloud import HuaweiCloud
from tests.interop.vendor_process import Sdk, vendor

KEYS = {"access_key": "AKIDEXAMPLE0000000001", "secret_key": "s3cr3t-Key/of+40=characters"}
SHARED = "iotda.cn-north-4.myhuaweicloud.com"
OWN = "one.st1.iotda-app.cn-north-4.myhuaweicloud.com"
PRODUCT = "th-20"
CLIMATE = {
    "service_id": "climate",
    "service_type": "climate",
    "properties": [{"property_name": "temperature", "data_type": "decimal"}],
}

LAMP = {
    "service_id": "lamp",
    "service_type": "lamp",
    "properties": [
        {"property_name": "level", "data_type": "int", "min": "0", "max": "100", "method": "RW"},
        {"property_name": "lit", "data_type": "boolean", "method": "R"},
    ],
    "commands": [
        {
            "command_name": "dim",
            "paras": [{"para_name": "to", "data_type": "int", "required": True, "max": "100"}],
            "responses": [{"response_name": "dim", "paras": []}],
        }
    ],
}
LAMP_SECRET = "a-secret-of-the-gateway"


@dataclass(frozen=True)
class Served:
    """A platform and its management."""

    cloud: HuaweiCloud
    facts: dict[str, Any]

    def sdk(
        self, host: str = SHARED, **changed: str
    ) -> contextlib.AbstractAsyncContextManager[Sdk]:
        return vendor("huawei_peer.py", self.facts | {"host": host} | changed)


async def create_product(sdk: Sdk, app_id: str | None = None) -> str:
    """Create the product of the children; return its id."""
    body = {
        "product_id": PRODUCT, "name": "Thermometer", "device_type": "thermometer",
        "protocol_type": "MQTT", "data_format": "json", "manufacturer_name": "acme",
        "service_capabilities": [CLIMATE],
    }  # fmt: skip
    made = await sdk.do("create_product", body=body | ({"app_id": app_id} if app_id else {}))
    return str(made["product_id"])


async def create_lamp(sdk: Sdk) -> None:
    """Create a product of lamps, and one of them that is a gateway."""
    body = {
        "product_id": PRODUCT, "name": "Lamp", "device_type": "lamp", "protocol_type": "MQTT",
        "data_format": "json", "service_capabilities": [LAMP],
    }  # fmt: skip
    await sdk.do("create_product", body=body)
    auth = {"auth_type": "SECRET", "secret": LAMP_SECRET}
    new = {"node_id": "gateway-1", "product_id": PRODUCT, "auth_info": auth}
    await sdk.do("add_device", body=new)


async def create_template(sdk: Sdk, body: Mapping[str, Any]) -> str:
    """Create a template; return its id."""
    wanted = {"template_name": "by-name", "description": "of-children", "template_body": body}
    made = await sdk.do("create_provisioning_template", body=wanted)
    return str(made["template_id"])


async def enrol(
    sdk: Sdk, ca_pem: str, prove: Callable[[str], Awaitable[str]], app_id: str | None = None
) -> str:
    """Upload a device CA and verify it; return its id.

    prove: the verification code → a certificate that proves possession of the CA's key, PEM.
    """
    body = {"content": ca_pem} | ({"app_id": app_id} if app_id else {})
    uploaded = await sdk.do("add_certificate", body=body)
    assert not uploaded["status"]
    one = {"certificate_id": uploaded["certificate_id"]}
    proof = {"verify_content": await prove(uploaded["verify_code"])}
    await sdk.do("check_certificate", **one, action_id="verify", body=proof)
    shown = await sdk.do("show_certificate", **one)
    assert shown["status"]
    return str(shown["certificate_id"])


async def let_register(sdk: Sdk, certificate_id: str, template_id: str) -> None:
    """Bind a template to a CA, and have devices of that CA register themselves."""
    changes = {"template_id": template_id, "provision_enable": True}
    changed = await sdk.do("update_certificate", certificate_id=certificate_id, body=changes)
    assert {name: changed[name] for name in changes} == changes


async def refusal(sdk: Sdk, verb: str, **request: Any) -> Any:
    """Return status and code of what the SDK raises."""
    error = (await sdk.answer(verb, **request))["error"]
    return error["status"], error["code"]
