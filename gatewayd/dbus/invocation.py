"""One method call on its way.  It is answered once, on the D-Bus thread.

An error that its caller receives has a D-Bus name for its class, and one safe sentence.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gatewayd import errors
from gatewayd.dbus.glib import Gio, Invocation, Variant
from gatewayd.dbus.glib_leak import FreeInvocation
from gatewayd.dbus.methods import BoundMethod
from gatewayd.dbus.names import NAME
from gatewayd.dbus.variants import PackedArguments
from gatewayd.errors import InvalidArgs
from gatewayd.runtime.text import one_line

log = logging.getLogger(__name__)

STANDARD = "org.freedesktop.DBus.Error"
OURS = f"{NAME}.Error"
MAX_TEXT = 1000  # characters
ECHO = re.compile(r"[A-Za-z0-9._:-]{1,64}")
"""Texts of callers that an error may repeat: busctl prints errors raw."""

NAMES: Mapping[type[BaseException], str] = {
    errors.NoSuchDevice: f"{OURS}.NoSuchDevice",
    errors.AmbiguousId: f"{OURS}.AmbiguousId",
    errors.NoSuchProvider: f"{OURS}.NoSuchProvider",
    errors.WrongState: f"{OURS}.WrongState",
    errors.NotAdmitted: f"{OURS}.NotAdmitted",
    errors.CloudUnreachable: f"{OURS}.CloudUnreachable",
    errors.Busy: f"{OURS}.Busy",
    errors.InvalidArgs: f"{STANDARD}.InvalidArgs",
    errors.AccessDenied: f"{STANDARD}.AccessDenied",
    errors.InteractionRequired: f"{STANDARD}.InteractiveAuthorizationRequired",
    errors.NotSupported: f"{STANDARD}.NotSupported",
    errors.CallerError: f"{STANDARD}.Failed",
    errors.ConfigError: f"{OURS}.ConfigInvalid",
    errors.StoreSealed: f"{OURS}.StoreSealed",
    errors.StoreError: f"{OURS}.StoreFailed",
    errors.SiteError: f"{OURS}.SiteFailed",
}
"""Errors whose text may be shown; a class stands for its subclasses too."""


def failure(
    error: BaseException, arguments: Iterable[object], token: Callable[[], str]
) -> tuple[str, str]:
    """Return the D-Bus name and the sentence for an error.

    arguments: of the caller; one that is not plain is replaced in the sentence.
    token: gives the id under which any other error stands in the journal.
    """
    for kind in type(error).__mro__:
        if kind in NAMES:
            return NAMES[kind], sentence(str(error), arguments)
    number = token()
    log.error("A D-Bus method failed (id %s).", number, exc_info=error)
    return f"{STANDARD}.Failed", f"Internal error, see the journal (id {number})"


def sentence(text: str, arguments: Iterable[object]) -> str:
    """Return a text that any terminal can print: one line, nothing but printable characters."""
    for argument in arguments:
        if isinstance(argument, str) and argument and not ECHO.fullmatch(argument):
            text = text.replace(argument, "...")
    return one_line(text, MAX_TEXT)


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
    free: called once, when it is answered.
    """

    sender: str
    arguments: PackedArguments
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
        self.refuse(*self.failure(error))

    def failure(self, error: BaseException) -> tuple[str, str]:
        """Return the D-Bus name and the sentence for an error: see `failure`."""
        return failure(error, self.arguments.texts(), self.token)

    def refuse(self, name: str, text: str) -> None:
        """Answer with the D-Bus name and the sentence of an error."""
        self.invocation.return_dbus_error(name, text)
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
