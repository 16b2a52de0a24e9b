"""The errors that callers receive: a D-Bus name for each class, and one safe sentence."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping

from gatewayd import errors
from gatewayd.dbus.names import NAME
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
