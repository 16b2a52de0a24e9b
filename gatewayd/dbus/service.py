"""The objects on the bus.  All of this runs on the D-Bus thread, and answers without waiting."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from itertools import islice

from gatewayd.dbus.dispatch import BUS_LOST, Dispatcher, Finish
from gatewayd.dbus.glib import BusThread, Connection, Invocation, Variant, trim_heap
from gatewayd.dbus.glib_leak import FreeInvocation
from gatewayd.dbus.intake import BusMessage, Intake, QueuedCall
from gatewayd.dbus.interfaces import Interface
from gatewayd.dbus.invocation import MethodCall, allows_interaction
from gatewayd.dbus.methods import BoundMethods, variants
from gatewayd.dbus.names import (
    DEVICE,
    DEVICES,
    MANAGER,
    MESSAGES,
    OBJECT_MANAGER,
    OUTBOX,
    PROPERTIES,
    SITE,
    ObjectInterface,
    device_of,
    device_path,
)
from gatewayd.dbus.objects import (
    DeviceViews,
    ExportedObject,
    ObjectProperties,
    Read,
    device_filter,
    message_facts,
    message_rows,
    read_field,
    read_manager,
    read_messages,
    read_site,
)
from gatewayd.dbus.signals import PendingChanges, SignalEmitter
from gatewayd.dbus.variants import DeviceVariants, PackedArguments, table
from gatewayd.device.identity import DeviceId
from gatewayd.device.views import DeviceView, MessagesView
from gatewayd.errors import Busy, CallerError, NoSuchDevice

MAX_ANSWER = 16 << 20  # bytes; the system bus takes no message above 32 MiB
AT_ONCE = 200  # entries that are made before others are served
MAX_WAITING = 64  # calls of GetManagedObjects
SENDING = 0.02  # seconds after which it is tried again to send the next answer
REGISTERED = 10.0  # seconds in which the D-Bus thread has to serve an object that is called

Views = Mapping[DeviceId, DeviceView | None]
"""What has changed; None where a child is gone."""


class ManagedObjects:
    """GetManagedObjects: all children in one answer, made some at a time.

    All calls that wait get the same answer.
    """

    def __init__(
        self,
        thread: BusThread,
        connection: Connection,
        devices: DeviceViews,
        variants: DeviceVariants,
    ) -> None:
        self._thread, self._connection = thread, connection
        self._devices, self._variants = devices, variants
        self._waiting: deque[MethodCall] = deque()

    def answer(self, call: MethodCall) -> None:
        """Answer a call when the entries are made.  Raises Busy."""
        if len(self._waiting) >= MAX_WAITING:
            raise Busy("Too many calls for all objects are under way, try again")
        if not self._waiting:
            self._thread.post(self._make)
        self._waiting.append(call)

    def _make(self) -> None:
        more = False
        try:
            more = self._make_some()
        finally:
            if more:
                self._thread.post(self._make)
            else:
                self._answer_waiting()

    def _answer_waiting(self) -> None:
        """Answer the calls that wait, one after the other was sent: 10,000 children are 7 MB."""
        objects = cache(self._objects)
        while self._waiting and self._connection.has_room:
            self._waiting.popleft().attempt(lambda: bounded(objects(), self._connection))
        if self._waiting:
            self._thread.post_later(SENDING, self._make)
        else:
            self._variants.forget_all()  # of 10,000 children they are 11 MB
            trim_heap()

    def _make_some(self) -> bool:
        missing = (v for v in self._devices if not self._variants.has_entry(v.id))
        for view in islice(missing, AT_ONCE):
            self._variants.entry(view)
        return next(missing, None) is not None

    def _objects(self) -> Variant:
        return Variant.new_tuple(self._variants.entries(self._devices))


def bounded(answer: Variant, connection: Connection) -> Variant:
    """Return an answer that is sent next.

    Raises CallerError where the bus would disconnect us for its size, Busy where others wait.
    """
    if answer.get_size() > MAX_ANSWER:
        raise CallerError("Too many devices for one answer: use ListDevicesFiltered")
    connection.reserve(answer.get_size())
    return answer


class ObjectServer:
    """Serves the children and the exported objects, from what was shown last.

    GDBus learns of a child's object when it is called for the first time: each takes 0.9 kB, and
    most are never called, as lists and signals say all that most clients ask for.

    token: gives the id of an internal error.  free: called with each answered invocation.
    """

    def __init__(
        self,
        thread: BusThread,
        connection: Connection,
        intake: Intake,
        interfaces: Mapping[str, Interface],
        free: FreeInvocation,
        token: Callable[[], str],
    ) -> None:
        self._thread = thread
        self._connection, self._intake, self._interfaces = connection, intake, interfaces
        self._free, self._token = free, token
        self._devices, self._pending = DeviceViews(), PendingChanges()
        self._exported: dict[ObjectInterface, ObjectProperties] = {}
        self._registrations: dict[DeviceId, int] = {}
        self._handlers = self._on_call, self._on_get  # one of each for all children
        self._variants = DeviceVariants(interfaces[DEVICE])
        self._signals = SignalEmitter(connection, self._variants)
        self._managed = ManagedObjects(thread, connection, self._devices, self._variants)

    def start(
        self,
        dispatcher: Dispatcher,
        exported: Iterable[ExportedObject],
        device_methods: BoundMethods,
        views: Views,
    ) -> None:
        """Set what is served.

        exported: the manager is among them.  device_methods: of each child.
        """
        self._dispatcher, self._device_methods = dispatcher, device_methods
        for one in exported:
            self._add(one)
        self.update({}, views)

    def export(self) -> None:
        """Serve everything on a new connection, whose clients have seen nothing yet."""
        self._export(ObjectInterface(DEVICES, OBJECT_MANAGER))
        for location in self._exported:
            self._export(location)
        self._registrations.clear()
        self._pending.clear()
        for properties in self._exported.values():
            properties.changed()

    def update(self, shown: Mapping[ObjectInterface, object], views: Views) -> None:
        """Set new views.  Signals follow with `announce`.  shown: views of exported objects."""
        for location, view in shown.items():
            self._exported[location].view = view
        for device, now in views.items():
            self._variants.forget(device)
            if now is None:
                self._pending.note(device, self._devices.drop(device))
                self._withdraw(device)
                continue
            before = self._devices.put(now)
            self._pending.note(device, before)

    def make_ready(self, path: str, *, described: bool) -> bool:
        """Have GDBus know of the children that a call is for.  On GDBus's thread.

        described: whether the object is to be described, as that of all children, which names each.
        Returns False where the D-Bus thread does not come to it.
        """
        if path == DEVICES:
            known = not described or len(self._registrations) == len(self._devices)
        else:
            device = self._device_at(path)
            known = device is None or device in self._registrations
        if known:
            return True
        done = threading.Event()
        self._thread.post(self._register, path, done)
        return done.wait(REGISTERED)

    def _register(self, path: str, done: threading.Event) -> None:
        try:
            device = self._device_at(path)
            wanted = [one.id for one in self._devices] if path == DEVICES else [device]
            for one in wanted:
                if one is not None and one not in self._registrations:
                    location = ObjectInterface(device_path(one), DEVICE)
                    self._registrations[one] = self._export(location)
        finally:
            done.set()

    def announce(self, limit: int) -> bool:
        """Announce the changes of at most `limit` children; return whether there are more.

        None, where the bus does not read: the latest view of each child is announced once it does.
        """
        if self._connection.is_congested:
            return True
        self._signals.devices(self._pending.take(limit, self._devices))
        for properties in self._exported.values():
            properties.announce(self._connection.emit)
        return len(self._pending) > 0

    def views(self) -> list[DeviceView]:
        """Return all children as they are shown, ordered by id."""
        return list(self._devices)

    def _add(self, exported: ExportedObject) -> None:
        location, interface = exported.location, self._interfaces[exported.location.interface]
        own: Mapping[str, Read] = {
            MANAGER: read_manager(self._devices), MESSAGES: read_messages, SITE: read_site,
        }  # fmt: skip
        read = own.get(location.interface) or read_field(location.interface)
        self._exported[location] = ObjectProperties(exported, interface, read)

    def _export(self, location: ObjectInterface) -> int:
        info = self._interfaces[location.interface].info
        return self._connection.register(location.path, info, *self._handlers)

    def _withdraw(self, device: DeviceId) -> None:
        if device in self._registrations:
            self._connection.unregister(self._registrations.pop(device))

    def _device_at(self, path: str) -> DeviceId | None:
        """Return the child at an object path; None where there is none."""
        view = self._devices.get(device_of(path))
        return view.id if view is not None else None

    def _on_get(
        self, _bus: object, _sender: str, path: str, interface: str, name: str, *_: object
    ) -> Variant:
        properties = self._exported.get(ObjectInterface(path, interface))
        if properties is not None:
            return properties.property(name)
        return self._variants.property(self._shown(device_of(path)), name)

    def _on_call(
        self,
        _bus: object,
        sender: str,
        path: str,
        interface: str,
        name: str,
        arguments: Variant,
        invocation: Invocation,
        *_: object,
    ) -> None:
        if not self._connection.is_current(invocation.get_connection()):
            return
        first = 0
        if interface == PROPERTIES:  # a property is set: its interface and name come first
            interface, name, first = _text(arguments, 0), _text(arguments, 1), 2
        device, described = self._device_at(path), self._interfaces[interface]
        properties = self._exported.get(ObjectInterface(path, interface))
        methods = properties.exported.methods if properties else self._device_methods
        call = MethodCall(
            sender=sender,
            arguments=PackedArguments(arguments, () if device is None else (device,), first),
            descriptors=described.descriptors.get(name, ()),
            signature=described.results.get(name, "()"),
            method=methods.get(name),
            provider=properties.exported.provider if properties else "",
            interactive=allows_interaction(invocation),
            invocation=invocation,
            token=self._token,
            free=self._free,
        )
        self._queue(call, name, arguments.get_size())

    def _queue(self, call: MethodCall, name: str, size: int) -> None:
        """Let a call wait for its turn.  size: bytes of its arguments."""
        message, free = BusMessage(call.sender, size, len(call.descriptors)), self._free
        queued = QueuedCall(
            message,
            partial(call.attempt, partial(self._serve, call, name)),
            partial(call.fail, Busy(BUS_LOST)),
        )
        self._intake.put(queued)

        def answered(invocation: Invocation) -> None:
            free(invocation)
            self._intake.release(message)

        call.free = answered

    def _serve(self, call: MethodCall, name: str) -> Variant | None:
        """Return the answer; None where it comes later."""
        readers: Mapping[str, Callable[..., Variant]] = {
            "ListDevices": self._list,
            "ListDevicesFiltered": self._page,
            "CountDevices": lambda: Variant(call.signature, (self._devices.counts(),)),
            "ListNextAttempts": lambda: Variant(call.signature, (self._devices.next_attempts(),)),
            "ListChildren": lambda *page: Variant(
                call.signature, message_rows(self._messages, *page)
            ),
        }
        if name in readers:
            return bounded(readers[name](*call.arguments), self._connection)
        if name == "GetManagedObjects":
            self._managed.answer(call)
            return None
        lookups = {
            "GetDevice": self._path,
            "DescribeDevice": self._describe,
            "Describe": self._describe_messages,
        }
        if name not in lookups:
            self._dispatcher.submit(call, _finish(call))
        elif self._devices.get(call.arguments[0]) is not None:
            return lookups[name](call.arguments[0])
        else:
            self._dispatcher.submit(call, lookups[name])
        return None

    def _shown(self, device: str) -> DeviceView:
        view = self._devices.get(device)
        if view is None:
            raise NoSuchDevice("No such device")
        return view

    def _path(self, device: str) -> Variant:
        return Variant("(o)", (device_path(self._shown(device).id),))

    def _describe(self, device: str) -> Variant:
        more = {"Messages": self._message_facts(device)} if OUTBOX in self._exported else {}
        if proof := self._shown(device).proof:
            more["Proof"] = table(variants(proof))
        if move := self._shown(device).move:
            more["Move"] = table(variants(move))
        return self._variants.describe(self._shown(device), more)

    def _describe_messages(self, device: str) -> Variant:
        return Variant.new_tuple(self._message_facts(self._shown(device).id))

    def _message_facts(self, device: str) -> Variant:
        return table(variants(message_facts(self._messages, DeviceId(device))))

    @property
    def _messages(self) -> MessagesView:
        view = self._exported[OUTBOX].view
        assert isinstance(view, MessagesView)
        return view

    def _list(self) -> Variant:
        return Variant.new_tuple(self._variants.rows(self._devices))

    def _page(self, filters: dict[str, object], after: str, limit: int) -> Variant:
        views, following = self._devices.page(device_filter(filters), after, limit)
        return Variant.new_tuple(self._variants.rows(views), Variant("s", following))


def _finish(call: MethodCall) -> Finish:
    if call.signature == "(h)":
        return call.reply_descriptor
    return lambda results: Variant(call.signature, () if results is None else results)


def _text(arguments: Variant, position: int) -> str:
    return str(arguments.get_child_value(position).get_string())
