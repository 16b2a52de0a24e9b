"""Whether a caller may change something: the question to polkit, and its answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from gatewayd.dbus.glib import DISCONNECTED, NO_REPLY, RemoteCaller, RemoteMethod, Variant
from gatewayd.dbus.invocation import ECHO
from gatewayd.dbus.methods import Permission
from gatewayd.errors import AccessDenied, InteractionRequired

log = logging.getLogger(__name__)

POLKIT = "org.freedesktop.PolicyKit1"
PATH = "/org/freedesktop/PolicyKit1/Authority"
CHECK = RemoteMethod(POLKIT, PATH, f"{POLKIT}.Authority", "CheckAuthorization")
CANCEL_CHECK = CHECK._replace(name="CancelCheckAuthorization")
ALLOW_USER_INTERACTION = 1  # CheckAuthorization's flag: polkit may ask a user for a password
PATIENCE_MS = 5_000
"""In which polkit has to answer where it may not ask for a password."""
INTERACTIVE_PATIENCE_MS = 120_000
"""In which a user has to have given a password."""


class AuthorizationResult(Enum):
    """The answer of polkit."""

    AUTHORIZED = auto()
    NOT_AUTHORIZED = auto()
    CHALLENGE = auto()  # authorized once a user has given a password
    NO_ANSWER = auto()  # polkit does not run, or does not answer


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """A question to polkit.

    sender: the caller, by its unique name on the bus: a process id may be another's by now.
    details: named texts for rules and prompts.
    interactive: whether the caller allows polkit to ask for a password.
    """

    sender: str
    action: str
    details: Mapping[str, str]
    interactive: bool


class Polkit:
    """The client of polkit.  Used on the event loop.

    token: gives names by which a check can be cancelled.
    Polkit answers about other users' callers only to root and to the owner of the action, which is
    the daemon's user: see org.gatewayd1.policy.
    """

    def __init__(self, remote: RemoteCaller, token: Callable[[], str]) -> None:
        self._remote, self._token = remote, token
        self._answers = True

    async def check(self, request: AuthorizationRequest) -> AuthorizationResult:
        """Return the answer.  If it is not awaited to the end, a prompt is withdrawn.

        Raises Busy.
        """
        cancellation = self._token()
        patience = INTERACTIVE_PATIENCE_MS if request.interactive else PATIENCE_MS
        try:
            reply = await self._remote.call(CHECK, check_arguments(request, cancellation), patience)
        except asyncio.CancelledError:
            self._withdraw(cancellation)
            raise
        if reply.error == NO_REPLY:
            self._withdraw(cancellation)
        result = parse_result(reply.values)
        if reply.error != DISCONNECTED:
            self._note(answers=result is not AuthorizationResult.NO_ANSWER)
        return result

    def _note(self, *, answers: bool) -> None:
        """Log that polkit does not answer, once, and that it answers again."""
        if answers and not self._answers:
            log.warning("Polkit answers again.")
        elif self._answers and not answers:
            log.error(
                "Polkit does not answer: changes are refused to all users but root."
                " See: systemctl status polkit."
            )
        self._answers = answers

    def _withdraw(self, cancellation: str) -> None:
        self._remote.send(CANCEL_CHECK, Variant("(s)", (cancellation,)))


def check_arguments(request: AuthorizationRequest, cancellation: str) -> Variant:
    """Return the arguments of CheckAuthorization."""
    subject = ("system-bus-name", {"name": Variant("s", request.sender)})
    flags = ALLOW_USER_INTERACTION if request.interactive else 0
    values = (subject, request.action, dict(request.details), flags, cancellation)
    return Variant("((sa{sv})sa{ss}us)", values)


def parse_result(values: tuple[Any, ...] | None) -> AuthorizationResult:
    """Read the reply of CheckAuthorization; None where there was none."""
    match values:
        case ((True, _, _),):
            return AuthorizationResult.AUTHORIZED
        case ((False, True, _),):
            return AuthorizationResult.CHALLENGE
        case ((False, False, _),):
            return AuthorizationResult.NOT_AUTHORIZED
        case _:
            return AuthorizationResult.NO_ANSWER


def device_name(permission: Permission, arguments: Sequence[Any]) -> str:
    """Return the child that a call is about, as the caller names it; "" where there is none."""
    return "" if permission.device is None else str(arguments[permission.device])


def details(
    permission: Permission, arguments: Sequence[Any], device: str, provider: str
) -> Mapping[str, str]:
    """Return the details for polkit's rules and prompts.

    device: the id of the child that is meant.  provider: the cloud whose object was called.
    """
    cloud = provider if permission.provider is None else str(arguments[permission.provider])
    named = {"device": device, "provider": cloud if ECHO.fullmatch(cloud) else ""}
    return {name: text for name, text in named.items() if text}


def demand(result: AuthorizationResult, action: str) -> None:
    """Return if the caller is authorized.  Raises AccessDenied, InteractionRequired."""
    match result:
        case AuthorizationResult.AUTHORIZED:
            return
        case AuthorizationResult.CHALLENGE:
            raise InteractionRequired(f"Interactive authorization required for {action}")
        case AuthorizationResult.NOT_AUTHORIZED:
            raise AccessDenied(f"Not authorized: {action}")
        case _:
            raise AccessDenied(f"Not authorized: {action}; polkit does not answer, so ask root")
