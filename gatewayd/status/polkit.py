"""Asks polkit whether a caller may do something."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Protocol

from gatewayd.glib import NO_REPLY, Variant

POLKIT = "org.freedesktop.PolicyKit1"
AUTHORITY = (POLKIT, "/org/freedesktop/PolicyKit1/Authority", f"{POLKIT}.Authority")
USER_INTERACTION = 1  # CheckAuthorization's flag: a person may be asked for a password
PATIENCE = 5_000
"""Milliseconds in which polkit has to answer where nobody is asked for a password."""
PATIENCE_WITH_PEOPLE = 120_000
"""Milliseconds in which somebody has to have given a password."""


class Answer(Enum):
    """What polkit says."""

    YES = auto()
    NO = auto()
    CHALLENGE = auto()  # yes, if somebody proves who they are
    SILENCE = auto()  # it is not there, or does not answer


@dataclass(frozen=True, slots=True)
class Inquiry:
    """What is asked.

    sender: the caller, by its unique name on the bus: a process id could be another's by now.
    details: named texts for rules and prompts.
    interactive: whether the caller allows that somebody is asked for a password.
    """

    sender: str
    action: str
    details: Mapping[str, str]
    interactive: bool


class Ask(Protocol):
    """Calls a method: `Connection.ask`."""

    def __call__(
        self,
        method: tuple[str, str, str, str],
        arguments: Variant,
        patience: int,
        done: Callable[[tuple[Any, ...] | None, str], None],
        /,
    ) -> None: ...


class Polkit:
    """The authority on the bus.  Used on the D-Bus thread; never waits.

    ask: calls a method.  token: gives names by which a check can be called off.
    Polkit tells of other users' callers only to root and to the owner of the action, which
    org.gatewayd1.policy says is the daemon's user.
    """

    def __init__(self, ask: Ask, token: Callable[[], str]) -> None:
        self._ask, self._token = ask, token

    def check(self, inquiry: Inquiry, done: Callable[[Answer], None]) -> None:
        """Have the answer given to `done`, later."""
        cancellation = self._token()

        def answered(result: tuple[Any, ...] | None, error: str) -> None:
            if error == NO_REPLY:  # take the prompt away: nobody waits for it any more
                self._call("CancelCheckAuthorization", Variant("(s)", (cancellation,)), PATIENCE)
            done(judge(result))

        patience = PATIENCE_WITH_PEOPLE if inquiry.interactive else PATIENCE
        self._call("CheckAuthorization", arguments(inquiry, cancellation), patience, answered)

    def _call(
        self,
        method: str,
        values: Variant,
        patience: int,
        done: Callable[[tuple[Any, ...] | None, str], None] = lambda *_: None,
    ) -> None:
        self._ask((*AUTHORITY, method), values, patience, done)


def arguments(inquiry: Inquiry, cancellation: str) -> Variant:
    """Return the arguments of CheckAuthorization."""
    subject = ("system-bus-name", {"name": Variant("s", inquiry.sender)})
    flags = USER_INTERACTION if inquiry.interactive else 0
    values = (subject, inquiry.action, dict(inquiry.details), flags, cancellation)
    return Variant("((sa{sv})sa{ss}us)", values)


def judge(result: tuple[Any, ...] | None) -> Answer:
    """Read the answer of CheckAuthorization; None where there was none."""
    match result:
        case ((True, _, _),):
            return Answer.YES
        case ((False, True, _),):
            return Answer.CHALLENGE
        case ((False, False, _),):
            return Answer.NO
        case _:
            return Answer.SILENCE
