"""The D-Bus methods that the event loop serves: who may call each, and what it asks of its port.

One table for each interface.  A handler is typed by the port's protocol, and `bind` accepts only
what implements that protocol: a method that is renamed, or an argument that changes its type,
fails in mypy here or where the implementation is bound.

A method that is in no table is not served by the event loop: ListDevices and its like are answered
from the views, on the D-Bus thread.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeAlias, TypeVar

from gatewayd.dbus.glib import Variant
from gatewayd.dbus.names import (
    AUTHORITY,
    DEVICE,
    LOG_CONTROL,
    MANAGER,
    NAME,
    PROVIDER,
    SECRET_STORE,
)
from gatewayd.dbus.ports import (
    AuthorityCommands,
    Facts,
    LogCommands,
    ManagerCommands,
    ProviderCommands,
    StoreCommands,
)
from gatewayd.device.identity import DeviceId
from gatewayd.errors import InvalidArgs

Port = TypeVar("Port")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class MethodArguments:
    """The arguments of a call, each with its type.

    GLib has checked them against the XML file, so a getter of another type is a fault of ours, and
    raises TypeError.  values: as GLib unpacks them, but a descriptor where the call had its index.
    caller: as "uid 1000".
    """

    values: Sequence[Any]
    caller: str

    def text(self, position: int) -> str:
        """Return an argument of type s."""
        return self._get(position, str)

    def number(self, position: int) -> int:
        """Return an argument of type u."""
        return self._get(position, int)

    def descriptor(self, position: int) -> int:
        """Return the open file descriptor of an argument of type h."""
        return self._get(position, int)

    def texts(self, position: int) -> Sequence[str]:
        """Return an argument of type as."""
        values = self._get(position, list)
        return [str(value) for value in values]

    def options(self, position: int) -> Mapping[str, object]:
        """Return an argument of type a{sv}."""
        return self._get(position, dict)

    def _get(self, position: int, kind: type[Result]) -> Result:
        value = self.values[position]
        if not isinstance(value, kind):
            raise TypeError(f"Argument {position} is no {kind.__name__}")
        return value


@dataclass(frozen=True, slots=True)
class Permission:
    """What an administrator grants.

    action: of polkit; "" for what only root may do.
    device, provider: the positions of the arguments that name a child and a cloud, if any does.
    """

    action: str
    device: int | None = None
    provider: int | None = None


EVERYBODY: Final = None
"""The permission of a method that changes nothing."""

APPROVE: Final = f"{NAME}.approve-device"
MANAGE_DEVICES: Final = f"{NAME}.manage-devices"
REREGISTER: Final = f"{NAME}.reregister-device"
FORGET: Final = f"{NAME}.forget-device"
PERMIT_JOIN: Final = Permission(f"{NAME}.permit-join")
CONFIGURE: Final = Permission(f"{NAME}.configure")
MANAGE_STORE: Final = Permission(f"{NAME}.manage-store")
MANAGE_AUTHORITY: Final = f"{NAME}.manage-authority"
ROOT_ONLY: Final = Permission("")


@dataclass(frozen=True, slots=True)
class Method(Generic[Port]):
    """One method of an interface; or a property, for what sets it.

    handler: returns the results of the method as a tuple; None for none.
    """

    name: str
    permission: Permission | None
    handler: Callable[[Port, MethodArguments], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class BoundMethod:
    """A method together with the implementation that serves it."""

    permission: Permission | None
    run: Callable[[MethodArguments], Awaitable[object]]


BoundMethods: TypeAlias = Mapping[str, BoundMethod]
"""By name."""


class MethodTable(Generic[Port]):
    """The methods of one interface."""

    def __init__(self, interface: str, methods: Iterable[Method[Port]]) -> None:
        self.interface = interface
        self._methods = tuple(methods)

    def __iter__(self) -> Iterator[Method[Port]]:
        return iter(self._methods)

    def bind(self, port: Port | None) -> BoundMethods:
        """Return the methods as this implementation serves them; none where there is none."""
        return {} if port is None else {one.name: _bound(one, port) for one in self._methods}


def _bound(method: Method[Port], port: Port) -> BoundMethod:
    return BoundMethod(method.permission, lambda arguments: method.handler(port, arguments))


async def _single(result: Awaitable[object]) -> tuple[object]:
    """Return what a method with one result returns."""
    return (await result,)


async def _resolve(manager: ManagerCommands, call: MethodArguments) -> DeviceId:
    return manager.resolve(call.text(0))


async def _test_admission(manager: ManagerCommands, call: MethodArguments) -> tuple[object, ...]:
    return manager.test_admission(call.text(0))


async def _list_rules(manager: ManagerCommands, _: MethodArguments) -> tuple[object]:
    return (manager.list_rules(),)


async def _reregister(manager: ManagerCommands, call: MethodArguments) -> None:
    if call.options(2):
        raise InvalidArgs("Reregister takes no options")
    await manager.reregister(call.text(0), call.text(1), call.caller)


async def _show(authority: AuthorityCommands, _: MethodArguments) -> tuple[Mapping[str, Variant]]:
    return (variants(await authority.show()),)


def variants(facts: Facts) -> Mapping[str, Variant]:
    """Return named facts as an a{sv} holds them: s, b, t and as."""
    return {name: Variant(_signature(fact), fact) for name, fact in facts.items()}


def _signature(fact: object) -> str:
    known = ((bool, "b"), (int, "t"), (str, "s"))
    return next((signature for kind, signature in known if isinstance(fact, kind)), "as")


_DEVICE_METHODS: Final[Sequence[Method[ManagerCommands]]] = (
    Method("Approve", Permission(APPROVE, device=0, provider=1),
           lambda manager, call: manager.approve(call.text(0), call.text(1), call.caller)),
    Method("Reject", Permission(MANAGE_DEVICES, device=0),
           lambda manager, call: manager.reject(call.text(0), call.text(1), call.caller)),
    Method("Retry", Permission(MANAGE_DEVICES, device=0),
           lambda manager, call: manager.retry(call.text(0), call.caller)),
    Method("Forget", Permission(FORGET, device=0),
           lambda manager, call: manager.forget(call.text(0), call.caller)),
)  # fmt: skip

DEVICE_METHODS: Final = MethodTable(DEVICE, _DEVICE_METHODS)
"""Called at a child's own object, with its id put before the arguments."""

MANAGER_METHODS: Final = MethodTable[ManagerCommands](MANAGER, (
    *_DEVICE_METHODS,
    Method("GetDevice", EVERYBODY, _resolve),
    Method("DescribeDevice", EVERYBODY, _resolve),
    Method("TestAdmission", EVERYBODY, _test_admission),
    Method("ListRules", EVERYBODY, _list_rules),
    Method("Reregister", Permission(REREGISTER, device=0), _reregister),
    Method("Rename", Permission(MANAGE_DEVICES, device=0),
           lambda manager, call: manager.rename(call.text(0), call.text(1), call.caller)),
    Method("PermitJoin", PERMIT_JOIN,
           lambda manager, call: manager.permit_join(call.number(0), call.options(1), call.caller)),
    Method("Discover", PERMIT_JOIN,
           lambda manager, call: manager.discover(call.number(0), call.texts(1), call.caller)),
    Method("Reload", CONFIGURE, lambda manager, call: manager.reload(call.caller)),
    Method("Dump", CONFIGURE, lambda manager, call: _single(manager.dump(call.caller))),
))  # fmt: skip

SECRET_STORE_METHODS: Final = MethodTable[StoreCommands](SECRET_STORE, (
    Method("Rotate", MANAGE_STORE, lambda store, call: store.rotate(call.caller)),
    Method("Reseal", MANAGE_STORE, lambda store, call: store.reseal(call.text(0), call.caller)),
    Method("AddRecoveryKey", MANAGE_STORE,
           lambda store, call: store.add_recovery_key(call.text(0), call.caller)),
    Method("Export", MANAGE_STORE,
           lambda store, call: store.export(call.descriptor(0), call.caller)),
    Method("AcceptRollback", MANAGE_STORE,
           lambda store, call: store.accept_rollback(call.caller)),
))  # fmt: skip

PROVIDER_METHODS: Final = MethodTable[ProviderCommands](PROVIDER, (
    Method("Test", CONFIGURE, lambda provider, call: provider.test(call.caller)),
))  # fmt: skip

AUTHORITY_METHODS: Final = MethodTable[AuthorityCommands](AUTHORITY, (
    Method("Show", EVERYBODY, _show),
    Method("Make", Permission(MANAGE_AUTHORITY),
           lambda ca, call: _single(ca.make(call.options(0), call.caller))),
    Method("Import", Permission(MANAGE_AUTHORITY),
           lambda ca, call: _single(ca.import_authority(call.descriptor(0), call.caller))),
    Method("Prove", Permission(MANAGE_AUTHORITY),
           lambda ca, call: _single(ca.prove(call.text(0), call.caller))),
    Method("Issue", Permission(MANAGE_AUTHORITY, device=0),
           lambda ca, call: _single(
               ca.issue(call.text(0), call.text(1), call.options(2), call.caller))),
    Method("Renew", Permission(MANAGE_AUTHORITY, device=0),
           lambda ca, call: ca.renew(call.text(0), call.caller)),
))  # fmt: skip

LOG_METHODS: Final = MethodTable[LogCommands](LOG_CONTROL, (
    Method("LogLevel", ROOT_ONLY, lambda log, call: log.set_level(call.text(0), call.caller)),
))  # fmt: skip

METHOD_TABLES: Final[Sequence[MethodTable[Any]]] = (
    MANAGER_METHODS,
    DEVICE_METHODS,
    SECRET_STORE_METHODS,
    PROVIDER_METHODS,
    AUTHORITY_METHODS,
    LOG_METHODS,
)
