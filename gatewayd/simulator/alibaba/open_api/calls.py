"""The calls to the simulated Alibaba cloud by which an owner commands devices.

Sources: the vendor's pages on InvokeThingService (help.aliyun.com/document_detail/69584),
SetDeviceProperty (69579), RRpc (69797) and Pub (69793), and its table of error codes (87387).  It
does not say which one a call has to which the device answers another code than 200; here it is the
one of a service that could not be invoked, with the device's own message.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from gatewayd.simulator.alibaba.console import AlibabaConsole
from gatewayd.simulator.alibaba.open_api.management import OpenApiManagement
from gatewayd.simulator.alibaba.open_api.parameters import (
    NO_DEVICE,
    Answer,
    OpenApiFailure,
    Parameters,
    demand,
)
from gatewayd.simulator.alibaba.open_api.signature import OpenApiRefused
from gatewayd.simulator.alibaba.thing.rrpc import LONGEST

SHORTEST = 1.0
"""Seconds that an RRPC waits at least."""
_USER = "user/"


OFFLINE = OpenApiFailure("iot.messagebroker.OFFLINE", "Failed because the device is offline.")
TIMEOUT = OpenApiFailure("iot.messagebroker.TIMEOUT", "Failed because of timeout.")
NOT_BASE64 = OpenApiFailure(
    "iot.messagebroker.MessageContentIsNotBase64Encode", "The content is not base64 encoded."
)
BAD_TIMEOUT = OpenApiFailure(
    "iot.messagebroker.InvalidTimeoutValue", "The timeout value is invalid."
)
BAD_TOPIC = OpenApiFailure(
    "iot.messagebroker.InvalidFormattedTopicName", "Format of the topic is invalid."
)
_INVOKE, _SET = "iot.device.InvokeThingServiceFailed", "iot.device.SetDevicePropertyFailed"


async def answer(
    console: AlibabaConsole, management: OpenApiManagement, parameters: Parameters
) -> Answer:
    """Do what a call demands; return the answer, without the members of every answer.

    management: has the calls about products and devices.
    Raises OpenApiFailure, OpenApiRefused.
    """
    if (managed := management.answer(parameters)) is not None:
        return managed
    if (call := _CALLS.get(parameters["Action"])) is None:
        raise OpenApiRefused(404, "InvalidAction.NotFound", "Specified api is not found.")
    return await call(console, parameters)


async def _invoke(console: AlibabaConsole, parameters: Parameters) -> Answer:
    device, service = _device(console, parameters), demand(parameters, "Identifier")
    try:
        command = console.invoke(*device, service, _object(parameters, "Args", _INVOKE))
    except ConnectionError:
        raise OFFLINE from None
    except (KeyError, ValueError) as error:
        raise OpenApiFailure(_INVOKE, f"Failed to invoke the service: {error}.") from error
    data: Answer = {"MessageId": command.rrpc or "0", "Result": ""}
    if command.rrpc:
        try:
            async with asyncio.timeout(LONGEST):
                reply = await command.reply
        except TimeoutError:
            raise TIMEOUT from None
        if reply["code"] != 200:  # noqa: PLR2004  # done
            said: Any = json.loads(command.payload).get("message")
            raise OpenApiFailure(_INVOKE, str(said or reply["code"]))
        data["Result"] = json.dumps(reply["data"])
    return {"Data": data}


async def _set(console: AlibabaConsole, parameters: Parameters) -> Answer:
    device = _device(console, parameters)
    try:
        console.set_properties(*device, _object(parameters, "Items", _SET))
    except ConnectionError:
        raise OFFLINE from None
    except ValueError as error:
        raise OpenApiFailure(_SET, f"Failed to set device property: {error}.") from error
    return {"Data": {"MessageId": "0"}}


async def _rrpc(console: AlibabaConsole, parameters: Parameters) -> Answer:
    """Call a device; that it is offline, or too late, is an answer, and no failure."""
    device, payload = _device(console, parameters), _bytes(parameters, "RequestBase64Byte")
    timeout, topic = demand(parameters, "Timeout"), parameters.get("Topic", "")
    seconds = int(timeout) / 1000 if timeout.isdecimal() else 0.0
    if not SHORTEST <= seconds <= LONGEST:
        raise BAD_TIMEOUT
    rest = _rest(topic, device) if topic else ""
    try:
        answered = await console.rrpc(*device, payload, rest, seconds)
    except ConnectionError:
        return {"RrpcCode": "OFFLINE"}
    except TimeoutError:
        return {"RrpcCode": "TIMEOUT"}
    return {"RrpcCode": "SUCCESS", "PayloadBase64Byte": base64.b64encode(answered).decode()}


async def _publish(console: AlibabaConsole, parameters: Parameters) -> Answer:
    """Publish a message, which is lost where the device does not receive it."""
    topic, payload = demand(parameters, "TopicFullName"), _bytes(parameters, "MessageContent")
    _, product, name, *_ = [*topic.split("/"), "", "", ""]
    device = _device(console, {"ProductKey": product, "DeviceName": name})
    with contextlib.suppress(ConnectionError):
        console.publish(*device, _rest(topic, device), payload)
    return {"MessageId": "0"}


_CALLS: Mapping[str, Callable[[AlibabaConsole, Parameters], Awaitable[Answer]]] = {
    "InvokeThingService": _invoke,
    "SetDeviceProperty": _set,
    "RRpc": _rrpc,
    "Pub": _publish,
}


def _device(console: AlibabaConsole, parameters: Parameters) -> tuple[str, str]:
    device = demand(parameters, "ProductKey"), demand(parameters, "DeviceName")
    try:
        console.reports(*device)
    except KeyError:
        raise NO_DEVICE from None
    return device


def _object(parameters: Parameters, name: str, code: str) -> Mapping[str, object]:
    try:
        found = json.loads(demand(parameters, name))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise OpenApiFailure(code, f"{name} is no JSON object.")
    return found


def _bytes(parameters: Parameters, name: str) -> bytes:
    try:
        return base64.b64decode(demand(parameters, name), validate=True)
    except binascii.Error:
        raise NOT_BASE64 from None


def _rest(topic: str, device: tuple[str, str]) -> str:
    """Return what follows the device in a topic that a user has defined for it."""
    own = f"/{device[0]}/{device[1]}/"
    if not topic.startswith(own + _USER) or any(one in topic for one in "+#"):
        raise BAD_TOPIC
    return topic.removeprefix(own)
