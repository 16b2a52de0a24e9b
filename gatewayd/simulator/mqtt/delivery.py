"""The delivery of replies to a gateway, and of messages to the cloud, unless a fault spoils it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gatewayd.simulator.faults import SimulatedFault
from gatewayd.simulator.mqtt.link import MqttLink, Unacknowledged

MAX_HELD = 100


def receive(fault: SimulatedFault | None, handle: Callable[[], None]) -> None:
    """Have a device's message handled, unless a fault loses it.  Raises Unacknowledged."""
    name = fault.name if fault else ""
    if name == "message-hang-up":
        raise Unacknowledged(hang_up=True)
    if name != "lose-message":
        handle()
    if name in ("lose-puback", "puback-hang-up"):
        raise Unacknowledged(hang_up=name == "puback-hang-up")


def copies(fault: SimulatedFault | None, payload: bytes) -> tuple[bytes, ...]:
    """Return what of a command is sent: all of it once, unless a fault spoils it."""
    match fault.name if fault else "":
        case "command-twice":
            return payload, payload
        case "command-garbled":
            return (payload[: len(payload) // 2],)
        case "lose-command":
            return ()
    return (payload,)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery.  copies: of the payload.  after: seconds.

    last: whether it waits for the next reply.
    close: whether the connection is closed instead.
    """

    payload: bytes
    copies: int = 1
    after: float = 0.0
    last: bool = False
    close: bool = False


def deliver(
    body: Mapping[str, object],
    fault: SimulatedFault | None,
    mixed: Callable[[Mapping[str, object]], Mapping[str, object]],
) -> Delivery:
    """Decide on a delivery.  mixed: applies the cloud's meaning of `reply-mixed`."""
    if fault and fault.name == "reply-mixed":
        return Delivery(encode(mixed(body)))
    if fault and fault.name in _SPOILERS:
        return _SPOILERS[fault.name](encode(body), fault.number)
    return Delivery(encode(body))


def encode(body: object) -> bytes:
    """Encode a message."""
    return json.dumps(body, separators=(",", ":")).encode()


_SPOILERS: Mapping[str, Callable[[bytes, float], Delivery]] = {
    "lose-reply": lambda payload, _: Delivery(payload, copies=0),
    "reply-late": lambda payload, seconds: Delivery(payload, after=seconds),
    "reply-last": lambda payload, _: Delivery(payload, last=True),
    "reply-twice": lambda payload, _: Delivery(payload, copies=2),
    "reply-garbled": lambda payload, _: Delivery(payload[:-7]),
    "reply-hang-up": lambda payload, _: Delivery(payload, copies=0, close=True),
}
"""Fault → the delivery of a reply."""


@dataclass(slots=True)
class ReplySender:
    """A sender of replies over one connection.

    send: sends a payload on a topic; returns whether it is received.
    listens: returns the same, and sends nothing.
    held: topics and payloads that wait for the next reply.
    """

    link: MqttLink
    send: Callable[[str, bytes], bool]
    listens: Callable[[str], bool]
    held: list[tuple[str, bytes]] = field(default_factory=list)

    def deliver(self, topic: str, delivery: Delivery) -> bool:
        """Send a reply as decided; return whether it is received, now or later."""
        if delivery.close:
            self.link.close()
        if delivery.after:
            loop = asyncio.get_running_loop()
            loop.call_later(delivery.after, self.send, topic, delivery.payload)
            return self.listens(topic)
        if delivery.last:
            self.held = [*self.held, (topic, delivery.payload)][-MAX_HELD:]
            return self.listens(topic)
        sent = [self.send(topic, delivery.payload) for _ in range(delivery.copies)]
        held, self.held = (self.held, []) if sent else ([], self.held)
        for late in held:
            self.send(*late)
        return any(sent)
