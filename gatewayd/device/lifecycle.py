"""The life of one child device, as tables.

Rule 1: whatever decides a child's next state is in this file.
Rule 2: this file performs no I/O and reads no clock.  Events come in, a state goes out.

An event says what *has* happened: where it stands for a durable fact, the fact was committed
before the event was posted.  Each state has at most one kind of work.  Entering a state starts
its work, unless that work is under way already; a state with other work, or none, ends it.
So a restart is no special case: recovery.py picks the state, and its work starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from gatewayd.device.reason import NONE, Reason


class State(StrEnum):
    """Where a child stands."""

    FORGOTTEN = "forgotten"  # nothing is kept; never shown
    DISCOVERED = "discovered"  # seen on the LAN, not yet judged
    PENDING = "pending"  # held for the operator
    REJECTED = "rejected"  # not wanted here; remembered
    ADMITTED = "admitted"  # wanted, and on record; the cloud has yet to be asked
    REGISTERING = "registering"  # the intent is on record; the cloud is asked
    SECURING = "securing"  # the cloud has issued a secret; it is not yet durable
    REGISTERED = "registered"  # the secret is durable
    ACTIVATING = "activating"  # logging in with the durable secret; the first time commits it
    ONLINE = "online"  # a session is open
    OFFLINE = "offline"  # no session; it is being reopened
    ABSENT = "absent"  # gone from the LAN, its session closed; shown as offline
    FAILED = "failed"  # somebody has to act
    RETIRED = "retired"  # removed at the cloud; does not come back by itself

    @property
    def shown(self) -> str:
        """The word that people and D-Bus see."""
        return State.OFFLINE.value if self is State.ABSENT else self.value


class Work(StrEnum):
    """What is done for a child, as long as it is in the states that ask for it."""

    EVALUATE = "evaluate"  # let the sighting settle, then ask policy
    REGISTER = "register"  # intent, cloud, vault, pointer; again after a failure
    ACTIVATE = "activate"  # put on record that the first login is about to happen
    CONNECT = "connect"  # open the session, keep it, reopen it


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to a child, and why."""

    reason: Reason = NONE


# fmt: off
class Seen(Event): """It is on the LAN."""
class Lost(Event): """It has left the LAN: looked for, and not found."""
class Admitted(Event): """A rule or an operator lets it in; on record."""
class Held(Event): """It waits for the operator."""
class Rejected(Event): """A rule or an operator keeps it out; on record."""
class Forgotten(Event): """Its record and its secrets are gone."""
class Retired(Event): """The cloud has removed it; on record."""
class RegistrationStarted(Event): """The intent is on record; the cloud is about to be asked."""
class RegistrationDelayed(Event): """The cloud has issued nothing; asked again later."""
class RegistrationUnknown(Event): """The cloud may have issued a secret that did not arrive."""
class RegistrationRefused(Event): """The cloud said no, and would say it again."""
class SecretIssued(Event): """The cloud has issued a secret; it is being made durable."""
class StoreDelayed(Event): """The disk did not take it; tried again, the secret is in memory."""
class SecretStored(Event): """The secret is durable, and so is the pointer to it."""
class ActivationStarted(Event): """The first login is about to happen; on record."""
class SessionOpened(Event): """Logged in; on record the first time."""
class SessionClosed(Event): """The session has ended."""
class SessionDelayed(Event): """Could not log in; tried again later."""
class SecretStale(Event): """A first login was refused: a newer secret was issued since."""
class SecretLost(Event): """The cloud was logged into with a secret that is gone."""
# fmt: on


EVENTS: tuple[type[Event], ...] = (
    Seen, Lost, Admitted, Held, Rejected, Forgotten, Retired,
    RegistrationStarted, RegistrationDelayed, RegistrationUnknown, RegistrationRefused,
    SecretIssued, StoreDelayed, SecretStored, ActivationStarted,
    SessionOpened, SessionClosed, SessionDelayed, SecretStale, SecretLost,
)  # fmt: skip

SPONTANEOUS = (Seen, Lost, Admitted, Held, Rejected, Forgotten, Retired)
"""Events that no work asked for: they may come in any state."""

_S = State

_REMEMBERED: dict[type[Event], State] = {
    Rejected: _S.REJECTED, Forgotten: _S.FORGOTTEN, Retired: _S.RETIRED,
}  # fmt: skip
"""Verdicts are obeyed in every state that holds anything."""

TRANSITIONS: Mapping[State, Mapping[type[Event], State]] = {
    _S.FORGOTTEN: {
        Seen: _S.DISCOVERED, Lost: _S.FORGOTTEN, Admitted: _S.FORGOTTEN, Held: _S.FORGOTTEN,
        Rejected: _S.FORGOTTEN, Forgotten: _S.FORGOTTEN, Retired: _S.FORGOTTEN,
    },
    _S.DISCOVERED: _REMEMBERED | {
        Seen: _S.DISCOVERED, Lost: _S.FORGOTTEN, Admitted: _S.ADMITTED, Held: _S.PENDING,
    },
    _S.PENDING: _REMEMBERED | {
        Seen: _S.PENDING, Lost: _S.FORGOTTEN, Admitted: _S.ADMITTED, Held: _S.PENDING,
    },
    _S.REJECTED: _REMEMBERED | {
        Seen: _S.REJECTED, Lost: _S.REJECTED, Admitted: _S.ADMITTED, Held: _S.REJECTED,
    },
    _S.ADMITTED: _REMEMBERED | {
        Seen: _S.ADMITTED, Lost: _S.ADMITTED, Admitted: _S.ADMITTED, Held: _S.ADMITTED,
        RegistrationStarted: _S.REGISTERING, RegistrationDelayed: _S.ADMITTED,
        RegistrationRefused: _S.FAILED,
        SecretStored: _S.REGISTERED,  # it had one already, from before it was rejected
        SecretLost: _S.FAILED,
    },
    _S.REGISTERING: _REMEMBERED | {
        Seen: _S.REGISTERING, Lost: _S.REGISTERING, Admitted: _S.REGISTERING, Held: _S.REGISTERING,
        RegistrationDelayed: _S.ADMITTED, RegistrationUnknown: _S.ADMITTED,
        RegistrationRefused: _S.FAILED, SecretIssued: _S.SECURING,
    },
    _S.SECURING: _REMEMBERED | {
        Seen: _S.SECURING, Lost: _S.SECURING, Admitted: _S.SECURING, Held: _S.SECURING,
        StoreDelayed: _S.SECURING, SecretStored: _S.REGISTERED,
    },
    _S.REGISTERED: _REMEMBERED | {
        Seen: _S.REGISTERED, Lost: _S.ABSENT, Admitted: _S.REGISTERED, Held: _S.REGISTERED,
        StoreDelayed: _S.REGISTERED, ActivationStarted: _S.ACTIVATING, SecretLost: _S.FAILED,
    },
    _S.ACTIVATING: _REMEMBERED | {
        Seen: _S.ACTIVATING, Lost: _S.ABSENT, Admitted: _S.ACTIVATING, Held: _S.ACTIVATING,
        SessionOpened: _S.ONLINE, SessionDelayed: _S.ACTIVATING,
        SecretStale: _S.ADMITTED, SecretLost: _S.FAILED, RegistrationRefused: _S.FAILED,
    },
    _S.ONLINE: _REMEMBERED | {
        Seen: _S.ONLINE, Lost: _S.ABSENT, Admitted: _S.ONLINE, Held: _S.ONLINE,
        SessionClosed: _S.OFFLINE,
    },
    _S.OFFLINE: _REMEMBERED | {
        Seen: _S.OFFLINE, Lost: _S.ABSENT, Admitted: _S.OFFLINE, Held: _S.OFFLINE,
        SessionOpened: _S.ONLINE, SessionDelayed: _S.OFFLINE, SecretLost: _S.FAILED,
    },
    _S.ABSENT: _REMEMBERED | {
        Seen: _S.REGISTERED, Lost: _S.ABSENT, Admitted: _S.ABSENT, Held: _S.ABSENT,
    },
    _S.FAILED: _REMEMBERED | {
        Seen: _S.FAILED, Lost: _S.FAILED, Admitted: _S.ADMITTED, Held: _S.FAILED,
    },
    _S.RETIRED: _REMEMBERED | {
        Seen: _S.RETIRED, Lost: _S.RETIRED, Admitted: _S.ADMITTED, Held: _S.RETIRED,
    },
}  # fmt: skip

WORK: Mapping[State, Work] = {
    _S.DISCOVERED: Work.EVALUATE,
    _S.ADMITTED: Work.REGISTER,
    _S.REGISTERING: Work.REGISTER,
    _S.SECURING: Work.REGISTER,
    _S.REGISTERED: Work.ACTIVATE,
    _S.ACTIVATING: Work.CONNECT,
    _S.ONLINE: Work.CONNECT,
    _S.OFFLINE: Work.CONNECT,
}
"""What is done in a state.  The other states wait for somebody else."""

SUBSTATES: Mapping[State, str] = {
    _S.DISCOVERED: "settling",
    _S.PENDING: "awaiting-approval",
    _S.ADMITTED: "queued",
    _S.REGISTERING: "awaiting-cloud",
    _S.SECURING: "writing",
    _S.ACTIVATING: "logging-in",
    _S.OFFLINE: "reconnecting",
    _S.ABSENT: "absent",
    _S.FAILED: "needs-operator",
}
"""What a child does meanwhile, unless the reason says more."""


class IllegalTransition(Exception):
    """An event came that this state does not know: a bug in whoever posted it."""


def advance(state: State, event: Event, *, present: bool) -> State:
    """Return the next state.

    present: whether the child is on the LAN.  A state that would be left on `Lost` is not
    entered for a child that is absent: online means present.
    """
    row = TRANSITIONS[state]
    if type(event) not in row:
        raise IllegalTransition(f"{type(event).__name__} in state {state.value}")
    entered = row[type(event)]
    if not present and entered not in (_S.DISCOVERED, _S.PENDING):
        return TRANSITIONS[entered][Lost]
    return entered


def substate(state: State, reason: Reason) -> str:
    """What the child does meanwhile."""
    return reason.substate or SUBSTATES.get(state, "")
