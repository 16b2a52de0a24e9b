"""One method call that wants an answer."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gatewayd.errors import InvalidArgs
from gatewayd.glib import Gio, Invocation, Variant
from gatewayd.status.failure import failure

INTERACTIVE = Gio.DBusMessageFlags.ALLOW_INTERACTIVE_AUTHORIZATION


@dataclass(frozen=True, slots=True)
class Call:
    """A call that is answered once, on the D-Bus thread, now or later.

    key: interface and method, or interface and property for what sets one.
    arguments: those of the method, after the id of the child whose object was called.
    handles: which of them stand for a file descriptor.
    signature: of the answer, as "(so)".
    commands: the port that serves the object; None where none does.
    provider: the cloud that the object belongs to, "" for none.
    token: gives the id of an internal error.
    free: called with the invocation once it is answered.
    """

    sender: str
    key: tuple[str, str]
    arguments: tuple[Any, ...]
    handles: tuple[int, ...]
    signature: str
    commands: object
    provider: str
    invocation: Invocation
    token: Callable[[], str]
    free: Callable[[Invocation], None]

    @property
    def interactive(self) -> bool:
        """Whether the caller allows that somebody is asked for a password."""
        return bool(self.invocation.get_message().get_flags() & INTERACTIVE)

    def descriptor(self, index: int) -> int:
        """Return a descriptor that came with the call; whoever asks closes it.

        Raises InvalidArgs.
        """
        came = self.invocation.get_message().get_unix_fd_list()
        if came is None or not 0 <= index < came.get_length():
            raise InvalidArgs("A file descriptor is missing")
        return int(came.get(index))

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

    def hand_over(self, descriptors: tuple[int]) -> None:
        """Answer with one descriptor, which is closed here."""
        (descriptor,) = descriptors
        sent = Gio.UnixFDList.new()
        try:
            index = sent.append(descriptor)
        finally:
            os.close(descriptor)
        self.invocation.return_value_with_unix_fd_list(Variant("(h)", (index,)), sent)
        self.free(self.invocation)

    def fail(self, error: BaseException) -> None:
        """Answer that it failed."""
        self.invocation.return_dbus_error(*failure(error, self.arguments, self.token))
        self.free(self.invocation)
