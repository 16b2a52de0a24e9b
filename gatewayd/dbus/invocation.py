"""One method call that wants an answer.

Frees what GLib before 2.84 leaves behind after each method call: about 2 KB.

GLib hands an invocation to language bindings together with a reference that PyGObject does not
give back (pydbus issue 83, gtk-rs-core pull request 1600).  One `g_object_unref` more is the
remedy there, and a crash anywhere else.  So nothing is guessed from version numbers: a connection
to ourselves, without a bus, shows whether an answered invocation lives on, and whether it is gone
with the remedy.  Only if both are so, the remedy is used.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gatewayd.dbus.errors import failure
from gatewayd.dbus.glib import BusThread, Gio, GLib, Invocation, Variant, register
from gatewayd.errors import InvalidArgs

INTERACTIVE = Gio.DBusMessageFlags.ALLOW_INTERACTIVE_AUTHORIZATION


@dataclass(frozen=True, slots=True)
class MethodCall:
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


log = logging.getLogger(__name__)

PROBE = "org.gatewayd1.Probe"
XML = f"<node><interface name='{PROBE}'><method name='Call'/></interface></node>"
PATIENCE = 2.0  # seconds

Free = Callable[[Invocation], None]


def keep(_invocation: Invocation) -> None:
    """Do nothing: GLib frees invocations itself."""


def choose(thread: BusThread) -> Free:
    """Return what to do with answered invocations.  Called on the D-Bus thread, before all else."""
    try:
        probe = _Probe(thread)
        free = _unref()
        needed = not probe.dies(keep) and probe.dies(free)
        probe.close()
    except (GLib.Error, OSError, TimeoutError) as error:
        log.warning("Cannot test for leaks, assuming none: %s.", type(error).__name__)
        return keep
    log.debug("Answered invocations are freed by %s.", "us" if needed else "GLib")
    return free if needed else keep


def _unref() -> Free:
    """Return a function that gives back the reference that nobody holds."""
    library = ctypes.CDLL("libgobject-2.0.so.0")
    library.g_object_unref.argtypes = [ctypes.c_void_p]
    library.g_object_unref.restype = None

    def free(invocation: Invocation) -> None:
        # the wrapper holds one, and the lost one makes two: with fewer there is nothing to free
        if invocation.__grefcount__ > 1:
            library.g_object_unref(hash(invocation))  # PyGObject's hash is the object's address

    return free


@dataclass(slots=True)
class _Watch:
    answered: bool = False
    dead: bool = False


class _Probe:
    """Two ends of a socket pair that speak D-Bus."""

    def __init__(self, thread: BusThread) -> None:
        self._thread = thread
        ours, theirs = socket.socketpair()
        flags = Gio.DBusConnectionFlags
        servers: list[Any] = []
        Gio.DBusConnection.new(
            _stream(ours), Gio.dbus_generate_guid(), flags.AUTHENTICATION_SERVER, None, None,
            lambda _, result: servers.append(Gio.DBusConnection.new_finish(result)),
        )  # fmt: skip
        client = flags.AUTHENTICATION_CLIENT
        self._client = Gio.DBusConnection.new_sync(_stream(theirs), None, client, None, None)
        self._until(lambda: bool(servers))
        self._server = servers[0]

    def dies(self, free: Free) -> bool:
        """Whether an invocation is gone after it was answered and freed."""
        watch = _Watch()

        def on_call(*arguments: Any) -> None:  # noqa: ANN401  # GLib's
            invocation = arguments[6]
            invocation.weak_ref(lambda *_: setattr(watch, "dead", True))
            invocation.return_value(None)
            free(invocation)

        (info,) = Gio.DBusNodeInfo.new_for_xml(XML).interfaces
        number = register(self._server, "/", info, on_call, None)
        self._client.call(
            None, "/", PROBE, "Call", None, None, Gio.DBusCallFlags.NONE, int(PATIENCE * 1000),
            None, lambda *_: setattr(watch, "answered", True),
        )  # fmt: skip
        self._until(lambda: watch.answered)
        while self._thread.iterate(block=False):
            pass
        gc.collect()
        self._server.unregister_object(number)
        return watch.dead

    def close(self) -> None:
        """Hang up; the other end notices by itself."""
        self._client.close(None, None)

    def _until(self, done: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not done():
            if time.monotonic() > end:
                raise TimeoutError
            if not self._thread.iterate(block=False):
                time.sleep(0.0005)


def _stream(end: socket.socket) -> Any:  # noqa: ANN401  # GLib's
    return Gio.Socket.new_from_fd(end.detach()).connection_factory_create_connection()
