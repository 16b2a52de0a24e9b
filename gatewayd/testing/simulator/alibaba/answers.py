"""What the Alibaba cloud sends, whole or spoiled by a fault.  Pure.

Source: the vendor's page "MQTT-based dynamic registration" (help.aliyun.com/document_detail/
132111.html): the push comes unasked, and the platform closes the connection 15 s later.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gatewayd.testing.simulator.alibaba.credentials import Code
from gatewayd.testing.simulator.alibaba.registry import Push
from gatewayd.testing.simulator.faults import Fault
from gatewayd.testing.simulator.mqtt_codec import connack, publish
from gatewayd.testing.simulator.mqtt_link import Reply, Step

_GARBAGE = bytes(range(0xF0, 0x100)) * 8
_HELD = 3600.0  # seconds that a silent cloud keeps a connection it does not answer
_ACCEPTED = connack(Code.ACCEPTED)


@dataclass(frozen=True, slots=True)
class Manner:
    """How a push is sent.  qos: 0 or 1.  linger: seconds until the connection is closed."""

    qos: int = 0
    linger: float = 15.0


def refusal(code: int) -> Reply:
    """Answer with a CONNACK that refuses, and close."""
    return Reply(accepted=False, steps=(Step(connack(code), close=True),))


def instead(fault: Fault | None) -> Reply | None:
    """Return what a fault puts in the place of any answer; None where it leaves one."""
    match fault:
        case Fault("silent"):
            return Reply(accepted=False, steps=(Step(after=_HELD, close=True),))
        case Fault("hang-up"):
            return Reply(accepted=False, steps=(Step(close=True),))
        case Fault("garbage"):
            return Reply(accepted=False, steps=(Step(_GARBAGE, close=True),))
        case Fault("refuse", number=code):
            return refusal(int(code))
    return None


def session(fault: Fault | None) -> Reply:
    """Accept a login."""
    match fault:
        case Fault("slow", number=seconds):
            return Reply(accepted=True, steps=(Step(_ACCEPTED, after=seconds),))
        case Fault("hang-up-after-connack"):
            return Reply(accepted=True, steps=(Step(_ACCEPTED, close=True),))
    return Reply(accepted=True, steps=(Step(_ACCEPTED),))


def granted(pushes: Sequence[Push], fault: Fault | None, manner: Manner) -> Reply:
    """Accept a registration, and push what was issued.

    CONNACK and push are one write, and so one TLS record: a client has to cope with that.
    """
    spoil = _SPOILERS.get(fault.name if fault else "", _whole)
    data = b"".join(
        publish(push.topic, spoil(push.payload), manner.qos, number)
        for number, push in enumerate(pushes, start=1)
    )
    return Reply(accepted=True, steps=_steps(data, fault, Step(after=manner.linger, close=True)))


def _steps(push: bytes, fault: Fault | None, end: Step) -> tuple[Step, ...]:
    match fault:
        case Fault("slow", number=seconds):
            return Step(_ACCEPTED + push, after=seconds), end
        case Fault("late", number=seconds):
            return Step(_ACCEPTED), Step(push, after=seconds), end
        case Fault("no-push"):
            return Step(_ACCEPTED), end
        case Fault("hang-up-after-connack"):
            return (Step(_ACCEPTED, close=True),)
        case Fault("secret-then-hang-up"):
            return (Step(_ACCEPTED + push, close=True),)
    return Step(_ACCEPTED + push), end


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
"""Fault → how it writes the payload of a push."""
