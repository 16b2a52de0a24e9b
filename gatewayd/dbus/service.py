"""The objects on the bus.  All of this runs on the D-Bus thread, and answers without waiting.

GetManagedObjects: all children in one answer, made some at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from itertools import islice

from gatewayd.dbus.dispatch import Dispatcher, Finish
from gatewayd.dbus.glib import PROPERTIES, BusThread, Connection, Invocation, Variant
from gatewayd.dbus.invocation import Free, MethodCall
from gatewayd.dbus.names import (
    DEVICE,
    DEVICES,
    GATEWAY,
    MANAGER,
    NAME,
    OBJECT_MANAGER,
    Interface,
    ObjectInterface,
    device_path,
)
from gatewayd.dbus.objects import (
    DeviceViews,
    ExportedObject,
    ObjectProperties,
    device_filter,
    read_field,
    read_manager,
)
from gatewayd.dbus.signals import PendingChanges, SignalEmitter
from gatewayd.dbus.variants import DeviceVariants
from gatewayd.device.identity import DeviceId
from gatewayd.device.views import DeviceView
from gatewayd.errors import BusError, Busy, CallerError, InvalidArgs, NoSuchDevice

MAX_ANSWER = 16 << 20  # bytes; the system bus takes no message above 32 MiB
AT_ONCE = 200  # entries that are made before others are served
MAX_WAITING = 64  # calls


class ManagedObjects:
    """Answers all who wait together.  Used on the D-Bus thread."""

    def __init__(self, thread: BusThread, fleet: DeviceViews, variants: DeviceVariants) -> None:
        self._thread, self._fleet, self._variants = thread, fleet, variants
        self._waiting: list[MethodCall] = []

    def answer(self, call: MethodCall) -> None:
        """Answer a call when the entries are made.  Raises Busy."""
        if len(self._waiting) >= MAX_WAITING:
            raise Busy("Too many ask for all objects, try again")
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
                waiting, self._waiting = self._waiting, []
                objects = cache(self._objects)
                for call in waiting:
                    call.attempt(objects)

    def _make_some(self) -> bool:
        missing = (v for v in self._fleet if not self._variants.has_entry(v.id))
        for view in islice(missing, AT_ONCE):
            self._variants.entry(view)
        return next(missing, None) is not None

    def _objects(self) -> Variant:
        return bounded(Variant.new_tuple(self._variants.entries(self._fleet)))


def bounded(answer: Variant) -> Variant:
    """Return it, unless the bus would close our connection for its size."""
    if answer.get_size() > MAX_ANSWER:
        raise CallerError("Too many devices for one answer: use ListDevicesFiltered")
    return answer


MAX_ARGUMENTS = 256 << 10  # bytes; they are kept while somebody is asked for a password

Views = Mapping[DeviceId, DeviceView | None]


class ObjectServer:
    """The children, and the objects that are always there, served from what was shown last.

    token: gives the id of an internal error.  free: called with each answered invocation.
    """

    def __init__(
        self,
        thread: BusThread,
        connection: Connection,
        interfaces: Mapping[str, Interface],
        free: Free,
        token: Callable[[], str],
    ) -> None:
        self._thread, self._connection, self._interfaces = thread, connection, interfaces
        self._free, self._token = free, token
        self._fleet, self._outbox = DeviceViews(), PendingChanges()
        self._fixed: dict[ObjectInterface, ObjectProperties] = {}
        self._devices: dict[str, DeviceId] = {}
        self._registrations: dict[DeviceId, int] = {}
        self._variants = DeviceVariants(interfaces[DEVICE])
        self._announcer = SignalEmitter(connection, self._variants)
        self._managed = ManagedObjects(thread, self._fleet, self._variants)

    def start(self, requests: Dispatcher, exported: Iterable[ExportedObject], views: Views) -> None:
        """Export everything; own the name last, so that whoever sees it sees all.

        exported: the manager is among them.  Raises BusError.
        """
        self._requests = requests
        self._export(ObjectInterface(DEVICES, OBJECT_MANAGER))
        for one in exported:
            self._add(one)
        self.update({}, views)
        self._outbox.clear()
        for fixed in self._fixed.values():
            fixed.changed()
        try:
            self._connection.own(NAME)
        except BusError:
            self._connection.close()
            raise

    def update(self, shown: Mapping[ObjectInterface, object], views: Views) -> None:
        """Take new views; None where a child is no more.  Signals follow with `announce`.

        shown: views of the objects that are always there; others are left out.
        """
        for place, view in shown.items():
            self._fixed[place].view = view
        for device, now in views.items():
            self._variants.forget(device)
            if now is None:
                self._outbox.note(device, self._fleet.drop(device))
                self._withdraw(device)
                continue
            before = self._fleet.put(now)
            self._outbox.note(device, before)
            if before is None:
                path = device_path(device)
                self._devices[path] = device
                self._registrations[device] = self._export(ObjectInterface(path, DEVICE))

    def announce(self, limit: int) -> bool:
        """Tell the changes of at most `limit` children; return whether there are more."""
        self._announcer.devices(self._outbox.take(limit, self._fleet))
        for fixed in self._fixed.values():
            fixed.announce(self._connection.emit)
        return len(self._outbox) > 0

    def views(self) -> list[DeviceView]:
        """Return all children as they are shown, ordered by id."""
        return list(self._fleet)

    def close(self) -> None:
        """Leave the bus."""
        self._connection.close()

    def _add(self, exported: ExportedObject) -> None:
        place = exported.place
        is_manager = place.interface == MANAGER
        read = read_manager(self._fleet) if is_manager else read_field(place.interface)
        self._fixed[place] = ObjectProperties(exported, self._interfaces[place.interface], read)
        self._export(place)

    def _export(self, place: ObjectInterface) -> int:
        info = self._interfaces[place.interface].info
        return self._connection.register(place.path, info, self._on_call, self._on_get)

    def _withdraw(self, device: DeviceId) -> None:
        if device in self._registrations:
            self._connection.unregister(self._registrations.pop(device))
            del self._devices[device_path(device)]

    def _on_get(
        self, _bus: object, _sender: str, path: str, interface: str, name: str, *_: object
    ) -> Variant:
        fixed = self._fixed.get(ObjectInterface(path, interface))
        if fixed is not None:
            return fixed.property(name)
        return self._variants.property(self._shown(self._devices[path]), name)

    def _on_call(
        self,
        _bus: object,
        sender: str,
        path: str,
        interface: str,
        method: str,
        arguments: Variant,
        invocation: Invocation,
        *_: object,
    ) -> None:
        key, first = (interface, method), 0
        if interface == PROPERTIES:  # a property is set: its interface and name come first
            key, first = (_text(arguments, 0), _text(arguments, 1)), 2
        fits = arguments.get_size() <= MAX_ARGUMENTS
        values = arguments.unpack()[first:] if fits else ()
        face = self._interfaces[key[0]]
        target = (self._devices[path],) if path in self._devices else ()
        exported = self._fixed.get(ObjectInterface(path, key[0]), self._fixed[GATEWAY]).exported
        call = MethodCall(
            sender=sender,
            key=key,
            arguments=(*target, *values),
            handles=face.handles.get(method, ()),
            signature=face.answers.get(method, "()"),
            commands=exported.commands,
            provider=exported.provider,
            invocation=invocation,
            token=self._token,
            free=self._free,
        )
        call.attempt(partial(self._serve, call) if fits else _refuse_long)

    def _serve(self, call: MethodCall) -> Variant | None:
        """Return the answer; None where it comes later."""
        readers: Mapping[str, Callable[..., Variant]] = {
            "ListDevices": self._list,
            "ListDevicesFiltered": self._page,
            "CountDevices": lambda: Variant(call.signature, (self._fleet.counts(),)),
        }
        interface, method = call.key
        if method in readers:
            return bounded(readers[method](*call.arguments))
        if interface == OBJECT_MANAGER:
            self._managed.answer(call)
            return None
        lookups = {"GetDevice": self._path, "DescribeDevice": self._describe}
        if method not in lookups:
            self._requests.submit(call, _finish(call))
        elif self._fleet.get(call.arguments[0]) is not None:
            return lookups[method](call.arguments[0])
        else:
            self._requests.submit(call, lookups[method])
        return None

    def _shown(self, device: str) -> DeviceView:
        view = self._fleet.get(device)
        if view is None:
            raise NoSuchDevice("No such device")
        return view

    def _path(self, device: str) -> Variant:
        return Variant("(o)", (device_path(self._shown(device).id),))

    def _describe(self, device: str) -> Variant:
        return self._variants.describe(self._shown(device))

    def _list(self) -> Variant:
        return Variant.new_tuple(self._variants.rows(self._fleet))

    def _page(self, filters: dict[str, object], after: str, limit: int) -> Variant:
        views, following = self._fleet.page(device_filter(filters), after, limit)
        return Variant.new_tuple(self._variants.rows(views), Variant("s", following))


def _finish(call: MethodCall) -> Finish:
    if call.signature == "(h)":
        return call.hand_over
    return lambda result: Variant(call.signature, () if result is None else result)


def _text(arguments: Variant, position: int) -> str:
    return str(arguments.get_child_value(position).get_string())


def _refuse_long() -> Variant:
    raise InvalidArgs(f"No method takes more than {MAX_ARGUMENTS >> 10} KiB")
