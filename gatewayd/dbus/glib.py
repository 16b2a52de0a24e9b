"""The D-Bus thread, its connection, and the two ways between it and the event loop.

The only module that imports gi.  The thread has a `GLib.MainContext` of its own, apart from the
default one that other libraries may use.

The way to the event loop is `loop.call_soon_threadsafe`.  The way to the thread is a queue and
`MainContext.wakeup`, which writes to one eventfd that GLib keeps: unlike `GLib.idle_add`, it
leaves nothing behind on GLib 2.74.

The thread never waits for the bus: a bus that has stopped would stop it, and then the watchdog
would end gatewayd.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import Future
from contextvars import Context, copy_context
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

from gi.repository import Gio, GLib

from gatewayd.dbus.intake import FEW_BYTES, LARGEST, BusMessage, Intake
from gatewayd.dbus.names import BUS, DEVICES, NAME
from gatewayd.dbus.relay.frames import REFUSED
from gatewayd.dbus.relay.relay import (
    TOO_LARGE,
    TOO_MANY_DESCRIPTORS,
    BusRelay,
    MessageGate,
    socket_path,
)
from gatewayd.errors import BusError, BusNameTaken, Busy

__all__ = ["BusThread", "Connection", "GLib", "Gio", "Invocation", "RemoteCaller", "Variant"]

Variant: TypeAlias = GLib.Variant
Invocation: TypeAlias = Gio.DBusMethodInvocation
OnCall: TypeAlias = Callable[..., None]
OnGet: TypeAlias = Callable[..., Variant]
"""What GLib calls for a method, and for a property: Gio.DBusInterfaceMethodCallFunc and
Gio.DBusInterfaceGetPropertyFunc."""

BUS_PATH = "/org/freedesktop/DBus"
TIMEOUT_MS = 5000  # for calls of the bus itself, and for those whose reply is ignored
MAX_VALUES = 500  # among the arguments of a message; unpacking 250 kB of them takes a second
MAX_UNSENT = 1024  # messages that wait to be sent before no more signals are made
MAX_UNSENT_BYTES = 8 << 20  # of large replies that wait to be sent, where there are several
MAX_REFUSALS_UNSENT = 256  # messages that wait to be sent before what is refused gets no reply
METHOD_CALL = Gio.DBusMessageType.METHOD_CALL
RELAY_ENDS = 5.0  # seconds at most; whatever the bus does, it takes milliseconds
NONE = Variant("()", ())
DO_NOT_QUEUE = 4  # RequestName: fail at once where another owns the name
OWNED = (1, 4)  # RequestName's answers: it is ours, or was so before
NO_REPLY = f"{BUS}.Error.NoReply"
DISCONNECTED = f"{BUS}.Error.Disconnected"
INVALID_ARGS = f"{BUS}.Error.InvalidArgs"
INTROSPECTABLE = "org.freedesktop.DBus.Introspectable"
OVERLOADED = f"{NAME}.Error.Busy"
WAITING = OVERLOADED, "Too many calls wait, try again"
LARGE = INVALID_ARGS, f"Arguments must not exceed {LARGEST >> 10} KiB and {MAX_VALUES} values"
DESCRIPTORS = INVALID_ARGS, "This call takes no file descriptor, or one at most"
BY_HEADER = {TOO_LARGE: LARGE, TOO_MANY_DESCRIPTORS: DESCRIPTORS}
"""The errors of calls whose headers were enough to refuse them; WAITING is that of the rest."""

T = TypeVar("T")
log = logging.getLogger(__name__)


class BusThread:
    """One thread that runs a GLib main context.

    Calls from the event loop come first, then a single call from the bus, then what GLib has.

    loop: the event loop to which results go back.
    intake: what came from the bus and waits.
    limit: calls that may wait for the thread before `run` raises Busy.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, intake: Intake | None = None, *, limit: int = 1024
    ) -> None:
        self._loop = loop
        self._limit = limit
        self._intake = Intake() if intake is None else intake
        self._intake.on_backlog(self._wake_up)
        self._context = GLib.MainContext.new()
        self._calls: deque[tuple[Future[Any] | None, Callable[..., Any], tuple[Any, ...]]]
        self._calls = deque()
        self._ended = loop.create_future()
        self._running, self._started_in = False, Context()
        self._thread = threading.Thread(target=self._main, name="dbus", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._running = True
        self._started_in = copy_context()
        self._thread.start()

    async def stop(self) -> None:
        """Return when what was posted has been done and the thread has ended."""
        self.post(self._end)
        await self._ended

    def post(self, function: Callable[..., object], *args: object) -> None:
        """Have the thread call `function`, whatever waits: each caller bounds what it posts."""
        self._put(None, function, args)

    def post_later(self, seconds: float, function: Callable[..., object]) -> None:
        """Have the thread call `function` after so many seconds."""
        self.call_on_loop(self._loop.call_later, seconds, self.post, function)

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
        """Have the event loop call `function`, in the context in which the thread was started.

        The thread's own is empty, and what a command begins must be bound by what all else is.
        """
        self._loop.call_soon_threadsafe(function, *args, context=self._started_in)

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
            more = self._intake.serve_next()
            if self._running:
                queued = self._intake.begin_round()
                self._context.iteration(not more and not self._calls)  # may_block
                self._intake.end_round(queued)
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

    def _wake_up(self) -> None:
        self._context.wakeup()

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


class MakeReady(Protocol):
    """Has the objects registered that a call is for."""

    def __call__(self, path: str, *, described: bool) -> bool: ...


class Connection:
    """The connection to a message bus, opened again after it was lost.  On the D-Bus thread only.

    A bus says which user a caller is, so it has to be root's, or this user's own: anyone can listen
    at an abstract name, or in a directory of theirs, while the real bus is away.

    address: "system", or an address as the D-Bus specification has it, "unix:path=/run/…".
    intake: counts what comes.
    with_descriptor: interface and name of each method that takes a file descriptor.
    lost: called on the D-Bus thread when the bus has gone away.
    make_ready: called on GDBus's thread with the path of a call, and whether it asks to have the
    object described, before GDBus looks for it; returns False where that is to be refused.
    """

    def __init__(
        self,
        address: str,
        intake: Intake,
        with_descriptor: Collection[tuple[str, str]],
        lost: Callable[[], None],
    ) -> None:
        self._address, self._intake, self._lost = address, intake, lost
        self._with_descriptor = with_descriptor
        self._bus: Any = None
        self._closed = self._filter = 0
        self._attempt = Gio.Cancellable()
        self._relay: BusRelay | None = None
        self._answered = True  # the bus, since it was last asked for a sign of life
        self._thread_kept = False
        self._sent = 0  # the serial of the last message that was sent
        self._large: deque[tuple[int, int]] = deque()
        self.make_ready: MakeReady = lambda *_, **__: True

    def open(self, done: Callable[[str], None]) -> None:
        """Connect, and call `done` with what failed, "" for nothing.  Serves nothing yet."""

        self._attempt = attempt = Gio.Cancellable()
        try:
            address = self._address
            if address == "system":
                address = Gio.dbus_address_get_for_bus_sync(Gio.BusType.SYSTEM, None)
            path = socket_path(address)
        except (GLib.Error, ValueError) as error:
            done(str(error))
            return
        gate = MessageGate(self._intake)
        self._relay = relay = BusRelay(path, (0, os.geteuid()), gate.judge)

        def opened(_: object, result: Gio.AsyncResult) -> None:
            try:
                bus = Gio.DBusConnection.new_finish(result)
            except GLib.Error as error:
                done(relay.fault or str(error.message))
                return
            if attempt.is_cancelled():  # too late
                bus.close(None, None)
            else:
                self._adopt(bus)
                done("")

        flags = Gio.DBusConnectionFlags
        kind = flags.AUTHENTICATION_CLIENT | flags.MESSAGE_BUS_CONNECTION
        stream = Gio.Socket.new_from_fd(relay.open()).connection_factory_create_connection()
        Gio.DBusConnection.new(stream, None, kind, None, attempt, opened)

    def cancel_open(self) -> None:
        """Give up connecting."""
        self._attempt.cancel()

    def is_current(self, bus: object) -> bool:
        """Whether a message of this bus is of the present connection: names are given again."""
        return self._bus is not None and bus == self._bus

    def register(
        self, path: str, interface: Gio.DBusInterfaceInfo, on_call: OnCall, on_get: OnGet | None
    ) -> int:
        """Serve one interface at one path; the number returned takes it back.  0 without a bus.

        What sets a property comes to `on_call` too, as the method Set of PROPERTIES.
        """
        if self._bus is None:
            return 0
        return int(register(self._bus, path, interface, on_call, on_get))

    def unregister(self, registration: int) -> None:
        """Stop serving it."""
        if self._bus is not None:
            self._bus.unregister_object(registration)

    def emit(self, path: str, member: str, arguments: Variant) -> None:
        """Send a signal to all; `member` is "interface.Name".  Nothing, where the bus is gone."""
        if self._bus is not None and not self._bus.is_closed():
            interface, _, name = member.rpartition(".")
            self._bus.emit_signal(None, path, interface, name, arguments)

    @property
    def is_congested(self) -> bool:
        """Whether the bus does not read as fast as it is written to."""
        return self._unsent() > MAX_UNSENT

    @property
    def has_room(self) -> bool:
        """Whether no large reply waits to be sent."""
        while self._large and self._large[0][0] <= self._sent:
            self._large.popleft()
        return not self._large

    def reserve(self, size: int) -> None:
        """Note that a reply of so many bytes is sent next.  Raises Busy where too many wait."""
        waiting = 0 if self.has_room else sum(size for _, size in self._large)
        if waiting and waiting + size > MAX_UNSENT_BYTES:
            raise Busy("Too many large replies wait to be sent, try again")
        if self._bus is not None and size > FEW_BYTES:
            self._large.append((max(self._bus.get_last_serial(), self._sent) + 1, size))

    def ping(self) -> bool:
        """Ask the bus for a sign of life; return whether it has answered the last time."""
        alive = self._answered
        if self._bus is not None and alive:
            self._answered = False  # first: GDBus's thread can have the answer before this goes on
            message = Gio.DBusMessage.new_method_call(BUS, BUS_PATH, BUS, "GetId")
            self._bus.send_message(message, Gio.DBusSendMessageFlags.NONE)
        return alive

    def call(
        self,
        method: RemoteMethod,
        arguments: Variant,
        patience: int,
        done: Callable[[MethodReply], None],
        *,
        activate: bool = True,
    ) -> None:
        """Call a method of another service, and pass its reply to `done`, later.

        patience: milliseconds.  activate: whether the service is started where it does not run.
        """

        def replied(bus: Gio.DBusConnection, result: Gio.AsyncResult) -> None:
            try:
                reply = MethodReply(bus.call_finish(result).unpack())
            except GLib.Error as error:
                reply = MethodReply(None, Gio.DBusError.get_remote_error(error) or _local(error))
            done(reply)

        if self._bus is None:
            done(MethodReply(None, DISCONNECTED))
            return
        flags = Gio.DBusCallFlags.NONE if activate else Gio.DBusCallFlags.NO_AUTO_START
        self._bus.call(*method, arguments, None, flags, patience, None, replied)

    def flush(self, done: Callable[[None], None]) -> None:
        """Call `done` once the bus has all that waits to be sent: its answer comes after that."""
        self.call(RemoteMethod(BUS, BUS_PATH, BUS, "GetId"), NONE, TIMEOUT_MS, lambda _: done(None))

    def close(self) -> None:
        """Leave the bus, if it is there."""
        self.cancel_open()
        if (bus := self._forget()) is not None and not bus.is_closed():
            bus.close(None, None)
        self._leave()

    def _adopt(self, bus: Gio.DBusConnection) -> None:
        bus.set_exit_on_close(False)  # the daemon decides
        self._answered, self._sent = True, 0
        self._large.clear()
        self._filter = bus.add_filter(self._examine)
        self._closed = bus.connect("closed", self._on_closed)
        self._bus = bus

    def _forget(self) -> Gio.DBusConnection | None:
        bus, self._bus = self._bus, None
        if bus is not None:
            bus.disconnect(self._closed)
            bus.remove_filter(self._filter)
        return bus

    def _leave(self) -> None:
        relay, self._relay = self._relay, None
        if relay is not None:
            relay.close()
            relay.join(RELAY_ENDS)

    def _on_closed(self, *_: object) -> None:
        self._forget()
        self._leave()
        self._intake.drop_all()
        self._lost()

    def _unsent(self) -> int:
        """Return how many messages wait up to the last of this thread: so GLib counts serials."""
        return 0 if self._bus is None else int(self._bus.get_last_serial()) - self._sent

    def _examine(
        self, bus: Gio.DBusConnection, message: Gio.DBusMessage, incoming: bool, *_: object
    ) -> Gio.DBusMessage | None:
        """On GDBus's thread: return the message, or None to refuse it.

        Nothing is logged here: `logging` would keep a record of this thread at each call.
        """
        if not self._thread_kept:
            self._thread_kept = True
            keep_thread_state()
        if not incoming:
            self._sent = message.get_serial()
            return message
        sender = message.get_sender() or ""
        if message.get_message_type() != METHOD_CALL:
            return self._pass_others(message, sender)
        if message.get_interface() == REFUSED:
            self._intake.refuse(sender)
            error = BY_HEADER.get(message.get_member() or "", WAITING)
        elif (objection := self._objection(bus, message, sender)) is None:
            described = message.get_interface() == INTROSPECTABLE
            if self.make_ready(message.get_path() or "", described=described):
                return message
            error = WAITING
        else:
            error = objection
        wanted = not message.get_flags() & Gio.DBusMessageFlags.NO_REPLY_EXPECTED
        if wanted and bus.get_last_serial() - self._sent < MAX_REFUSALS_UNSENT:
            reply = Gio.DBusMessage.new_method_error_literal(message, *error)
            bus.send_message(reply, Gio.DBusSendMessageFlags.NONE)
        return None

    def _pass_others(self, message: Gio.DBusMessage, sender: str) -> Gio.DBusMessage | None:
        """Return a reply, or a signal of the bus itself, without descriptors; None for the rest."""
        if sender == BUS:
            self._answered = True
        is_signal = message.get_message_type() == Gio.DBusMessageType.SIGNAL
        unwanted = is_signal and sender != BUS
        return None if unwanted or message.get_num_unix_fds() else message

    def _objection(
        self, bus: Gio.DBusConnection, message: Gio.DBusMessage, sender: str
    ) -> tuple[str, str] | None:
        """Count a call; return the error with which to refuse it, name and text."""
        descriptors, interface = message.get_num_unix_fds(), message.get_interface()
        if self._intake.is_muted(sender):
            self._intake.refuse(sender)
            return WAITING
        if descriptors and not self._takes(message, descriptors):
            self._intake.refuse(sender)
            return DESCRIPTORS
        body = message.get_body()
        size = 0 if body is None else body.get_size()
        if size > LARGEST or (size > FEW_BYTES and not few_values(body)):
            self._intake.refuse(sender)
            return LARGE
        if interface == INTROSPECTABLE and not (
            bus.get_last_serial() - self._sent < MAX_REFUSALS_UNSENT
            and self._intake.may_introspect(_weight(message))
        ):
            self._intake.refuse(sender)
            return OVERLOADED, "Too many objects are being described, try again"
        if not self._intake.admit(BusMessage(sender, size, descriptors)):
            return WAITING
        return None

    def _takes(self, message: Gio.DBusMessage, descriptors: int) -> bool:
        called = (message.get_interface(), message.get_member())
        return descriptors == 1 and called in self._with_descriptor


def keep_thread_state() -> None:
    """Have Python remember a thread of GLib, the present one, between calls into Python.

    Otherwise it makes and frees its record of the thread at each call: 25 microseconds.
    """
    ctypes.pythonapi.PyGILState_Ensure()  # never released, so that the record stays in use


def trim_heap() -> None:
    """Give the kernel the pages of the heap in which nothing is used now (malloc_trim(3)).

    It takes milliseconds; other C libraries than GNU's have no such function.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(ctypes.c_size_t(0))


def _weight(message: Gio.DBusMessage) -> int:
    """Return how costly it is to describe an object: one names all children."""
    return 20 if message.get_path() == DEVICES else 1


def few_values(arguments: Variant) -> bool:
    """Whether arguments hold at most MAX_VALUES values, found without unpacking them."""
    left, containers = MAX_VALUES, [arguments]
    while containers:
        container = containers.pop()
        count = container.n_children()
        left -= count
        if left < 0:
            return False
        children = (container.get_child_value(i) for i in range(count))
        containers += [child for child in children if child.is_container()]
    return True


class RemoteCaller:
    """Calls methods of other services on the bus.  Used on the event loop."""

    def __init__(self, thread: BusThread, connection: Connection) -> None:
        self._thread, self._connection = thread, connection

    async def call(
        self, method: RemoteMethod, arguments: Variant, patience: int, *, activate: bool = True
    ) -> MethodReply:
        """Return the reply of a method: see `Connection.call`.  Raises Busy."""
        begin = partial(self._connection.call, method, arguments, patience, activate=activate)
        return await self._thread.run_async(begin)

    def send(self, method: RemoteMethod, arguments: Variant) -> None:
        """Call a method without regard to its reply."""
        begin = self._connection.call
        self._thread.post(begin, method, arguments, TIMEOUT_MS, lambda _: None)

    async def own(self, name: str) -> None:
        """Own a name, without waiting for it and without giving it away.  Raises BusError."""
        method = RemoteMethod(BUS, BUS_PATH, BUS, "RequestName")
        reply = await self.call(method, Variant("(su)", (name, DO_NOT_QUEUE)), TIMEOUT_MS)
        if reply.values is None:
            raise BusError(f"the bus does not give the name {name}: {reply.error}")
        if reply.values[0] not in OWNED:
            raise BusNameTaken(f"another gatewayd owns the name {name}")

    async def unix_user(self, sender: str) -> int | None:
        """Return the uid of a caller; None where the bus does not report it within 5 s."""
        method = RemoteMethod(BUS, BUS_PATH, BUS, "GetConnectionUnixUser")
        reply = await self.call(method, Variant("(s)", (sender,)), TIMEOUT_MS)
        return int(reply.values[0]) if reply.values else None


def register(
    bus: Gio.DBusConnection,
    path: str,
    interface: Gio.DBusInterfaceInfo,
    on_call: OnCall,
    on_get: OnGet | None,
) -> int:
    """Register an object by the newest way GLib has: 2.84's no longer leaks invocations."""
    add = getattr(bus, "register_object_with_closures2", None) or bus.register_object
    return int(add(path, interface, on_call, on_get, None))


def _local(error: GLib.Error) -> str:
    """Return the D-Bus name of an error that GLib found itself: no service has replied."""
    timed_out = error.matches(Gio.io_error_quark(), Gio.IOErrorEnum.TIMED_OUT)
    return NO_REPLY if timed_out else DISCONNECTED
