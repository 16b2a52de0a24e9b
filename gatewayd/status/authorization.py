"""Who may change something."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gatewayd.errors import AccessDenied, CallerError

ACTIONS: Mapping[str, str] = {
    "Approve": "org.gatewayd1.approve-device",
    "Reject": "org.gatewayd1.manage-devices",
    "Retry": "org.gatewayd1.manage-devices",
    "Rename": "org.gatewayd1.manage-devices",
    "Reregister": "org.gatewayd1.reregister-device",
    "Forget": "org.gatewayd1.forget-device",
    "PermitJoin": "org.gatewayd1.permit-join",
    "Reload": "org.gatewayd1.configure",
}
"""Method to what an administrator grants.  A method that is not here is granted to nobody."""

AskUser = Callable[[str, Callable[[int | None], None]], None]


def decide(method: str, uid: int | None, own: int) -> str:
    """Return the caller as Commands want it, "uid 0".  Raises AccessDenied.

    uid: the caller's, None where the bus could not tell.  own: the daemon's.
    """
    if method not in ACTIONS:
        raise AccessDenied("Nobody may do this")
    if uid is None or uid not in (0, own):
        raise AccessDenied(f"Not authorized: {ACTIONS[method]}; ask root")
    return f"uid {uid}"


class Authorizer:
    """Asks the bus who a caller is.  Used on the D-Bus thread; never waits.

    unix_user: tells the uid of a unique bus name, later.
    own: the daemon's uid.
    """

    def __init__(self, unix_user: AskUser, own: int) -> None:
        self._unix_user, self._own = unix_user, own

    def check(
        self,
        method: str,
        sender: str,
        granted: Callable[[str], None],
        refused: Callable[[CallerError], None],
    ) -> None:
        """Call `granted` with the caller, or `refused` with the reason; now or later."""

        def answered(uid: int | None) -> None:
            try:
                caller = decide(method, uid, self._own)
            except AccessDenied as error:
                refused(error)
            else:
                granted(caller)

        self._unix_user(sender, answered)
