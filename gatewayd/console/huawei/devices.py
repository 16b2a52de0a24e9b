"""The steps about devices of IoTDA: registered beforehand, their secrets set.

Source: the vendor's API "Device management" (api-iothub: CreateDevice, ResetDeviceSecret) and the
models of its Python SDK.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gatewayd.console.huawei.api import DEVICE, NOT_YET, PRODUCT, Entry, IotdaApi, made_id, text_of
from gatewayd.console.huawei.signature import segment
from gatewayd.console.steps import ConsoleStep, StepOutcome, Steps
from gatewayd.device.secret import Secret
from gatewayd.errors import ConsoleError

MAX_DEVICES = 10_000
"""Devices that one command registers: each is one request, and these take half an hour or so."""


@dataclass(frozen=True, slots=True)
class NewDevices:
    """Devices to register.

    product: its id.  node_ids: of the devices.  gateway: id of the device that they are behind; ""
    for devices that connect by themselves.
    secret: of the one device that logs in with it; None for devices behind a gateway, and for those
    that log in with certificates.
    """

    product: str
    node_ids: Sequence[str]
    gateway: str = ""
    secret: Secret | None = None


async def register(api: IotdaApi, new: NewDevices, space: str = "") -> Steps:
    """Have devices registered; those that are there already stay as they are.

    space: id of the product's resource space, for a dry run in which there is no product yet.
    Raises ConsoleError, before anything is done where there are too many or one is elsewhere.
    """
    if len(new.node_ids) > MAX_DEVICES:
        raise ConsoleError(
            f"The devices are not registered: there are more than {MAX_DEVICES}. Divide the list"
        )
    product_id, known, wanted = new.product, dict[str, Entry](), frozenset(new.node_ids)
    if product_id != NOT_YET:
        product = await api.get(PRODUCT, new.product)
        product_id, space = text_of(product, PRODUCT.id), text_of(product, "app_id")
        async for one in api.listed(DEVICE, product_id=product_id):
            if (name := text_of(one, DEVICE.name)) in wanted:
                known[name] = one
    for node_id in new.node_ids:
        if node_id in known:
            _check_gateway(node_id, known[node_id], new.gateway)
    for node_id in new.node_ids:
        outcome, found = StepOutcome.PRESENT, known.get(node_id)
        if found is None:
            outcome, foreseen = StepOutcome.MADE, {DEVICE.id: f"{product_id}_{node_id}"}
            body = _body(new, node_id, product_id) | ({"app_id": space} if space else {})
            found = await api.change("POST", DEVICE.path, body, foreseen=foreseen)
        asked, id_ = api.client.take_planned(), made_id(found, DEVICE)
        yield ConsoleStep(outcome, DEVICE.word, node_id, id_, asked=asked)


def _body(new: NewDevices, node_id: str, product_id: str) -> dict[str, object]:
    """Return the request that registers a device."""
    named = {"node_id": node_id, "product_id": product_id}
    if new.gateway:
        return {**named, "gateway_id": new.gateway}
    if new.secret is None:
        return {**named, "auth_info": {"auth_type": "CERTIFICATES"}}
    secret = new.secret.reveal().decode()
    return {**named, "auth_info": {"auth_type": "SECRET", "secret": secret}}


def _check_gateway(node_id: str, found: Entry, wanted: str) -> None:
    """Refuse a device that is there, and behind another gateway.  Raises ConsoleError."""
    gateway = text_of(found, "gateway_id")
    if gateway == text_of(found, DEVICE.id):
        gateway = ""  # it connects by itself
    if gateway != wanted:
        place = f"behind {gateway!a}" if gateway else "connects by itself"
        raise ConsoleError(
            f"No device is registered: {node_id!a} is there already, and {place}. Leave it out, or "
            "move or delete it first"
        )


async def reset_secret(
    api: IotdaApi, device: str, secret: Secret, *, secondary: bool, disconnect: bool
) -> ConsoleStep:
    """Set the secret of a device.  Raises ConsoleError.

    device: its id.  secret: 8 to 32 letters, digits, _ and -.  secondary: beside the one in use.
    disconnect: whether its connection is closed, so that it logs in again.
    """
    entry = await api.get(DEVICE, device)
    body = {
        "secret": secret.reveal().decode(),
        "secret_type": "SECONDARY" if secondary else "PRIMARY",
        "force_disconnect": disconnect,
    }
    path = f"{DEVICE.path}/{segment(device)}/action"
    await api.change("POST", path, body, query={"action_id": "resetSecret"})
    asked, name = api.client.take_planned(), text_of(entry, DEVICE.name)
    kind = "secondary secret set" if secondary else "secret set"
    return ConsoleStep(StepOutcome.CHANGED, DEVICE.word, name, device, kind, asked)
