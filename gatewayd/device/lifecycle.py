"""The life cycle of one child device, as tables.

Rule 1: everything that decides a child's next state is in this file.
Rule 2: this file performs no I/O and reads no clock.  Events come in, a state goes out.

An event says what *has* happened: where it stands for a durable fact, the fact was committed
before the event was posted.  Each state has at most one kind of work.  Entering a state starts
its work, unless that work is running already; a state with other work, or none, ends it.
So a restart is no special case: recovery.py picks the state, and its work starts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from gatewayd.device.reason import NONE, Reason


class State(StrEnum):
    """The states of a child."""

    FORGOTTEN = "forgotten"  # nothing is kept; never shown
    DISCOVERED = "discovered"  # seen on the LAN, not yet judged
    PENDING = "pending"  # waits for the operator
    REJECTED = "rejected"  # kept out; remembered
    ADMITTED = "admitted"  # let in, and on record; not yet requested from the cloud
    REGISTERING = "registering"  # the intent is on record; the request is under way
    SECURING = "securing"  # the cloud has issued a secret; it is not yet durable
    REGISTERED = "registered"  # it is back, with a secret that was stored before
    ACTIVATING = "activating"  # logging in with the durable secret; the first time commits it
    ONLINE = "online"  # a session is open
    OFFLINE = "offline"  # no session; it is being reopened
    HANDED_OVER = "handed-over"  # its holder has the session; gatewayd keeps the secret
    ABSENT = "absent"  # gone from the LAN, its session closed; shown as offline
    FAILED = "failed"  # an operator has to act
    FROZEN = "frozen"  # it has shown another key; kept from its cloud until an operator decides
    ELSEWHERE = "elsewhere"  # another gateway of the site has it
    RETIRED = "retired"  # removed at the cloud; does not come back by itself

    @property
    def shown(self) -> str:
        """The word shown to people and on D-Bus."""
        return _SHOWN[self]


_SHOWN: Mapping[State, str] = {one: one.value for one in State} | {
    State.ABSENT: State.OFFLINE.value
}


class Work(StrEnum):
    """What is done for a child while it is in a state that has this work."""

    EVALUATE = "evaluate"  # let the sighting settle, then ask policy
    REGISTER = "register"  # intent, cloud, secret store, pointer; again after a failure
    ACTIVATE = "activate"  # make sure that the record lets its secret be used
    CONNECT = "connect"  # open the session, keep it, reopen it
    HOLD = "hold"  # keep the secret for its holder, and renew it


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to a child, and why.

    until: when it is tried again, in seconds of the event loop's clock; 0 where it is not.
    """

    reason: Reason = NONE
    until: float = 0.0


# fmt: off
class Seen(Event): """It is on the LAN."""
class Changed(Event): """What is known of it has changed, or the rules have."""
class Lost(Event): """It has left the LAN: it was probed, and did not answer."""
class Admitted(Event): """A rule or an operator has admitted it; on record."""
class Held(Event): """It waits for the operator."""
class Rejected(Event): """A rule or an operator has rejected it; on record."""
class Forgotten(Event): """Its record and its secrets are gone."""
class Retired(Event): """The cloud has removed it; on record."""
class Retried(Event): """An operator or a new configuration has it tried again."""
class Reset(Event): """An operator has reset it at the cloud; on record."""
class Stalled(Event): """Its work failed unexpectedly, and starts again later."""
class RegistrationStarted(Event): """The intent is on record; the request is about to be sent."""
class RegistrationDelayed(Event): """The cloud has issued nothing; requested again later."""
class RegistrationUnknown(Event): """The cloud may have issued a secret that did not arrive."""
class RegistrationRefused(Event): """The cloud has refused, and would refuse again."""
class SecretIssued(Event): """The cloud has issued a secret; it is being made durable."""
class StoreDelayed(Event): """Writing it failed; tried again, the secret is in memory."""
class SecretStored(Event): """The secret is durable, and so is the pointer by which it is used."""
class ActivationStarted(Event): """A login is about to happen, with a secret from before."""
class SessionOpened(Event): """Logged in; on record the first time."""
class SessionClosed(Event): """The session has ended."""
class SessionDelayed(Event): """Could not log in; tried again later."""
class SecretStale(Event): """A first login was refused: a newer secret was issued since."""
class SecretRenewed(Event): """A newer secret has replaced the one in use; on record."""
class RenewalDelayed(Event): """A newer secret is not accepted, or not made; tried again later."""
class OwnedElsewhere(Event): """It belongs to another gateway of the site."""
class Moved(Event): """Logged in at another cloud, where it belongs from now on; on record."""
class SecretLost(Event): """The secret that was used to log in is gone."""
class HandedOver(Event): """Its holder is to have the session, of a secret that is in use."""
class TakenBack(Event): """gatewayd is to have the session again."""
class ProofDelayed(Event): """It cannot prove its key now; asked again later."""
class Frozen(Event): """It has shown another key than the one that is pinned; on record."""
# fmt: on


EVENTS: tuple[type[Event], ...] = (
    Seen, Changed, Lost, Admitted, Held, Rejected, Forgotten, Retired, Retried, Reset, Stalled,
    RegistrationStarted, RegistrationDelayed, RegistrationUnknown, RegistrationRefused,
    SecretIssued, StoreDelayed, SecretStored, ActivationStarted,
    SessionOpened, SessionClosed, SessionDelayed, SecretRenewed, RenewalDelayed,
    SecretStale, SecretLost, HandedOver, TakenBack, ProofDelayed, Frozen, OwnedElsewhere,
    Moved,
)  # fmt: skip

SPONTANEOUS = (
    Seen, Changed, Lost, Admitted, Held, Rejected, Forgotten, Retired, Retried, Reset,
    HandedOver, TakenBack, Frozen, OwnedElsewhere, SecretLost,
)  # fmt: skip
"""Events that come from elsewhere than the work of a state: they may come in any state, and are
ignored where no row names them."""

PostEvent: TypeAlias = Callable[[Event], None]
"""Posts an event of the child that it was made for.  Never blocks."""

_S = State

_VERDICTS: dict[type[Event], State] = {
    Rejected: _S.REJECTED, Forgotten: _S.FORGOTTEN, Retired: _S.RETIRED,
}  # fmt: skip
"""Transitions from every state but FORGOTTEN."""

_OWNED: dict[type[Event], State] = _VERDICTS | {OwnedElsewhere: _S.ELSEWHERE}
"""The same, and what follows where another gateway has a child, in each state that is not final."""

_FREEZABLE: dict[type[Event], State] = _OWNED | {Frozen: _S.FROZEN}
"""The same, and what follows from another key, in each state of an admitted child."""

TRANSITIONS: Mapping[State, Mapping[type[Event], State]] = {
    _S.FORGOTTEN: {
        Seen: _S.DISCOVERED,
        Admitted: _S.ADMITTED,  # it left the LAN while an operator admitted it
    },
    _S.DISCOVERED: _OWNED | {
        Admitted: _S.ADMITTED, Held: _S.PENDING, Lost: _S.FORGOTTEN, Stalled: _S.DISCOVERED,
    },
    _S.PENDING: _OWNED | {
        Admitted: _S.ADMITTED, Changed: _S.DISCOVERED, Lost: _S.FORGOTTEN,
    },
    _S.REJECTED: _VERDICTS | {
        Admitted: _S.ADMITTED,
    },
    _S.ADMITTED: _FREEZABLE | {
        RegistrationStarted: _S.REGISTERING, RegistrationDelayed: _S.ADMITTED,
        RegistrationRefused: _S.FAILED,
        SecretStored: _S.REGISTERED,  # it had one already, from before it was rejected
        SecretLost: _S.FAILED,
        Reset: _S.ADMITTED, Stalled: _S.ADMITTED,
    },
    _S.REGISTERING: _FREEZABLE | {
        SecretIssued: _S.SECURING,
        RegistrationDelayed: _S.ADMITTED, RegistrationUnknown: _S.ADMITTED,
        RegistrationRefused: _S.FAILED,
        Stalled: _S.ADMITTED,
    },
    _S.SECURING: _FREEZABLE | {
        SecretStored: _S.ACTIVATING, StoreDelayed: _S.SECURING,
        Stalled: _S.ADMITTED,
    },
    _S.REGISTERED: _FREEZABLE | {
        ActivationStarted: _S.ACTIVATING, Lost: _S.ABSENT, ProofDelayed: _S.REGISTERED,
        Reset: _S.ADMITTED, Stalled: _S.REGISTERED, HandedOver: _S.HANDED_OVER,
    },
    _S.ACTIVATING: _FREEZABLE | {
        SessionOpened: _S.ONLINE, SessionDelayed: _S.ACTIVATING, Lost: _S.ABSENT,
        SecretRenewed: _S.ACTIVATING, Moved: _S.ONLINE,
        SecretStale: _S.ADMITTED, SecretLost: _S.FAILED, RegistrationRefused: _S.FAILED,
        Reset: _S.ADMITTED, Stalled: _S.ACTIVATING, HandedOver: _S.HANDED_OVER,
    },
    _S.ONLINE: _FREEZABLE | {
        SessionClosed: _S.OFFLINE, Lost: _S.ABSENT,
        SecretRenewed: _S.ONLINE, RenewalDelayed: _S.ONLINE, Moved: _S.ONLINE,
        Stalled: _S.OFFLINE, HandedOver: _S.HANDED_OVER,
    },
    _S.OFFLINE: _FREEZABLE | {
        SessionOpened: _S.ONLINE, SessionDelayed: _S.OFFLINE, Lost: _S.ABSENT,
        SecretRenewed: _S.OFFLINE, Moved: _S.ONLINE,
        SecretLost: _S.FAILED,
        Reset: _S.ADMITTED, Stalled: _S.OFFLINE, HandedOver: _S.HANDED_OVER,
    },
    _S.HANDED_OVER: _FREEZABLE | {  # wherever the child is: its holder need not be on the LAN
        TakenBack: _S.REGISTERED,
        SecretRenewed: _S.HANDED_OVER, RenewalDelayed: _S.HANDED_OVER,
        SecretLost: _S.FAILED,
        Reset: _S.ADMITTED, Stalled: _S.HANDED_OVER,
    },
    _S.ABSENT: _FREEZABLE | {
        Seen: _S.REGISTERED, SecretLost: _S.FAILED,
        Reset: _S.ADMITTED, HandedOver: _S.HANDED_OVER,
    },
    _S.FAILED: _FREEZABLE | {
        Retried: _S.ADMITTED,
        Reset: _S.ADMITTED,
    },
    _S.FROZEN: _OWNED | {
        Admitted: _S.ADMITTED,  # as one that was rejected
    },
    _S.ELSEWHERE: _OWNED | {  # a shard that is gained brings it back, by recovery.py
        Admitted: _S.ADMITTED, Changed: _S.DISCOVERED, Lost: _S.FORGOTTEN,
    },
    _S.RETIRED: _VERDICTS | {
        Admitted: _S.ADMITTED,
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
    _S.HANDED_OVER: Work.HOLD,
}
"""The work of each state.  The other states wait for an event from elsewhere."""

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
    _S.FROZEN: "needs-operator",
}
"""What a child does in a state, unless the reason says more."""


class IllegalTransition(Exception):
    """An event was posted that this state does not accept: a bug of the code that posted it."""


def advance(state: State, event: Event, *, present: bool, on_record: bool = False) -> State:
    """Return the next state.

    present: whether the child is on the LAN.  A state that `Lost` would leave is not entered for
    a child that is absent: online means present.
    on_record: whether an absent child has a record; such a one is not forgotten as it leaves.
    Raises IllegalTransition.
    """
    entered = _follow(state, type(event))
    if entered is _S.FORGOTTEN and isinstance(event, Lost) and on_record:
        return state
    if not present and entered not in (_S.DISCOVERED, _S.PENDING):
        left = _follow(entered, Lost)
        return entered if left is _S.FORGOTTEN and on_record else left
    return entered


def accepts(state: State, event: type[Event]) -> bool:
    """Whether an event changes anything in a state."""
    return event in TRANSITIONS[state]


def _follow(state: State, event: type[Event]) -> State:
    if event in TRANSITIONS[state]:
        return TRANSITIONS[state][event]
    if event in SPONTANEOUS:
        return state
    raise IllegalTransition(f"{event.__name__} in state {state.value}")


def substate(state: State, reason: Reason) -> str:
    """Return what a child in this state does, in one word; "" where there is none."""
    return reason.substate or SUBSTATES.get(state, "")
