"""The D-Bus methods that the event loop serves: the ports behind them, and who may call each.

A port is a protocol, one for each interface that has methods.  It is called on the asyncio thread,
once the caller is authorized.  It raises CallerError or StoreError, whose sentence the caller
receives.  caller: the user, as "olga", for the record.  A file descriptor is open, and the
dispatcher closes it when the command has ended.  It may be a pipe, so it is read and written off
the event loop.

A table lists the methods of an interface.  Its handlers are typed by the port, and `bind` accepts
only what implements it: a method that is renamed, or an argument of another type, fails in mypy,
here or where the implementation is bound.  What no table names is answered from the views, on the
D-Bus thread: ListDevices and its like.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar

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
)
from gatewayd.device.decision_log import DecisionKind
from gatewayd.device.identity import GATEWAY_PREFIX, DeviceId
from gatewayd.device.views import Facts
from gatewayd.errors import InvalidArgs


class ManagerCommands(Protocol):
    """org.gatewayd1.Manager and Device.

    device: an id, a unique beginning of one, or a cloud id ("product/name").
    """

    async def approve(self, device: str, provider: str, caller: str) -> None:
        """Admit a pending child; provider "" takes the rule's.  On record when it returns."""

    async def reject(self, device: str, reason: str, caller: str) -> None:
        """Reject a child.  On record when it returns."""

    async def retry(self, device: str, caller: str) -> None:
        """Retry now what waits or has failed."""

    async def reregister(self, device: str, again: str, caller: str) -> None:
        """Register a child again after it was reset at the cloud; `again` repeats the id."""

    async def rename(self, device: str, label: str, caller: str) -> None:
        """Give a child another name to show."""

    async def forget(self, device: str, caller: str) -> None:
        """Remove a child's record and its secrets."""

    async def permit_join(self, seconds: int, options: Mapping[str, object], caller: str) -> None:
        """Open the join window for so many seconds, at most 900; 0 closes it.

        options: its scope: the texts "interface", "protocol" and "rule", the number "max-devices".
        """

    async def reload(self, caller: str) -> None:
        """Read the configuration again.  Raises ConfigError; then the old one stays."""

    async def discover(self, seconds: int, protocols: Sequence[str], caller: str) -> None:
        """Look for devices now, and again for so many seconds, at most 900; 0 ends it.

        protocols: names of discoverers, as "mdns"; none for all.  Returns at once.
        """

    async def dump(self, caller: str) -> int:
        """Return a descriptor from which diagnostics can be read; the caller closes it."""

    def resolve(self, device: str) -> DeviceId:
        """Return the id meant.  Raises NoSuchDevice, AmbiguousId."""

    def test_admission(self, device: str) -> tuple[str, str, tuple[str, ...]]:
        """Return action, rule and reasons that policy would give a child now."""

    def list_rules(self) -> tuple[tuple[str, str, str, int], ...]:
        """Return name, action, provider and hits of each rule, in order."""

    def suggest_rule(self, device: str, purpose: str, options: Mapping[str, object]) -> Facts:
        """Return a rule for a child: its Name and Text, the file of its List, and an Entry for it.

        purpose: a word of `RulePurpose`.  options: the texts "provider", "product" and "route".
        """

    def consequences(self, device: str, command: str) -> Sequence[str]:
        """Return what a command would do that cannot be undone, a sentence each.

        command: "Forget" or "Reject".
        """

    async def list_decisions(
        self, wanted: Mapping[str, object], limit: int
    ) -> Sequence[tuple[int, int, str, str, str, str, str]]:
        """Return decisions, the newest first: the fields of `LoggedDecision`.

        wanted: "device", the beginning of an id; "since", microseconds since the epoch; "before",
        the number of a decision.  limit: 0 for 500, at most 1000.
        """


class StoreCommands(Protocol):
    """org.gatewayd1.SecretStore.  All raise NotSupported where the store cannot do it."""

    async def rotate(self, caller: str) -> None:
        """Make a new data key, and encrypt every secret with it.  Durable when it returns."""

    async def reseal(self, key: str, caller: str) -> None:
        """Bind the data key again to what protects it now, as after a change of firmware.

        key: a kind that the store knows; "" for the one that is configured.
        """

    async def add_recovery_key(self, public_key: str, caller: str) -> None:
        """Let the owner of a key open the store too.

        public_key: as the operator gave it, not checked yet.  Raises InvalidArgs.
        """

    async def export(self, target: int, caller: str) -> None:
        """Write all secrets, readable for the recovery keys alone, to a file descriptor."""

    async def accept_rollback(self, caller: str) -> None:
        """Go on with a store that may be older than the newest that was written."""

    async def accept_machine(self, caller: str) -> None:
        """Let a store that belonged to another machine belong to this one."""


class ProviderCommands(Protocol):
    """org.gatewayd1.Provider."""

    async def test(self, caller: str) -> None:
        """Check whether the cloud can be used now; registers nothing.  Raises CloudUnreachable."""


class AuthorityCommands(Protocol):
    """org.gatewayd1.Authority: the device CA of one cloud.  No private key is ever returned.

    Certificates are PEM.  options: texts, numbers, booleans and lists of texts; an unknown key
    raises InvalidArgs.
    """

    async def make(self, options: Mapping[str, object], caller: str) -> str:
        """Make the CA's key and certificate; return the certificate."""

    async def import_authority(self, source: int, caller: str) -> str:
        """Import a CA that was made elsewhere; return its certificate.  source: to be read."""

    async def prove(self, code: str, caller: str) -> str:
        """Return a certificate that holds the cloud's code, as a proof of possession."""

    async def issue(
        self, device: str, request: str, options: Mapping[str, object], caller: str
    ) -> str:
        """Return a certificate, with its chain, for a child, or for a request (PKCS #10, PEM).

        device: as in `ManagerCommands`, or "".  request: "" where the key is to be made here.
        """

    async def show(self) -> Facts:
        """Return what is public about the CA; numbers that are times end in "Timestamp"."""

    async def renew(self, device: str, caller: str) -> None:
        """Replace the certificate of a child before its time."""


class MessageCommands(Protocol):
    """org.gatewayd1.Messages.  device: as in `ManagerCommands`."""

    def resolve(self, device: str) -> DeviceId:
        """Return the id meant.  Raises NoSuchDevice, AmbiguousId."""

    async def follow(self, device: str, caller: str) -> int:
        """Return a descriptor from which the messages of a child can be read; the caller closes it.

        Raises NoSuchDevice, AmbiguousId, Busy.
        """


class BrokerCommands(Protocol):
    """org.gatewayd1.Broker: the users of gatewayd's own broker.

    device: as in `ManagerCommands`.  A password leaves by a descriptor, once, with a line end.
    A change is durable when a method returns, and in force a moment later.
    """

    async def set_password(self, device: str, target: int, caller: str) -> None:
        """Make a password for a child, in place of any other, and write it to a descriptor."""

    async def issue_certificate(
        self, device: str, request: str, options: Mapping[str, object], caller: str
    ) -> str:
        """Return a certificate for a child's key, and that of the CA.

        request: PKCS #10, PEM.  options: the number "days".
        """

    async def add_program(
        self, name: str, devices: Sequence[str], target: int, caller: str
    ) -> None:
        """Let a program of this machine speak for children, in place of any others.

        Its password is written to a descriptor.
        """

    async def revoke(self, name: str, caller: str) -> None:
        """Take the password and the certificates of a child or a program."""

    async def authority(self) -> str:
        """Return the certificate of the CA that has issued the broker's."""

    def list_users(self) -> Sequence[tuple[str, str, Sequence[str], Sequence[str]]]:
        """Return name, kind, ways to log in, and the children it speaks for, of each user."""


class CredentialCommands(Protocol):
    """org.gatewayd1.Credentials.  device: as in `ManagerCommands`."""

    async def read(self, device: str, target: int, caller: str) -> None:
        """Write what a child's holder logs in with to a descriptor, as one JSON object.

        Raises WrongState where the child is not handed over.
        """


class LogCommands(Protocol):
    """org.freedesktop.LogControl1."""

    async def set_level(self, level: str, caller: str) -> None:
        """Set the log level, in the words of syslog(3), "debug" to "emerg"."""


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
PERMIT_JOIN: Final = Permission(f"{NAME}.permit-join")
CONFIGURE: Final = Permission(f"{NAME}.configure")
MANAGE_STORE: Final = Permission(f"{NAME}.manage-store")
MANAGE_AUTHORITY: Final = f"{NAME}.manage-authority"
MANAGE_BROKER: Final = f"{NAME}.manage-broker"
READ_CREDENTIAL: Final = f"{NAME}.read-credential"
FOLLOW: Final = f"{NAME}.follow-messages"
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
    Method("ListDecisions", READ_LOG,
           lambda manager, call: _single(manager.list_decisions(call.options(0), call.number(1)))),
    Method("Reregister", Permission(REREGISTER, device=0), _reregister,
           Logged(DecisionKind.REREGISTERED)),
    Method("Rename", Permission(MANAGE_DEVICES, device=0),
           lambda manager, call: manager.rename(call.text(0), call.text(1), call.caller),
           Logged(DecisionKind.RENAMED, note=1)),
    Method("PermitJoin", PERMIT_JOIN,
           lambda manager, call: manager.permit_join(call.number(0), call.options(1), call.caller),
           Logged(DecisionKind.JOIN_WINDOW, note=0)),
    Method("Discover", PERMIT_JOIN,
           lambda manager, call: manager.discover(call.number(0), call.texts(1), call.caller)),
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
    LOG_METHODS,
)
