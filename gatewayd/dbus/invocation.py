"""One method call on its way.  It is answered once, on the D-Bus thread."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gatewayd.dbus.errors import failure
from gatewayd.dbus.glib import Gio, Invocation, Variant
from gatewayd.dbus.glib_leak import FreeInvocation
from gatewayd.dbus.methods import BoundMethod
from gatewayd.errors import InvalidArgs


@dataclass(slots=True, eq=False)
class MethodCall:
    """A method call.

    sender: the caller, by its unique name on the bus.
    arguments: those of the method, after the id of the child whose object was called.
    descriptors: the positions of the arguments that stand for a file descriptor.
    signature: of the results, as "(so)".
    method: what serves it; None where nothing in the configuration does.
    provider: the cloud that the object belongs to, "" for none.
    interactive: whether the caller allows that polkit asks for a password.
    token: gives the id of an internal error.
    """

    sender: str
    arguments: Sequence[Any]
    descriptors: Sequence[int]
    signature: str
    method: BoundMethod | None
    provider: str
    interactive: bool
    invocation: Invocation
    token: Callable[[], str]
    free: FreeInvocation
    _opened: list[int] = field(default_factory=list)

    def open_descriptors(self) -> Sequence[Any]:
        """Return the arguments with open descriptors; `close_descriptors` closes them.

        Raises InvalidArgs.
        """
        arguments = list(self.arguments)
        for position in self.descriptors:
            arguments[position] = self._open(arguments[position])
        return arguments

    def close_descriptors(self) -> None:
        """Close what was opened."""
        while self._opened:
            with contextlib.suppress(OSError):  # the command has ended, whatever a late write did
                os.close(self._opened.pop())

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

    def reply_descriptor(self, results: tuple[int]) -> None:
        """Answer with one descriptor, which is closed here."""
        (descriptor,) = results
        sent = Gio.UnixFDList.new()
        try:
            index = sent.append(descriptor)
        finally:
            os.close(descriptor)
        self.invocation.return_value_with_unix_fd_list(Variant("(h)", (index,)), sent)
        self.free(self.invocation)

    def fail(self, error: BaseException) -> None:
        """Answer with an error."""
        self.invocation.return_dbus_error(*failure(error, self.arguments, self.token))
        self.free(self.invocation)

    def _open(self, index: int) -> int:
        received = self.invocation.get_message().get_unix_fd_list()
        if received is None or not 0 <= index < received.get_length():
            raise InvalidArgs("A file descriptor is missing")
        descriptor = int(received.get(index))
        self._opened.append(descriptor)
        return descriptor


def allows_interaction(invocation: Invocation) -> bool:
    """Whether the caller allows that polkit asks for a password."""
    allow = Gio.DBusMessageFlags.ALLOW_INTERACTIVE_AUTHORIZATION
    return bool(invocation.get_message().get_flags() & allow)
