"""The objects on the bus.  All of this runs on the D-Bus thread, and answers without waiting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from itertools import islice

from gatewayd.device.identity import DeviceId
from gatewayd.errors import BusError, Busy, CallerError, NoSuchDevice
from gatewayd.glib import BusThread, Connection, Invocation, Variant
from gatewayd.status.call import Call
from gatewayd.status.fleet import Fleet, wanted
from gatewayd.status.interfaces import Interface
from gatewayd.status.leak import Free
from gatewayd.status.names import (
    DEVICE,
    DEVICES,
    MANAGER,
    NAME,
    OBJECT_MANAGER,
    ROOT,
    device_path,
)
from gatewayd.status.requests import Requests
from gatewayd.status.signals import Announcer, Outbox
from gatewayd.status.snapshot import DeviceView, ManagerView
from gatewayd.status.variants import DeviceVariants, manager_property

MAX_ANSWER = 16 << 20  # bytes; the system bus takes no message above 32 MiB
ENTRIES_AT_ONCE = 200  # made for GetManagedObjects before others are served
MAX_WAITING = 64  # calls of GetManagedObjects

Views = Mapping[DeviceId, DeviceView | None]


class Service:
    """Manager, Device and ObjectManager, served from the views they were given last.

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
        self._fleet, self._outbox = Fleet(), Outbox()
        self._devices: dict[str, DeviceId] = {}
        self._registrations: dict[DeviceId, int] = {}
        self._variants = DeviceVariants(interfaces[DEVICE])
        self._announcer = Announcer(connection, interfaces[MANAGER], self._variants)
        self._waiting: list[Call] = []

    def start(self, requests: Requests, view: ManagerView, views: Views) -> None:
        """Export everything; own the name last, so that whoever sees it sees all.

        Raises BusError.
        """
        self._requests = requests
        self._export(ROOT, MANAGER)
        self._export(DEVICES, OBJECT_MANAGER)
        self.update(view, views)
        self._outbox.clear()
        self._announcer.manager(view, self._fleet, silent=True)
        try:
            self._connection.own(NAME)
        except BusError:
            self._connection.close()
            raise

    def update(self, view: ManagerView, views: Views) -> None:
        """Take new views; None where a child is no more.  Signals follow with `announce`."""
        self._view = view
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
                self._registrations[device] = self._export(path, DEVICE)

    def announce(self, limit: int) -> bool:
        """Tell the changes of at most `limit` children; return whether there are more."""
        self._announcer.devices(self._outbox.take(limit, self._fleet))
        self._announcer.manager(self._view, self._fleet)
        return len(self._outbox) > 0

    def close(self) -> None:
        """Leave the bus."""
        self._connection.close()

    def _export(self, path: str, interface: str) -> int:
        info = self._interfaces[interface].info
        return self._connection.register(path, info, self._on_call, self._on_get)

    def _withdraw(self, device: DeviceId) -> None:
        if device in self._registrations:
            self._connection.unregister(self._registrations.pop(device))
            del self._devices[device_path(device)]

    def _on_get(
        self, _bus: object, _sender: str, path: str, interface: str, name: str, *_: object
    ) -> Variant:
        if interface == MANAGER:
            return manager_property(self._interfaces[MANAGER], name, self._view, self._fleet)
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
        target = (self._devices[path],) if path in self._devices else ()
        call = Call(
            sender,
            method,
            (*target, *arguments.unpack()),
            self._interfaces[interface].answers[method],
            invocation,
            self._token,
            self._free,
        )
        call.attempt(partial(self._serve, call))

    def _serve(self, call: Call) -> Variant | None:
        """Return the answer; None where it comes later."""
        readers: Mapping[str, Callable[..., Variant]] = {
            "ListDevices": self._list,
            "ListDevicesFiltered": self._page,
            "CountDevices": lambda: Variant(call.signature, (self._fleet.counts(),)),
        }
        if call.method in readers:
            return _bounded(readers[call.method](*call.arguments))
        if call.method == "GetManagedObjects":
            self._managed(call)
            return None
        lookups = {"GetDevice": self._path, "DescribeDevice": self._describe}
        if call.method not in lookups:
            self._requests.submit(call, partial(_answer, call.signature))
        elif self._fleet.get(call.arguments[0]) is not None:
            return lookups[call.method](call.arguments[0])
        else:
            self._requests.submit(call, lookups[call.method])
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
        views, following = self._fleet.page(wanted(filters), after, limit)
        return Variant.new_tuple(self._variants.rows(views), Variant("s", following))

    def _managed(self, call: Call) -> None:
        """Answer all who wait together, once the entries are made, some at a time."""
        if len(self._waiting) >= MAX_WAITING:
            raise Busy("Too many ask for all objects, try again")
        if not self._waiting:
            self._thread.post(self._make_entries)
        self._waiting.append(call)

    def _make_entries(self) -> None:
        more = False
        try:
            more = self._make_some()
        finally:
            if more:
                self._thread.post(self._make_entries)
            else:
                waiting, self._waiting = self._waiting, []
                objects = cache(self._objects)
                for call in waiting:
                    call.attempt(objects)

    def _make_some(self) -> bool:
        missing = (v for v in self._fleet if not self._variants.has_entry(v.id))
        for view in islice(missing, ENTRIES_AT_ONCE):
            self._variants.entry(view)
        return next(missing, None) is not None

    def _objects(self) -> Variant:
        return _bounded(Variant.new_tuple(self._variants.entries(self._fleet)))


def _answer(signature: str, result: object) -> Variant:
    return Variant(signature, () if result is None else result)


def _bounded(answer: Variant) -> Variant:
    """Return it, unless the bus would close our connection for its size."""
    if answer.get_size() > MAX_ANSWER:
        raise CallerError("Too many devices for one answer: use ListDevicesFiltered")
    return answer
