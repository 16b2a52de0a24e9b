"""What the owner of a Huawei instance does with the vendor's management SDK, and with nothing else.

Who makes certificates is the caller's business.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from tests.interop.vendor_process import Sdk

PRODUCT = "th-20"
CLIMATE = {
    "service_id": "climate",
    "service_type": "climate",
    "properties": [{"property_name": "temperature", "data_type": "decimal"}],
}


async def create_product(sdk: Sdk, app_id: str | None = None) -> str:
    """Create the product of the children; return its id."""
    body = {
        "product_id": PRODUCT, "name": "Thermometer", "device_type": "thermometer",
        "protocol_type": "MQTT", "data_format": "json", "manufacturer_name": "acme",
        "service_capabilities": [CLIMATE],
    }  # fmt: skip
    made = await sdk.do("create_product", body=body | ({"app_id": app_id} if app_id else {}))
    return str(made["product_id"])


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
