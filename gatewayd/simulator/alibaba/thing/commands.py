"""Commands of an operator to devices of the simulated Alibaba cloud.

Source: the vendor's page "Device properties, events, and services" (help.aliyun.com/
document_detail/89301), and those on its calls SetDeviceProperty and InvokeThingService.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gatewayd.simulator.alibaba import alink
from gatewayd.simulator.alibaba.devices import Name
from gatewayd.simulator.alibaba.thing import specification
from gatewayd.simulator.alibaba.thing.specification import ThingModel

SET = "thing.service.property.set"
SERVICES = "thing.service."
MAX_WAITING = 1_000
"""Commands without an answer, at most; the oldest is given up."""


@dataclass(slots=True)
class ThingCommand:
    """A command that was sent.

    rrpc: the RRPC by which it was sent; "" for one without.
    reply: code and data; cancelled when it is given up.  payload: the reply as it arrived.
    """

    method: str
    rrpc: str = ""
    payload: bytes = b""
    reply: asyncio.Future[Mapping[str, Any]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class ThingCommands:
    """The sender of commands.

    model_of: returns the model of a product.
    push: sends a device a body by a method, and an RRPC if there is one; returns whether it has
    subscribed to that.
    next_rrpc: returns the identifier of a new RRPC.
    """

    def __init__(
        self,
        model_of: Callable[[str], ThingModel],
        push: Callable[[Name, ThingCommand, Mapping[str, object]], bool],
        next_rrpc: Callable[[], str],
    ) -> None:
        self._model_of, self._push, self._next_rrpc = model_of, push, next_rrpc
        self._waiting: dict[tuple[Name, str], ThingCommand] = {}
        self._sent = alink.FIRST_PUSH

    def set_properties(self, device: Name, values: Mapping[str, object]) -> ThingCommand:
        """Set properties.

        Raises ValueError for what the model does not let the cloud set, ConnectionError for a
        device that does not receive it.
        """
        model = self._model_of(device[0])
        types = {name: model.properties[name] for name in model.settable}
        return self._send(device, ThingCommand(SET), types, values)

    def invoke(self, device: Name, service: str, values: Mapping[str, object]) -> ThingCommand:
        """Invoke a service.  Raises as set_properties does, and KeyError for an unknown service."""
        model = self._model_of(device[0])
        rrpc = self._next_rrpc() if service in model.synchronous else ""
        command = ThingCommand(f"{SERVICES}{service}", rrpc)
        return self._send(device, command, model.services[service], values)

    def answered(self, device: Name, way: str, payload: bytes) -> bool:
        """Receive a device's answer; return whether it was waited for.

        way: the method with `_reply`; of an RRPC its identifier.
        """
        try:
            body = json.loads(payload)
            command = self._waiting.get((device, str(body["id"])))
            answer = {"code": int(body["code"]), "data": body.get("data")}
        except (ValueError, KeyError, TypeError, RecursionError):
            return False
        if command is None or way != (command.rrpc or f"{command.method}_reply"):
            return False
        del self._waiting[device, str(body["id"])]
        if not command.reply.done():
            command.payload = payload
            command.reply.set_result(answer)
        return True

    def _send(
        self,
        device: Name,
        command: ThingCommand,
        types: Mapping[str, specification.TslType],
        values: Mapping[str, object],
    ) -> ThingCommand:
        if faults := specification.faults(types, values):
            raise ValueError(json.dumps(faults))
        self._sent += 1
        number = str(self._sent)
        self._waiting[device, number] = command
        while len(self._waiting) > MAX_WAITING:
            self._waiting.pop(next(iter(self._waiting))).reply.cancel()
        if not self._push(device, command, alink.push(number, command.method, values)):
            del self._waiting[device, number]
            raise ConnectionError("The device is offline, or has not subscribed to commands.")
        return command
