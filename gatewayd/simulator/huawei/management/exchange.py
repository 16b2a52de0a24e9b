"""Shadows, properties, commands and messages at the platform's management interface.

Sources: the vendor's APIs "Device shadow", "Device property", "Device command" and "Device message"
(api-iothub: iot_06_v5_0035 and 0038, 0059, 0072 and 0079), and its list of error codes (ErrorCode).
What does not fit the product's model is refused before the device is asked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from gatewayd.simulator.huawei import times, topics
from gatewayd.simulator.huawei.downlinks import COMMANDS, GET, SET
from gatewayd.simulator.huawei.exchange.device_messages import (
    MAX_MESSAGE,
    MAX_TTL,
    TTL_STEP,
    DeviceMessage,
)
from gatewayd.simulator.huawei.exchange.product_model import Misfit, ProductModel
from gatewayd.simulator.huawei.management.rest import (
    Fields,
    ManagementAnswer,
    ManagementRequest,
    ManagementRoute,
)
from gatewayd.simulator.huawei.platform import fields
from gatewayd.simulator.huawei.platform.device import HuaweiDevice
from gatewayd.simulator.huawei.platform.errors import IotdaCode, PlatformError
from gatewayd.simulator.huawei.platform.instance import IotdaInstance
from gatewayd.simulator.huawei.uplinks import describe_shadow
from gatewayd.simulator.mqtt.delivery import encode

_TOPIC = re.compile(r"[^#+\x00]{1,128}")


async def _command(request: ManagementRequest) -> ManagementAnswer:
    device, body = _device(request), request.body
    service_id, paras = body.text("service_id"), _object(body, "paras")
    if service_id:  # else the owner and the device have agreed on a format of their own
        name = body.demand("command_name")
        _refuse(_model(request, device).command(service_id, name, paras))
    sent = {"service_id": service_id, "command_name": body.text("command_name"), "paras": paras}
    response = await _ask(request, device, COMMANDS, sent)
    return {"command_id": request.instance.ids.code(), "response": response}


async def _set_properties(request: ManagementRequest) -> ManagementAnswer:
    device, model = _device(request), _model(request, _device(request))
    services = request.body.listed("services", dict)
    for one in map(Fields, services):
        _refuse(model.settable(one.demand("service_id"), _object(one, "properties")))
    response = await _ask(request, device, SET, {"services": services})
    return {"request_id": request.instance.ids.code(), "response": response}


async def _get_properties(request: ManagementRequest) -> ManagementAnswer:
    device, service_id = _device(request), request.query.demand("service_id")
    response = await _ask(request, device, GET, {"service_id": service_id})
    return {"request_id": request.instance.ids.code(), "response": response}


def _show_shadow(request: ManagementRequest) -> ManagementAnswer:
    device_id = _device(request).device_id
    shadow = request.instance.shadows.of(device_id)
    services = [describe_shadow(service_id, one) for service_id, one in shadow.items()]
    return {"device_id": device_id, "shadow": services}


def _desire(request: ManagementRequest) -> ManagementAnswer:
    device, wanted = _device(request), request.body.objects("shadow")
    check_desired(_model(request, device), wanted)
    desire(request.instance, device, wanted)
    return _show_shadow(request)


def check_desired(model: ProductModel, wanted: Sequence[Fields]) -> None:
    """Check desired properties against a product's model.  Raises PlatformError."""
    for one in wanted:
        properties = _object(one, "desired")
        given = {name: value for name, value in properties.items() if value is not None}
        _refuse(model.settable(one.demand("service_id"), given))


def desire(instance: IotdaInstance, device: HuaweiDevice, wanted: Sequence[Fields]) -> None:
    """Change what is desired of a device, and send it if it is online.  Raises PlatformError."""
    now = instance.ids.clock()
    for one in wanted:
        version = one.number("version", -1) if one.any("version") is not None else None
        service_id, properties = one.demand("service_id"), _object(one, "desired")
        instance.shadows.desire(device.device_id, service_id, properties, now, version)
    if instance.channel:
        instance.channel.desire(device)


def _send_message(request: ManagementRequest) -> ManagementAnswer:
    device, instance, body = _device(request), request.instance, request.body
    message = DeviceMessage(
        fields.optional("message_id", body.text("message_id")) or instance.ids.code(),
        _content(body),
        instance.ids.clock(),
        fields.optional("message_name", body.text("name")),
        _choice(body, "payload_format", ("standard", "raw")) == "raw",
        _choice(body, "encoding", ("none", "base64")),
        _topic(request, device),
        body.number("ttl", MAX_TTL, 0, MAX_TTL),
    )
    if message.ttl % TTL_STEP:
        raise _wrong("ttl")
    instance.messages.add(device.device_id, message)
    if instance.channel:
        instance.channel.deliver(device, message)
    result = {"status": message.status, **_times(message)}
    return {"message_id": message.message_id, "result": result}


def _list_messages(request: ManagementRequest) -> ManagementAnswer:
    device_id = _device(request).device_id
    found = [_describe(one) for one in request.instance.messages.list(device_id)]
    return {"device_id": device_id, "messages": found}


def _show_message(request: ManagementRequest) -> ManagementAnswer:
    device_id, message_id = _device(request).device_id, request.path["message_id"]
    return _describe(request.instance.messages.get(device_id, message_id))


async def _ask(
    request: ManagementRequest, device: HuaweiDevice, use: str, body: Mapping[str, object]
) -> object:
    if len(encode(body)) > MAX_MESSAGE:
        raise _wrong("services, paras")
    if request.instance.channel is None:
        raise PlatformError(IotdaCode.DEVICE_OFFLINE)
    return await request.instance.channel.ask(device, use, body)


def _device(request: ManagementRequest) -> HuaweiDevice:
    return request.instance.devices.get(request.path["device_id"])


def _model(request: ManagementRequest, device: HuaweiDevice) -> ProductModel:
    return request.instance.products.get(device.product_id).profile


def _object(body: Fields, name: str) -> Mapping[str, object]:
    """Return an object; an empty one where it is missing."""
    value = body.any(name)
    if value is None or isinstance(value, dict):
        return value or {}
    raise _wrong(name)


def _refuse(misfits: Sequence[Misfit]) -> None:
    if misfits:
        raise PlatformError(IotdaCode.INVALID_INPUT, f"({'; '.join(map(str, misfits))})")


def _content(body: Fields) -> object:
    content = body.any("message")
    if content is None or len(encode(content)) > MAX_MESSAGE:
        raise _wrong("message")
    return content


def _choice(body: Fields, name: str, known: Sequence[str]) -> str:
    value = body.text(name) or known[0]
    if value not in known:
        raise _wrong(name)
    return value


def _topic(request: ManagementRequest, device: HuaweiDevice) -> str:
    """Return the topic that a message is sent on; "" for the system's own."""
    suffix, whole = request.body.text("topic"), request.body.text("topic_full_name")
    if suffix and whole:
        raise _wrong("topic, topic_full_name")
    if suffix:
        if suffix not in request.instance.products.get(device.product_id).topics:
            raise _wrong("topic")
        return topics.user(request.instance.devices.gateway_of(device).device_id, suffix)
    if whole and not _TOPIC.fullmatch(whole):
        raise _wrong("topic_full_name")
    return whole or ""


def _times(message: DeviceMessage) -> dict[str, object]:
    finished = message.finished
    return {
        "created_time": times.basic(message.created),
        "finished_time": None if finished is None else times.basic(finished),
    }


def _describe(message: DeviceMessage) -> dict[str, object]:
    return {
        "message_id": message.message_id,
        "name": message.name,
        "message": message.content,
        "encoding": message.encoding,
        "payload_format": "raw" if message.raw else "standard",
        "topic": message.topic or None,
        "status": message.status,
        "error_info": PlatformError(message.error).body if message.error else None,
        **_times(message),
    }


def _wrong(name: str) -> PlatformError:
    return PlatformError(IotdaCode.INVALID_INPUT, f"({name})")


ROUTES: tuple[ManagementRoute, ...] = (
    ("POST", "/devices/{device_id}/commands", 200, _command),
    ("PUT", "/devices/{device_id}/properties", 200, _set_properties),
    ("GET", "/devices/{device_id}/properties", 200, _get_properties),
    ("GET", "/devices/{device_id}/shadow", 200, _show_shadow),
    ("PUT", "/devices/{device_id}/shadow", 200, _desire),
    ("POST", "/devices/{device_id}/messages", 201, _send_message),
    ("GET", "/devices/{device_id}/messages", 200, _list_messages),
    ("GET", "/devices/{device_id}/messages/{message_id}", 200, _show_message),
)
