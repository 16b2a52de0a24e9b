"""How a CONNECT is answered where a fault does not let it be, and how a session opens.  Pure."""

from __future__ import annotations

from gatewayd.simulator.faults import Fault
from gatewayd.simulator.mqtt.codec import connack
from gatewayd.simulator.mqtt.link import Reply, Step

ACCEPTED = connack(0)
"""CONNACK of a CONNECT that is accepted."""

_GARBAGE = bytes(range(0xF0, 0x100)) * 8
_HELD = 3600.0  # seconds that a silent cloud keeps a connection it does not answer


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
            return Reply(accepted=True, steps=(Step(ACCEPTED, after=seconds),))
        case Fault("hang-up-after-connack"):
            return Reply(accepted=True, steps=(Step(ACCEPTED, close=True),))
        case Fault("lose-connack"):
            return Reply(accepted=True, steps=(Step(close=True),))
    return Reply(accepted=True, steps=(Step(ACCEPTED),))
