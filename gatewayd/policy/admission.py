"""The verdict of policy on one device."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gatewayd.device.identity import Trust
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName


class Action(StrEnum):
    """What a rule says to do."""

    REGISTER = "register"  # admit it, without asking anybody
    ASK = "ask"  # hold it for the operator
    REJECT = "reject"  # keep it out, and remember that
    IGNORE = "ignore"  # do not even show it


@dataclass(frozen=True, slots=True)
class Decision:
    """What policy says, and why.

    rule: the name of the rule that matched; "" where none did.
    cloud: where the child would be registered; None where that cannot be told.
    trace: one line for each rule that was looked at: its name, and which predicate failed.
    trust: how well the identity is proven, a rule's list included.
    by_window: the open join window admits it, and without it the answer would be to ask.
    """

    action: Action
    rule: str
    reason: Reason
    cloud: CloudName | None
    trace: tuple[str, ...]
    trust: Trust = Trust.HEARD
    by_window: bool = False
