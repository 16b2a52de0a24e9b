"""How a CONNECT is answered where a fault does not let it be, and how a session opens.  Pure."""

from __future__ import annotations

from gatewayd.simulator.faults import SimulatedFault
from gatewayd.simulator.mqtt.codec import connack
from gatewayd.simulator.mqtt.link import ConnectReply, ReplyStep

ACCEPTED = connack(0)
"""CONNACK of a CONNECT that is accepted."""

_GARBAGE = bytes(range(0xF0, 0x100)) * 8
_HELD = 3600.0  # seconds that a silent cloud keeps a connection it does not answer


def refusal(code: int) -> ConnectReply:
    """Answer with a CONNACK that refuses, and close."""
    return ConnectReply(accepted=False, steps=(ReplyStep(connack(code), close=True),))


def instead(fault: SimulatedFault | None) -> ConnectReply | None:
    """Return what a fault puts in the place of any answer; None where it leaves one."""
    match fault:
        case SimulatedFault("silent"):
            return ConnectReply(accepted=False, steps=(ReplyStep(after=_HELD, close=True),))
        case SimulatedFault("hang-up"):
            return ConnectReply(accepted=False, steps=(ReplyStep(close=True),))
        case SimulatedFault("garbage"):
            return ConnectReply(accepted=False, steps=(ReplyStep(_GARBAGE, close=True),))
        case SimulatedFault("refuse", number=code):
            return refusal(int(code))
    return None


def session(fault: SimulatedFault | None) -> ConnectReply:
    """Accept a login."""
    match fault:
        case SimulatedFault("slow", number=seconds):
            return ConnectReply(accepted=True, steps=(ReplyStep(ACCEPTED, after=seconds),))
        case SimulatedFault("hang-up-after-connack"):
            return ConnectReply(accepted=True, steps=(ReplyStep(ACCEPTED, close=True),))
        case SimulatedFault("lose-connack"):
            return ConnectReply(accepted=True, steps=(ReplyStep(close=True),))
    return ConnectReply(accepted=True, steps=(ReplyStep(ACCEPTED),))
