"""What a code of a cloud asks for, and what follows from that: tables.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from gatewayd.cloud.provider import (
    Failed,
    LoginError,
    LoginFailed,
    LoginRefused,
    LoginRemoved,
    Outcome,
    Refused,
)
from gatewayd.device.reason import Reason


class Kind(StrEnum):
    """What a code asks for."""

    DONE = "done"
    TRANSIENT = "transient"  # try again later
    PERMANENT = "permanent"  # it would be refused again: a fault of gatewayd or its settings
    OPERATOR = "operator"  # it would be refused again until somebody changes something
    REMOVED = "removed"  # the child is gone at the cloud
    REREGISTER = "reregister"  # the child's secret is not valid
    TOPOLOGY = "topology"  # add the child to the topology, and try once more
    EXISTS = "exists"  # the cloud has it already: look whose it is
    DISABLED = "disabled"  # wait until the cloud enables the child
    CONFLICT = "conflict"  # somebody else uses the child's name
    UNKNOWN = "unknown"  # not documented: refused for a while, then one more try


_PAUSES: Mapping[Kind, float] = {
    Kind.CONFLICT: 300.0,  # two gateways would take the child from each other for ever
    Kind.UNKNOWN: 600.0,
}
_LATER = frozenset({Kind.TRANSIENT, Kind.UNKNOWN, Kind.DISABLED})
_LOGIN_ERRORS: Mapping[Kind, type[LoginError]] = {
    Kind.REREGISTER: LoginRefused,
    Kind.REMOVED: LoginRemoved,
}


@dataclass(frozen=True, slots=True)
class Coded:
    """One code, explained.

    wait: seconds for which the cloud is not to be asked about this child; 0 for what its kind
    wants.
    """

    kind: Kind
    reason: Reason
    wait: float = 0.0

    @property
    def pause(self) -> float:
        """Seconds for which the cloud is not to be asked about this child."""
        return self.wait or _PAUSES.get(self.kind, 0.0)

    @property
    def outcome(self) -> Outcome:
        """How a registration ended that was denied so."""
        # What is tried again without anybody's doing has failed; the rest is refused.
        return (Failed if self.kind in _LATER else Refused)(self.reason)

    @property
    def login_error(self) -> LoginError:
        """What to raise for a login that was denied so."""
        return _LOGIN_ERRORS.get(self.kind, LoginFailed)(self.reason)


class Denied(Exception):
    """The cloud answered with a code that is not success: it has done nothing for this child."""

    def __init__(self, code: int | str, coded: Coded) -> None:
        super().__init__(code)
        self.code, self.coded = code, coded
