"""The D-Bus thread, its connection, and the two ways between it and the event loop.

The only module that imports gi.  The thread has a `GLib.MainContext` of its own, apart from the
default one that other libraries may use.

The way to the event loop is `loop.call_soon_threadsafe`.  The way to the thread is a queue and
`MainContext.wakeup`, which writes to one eventfd that GLib keeps: unlike `GLib.idle_add`, it
leaves nothing behind on GLib 2.74.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple, TypeAlias, TypeVar

from gi.repository import Gio, GLib

from gatewayd.errors import BusError, Busy

__all__ = ["BusThread", "Connection", "GLib", "Gio", "Invocation", "RemoteCaller", "Variant"]

Variant: TypeAlias = GLib.Variant
Invocation: TypeAlias = Gio.DBusMethodInvocation

BUS = "org.freedesktop.DBus"
BUS_PATH = "/org/freedesktop/DBus"
DO_NOT_QUEUE = 4  # RequestName: fail at once where another owns the name
PRIMARY_OWNER = 1  # RequestName's answer: it is ours
TIMEOUT_MS = 5000  # for calls of the bus itself, and for those whose reply is ignored
NO_REPLY = f"{BUS}.Error.NoReply"
DISCONNECTED = f"{BUS}.Error.Disconnected"

T = TypeVar("T")
log = logging.getLogger(__name__)


class BusThread:
    """One thread that runs a GLib main context.

    loop: the event loop to which results go back.
    limit: calls that may wait for the thread before `run` raises Busy.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, limit: int = 1024) -> None:
        self._loop = loop
        self._limit = limit
        self._context = GLib.MainContext.new()
        self._calls: deque[tuple[Future[Any] | None, Callable[..., Any], tuple[Any, ...]]]
        self._calls = deque()
        self._ended = loop.create_future()
        self._running = False
        self._thread = threading.Thread(target=self._main, name="dbus", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._running = True
        self._thread.start()

    async def stop(self) -> None:
        """Return when what was posted has been done and the thread has ended."""
        self.post(self._end)
        await self._ended

    def post(self, function: Callable[..., object], *args: object) -> None:
        """Have the thread call `function`, whatever waits: each caller bounds what it posts."""
        self._put(None, function, args)

    async def run(self, function: Callable[..., T], *args: object) -> T:
        """Have the thread call `function`; return or raise what it does.  Raises Busy."""
        if len(self._calls) >= self._limit:
            raise Busy("The D-Bus thread is overloaded, try again")
        future: Future[T] = Future()
        self._put(future, function, args)
        return await asyncio.wrap_future(future)

    async def run_async(self, begin: Callable[[Callable[[T], None]], object]) -> T:
        """Have the thread begin something; return what it passes to its callback later.

        Raises Busy, and what `begin` does.
        """
        result: asyncio.Future[T] = self._loop.create_future()
        await self.run(begin, partial(self.call_on_loop, _set_result, result))
        return await result

    def call_on_loop(self, function: Callable[..., object], *args: object) -> None:
        """Have the event loop call `function`."""
        self._loop.call_soon_threadsafe(function, *args)

    async def ping(self) -> None:
        """Return when the thread has called a function.  Raises Busy."""
        await self.run(int)

    def iterate(self, *, block: bool) -> bool:
        """On the thread, before anything is served: dispatch what is ready."""
        return bool(self._context.iteration(block))

    def _main(self) -> None:
        self._context.push_thread_default()
        while self._running:
            self._call_all()
            if self._running:
                self._context.iteration(True)  # may_block
        self._context.pop_thread_default()
        self.call_on_loop(self._ended.set_result, None)

    def _put(
        self, future: Future[T] | None, function: Callable[..., Any], args: tuple[object, ...]
    ) -> None:
        self._calls.append((future, function, args))
        self._context.wakeup()

    def _call_all(self) -> None:
        for _ in range(len(self._calls)):
            future, function, args = self._calls.popleft()
            if future is None or future.set_running_or_notify_cancel():
                _call_one(future, function, args)

    def _end(self) -> None:
        self._running = False


def _call_one(
    future: Future[Any] | None, function: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    try:
        result = function(*args)
    except Exception as error:  # the border of the thread: a fault in a call must not end it
        if future is None:
            log.exception("A call on the D-Bus thread failed.")
        else:
            future.set_exception(error)
    else:
        if future is not None:
            future.set_result(result)


def _set_result(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


class RemoteMethod(NamedTuple):
    """A method of another service."""

    destination: str
    path: str
    interface: str
    name: str


class MethodReply(NamedTuple):
    """What another service returned; None, and the D-Bus name of the error, where it failed."""

    values: tuple[Any, ...] | None
    error: str = ""


class Connection:
    """A private connection to a message bus.  Made and used on the D-Bus thread only.

    address: "system", or an address as the D-Bus specification has it, "unix:path=/run/…".
    lost: called on the D-Bus thread when the bus has gone away.
    Raises BusError.
    """

    def __init__(self, address: str, lost: Callable[[], None]) -> None:
        flags = Gio.DBusConnectionFlags
        kind = flags.AUTHENTICATION_CLIENT | flags.MESSAGE_BUS_CONNECTION
        try:
            if address == "system":
                address = Gio.dbus_address_get_for_bus_sync(Gio.BusType.SYSTEM, None)
            self._bus = Gio.DBusConnection.new_for_address_sync(address, kind, None, None)
        except GLib.Error as error:
            raise BusError(f"Cannot reach the message bus: {error.message}") from None
        self._bus.set_exit_on_close(False)  # the daemon decides
        self._lost = self._bus.connect("closed", lambda *_: lost())

    def own(self, name: str) -> None:
        """Own a name, without waiting for it and without giving it away.  Raises BusError."""
        arguments = Variant("(su)", (name, DO_NOT_QUEUE))
        try:
            answer = self._ask_bus("RequestName", arguments)
        except GLib.Error as error:
            raise BusError(f"Cannot own the name {name}: {error.message}") from None
        if answer != PRIMARY_OWNER:
            raise BusError(f"Cannot own the name {name}: another gatewayd runs on this bus")

    def register(self, path: str, interface: Any, on_call: Any, on_get: Any) -> int:  # noqa: ANN401  # GLib's
        """Serve one interface at one path; the number returned takes it back.

        What sets a property comes to `on_call` too, as the method Set of PROPERTIES.
        """
        return int(register(self._bus, path, interface, on_call, on_get))

    def unregister(self, registration: int) -> None:
        """Stop serving it."""
        self._bus.unregister_object(registration)

    def emit(self, path: str, member: str, arguments: Variant) -> None:
        """Send a signal to all; `member` is "interface.Name".  Nothing, where the bus is gone."""
        if not self._bus.is_closed():
            interface, _, name = member.rpartition(".")
            self._bus.emit_signal(None, path, interface, name, arguments)

    def call(
        self,
        method: RemoteMethod,
        arguments: Variant,
        patience: int,
        done: Callable[[MethodReply], None],
    ) -> None:
        """Call a method of another service, and pass its reply to `done`, later.

        patience: milliseconds.
        """

        def replied(bus: Any, result: Any) -> None:  # noqa: ANN401  # GLib's
            try:
                reply = MethodReply(bus.call_finish(result).unpack())
            except GLib.Error as error:
                reply = MethodReply(None, Gio.DBusError.get_remote_error(error) or _local(error))
            done(reply)

        none = Gio.DBusCallFlags.NONE
        self._bus.call(*method, arguments, None, none, patience, None, replied)

    def close(self) -> None:
        """Send what waits to be sent, and leave the bus."""
        self._bus.disconnect(self._lost)
        if not self._bus.is_closed():
            self._bus.flush_sync(None)
            self._bus.close_sync(None)

    def _ask_bus(self, method: str, arguments: Variant) -> int:
        none = Gio.DBusCallFlags.NONE
        remote = RemoteMethod(BUS, BUS_PATH, BUS, method)
        reply = self._bus.call_sync(*remote, arguments, None, none, TIMEOUT_MS, None)
        return int(reply.unpack()[0])


class RemoteCaller:
    """Calls methods of other services on the bus.  Used on the event loop."""

    def __init__(self, thread: BusThread, connection: Connection) -> None:
        self._thread, self._connection = thread, connection

    async def call(self, method: RemoteMethod, arguments: Variant, patience: int) -> MethodReply:
        """Return the reply of a method.  patience: milliseconds.  Raises Busy."""
        begin = partial(self._connection.call, method, arguments, patience)
        return await self._thread.run_async(begin)

    def send(self, method: RemoteMethod, arguments: Variant) -> None:
        """Call a method without regard to its reply."""
        begin = self._connection.call
        self._thread.post(begin, method, arguments, TIMEOUT_MS, lambda _: None)

    async def unix_user(self, sender: str) -> int | None:
        """Return the uid of a caller; None where the bus does not report it within 5 s."""
        method = RemoteMethod(BUS, BUS_PATH, BUS, "GetConnectionUnixUser")
        reply = await self.call(method, Variant("(s)", (sender,)), TIMEOUT_MS)
        return int(reply.values[0]) if reply.values else None


def register(bus: Any, path: str, interface: Any, on_call: Any, on_get: Any) -> int:  # noqa: ANN401  # GLib's
    """Register an object by the newest way GLib has: 2.84's no longer leaks invocations."""
    add = getattr(bus, "register_object_with_closures2", None) or bus.register_object
    return int(add(path, interface, on_call, on_get, None))


def _local(error: GLib.Error) -> str:
    """Return the D-Bus name of an error that GLib found itself: no service has replied."""
    timed_out = error.matches(Gio.io_error_quark(), Gio.IOErrorEnum.TIMED_OUT)
    return NO_REPLY if timed_out else DISCONNECTED
