"""Devices and their tags at the simulated Huawei platform's management interface.  Pure.

Source: the vendor's APIs "Device management" and "Tag management" (api-iothub).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from gatewayd.simulator.huawei import times
from gatewayd.simulator.huawei.management import exchange
from gatewayd.simulator.huawei.management.rest import (
    Fields,
    ManagementAnswer,
    ManagementRequest,
    ManagementRoute,
    page,
)
from gatewayd.simulator.huawei.platform.device import (
    AuthSlot,
    DeviceAuth,
    HuaweiAuthType,
    HuaweiDevice,
    NewDevice,
)
from gatewayd.simulator.huawei.platform.errors import IotdaCode, PlatformError
from gatewayd.simulator.huawei.platform.instance import IotdaInstance


def _create(request: ManagementRequest) -> ManagementAnswer:
    """Create a device, with the shadow that is desired at first."""
    body = request.body
    shadow = [] if body.any("shadow") is None else body.objects("shadow")
    product = request.instance.products.get(body.demand("product_id"))
    exchange.check_desired(product.profile, shadow)
    new = NewDevice(
        node_id=body.demand("node_id"),
        product_id=body.demand("product_id"),
        device_id=body.text("device_id"),
        name=body.text("device_name"),
        description=body.text("description"),
        app_id=body.text("app_id"),
        gateway_id=body.text("gateway_id"),
        auth=_auth(body.inner("auth_info")),
        extension_info=body.any("extension_info"),
    )
    device = request.instance.devices.add(**new)
    exchange.desire(request.instance, device, shadow)
    return _whole(request.instance, device)


def _auth(sent: Fields) -> DeviceAuth:
    return DeviceAuth(
        _auth_type(sent),
        sent.text("secret"),
        fingerprint=sent.text("fingerprint"),
        secure_access=sent.flag("secure_access", True) is True,
        timeout=sent.number("timeout", 0),
    )


def _list(request: ManagementRequest) -> ManagementAnswer:
    query, instance = request.query, request.instance
    since, until = _moment(query, "start_time"), _moment(query, "end_time")
    found = [
        one
        for one in _asked(instance, query)
        if (since is None or one.created >= since) and (until is None or one.created <= until)
    ]
    return page("devices", found, query, lambda one: _summary(instance, one))


def _asked(instance: IotdaInstance, query: Fields) -> Sequence[HuaweiDevice]:
    gateway_id = query.text("gateway_id")
    wanted = {
        "app_id": query.text("app_id"),
        "product_id": query.text("product_id"),
        "node_id": query.text("node_id"),
        "name": query.text("device_name"),
    }
    if gateway_id is None or not query.flag("is_cascade_query"):
        return instance.devices.list(gateway_id=gateway_id, **wanted)
    return [
        one
        for one in instance.devices.descendants(gateway_id)
        if all(value in (None, getattr(one, name)) for name, value in wanted.items())
    ]


def _show(request: ManagementRequest) -> ManagementAnswer:
    return _whole(request.instance, request.instance.devices.get(request.path["device_id"]))


def _update(request: ManagementRequest) -> ManagementAnswer:
    sent, auth = request.body, request.body.inner("auth_info")
    changes = sent.given("description", "extension_info")
    changes |= auth.given("secure_access", "timeout")
    if (name := sent.text("device_name")) is not None:
        changes["name"] = name
    return _whole(
        request.instance, request.instance.devices.update(request.path["device_id"], changes)
    )


def _delete(request: ManagementRequest) -> None:
    request.instance.devices.delete(request.path["device_id"])


def _freeze(request: ManagementRequest) -> None:
    request.instance.devices.freeze(request.path["device_id"])


def _unfreeze(request: ManagementRequest) -> None:
    request.instance.devices.unfreeze(request.path["device_id"])


def _reset_secret(request: ManagementRequest) -> ManagementAnswer:
    device_id, body = request.path["device_id"], request.body
    if request.query.text("action_id") != "resetSecret":
        raise PlatformError(IotdaCode.INVALID_INPUT, "(action_id)")
    slot, force = _slot(body, "secret_type"), body.flag("force_disconnect", False) is True
    secret = request.instance.devices.reset_secret(
        device_id, body.text("secret"), slot=slot, force_disconnect=force
    )
    return {"device_id": device_id, "secret": secret, "secret_type": slot}


def _reset_fingerprint(request: ManagementRequest) -> ManagementAnswer:
    device_id, body = request.path["device_id"], request.body
    slot, force = _slot(body, "fingerprint_type"), body.flag("force_disconnect", False) is True
    fingerprint = body.text("fingerprint")
    request.instance.devices.reset_fingerprint(
        device_id, fingerprint, slot=slot, force_disconnect=force
    )
    return {"device_id": device_id, "fingerprint": fingerprint, "fingerprint_type": slot}


def _change_gateway(request: ManagementRequest) -> None:
    request.instance.devices.change_gateway(
        request.path["device_id"], request.body.demand("gateway_id")
    )


def _bind_tags(request: ManagementRequest) -> None:
    request.instance.devices.bind_tags(_resource(request.body), dict(_tags(request.body)))


def _unbind_tags(request: ManagementRequest) -> None:
    request.instance.devices.unbind_tags(
        _resource(request.body), request.body.listed("tag_keys", str)
    )


def _tagged(request: ManagementRequest) -> ManagementAnswer:
    """List the devices that have one of the tags."""
    _device_type(request.body)
    tags = set(_tags(request.body))
    found = [one for one in request.instance.devices.list() if tags & set(one.tags.items())]
    return page("resources", found, request.query, lambda one: {"resource_id": one.device_id})


def _resource(body: Fields) -> str:
    _device_type(body)
    return body.demand("resource_id")


def _device_type(body: Fields) -> None:
    if body.demand("resource_type") != "device":
        raise PlatformError(IotdaCode.INVALID_INPUT, "(resource_type)")


def _tags(body: Fields) -> Sequence[tuple[str, str]]:
    return [(tag.demand("tag_key"), tag.demand("tag_value")) for tag in body.objects("tags")]


def _slot(body: Fields, name: str) -> AuthSlot:
    try:
        return AuthSlot(body.text(name) or AuthSlot.PRIMARY)
    except ValueError:
        raise PlatformError(IotdaCode.INVALID_INPUT, f"({name})") from None


def _auth_type(sent: Fields) -> HuaweiAuthType:
    try:
        return HuaweiAuthType(sent.text("auth_type") or HuaweiAuthType.SECRET)
    except ValueError:
        raise PlatformError(IotdaCode.INVALID_INPUT, "(auth_type)") from None


def _moment(query: Fields, name: str) -> float | None:
    """Read yyyyMMdd'T'HHmmss'Z' as seconds since 1970."""
    if (text := query.text(name)) is None:
        return None
    try:
        return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise PlatformError(IotdaCode.INVALID_INPUT, f"({name})") from None


def simple(device: HuaweiDevice) -> dict[str, object]:
    """Return the short form of a device."""
    return {
        "app_id": device.app_id,
        "device_id": device.device_id,
        "node_id": device.node_id,
        "gateway_id": device.gateway_id,
        "device_name": device.name,
        "product_id": device.product_id,
    }


def _summary(instance: IotdaInstance, device: HuaweiDevice) -> dict[str, object]:
    tags = [{"tag_key": key, "tag_value": value} for key, value in device.tags.items()]
    return simple(device) | {
        "app_name": instance.apps.get(device.app_id).name,
        "product_name": instance.products.get(device.product_id).name,
        "node_type": device.node_type,
        "description": device.description,
        "fw_version": device.fw_version,
        "sw_version": device.sw_version,
        "status": device.status,
        "tags": tags,
    }


def _whole(instance: IotdaInstance, device: HuaweiDevice) -> Mapping[str, object]:
    def when(moment: float | None) -> str | None:
        return None if moment is None else times.dashed(moment)

    return _summary(instance, device) | {
        "auth_info": asdict(device.auth),
        "create_time": times.basic(device.created),
        "connection_status_update_time": when(device.changed),
        "active_time": when(device.activated),
        "extension_info": device.extension_info,
    }


ROUTES: tuple[ManagementRoute, ...] = (
    ("POST", "/devices", 201, _create),
    ("GET", "/devices", 200, _list),
    ("GET", "/devices/{device_id}", 200, _show),
    ("PUT", "/devices/{device_id}", 200, _update),
    ("DELETE", "/devices/{device_id}", 204, _delete),
    ("POST", "/devices/{device_id}/freeze", 204, _freeze),
    ("POST", "/devices/{device_id}/unfreeze", 204, _unfreeze),
    ("POST", "/devices/{device_id}/action", 200, _reset_secret),
    ("POST", "/devices/{device_id}/reset-fingerprint", 200, _reset_fingerprint),
    ("POST", "/devices/{device_id}/change-gateway", 204, _change_gateway),
    ("POST", "/tags/bind-resource", 200, _bind_tags),
    ("POST", "/tags/unbind-resource", 200, _unbind_tags),
    ("POST", "/tags/query-resources", 200, _tagged),
)
