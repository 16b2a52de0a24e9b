"""The answers to a CONNECT: a refusal, a session, or a fault in their place.  Pure."""

from __future__ import annotations

from gatewayd.simulator.faults import SimulatedFault
from gatewayd.simulator.mqtt.codec import connack
from gatewayd.simulator.mqtt.link import ConnectReply, ReplyStep

ACCEPTED = connack(0)
"""CONNACK of a CONNECT that is accepted."""

HANG_UP = ConnectReply(accepted=False, steps=(ReplyStep(close=True),))
"""The connection is closed, and nothing is answered."""

_GARBAGE = bytes(range(0xF0, 0x100)) * 8
_HELD = 3600.0  # seconds that a silent cloud keeps an unanswered connection


def refusal(code: int) -> ConnectReply:
    """Refuse with a CONNACK, and close."""
    return ConnectReply(accepted=False, steps=(ReplyStep(connack(code), close=True),))


def instead(fault: SimulatedFault | None) -> ConnectReply | None:
    """Return the answer of a fault that replaces any other; None if it does not."""
    match fault:
        case SimulatedFault("silent"):
            return ConnectReply(accepted=False, steps=(ReplyStep(after=_HELD, close=True),))
        case SimulatedFault("hang-up"):
            return HANG_UP
        case SimulatedFault("garbage"):
            return ConnectReply(accepted=False, steps=(ReplyStep(_GARBAGE, close=True),))
        case SimulatedFault("refuse", number=code):
            return refusal(int(code))
    return None


def session(fault: SimulatedFault | None, *, present: bool = False) -> ConnectReply:
    """Accept a login, perhaps spoiled by a fault.  present: whether a session of before goes on."""
    match fault:
        case SimulatedFault("slow", number=seconds):
            return ConnectReply(accepted=True, steps=(ReplyStep(ACCEPTED, after=seconds),))
        case SimulatedFault("hang-up-after-connack"):
            return ConnectReply(accepted=True, steps=(ReplyStep(ACCEPTED, close=True),))
        case SimulatedFault("lose-connack"):
            return ConnectReply(accepted=True, steps=(ReplyStep(close=True),))
    return ConnectReply(accepted=True, steps=(ReplyStep(connack(0, present=present)),))
