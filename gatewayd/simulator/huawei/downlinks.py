"""The platform's requests to devices, their responses, and the messages to them.

A child is reached through its gateway, and named in the message.  Sources: the vendor's pages on
commands (api-iothub/iot_06_v5_0038: 20 seconds), on properties (iot_06_v5_0035 and iot_06_v5_3008)
and on messages (iot_06_v5_0059).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Mapping

from gatewayd.simulator import faults
from gatewayd.simulator.faults import FaultPlan
from gatewayd.simulator.huawei import topics
from gatewayd.simulator.huawei.broker import HuaweiBroker
from gatewayd.simulator.huawei.exchange.device_messages import DeviceMessage, DeviceMessageStatus
from gatewayd.simulator.huawei.ledger import HuaweiLedgers
from gatewayd.simulator.huawei.options import HuaweiRules
from gatewayd.simulator.huawei.platform.device import HuaweiDevice, HuaweiDeviceStatus
from gatewayd.simulator.huawei.platform.errors import IotdaCode, PlatformError
from gatewayd.simulator.huawei.platform.instance import IotdaInstance
from gatewayd.simulator.mqtt.delivery import copies, encode

COMMANDS, SET, GET = "commands", "properties/set", "properties/get"
"""The uses of requests, as topics have them."""
MAX_WAITING = 1_000
"""Requests of an instance that wait for a response."""


class Downlinks:
    """The way to an instance's devices.  Implements DeviceChannel."""

    def __init__(
        self,
        instance: IotdaInstance,
        plan: FaultPlan,
        rules: HuaweiRules,
        broker: HuaweiBroker,
        ledgers: HuaweiLedgers,
    ) -> None:
        self._instance, self._rules, self._broker = instance, rules, broker
        self._plan, self._ledgers = plan, ledgers
        self._waiting: dict[tuple[str, str], asyncio.Future[object]] = {}

    async def ask(self, device: HuaweiDevice, use: str, body: Mapping[str, object]) -> object:
        """Send a request, and return the device's response.  Raises PlatformError."""
        if len(self._waiting) >= MAX_WAITING:
            raise PlatformError(IotdaCode.TOO_FAST)
        gateway_id = self._reach(device)
        key = gateway_id, self._instance.ids.code()
        response: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._waiting[key] = response
        try:
            self._send(device, gateway_id, f"{use}/request_id={key[1]}", body)
            async with asyncio.timeout(self._rules.response_timeout):
                return await response
        except TimeoutError:
            raise PlatformError(IotdaCode.COMMAND_TIMEOUT) from None
        finally:
            del self._waiting[key]

    def respond(self, gateway_id: str, request_id: str, body: object) -> bool:
        """Hand over a response; return whether its request was still waiting."""
        response = self._waiting.get((gateway_id, request_id))
        if response is None or response.done():
            return False
        response.set_result(body)
        return True

    def desire(self, device: HuaweiDevice) -> None:
        """Send the desired properties that an online device has not reported so."""
        services = [
            {"service_id": service_id, "properties": shadow.pending}
            for service_id, shadow in self._instance.shadows.of(device.device_id).items()
            if shadow.pending
        ]
        if not services:
            return
        try:
            gateway_id, request_id = self._reach(device), self._instance.ids.code()
            self._send(device, gateway_id, f"{SET}/request_id={request_id}", {"services": services})
        except PlatformError:
            return  # it is sent when the device comes online, or reports

    def deliver(self, device: HuaweiDevice, message: DeviceMessage) -> None:
        """Send a message; one to a device that is offline waits, unless its ttl is 0."""
        now = self._instance.ids.clock()
        try:
            gateway_id = self._reach(device)
        except PlatformError as offline:
            if message.ttl == 0:
                message.finish(DeviceMessageStatus.FAILED, now, offline.code)
            return
        topic = message.topic or topics.system(gateway_id, "messages/down")
        if self._push(device, gateway_id, topic, _payload(device, message)):
            message.finish(DeviceMessageStatus.DELIVERED, now)
        else:
            message.finish(DeviceMessageStatus.FAILED, now, IotdaCode.NOT_SUBSCRIBED)

    def appeared(self, device: HuaweiDevice) -> None:
        """Send what has waited for a device that came online, or has reported."""
        for message in self._instance.messages.pending(device.device_id):
            self.deliver(device, message)
        self.desire(device)

    def _reach(self, device: HuaweiDevice) -> str:
        """Return the device that connects on behalf of this one.  Raises PlatformError."""
        gateway_id = self._instance.devices.gateway_of(device).device_id
        if device.status is not HuaweiDeviceStatus.ONLINE or gateway_id not in self._broker:
            raise PlatformError(IotdaCode.DEVICE_OFFLINE)
        return gateway_id

    def _send(
        self, device: HuaweiDevice, gateway_id: str, use: str, body: Mapping[str, object]
    ) -> None:
        payload = encode({"object_device_id": device.device_id, **body})
        if not self._push(device, gateway_id, topics.system(gateway_id, use), payload):
            raise PlatformError(IotdaCode.NOT_SUBSCRIBED)

    def _push(self, device: HuaweiDevice, gateway_id: str, topic: str, payload: bytes) -> bool:
        """Send to a device, unless a fault spoils it; return whether it has subscribed."""
        connection = self._broker.of(gateway_id)
        if connection is None or not connection.receives(topic):
            return False
        if fault := self._plan.choose("command", device.device_id, faults.OF_COMMANDS):
            self._ledgers.of(device.device_id).faults[fault.name] += 1
        for one in copies(fault, payload):
            connection.send(topic, one)
        return True


def _payload(device: HuaweiDevice, message: DeviceMessage) -> bytes:
    if message.encoding == "base64":
        try:
            return base64.b64decode(str(message.content), validate=True)
        except binascii.Error:
            return b""
    if message.raw:
        return (
            message.content.encode()
            if isinstance(message.content, str)
            else encode(message.content)
        )
    return encode(
        {
            "object_device_id": device.device_id,
            "name": message.name,
            "id": message.message_id,
            "content": message.content,
        }
    )
