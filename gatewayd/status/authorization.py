"""Who may change something."""

from __future__ import annotations

from collections.abc import Mapping

from gatewayd.errors import AccessDenied, InteractionRequired
from gatewayd.status.failure import ECHO
from gatewayd.status.methods import Arguments, Key
from gatewayd.status.names import (
    AUTHORITY,
    DEVICE,
    LOG_CONTROL,
    MANAGER,
    NAME,
    PROVIDER,
    SECRET_STORE,
)
from gatewayd.status.polkit import Answer

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


def demand(answer: Answer, wanted: str) -> None:
    """Return if polkit has said yes.  Raises AccessDenied, InteractionRequired.

    wanted: the action.
    """
    match answer:
        case Answer.YES:
            return
        case Answer.CHALLENGE:
            raise InteractionRequired(f"Interactive authorization required for {wanted}")
        case Answer.NO:
            raise AccessDenied(f"Not authorized: {wanted}")
        case _:
            raise AccessDenied(f"Not authorized: {wanted}; polkit does not answer, so ask root")
