"""The D-Bus methods that the event loop serves, and who may call each.

A table lists the methods of an interface.  Its handlers are typed by the port, and `bind` accepts
only what implements it: a method that is renamed, or an argument of another type, fails in mypy,
here or where the implementation is bound.  What no table names is answered from the views, on the
D-Bus thread: ListDevices and its like.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeAlias, TypeVar

from gatewayd.dbus.glib import Variant
from gatewayd.dbus.names import (
    AUTHORITY,
    BROKER,
    CREDENTIALS,
    DEVICE,
    LOG_CONTROL,
    MANAGER,
    MESSAGES,
    NAME,
    PROVIDER,
    SECRET_STORE,
    SITE,
)
from gatewayd.dbus.ports import (
    AuthorityCommands,
    BrokerCommands,
    CredentialCommands,
    LogCommands,
    ManagerCommands,
    MessageCommands,
    OwnershipCommands,
    ProviderCommands,
    StoreCommands,
)
from gatewayd.device.decision_log import DecisionKind
from gatewayd.device.identity import GATEWAY_PREFIX, DeviceId
from gatewayd.device.views import Facts
from gatewayd.errors import InvalidArgs

Port = TypeVar("Port")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class MethodArguments:
    """The arguments of a call, each with its type.

    GLib has checked them against the XML file, so a getter of another type is a fault of ours, and
    raises TypeError.  values: as GLib unpacks them, but a descriptor where the call had its index.
    caller: as "olga"; "uid 1000" for a user without a name.
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
    gateway: the action instead, where the child is the gateway's own name at a cloud: all of that
    cloud's sub-devices depend on it; "" for the same one.
    """

    action: str
    device: int | None = None
    provider: int | None = None
    gateway: str = ""

    def action_on(self, device: str) -> str:
        """Return the action of polkit.  device: the id of the child that is meant, or ""."""
        return self.gateway if self.gateway and device.startswith(GATEWAY_PREFIX) else self.action


EVERYBODY: Final = None
"""The permission of a method that changes nothing."""

APPROVE: Final = f"{NAME}.approve-device"
MANAGE_DEVICES: Final = f"{NAME}.manage-devices"
REJECT_GATEWAY: Final = f"{NAME}.reject-gateway"
REREGISTER: Final = f"{NAME}.reregister-device"
FORGET: Final = f"{NAME}.forget-device"
REPIN: Final = f"{NAME}.repin-device"
MOVE: Final = f"{NAME}.move-device"
SPLIT: Final = f"{NAME}.split-devices"
MERGE: Final = f"{NAME}.merge-devices"
PERMIT_JOIN: Final = Permission(f"{NAME}.permit-join")
CONFIGURE: Final = Permission(f"{NAME}.configure")
MANAGE_STORE: Final = Permission(f"{NAME}.manage-store")
MANAGE_AUTHORITY: Final = f"{NAME}.manage-authority"
MANAGE_BROKER: Final = f"{NAME}.manage-broker"
MANAGE_SITE: Final = Permission(f"{NAME}.manage-site")
READ_CREDENTIAL: Final = f"{NAME}.read-credential"
FOLLOW: Final = f"{NAME}.follow-messages"
RECORD: Final = Permission(f"{NAME}.record-lan")
READ_LOG: Final = Permission(f"{NAME}.read-log")
ROOT_ONLY: Final = Permission("")


@dataclass(frozen=True, slots=True)
class Logged:
    """How a method gets into the log of decisions.

    note: a text for it, or the position of the argument that is noted, a text or a number of
    seconds; None for nothing.
    first: it is logged before it is done, and not done where that fails: for what lets out a
    secret.
    """

    kind: DecisionKind
    note: str | int | None = None
    first: bool = False


@dataclass(frozen=True, slots=True)
class Method(Generic[Port]):
    """One method of an interface; or a property, for what sets it.

    handler: returns the results of the method as a tuple; None for none.
    logged: how it gets into the log of decisions; None for what is no decision.
    """

    name: str
    permission: Permission | None
    handler: Callable[[Port, MethodArguments], Awaitable[object]]
    logged: Logged | None = None


@dataclass(frozen=True, slots=True)
class BoundMethod:
    """A method together with the implementation that serves it."""

    name: str
    permission: Permission | None
    run: Callable[[MethodArguments], Awaitable[object]]
    logged: Logged | None = None


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
    def run(arguments: MethodArguments) -> Awaitable[object]:
        return method.handler(port, arguments)

    return BoundMethod(method.name, method.permission, run, method.logged)


async def _single(result: Awaitable[object]) -> tuple[object]:
    """Return what a method with one result returns."""
    return (await result,)


async def _resolve(manager: ManagerCommands, call: MethodArguments) -> DeviceId:
    return manager.resolve(call.text(0))


async def _resolve_child(messages: MessageCommands, call: MethodArguments) -> DeviceId:
    return messages.resolve(call.text(0))


async def _test_admission(manager: ManagerCommands, call: MethodArguments) -> tuple[object, ...]:
    return manager.test_admission(call.text(0))


async def _list_rules(manager: ManagerCommands, _: MethodArguments) -> tuple[object]:
    return (manager.list_rules(),)


async def _suggest_rule(manager: ManagerCommands, call: MethodArguments) -> tuple[object]:
    return (variants(manager.suggest_rule(call.text(0), call.text(1), call.options(2))),)


async def _consequences(manager: ManagerCommands, call: MethodArguments) -> tuple[object]:
    return (manager.consequences(call.text(0), call.text(1)),)


async def _reregister(manager: ManagerCommands, call: MethodArguments) -> None:
    if call.options(2):
        raise InvalidArgs("Reregister takes no options")
    await manager.reregister(call.text(0), call.text(1), call.caller)


async def _show(authority: AuthorityCommands, _: MethodArguments) -> tuple[Mapping[str, Variant]]:
    return (variants(await authority.show()),)


async def _import_certificate(
    authority: AuthorityCommands, call: MethodArguments
) -> tuple[Mapping[str, Variant]]:
    facts = await authority.import_certificate(
        call.text(0), call.descriptor(1), call.options(2), call.caller
    )
    return (variants(facts),)


async def _owner(site: OwnershipCommands, call: MethodArguments) -> tuple[Mapping[str, Variant]]:
    return (variants(await site.owner(call.text(0))),)


async def _list_users(broker: BrokerCommands, _: MethodArguments) -> tuple[object]:
    return (broker.list_users(),)


def variants(facts: Facts) -> Mapping[str, Variant]:
    """Return named facts as an a{sv} holds them: s, b, t and as."""
    return {name: Variant(_signature(fact), fact) for name, fact in facts.items()}


def _signature(fact: object) -> str:
    known = ((bool, "b"), (int, "t"), (str, "s"))
    return next((signature for kind, signature in known if isinstance(fact, kind)), "as")


def _changes_store(how: str) -> Logged:
    return Logged(DecisionKind.STORE_CHANGED, how)


_DEVICE_METHODS: Final[Sequence[Method[ManagerCommands]]] = (
    Method("Approve", Permission(APPROVE, device=0, provider=1),
           lambda manager, call: manager.approve(call.text(0), call.text(1), call.caller),
           Logged(DecisionKind.APPROVED, note=1)),
    Method("Reject", Permission(MANAGE_DEVICES, device=0, gateway=REJECT_GATEWAY),
           lambda manager, call: manager.reject(call.text(0), call.text(1), call.caller),
           Logged(DecisionKind.REJECTED, note=1)),
    Method("Retry", Permission(MANAGE_DEVICES, device=0),
           lambda manager, call: manager.retry(call.text(0), call.caller)),
    Method("Forget", Permission(FORGET, device=0),
           lambda manager, call: manager.forget(call.text(0), call.caller),
           Logged(DecisionKind.FORGOTTEN)),
)  # fmt: skip

DEVICE_METHODS: Final = MethodTable(DEVICE, _DEVICE_METHODS)
"""Called at a child's own object, with its id put before the arguments."""

MANAGER_METHODS: Final = MethodTable[ManagerCommands](MANAGER, (
    *_DEVICE_METHODS,
    Method("GetDevice", EVERYBODY, _resolve),
    Method("DescribeDevice", EVERYBODY, _resolve),
    Method("TestAdmission", EVERYBODY, _test_admission),
    Method("ListRules", EVERYBODY, _list_rules),
    Method("SuggestRule", EVERYBODY, _suggest_rule),
    Method("Consequences", EVERYBODY, _consequences),
    Method("ListRefused", EVERYBODY, lambda manager, _: _single(manager.list_refused())),
    Method("ListDecisions", READ_LOG,
           lambda manager, call: _single(manager.list_decisions(call.options(0), call.number(1)))),
    Method("Reregister", Permission(REREGISTER, device=0), _reregister,
           Logged(DecisionKind.REREGISTERED)),
    Method("Rename", Permission(MANAGE_DEVICES, device=0),
           lambda manager, call: manager.rename(call.text(0), call.text(1), call.caller),
           Logged(DecisionKind.RENAMED, note=1)),
    Method("Repin", Permission(REPIN, device=0),
           lambda manager, call: manager.repin(call.text(0), call.caller),
           Logged(DecisionKind.REPINNED)),
    Method("Move", Permission(MOVE, device=0, provider=1),
           lambda manager, call: manager.move(
               call.text(0), call.text(1), call.options(2), call.caller),
           Logged(DecisionKind.MOVED, note=1)),
    Method("CancelMove", Permission(MOVE, device=0),
           lambda manager, call: manager.cancel_move(call.text(0), call.caller),
           Logged(DecisionKind.MOVE_CANCELLED)),
    Method("ForgetDormant", Permission(FORGET, device=0, provider=1),
           lambda manager, call: manager.forget_dormant(
               call.text(0), call.text(1), call.caller),
           Logged(DecisionKind.DORMANT_FORGOTTEN, note=1)),
    Method("ListMoves", EVERYBODY,
           lambda manager, call: _single(manager.list_moves(call.number(0)))),
    Method("Split", Permission(SPLIT, device=0),
           lambda manager, call: manager.split(call.text(0), call.text(1), call.caller),
           Logged(DecisionKind.SPLIT, note=1)),
    Method("Merge", Permission(MERGE, device=0),
           lambda manager, call: manager.merge(call.text(0), call.text(1), call.caller),
           Logged(DecisionKind.MERGED, note=1)),
    Method("PermitJoin", PERMIT_JOIN,
           lambda manager, call: manager.permit_join(call.number(0), call.options(1), call.caller),
           Logged(DecisionKind.JOIN_WINDOW, note=0)),
    Method("Discover", PERMIT_JOIN,
           lambda manager, call: manager.discover(call.number(0), call.texts(1), call.caller)),
    Method("Record", RECORD,
           lambda manager, call: _single(
               manager.record(call.number(0), call.options(1), call.caller)),
           Logged(DecisionKind.DIAGNOSED, note=0)),
    Method("Reload", CONFIGURE, lambda manager, call: manager.reload(call.caller),
           Logged(DecisionKind.RELOADED)),
    Method("Dump", CONFIGURE, lambda manager, call: _single(manager.dump(call.caller)),
           Logged(DecisionKind.DIAGNOSED)),
))  # fmt: skip

SECRET_STORE_METHODS: Final = MethodTable[StoreCommands](SECRET_STORE, (
    Method("Rotate", MANAGE_STORE, lambda store, call: store.rotate(call.caller),
           _changes_store("rotate")),
    Method("Reseal", MANAGE_STORE, lambda store, call: store.reseal(call.text(0), call.caller),
           _changes_store("reseal")),
    Method("AddRecoveryKey", MANAGE_STORE,
           lambda store, call: store.add_recovery_key(call.text(0), call.caller),
           _changes_store("add-recovery")),
    Method("Export", MANAGE_STORE,
           lambda store, call: store.export(call.descriptor(0), call.caller),
           Logged(DecisionKind.STORE_EXPORTED)),
    Method("AcceptRollback", MANAGE_STORE,
           lambda store, call: store.accept_rollback(call.caller),
           _changes_store("accept-rollback")),
    Method("AcceptMachine", MANAGE_STORE,
           lambda store, call: store.accept_machine(call.caller),
           _changes_store("accept-machine")),
))  # fmt: skip

PROVIDER_METHODS: Final = MethodTable[ProviderCommands](PROVIDER, (
    Method("Test", CONFIGURE, lambda provider, call: provider.test(call.caller)),
))  # fmt: skip

AUTHORITY_METHODS: Final = MethodTable[AuthorityCommands](AUTHORITY, (
    Method("Show", EVERYBODY, _show),
    Method("ListRevoked", EVERYBODY, lambda ca, _: _single(ca.list_revoked())),
    Method("Make", Permission(MANAGE_AUTHORITY),
           lambda ca, call: _single(ca.make(call.options(0), call.caller)),
           Logged(DecisionKind.AUTHORITY_CHANGED, "make")),
    Method("Import", Permission(MANAGE_AUTHORITY),
           lambda ca, call: _single(ca.import_authority(call.descriptor(0), call.caller)),
           Logged(DecisionKind.AUTHORITY_CHANGED, "import")),
    Method("Prove", Permission(MANAGE_AUTHORITY),
           lambda ca, call: _single(ca.prove(call.text(0), call.caller))),
    Method("Issue", Permission(MANAGE_AUTHORITY, device=0),
           lambda ca, call: _single(
               ca.issue(call.text(0), call.text(1), call.options(2), call.caller)),
           Logged(DecisionKind.CREDENTIAL_MADE, "certificate")),
    Method("ImportCertificate", Permission(MANAGE_AUTHORITY, device=0), _import_certificate,
           Logged(DecisionKind.CREDENTIAL_MADE, "import")),
    Method("RemoveCertificate", Permission(MANAGE_AUTHORITY, device=0),
           lambda ca, call: ca.remove_certificate(call.text(0), call.options(1), call.caller),
           Logged(DecisionKind.CREDENTIAL_REVOKED, "imported")),
    Method("Renew", Permission(MANAGE_AUTHORITY, device=0),
           lambda ca, call: ca.renew(call.text(0), call.caller)),
))  # fmt: skip

MESSAGE_METHODS: Final = MethodTable[MessageCommands](MESSAGES, (
    Method("Describe", EVERYBODY, _resolve_child),
    Method("Follow", Permission(FOLLOW, device=0),
           lambda messages, call: _single(messages.follow(call.text(0), call.caller)),
           Logged(DecisionKind.MESSAGES_FOLLOWED)),
))  # fmt: skip

BROKER_METHODS: Final = MethodTable[BrokerCommands](BROKER, (
    Method("ListUsers", EVERYBODY, _list_users),
    Method("GetAuthority", EVERYBODY, lambda broker, _: _single(broker.authority())),
    Method("SetPassword", Permission(MANAGE_BROKER, device=0),
           lambda broker, call: broker.set_password(
               call.text(0), call.descriptor(1), call.caller),
           Logged(DecisionKind.CREDENTIAL_MADE, "password")),
    Method("IssueCertificate", Permission(MANAGE_BROKER, device=0),
           lambda broker, call: _single(broker.issue_certificate(
               call.text(0), call.text(1), call.options(2), call.caller)),
           Logged(DecisionKind.CREDENTIAL_MADE, "certificate")),
    Method("AddProgram", Permission(MANAGE_BROKER),
           lambda broker, call: broker.add_program(
               call.text(0), call.texts(1), call.descriptor(2), call.caller),
           Logged(DecisionKind.CREDENTIAL_MADE, note=0)),
    Method("Revoke", Permission(MANAGE_BROKER),
           lambda broker, call: broker.revoke(call.text(0), call.caller),
           Logged(DecisionKind.CREDENTIAL_REVOKED, note=0)),
))  # fmt: skip

CREDENTIAL_METHODS: Final = MethodTable[CredentialCommands](CREDENTIALS, (
    Method("Read", Permission(READ_CREDENTIAL, device=0),
           lambda credentials, call: credentials.read(
               call.text(0), call.descriptor(1), call.caller),
           Logged(DecisionKind.CREDENTIAL_READ, first=True)),
))  # fmt: skip

SITE_METHODS: Final = MethodTable[OwnershipCommands](SITE, (
    Method("GetOwner", EVERYBODY, _owner),
    Method("Found", MANAGE_SITE, lambda site, call: _single(site.found(call.caller)),
           Logged(DecisionKind.SITE_CHANGED, "found")),
    Method("Join", MANAGE_SITE, lambda site, call: site.join(call.text(0), call.caller),
           Logged(DecisionKind.SITE_CHANGED, "join")),
    Method("Accept", MANAGE_SITE,
           lambda site, call: site.accept(call.text(0), call.text(1), call.caller),
           Logged(DecisionKind.SITE_MEMBER_ACCEPTED, note=0)),
    Method("Remove", MANAGE_SITE, lambda site, call: site.remove(call.text(0), call.caller),
           Logged(DecisionKind.SITE_MEMBER_REMOVED, note=0)),
    Method("Consequences", EVERYBODY, lambda site, call: _single(site.harm_of(call.text(0)))),
    Method("Drain", MANAGE_SITE, lambda site, call: site.drain(call.options(0), call.caller),
           Logged(DecisionKind.SITE_CHANGED, "drain")),
    Method("Resume", MANAGE_SITE, lambda site, call: site.resume(call.caller),
           Logged(DecisionKind.SITE_CHANGED, "resume")),
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
    MESSAGE_METHODS,
    BROKER_METHODS,
    CREDENTIAL_METHODS,
    SITE_METHODS,
    LOG_METHODS,
)
