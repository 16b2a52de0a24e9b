"""One method call that wants an answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gatewayd.glib import Invocation, Variant
from gatewayd.status.failure import failure


@dataclass(frozen=True, slots=True)
class Call:
    """A call that is answered once, on the D-Bus thread, now or later.

    device: the child whose object was called, "" for the manager.
    signature: of the answer, as "(so)".
    token: gives the id of an internal error.
    free: called with the invocation once it is answered.
    """

    sender: str
    method: str
    arguments: tuple[Any, ...]
    signature: str
    invocation: Invocation
    token: Callable[[], str]
    free: Callable[[Invocation], None]

    def attempt(self, function: Callable[[], Variant | None]) -> None:
        """Answer with what the function returns or raises; None means that it answers later."""
        try:
            answer = function()
        except Exception as error:  # noqa: BLE001  # the border to the bus: failure() logs it
            self.fail(error)
        else:
            if answer is not None:
                self.reply(answer)

    def reply(self, answer: Variant) -> None:
        """Answer."""
        self.invocation.return_value(answer)
        self.free(self.invocation)

    def fail(self, error: BaseException) -> None:
        """Answer that it failed."""
        self.invocation.return_dbus_error(*failure(error, self.arguments, self.token))
        self.free(self.invocation)
