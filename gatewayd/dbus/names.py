"""The interfaces that are served, parsed once from the XML files beside this module.

The names of the D-Bus API, in one place.

What may be asked for over D-Bus: one port for each interface that has methods.

All are called on the asyncio thread, once it is known that the caller may.  They raise CallerError
or StoreError, whose sentence the caller is told.  caller: who asks, as "uid 1000", for the record.
A file descriptor is open, and is closed by whoever called when the command has ended; it may be a
pipe, so it is read and written off the event loop.

What each method asks of the port behind its object: two tables.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, NamedTuple, Protocol, TypeAlias

from gatewayd.dbus.glib import PROPERTIES, Gio, Variant
from gatewayd.device.identity import DeviceId
from gatewayd.errors import InvalidArgs

NAME = "org.gatewayd1"
ROOT = "/org/gatewayd1"
DEVICES = f"{ROOT}/device"
PROVIDERS = f"{ROOT}/provider"
MANAGER = f"{NAME}.Manager"
DEVICE = f"{NAME}.Device"
SECRET_STORE = f"{NAME}.SecretStore"
PROVIDER = f"{NAME}.Provider"
AUTHORITY = f"{NAME}.Authority"
LOG_CONTROL = "org.freedesktop.LogControl1"
OBJECT_MANAGER = "org.freedesktop.DBus.ObjectManager"
PROPERTIES_CHANGED = f"{PROPERTIES}.PropertiesChanged"


class ObjectInterface(NamedTuple):
    """One interface of one object."""

    path: str
    interface: str


GATEWAY = ObjectInterface(ROOT, MANAGER)
STORE = ObjectInterface(f"{ROOT}/secretstore", SECRET_STORE)
LOG = ObjectInterface("/org/freedesktop/LogControl1", LOG_CONTROL)


def device_path(device: str) -> str:
    """Return the object path of a child, with its id escaped as sd_bus_path_encode(3) does."""
    return f"{DEVICES}/{encode(device)}"


def provider_path(name: str) -> str:
    """Return the object path of a cloud."""
    return f"{PROVIDERS}/{encode(name)}"


def encode(label: str) -> str:
    """Escape a text as one element of an object path, as sd_bus_path_encode(3) does."""
    return "".join(_escape(i, byte) for i, byte in enumerate(label.encode())) or "_"


def _escape(position: int, byte: int) -> str:
    char = chr(byte)
    plain = char.isascii() and (char.isalpha() or (char.isdigit() and position > 0))
    return char if plain else f"_{byte:02x}"


SERVED = (MANAGER, DEVICE, SECRET_STORE, PROVIDER, AUTHORITY, LOG_CONTROL, OBJECT_MANAGER)

EMITS = "org.freedesktop.DBus.Property.EmitsChangedSignal"


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface.

    info: as GLib wants it for registering objects.
    properties: name to signature.
    announced: the properties whose changes are told by PropertiesChanged.
    answers: method to the signature of what it returns, as "(so)".
    handles: method to the positions of the file descriptors among its arguments.
    """

    name: str
    info: Any
    properties: Mapping[str, str]
    announced: frozenset[str]
    answers: Mapping[str, str]
    handles: Mapping[str, tuple[int, ...]]


def load(name: str) -> Interface:
    """Parse the file of one interface."""
    xml = resources.files(__package__).joinpath(f"{name}.xml").read_text(encoding="utf-8")
    (info,) = Gio.DBusNodeInfo.new_for_xml(xml).interfaces
    return Interface(
        name=info.name,
        info=info,
        properties={p.name: p.signature for p in info.properties},
        announced=frozenset(p.name for p in info.properties if _annotation(p, EMITS) == "true"),
        answers={m.name: _tuple(m.out_args) for m in info.methods},
        handles={m.name: _handles(m.in_args) for m in info.methods},
    )


def load_all() -> Mapping[str, Interface]:
    """Parse all that are served, by name."""
    return {name: load(name) for name in SERVED}


def _annotation(info: Any, key: str) -> str:  # noqa: ANN401  # GLib's
    return next((a.value for a in info.annotations if a.key == key), "true")


def _tuple(arguments: Any) -> str:  # noqa: ANN401  # GLib's
    return "(" + "".join(a.signature for a in arguments) + ")"


def _handles(arguments: Any) -> tuple[int, ...]:  # noqa: ANN401  # GLib's
    return tuple(i for i, a in enumerate(arguments) if a.signature == "h")


Facts: TypeAlias = Mapping[str, "str | int | bool | Sequence[str]"]
"""Named facts: texts, numbers of at least 0, truths, and lists of texts."""


class ManagerCommands(Protocol):
    """org.gatewayd1.Manager and Device.

    device: an id, a unique beginning of one, or a cloud id ("product/name").
    """

    async def approve(self, device: str, provider: str, caller: str) -> None:
        """Admit a child that waits; provider "" takes the rule's.  On record when it returns."""

    async def reject(self, device: str, reason: str, caller: str) -> None:
        """Keep a child out.  On record when it returns."""

    async def retry(self, device: str, caller: str) -> None:
        """Try again now what waits or has failed."""

    async def reregister(self, device: str, again: str, caller: str) -> None:
        """Register anew a child that was reset at the cloud; `again` repeats the id."""

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
        """Return a descriptor from which diagnostics can be read; whoever called closes it."""

    def resolve(self, device: str) -> DeviceId:
        """Return the id meant.  Raises NoSuchDevice, AmbiguousId."""

    def test_admission(self, device: str) -> tuple[str, str, tuple[str, ...]]:
        """Return action, rule and reasons that policy would give a child now."""

    def list_rules(self) -> tuple[tuple[str, str, str, int], ...]:
        """Return name, action, provider and hits of each rule, in order."""


class StoreCommands(Protocol):
    """org.gatewayd1.SecretStore.  All raise NotSupported where the store cannot do it."""

    async def rotate(self, caller: str) -> None:
        """Make a new data key, and bring every secret under it.  Durable when it returns."""

    async def reseal(self, key: str, caller: str) -> None:
        """Bind the data key anew to what protects it now, as after a change of firmware.

        key: one that the store knows; "" for the one that is configured.
        """

    async def add_recovery_key(self, public_key: str, caller: str) -> None:
        """Let the owner of a key open the store too.

        public_key: as the operator gave it; nothing is known of it.  Raises InvalidArgs.
        """

    async def export(self, target: int, caller: str) -> None:
        """Write all secrets, readable for the recovery keys alone, to a file descriptor."""

    async def accept_rollback(self, caller: str) -> None:
        """Go on with a store that may be older than the newest that was written."""


class ProviderCommands(Protocol):
    """org.gatewayd1.Provider."""

    async def test(self, caller: str) -> None:
        """Look whether the cloud could be used now; registers nothing.  Raises CloudUnreachable."""


class AuthorityCommands(Protocol):
    """org.gatewayd1.Authority: the device CA of one cloud.  No private key is ever returned.

    Certificates are PEM.  options: texts, numbers, truths and lists of texts; a key that is not
    known raises InvalidArgs.
    """

    async def make(self, options: Mapping[str, object], caller: str) -> str:
        """Make the CA's key and certificate; return the certificate."""

    async def import_authority(self, source: int, caller: str) -> str:
        """Take a CA that was made elsewhere; return its certificate.  source: to be read."""

    async def prove(self, code: str, caller: str) -> str:
        """Return a certificate that holds the cloud's code, to prove who has the CA's key."""

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


class LogCommands(Protocol):
    """org.freedesktop.LogControl1."""

    async def set_level(self, level: str, caller: str) -> None:
        """Log from another level on, in the words of syslog(3), "debug" to "emerg"."""


Key: TypeAlias = tuple[str, str]
"""Interface and method; or interface and property, for what sets one."""

Arguments: TypeAlias = tuple[Any, ...]
Change: TypeAlias = Callable[[Any, Arguments, str], Awaitable[object]]
Question: TypeAlias = Callable[[Any, Arguments], object]


async def _one(answer: Awaitable[object]) -> tuple[object]:
    """Return what a method with one result returns."""
    return (await answer,)


async def _reregister(commands: ManagerCommands, arguments: Arguments, caller: str) -> None:
    device, again, options = arguments
    if options:
        raise InvalidArgs("Reregister takes no options")
    await commands.reregister(device, again, caller)


async def _show(commands: AuthorityCommands) -> tuple[Mapping[str, Variant]]:
    return (variants(await commands.show()),)


def variants(facts: Facts) -> Mapping[str, Variant]:
    """Return named facts as an a{sv} wants them: s, b, t and as."""
    return {name: Variant(_signature(fact), fact) for name, fact in facts.items()}


def _signature(fact: object) -> str:
    known = ((bool, "b"), (int, "t"), (str, "s"))
    return next((signature for kind, signature in known if isinstance(fact, kind)), "as")


_OF_A_CHILD: Mapping[str, Change] = {
    "Approve": lambda commands, a, caller: commands.approve(a[0], a[1], caller),
    "Reject": lambda commands, a, caller: commands.reject(a[0], a[1], caller),
    "Retry": lambda commands, a, caller: commands.retry(a[0], caller),
    "Forget": lambda commands, a, caller: commands.forget(a[0], caller),
}
"""Methods of a child's own object, and of the manager with the id before all else."""

CHANGES: Mapping[Key, Change] = {
    **{(MANAGER, name): change for name, change in _OF_A_CHILD.items()},
    **{(DEVICE, name): change for name, change in _OF_A_CHILD.items()},
    (MANAGER, "Reregister"): _reregister,
    (MANAGER, "Rename"): lambda commands, a, caller: commands.rename(a[0], a[1], caller),
    (MANAGER, "PermitJoin"): lambda commands, a, caller: commands.permit_join(a[0], a[1], caller),
    (MANAGER, "Discover"): lambda commands, a, caller: commands.discover(a[0], a[1], caller),
    (MANAGER, "Reload"): lambda commands, _, caller: commands.reload(caller),
    (MANAGER, "Dump"): lambda commands, _, caller: _one(commands.dump(caller)),
    (SECRET_STORE, "Rotate"): lambda store, _, caller: store.rotate(caller),
    (SECRET_STORE, "Reseal"): lambda store, a, caller: store.reseal(a[0], caller),
    (SECRET_STORE, "AddRecoveryKey"): lambda store, a, caller: store.add_recovery_key(a[0], caller),
    (SECRET_STORE, "Export"): lambda store, a, caller: store.export(a[0], caller),
    (SECRET_STORE, "AcceptRollback"): lambda store, _, caller: store.accept_rollback(caller),
    (PROVIDER, "Test"): lambda provider, _, caller: provider.test(caller),
    (AUTHORITY, "Make"): lambda ca, a, caller: _one(ca.make(a[0], caller)),
    (AUTHORITY, "Import"): lambda ca, a, caller: _one(ca.import_authority(a[0], caller)),
    (AUTHORITY, "Prove"): lambda ca, a, caller: _one(ca.prove(a[0], caller)),
    (AUTHORITY, "Issue"): lambda ca, a, caller: _one(ca.issue(a[0], a[1], a[2], caller)),
    (AUTHORITY, "Renew"): lambda ca, a, caller: ca.renew(a[0], caller),
    (LOG_CONTROL, "LogLevel"): lambda log, a, caller: log.set_level(a[0], caller),
}
"""Methods that change something: only for whom authorization.py lets through."""

QUESTIONS: Mapping[Key, Question] = {
    (MANAGER, "GetDevice"): lambda commands, a: commands.resolve(a[0]),
    (MANAGER, "DescribeDevice"): lambda commands, a: commands.resolve(a[0]),
    (MANAGER, "TestAdmission"): lambda commands, a: commands.test_admission(a[0]),
    (MANAGER, "ListRules"): lambda commands, _: (commands.list_rules(),),
    (AUTHORITY, "Show"): lambda ca, _: _show(ca),
}
"""Methods that only the event loop can answer; everybody may ask."""
