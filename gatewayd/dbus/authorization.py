"""Who may change something.

Asks polkit whether a caller may do something.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Protocol

from gatewayd.dbus.errors import ECHO
from gatewayd.dbus.glib import NO_REPLY, Variant
from gatewayd.dbus.names import (
    AUTHORITY,
    DEVICE,
    LOG_CONTROL,
    MANAGER,
    NAME,
    PROVIDER,
    SECRET_STORE,
    Arguments,
    Key,
)
from gatewayd.errors import AccessDenied, InteractionRequired

POLKIT = "org.freedesktop.PolicyKit1"
POLKIT_AUTHORITY = (POLKIT, "/org/freedesktop/PolicyKit1/Authority", f"{POLKIT}.Authority")
USER_INTERACTION = 1  # CheckAuthorization's flag: a person may be asked for a password
PATIENCE = 5_000
"""Milliseconds in which polkit has to answer where nobody is asked for a password."""
PATIENCE_WITH_PEOPLE = 120_000
"""Milliseconds in which somebody has to have given a password."""


class AuthorizationResult(Enum):
    """What polkit says."""

    YES = auto()
    NO = auto()
    CHALLENGE = auto()  # yes, if somebody proves who they are
    SILENCE = auto()  # it is not there, or does not answer


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
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

    def check(
        self, inquiry: AuthorizationRequest, done: Callable[[AuthorizationResult], None]
    ) -> None:
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
        self._ask((*POLKIT_AUTHORITY, method), values, patience, done)


def arguments(inquiry: AuthorizationRequest, cancellation: str) -> Variant:
    """Return the arguments of CheckAuthorization."""
    subject = ("system-bus-name", {"name": Variant("s", inquiry.sender)})
    flags = USER_INTERACTION if inquiry.interactive else 0
    values = (subject, inquiry.action, dict(inquiry.details), flags, cancellation)
    return Variant("((sa{sv})sa{ss}us)", values)


def judge(result: tuple[Any, ...] | None) -> AuthorizationResult:
    """Read the answer of CheckAuthorization; None where there was none."""
    match result:
        case ((True, _, _),):
            return AuthorizationResult.YES
        case ((False, True, _),):
            return AuthorizationResult.CHALLENGE
        case ((False, False, _),):
            return AuthorizationResult.NO
        case _:
            return AuthorizationResult.SILENCE


ROOT_ALONE = ""
"""No action: root may, and nobody else can be granted it."""

ACTIONS: Mapping[Key, str] = {
    (MANAGER, "Approve"): f"{NAME}.approve-device",
    (MANAGER, "Reject"): f"{NAME}.manage-devices",
    (MANAGER, "Retry"): f"{NAME}.manage-devices",
    (MANAGER, "Rename"): f"{NAME}.manage-devices",
    (MANAGER, "Reregister"): f"{NAME}.reregister-device",
    (MANAGER, "Forget"): f"{NAME}.forget-device",
    (MANAGER, "PermitJoin"): f"{NAME}.permit-join",
    (MANAGER, "Discover"): f"{NAME}.permit-join",
    (MANAGER, "Reload"): f"{NAME}.configure",
    (MANAGER, "Dump"): f"{NAME}.configure",
    (DEVICE, "Approve"): f"{NAME}.approve-device",
    (DEVICE, "Reject"): f"{NAME}.manage-devices",
    (DEVICE, "Retry"): f"{NAME}.manage-devices",
    (DEVICE, "Forget"): f"{NAME}.forget-device",
    (SECRET_STORE, "Rotate"): f"{NAME}.manage-store",
    (SECRET_STORE, "Reseal"): f"{NAME}.manage-store",
    (SECRET_STORE, "AddRecoveryKey"): f"{NAME}.manage-store",
    (SECRET_STORE, "Export"): f"{NAME}.manage-store",
    (SECRET_STORE, "AcceptRollback"): f"{NAME}.manage-store",
    (PROVIDER, "Test"): f"{NAME}.configure",
    (AUTHORITY, "Make"): f"{NAME}.manage-authority",
    (AUTHORITY, "Import"): f"{NAME}.manage-authority",
    (AUTHORITY, "Prove"): f"{NAME}.manage-authority",
    (AUTHORITY, "Issue"): f"{NAME}.manage-authority",
    (AUTHORITY, "Renew"): f"{NAME}.manage-authority",
    (LOG_CONTROL, "LogLevel"): ROOT_ALONE,
}
"""Method to what an administrator grants.  A method that is not here is granted to nobody."""

DEVICE_FIRST = {
    *((MANAGER, name) for name in ("Approve", "Reject", "Retry", "Rename", "Reregister", "Forget")),
    *((DEVICE, name) for name in ("Approve", "Reject", "Retry", "Forget")),
    (AUTHORITY, "Issue"),
    (AUTHORITY, "Renew"),
}
"""Methods whose first argument names a child."""

PROVIDER_SECOND = {(MANAGER, "Approve"), (DEVICE, "Approve")}
"""Methods whose second argument names a cloud."""


def action(key: Key) -> str:
    """Return what is to be granted.  Raises AccessDenied where nothing would do."""
    if key not in ACTIONS:
        raise AccessDenied("Nobody may do this")
    if ACTIONS[key] == ROOT_ALONE:
        raise AccessDenied("Only root may do this")
    return ACTIONS[key]


def named(key: Key, arguments: Arguments) -> str:
    """Return what the caller calls the child it is about; "" where it is about none."""
    return str(arguments[0]) if key in DEVICE_FIRST else ""


def details(key: Key, arguments: Arguments, device: str, provider: str) -> Mapping[str, str]:
    """Return what polkit's rules and prompts are told.

    device: the id of the child that is meant.  provider: the cloud whose object was called.
    """
    wanted = str(arguments[1]) if key in PROVIDER_SECOND else provider
    told = {"device": device, "provider": wanted if ECHO.fullmatch(wanted) else ""}
    return {name: text for name, text in told.items() if text}


def demand(answer: AuthorizationResult, wanted: str) -> None:
    """Return if polkit has said yes.  Raises AccessDenied, InteractionRequired.

    wanted: the action.
    """
    match answer:
        case AuthorizationResult.YES:
            return
        case AuthorizationResult.CHALLENGE:
            raise InteractionRequired(f"Interactive authorization required for {wanted}")
        case AuthorizationResult.NO:
            raise AccessDenied(f"Not authorized: {wanted}")
        case _:
            raise AccessDenied(f"Not authorized: {wanted}; polkit does not answer, so ask root")
