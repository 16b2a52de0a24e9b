"""Frees what GLib before 2.84 leaves behind after each method call: about 2 KB.

GLib passes an invocation to language bindings together with a reference that PyGObject does not
give back (pydbus issue 83, gtk-rs-core pull request 1600).  One `g_object_unref` more is the
remedy there, and a crash anywhere else.  So nothing is guessed from version numbers: a connection
to ourselves, without a bus, shows whether an answered invocation stays alive, and whether it is
gone with the remedy.  Only if both are so, the remedy is used.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gatewayd.dbus.glib import BusThread, Gio, GLib, Invocation, register

log = logging.getLogger(__name__)

PROBE = "org.gatewayd1.Probe"
XML = f"<node><interface name='{PROBE}'><method name='Call'/></interface></node>"
PATIENCE = 2.0  # seconds

FreeInvocation = Callable[[Invocation], None]
"""Called with each invocation once it is answered."""


def keep(_invocation: Invocation) -> None:
    """Do nothing: GLib frees invocations itself."""


def choose(thread: BusThread) -> FreeInvocation:
    """Return what to do with answered invocations.  Called on the D-Bus thread, before all else."""
    try:
        probe = _Probe(thread)
        free = _unref()
        needed = not probe.dies(keep) and probe.dies(free)
        probe.close()
    except (GLib.Error, OSError, TimeoutError) as error:
        log.warning("Cannot test for leaks, assuming none: %s.", type(error).__name__)
        return keep
    log.debug("Answered invocations are freed by %s.", "gatewayd" if needed else "GLib")
    return free if needed else keep


def _unref() -> FreeInvocation:
    """Return a function that gives back the lost reference."""
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
    """What is known of an invocation."""

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

    def dies(self, free: FreeInvocation) -> bool:
        """Whether an invocation is gone after it was answered and freed."""
        watch = _Watch()

        def on_call(*arguments: object) -> None:
            invocation: Invocation = arguments[6]
            invocation.weak_ref(lambda *_: setattr(watch, "dead", True))
            invocation.return_value(None)
            free(invocation)

        gc.freeze()  # what there is already is none of it, and takes long to look through
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


def _stream(end: socket.socket) -> Gio.SocketConnection:
    return Gio.Socket.new_from_fd(end.detach()).connection_factory_create_connection()
