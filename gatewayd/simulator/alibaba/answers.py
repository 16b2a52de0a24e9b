"""Pushes to registering devices and replies to gateways, intact or spoiled by a fault.  Pure.

Source: the vendor's page "MQTT-based dynamic registration" (help.aliyun.com/document_detail/
132111.html): the push comes unasked, and the platform closes the connection 15 s later.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gatewayd.simulator.alibaba.registry import RegistrationPush
from gatewayd.simulator.faults import SimulatedFault
from gatewayd.simulator.mqtt import delivery
from gatewayd.simulator.mqtt.codec import publish
from gatewayd.simulator.mqtt.connack import ACCEPTED
from gatewayd.simulator.mqtt.delivery import Delivery, encode
from gatewayd.simulator.mqtt.link import ConnectReply, ReplyStep


@dataclass(frozen=True, slots=True)
class PushOptions:
    """The options of a push.  qos: 0 or 1.  linger: seconds until the connection is closed."""

    qos: int = 0
    linger: float = 15.0


def granted(
    pushes: Sequence[RegistrationPush], fault: SimulatedFault | None, manner: PushOptions
) -> ConnectReply:
    """Accept a registration, and push the issued secret.

    CONNACK and push are one write, and so one TLS record, which a client must accept.
    """
    spoil = _SPOILERS.get(fault.name if fault else "", _whole)
    data = b"".join(
        publish(push.topic, spoil(push.payload), manner.qos, number)
        for number, push in enumerate(pushes, start=1)
    )
    return ConnectReply(
        accepted=True, steps=_steps(data, fault, ReplyStep(after=manner.linger, close=True))
    )


def _steps(push: bytes, fault: SimulatedFault | None, end: ReplyStep) -> tuple[ReplyStep, ...]:
    match fault:
        case SimulatedFault("slow", number=seconds):
            return ReplyStep(ACCEPTED + push, after=seconds), end
        case SimulatedFault("late", number=seconds):
            return ReplyStep(ACCEPTED), ReplyStep(push, after=seconds), end
        case SimulatedFault("no-push"):
            return ReplyStep(ACCEPTED), end
        case SimulatedFault("hang-up-after-connack" | "lose-connack" as name):
            return (ReplyStep(ACCEPTED if name == "hang-up-after-connack" else b"", close=True),)
        case SimulatedFault("secret-then-hang-up"):
            return (ReplyStep(ACCEPTED + push, close=True),)
    return ReplyStep(ACCEPTED + push), end


def _whole(payload: Mapping[str, str]) -> bytes:
    return json.dumps(payload, separators=(",", ":")).encode()


def _foreign(payload: Mapping[str, str]) -> bytes:
    return _whole({**payload, "deviceName": payload["deviceName"] + "-other"})


def _empty(payload: Mapping[str, str]) -> bytes:
    issued = payload.keys() & {"deviceSecret", "deviceToken"}
    return _whole({**payload, **dict.fromkeys(issued, "")})


def _cut_off(payload: Mapping[str, str]) -> bytes:
    return _whole(payload)[:-7]


_SPOILERS: Mapping[str, Callable[[Mapping[str, str]], bytes]] = {
    "foreign-name": _foreign,
    "empty-secret": _empty,
    "bad-json": _cut_off,
}
"""Fault → the payload of the push that it spoils."""


__all__ = ["Delivery", "deliver", "encode"]


def deliver(body: Mapping[str, object], fault: SimulatedFault | None) -> Delivery:
    """Decide how a reply is sent."""
    return delivery.deliver(body, fault, _mixed)


def _mixed(body: Mapping[str, object]) -> Mapping[str, object]:
    """Swap the types, as some samples of the vendor do."""
    mixed: dict[str, object] = {**body, "code": str(body["code"])}
    if "id" in body:
        mixed["id"] = int(str(body["id"]))
    return mixed
