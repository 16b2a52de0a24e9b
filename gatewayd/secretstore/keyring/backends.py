"""A keyring backend by its name, and only by its name.

keyring.get_keyring() is never asked: it takes whatever is installed, and lets the environment
and a file in somebody's home decide (keyring.readthedocs.io, "Configuring").

The entries of one keyring: whatever that raises becomes one of our errors.
"""

from __future__ import annotations

import errno
import hmac
import inspect
import os
import re
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias, TypeVar

from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked

from gatewayd.errors import PluginError, StoreError, StoreFull, StoreSealed, StoreUnavailable
from gatewayd.runtime.sqlite import sync_directory
from gatewayd.runtime.timeout_call import Attempt, Hangs

GROUP = "keyring.backends"
OURS = "gatewayd.secretstore.vault.keyring_backend"
_CLEAR = "it writes secrets in the clear"
_PASSES_ON = "it passes secrets on to backends that nobody named"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")

UNSAFE: Mapping[str, str] = {
    "keyring.backends.fail.Keyring": "it keeps nothing",
    "keyring.backends.null.Keyring": "it keeps nothing",
    "keyring.backends.chainer.ChainerBackend": _PASSES_ON,
    "keyrings.alt.file.PlaintextKeyring": _CLEAR,
    "keyrings.alt.multi.MultipartKeyringWrapper": _PASSES_ON,
    "keyrings.alt.Google.DocsKeyring": "it hands secrets to a service that has ended",
    "keyrings.alt.Google.KeyczarDocsKeyring": "it hands secrets to a service that has ended",
    f"{OURS}.VaultKeyring": 'it is the vault itself: name that with backend = "vault"',
}
"""Backends that are no place for a secret, whoever derives from them."""

ASKS: Mapping[str, str] = {
    "keyrings.alt.file.EncryptedKeyring": "it asks for its password on a terminal",
    "keyrings.cryptfile.cryptfile.CryptFileKeyring": "it asks for its password on a terminal",
}
"""Backends that cannot serve a daemon as they are; a class that derives from one may."""

Backend: TypeAlias = type[KeyringBackend]


def installed() -> tuple[EntryPoint, ...]:
    """Return the backends that packages declare.  Loads nothing."""
    return tuple(entry_points(group=GROUP))


def refusal(name: str) -> str:
    """Say why a class of this dotted name is not to be used; "" where nothing is known."""
    return UNSAFE.get(name) or ASKS.get(name, "")


def find(name: str, points: Iterable[EntryPoint]) -> Backend:
    """Import the backend of a name: that of an entry point, or module.Class.

    Raises PluginError: there is none, there are several, or it is no place for a secret.
    """
    if not _NAME.fullmatch(name):
        raise PluginError(f"{name[:64]!a} is no name of a keyring backend: write module.Class")
    if why := refusal(name):
        raise _refuse(name, why)
    found = _load(name, points)
    backend = found if isinstance(found, type) else _only_one(name, found)
    if not issubclass(backend, KeyringBackend) or inspect.isabstract(backend):
        raise PluginError(f"{name} is no keyring backend: name another")
    if why := _refused(backend):
        raise _refuse(name, why)
    return backend


def make(backend: Backend, properties: Mapping[str, str]) -> Any:  # noqa: ANN401  # keyring has no types
    """Make an instance that the environment does not steer by KEYRING_PROPERTY_*.

    properties: attributes to set instead.
    """
    calm = {"set_properties_from_env": lambda _: None, "__module__": backend.__module__}
    made = type(backend.__name__, (backend,), calm)()
    for name, value in properties.items():
        setattr(made, name, value)
    return made


def _load(name: str, points: Iterable[EntryPoint]) -> Any:  # noqa: ANN401  # a module, a class or a function
    found = {point.value: point for point in points if point.name == name}
    if len(found) > 1:
        raise PluginError(f"keyring backend {name} is claimed twice: write module.Class")
    try:
        if found:
            return next(iter(found.values())).load()
        module, _, kind = name.rpartition(".")
        return getattr(import_module(module), kind) if module else None
    except Exception as error:  # border: importing somebody else's module may raise anything
        raise PluginError(
            f"keyring backend {name} cannot be imported ({type(error).__name__}): "
            "install what it needs, or name another"
        ) from error


def _only_one(name: str, found: object) -> Backend:
    """Return the one backend of a module."""
    if found is None:
        raise PluginError(f"no keyring backend {name} is installed: correct the name")
    kinds = _backends(found) if isinstance(found, ModuleType) else []
    if len(kinds) == 1:
        return kinds[0]
    told = ", ".join(_dotted(kind) for kind in kinds) or "none"
    raise PluginError(f"{name} has these keyring backends: {told}: write one as module.Class")


def _backends(module: ModuleType) -> list[Backend]:
    return [
        kind
        for kind in vars(module).values()
        if inspect.isclass(kind)
        and issubclass(kind, KeyringBackend)
        and kind.__module__ == module.__name__
        and not inspect.isabstract(kind)
    ]


def _refused(backend: Backend) -> str:
    told = (UNSAFE.get(_dotted(kind), "") for kind in backend.__mro__)
    return next(filter(None, told), ASKS.get(_dotted(backend), ""))


def _refuse(name: str, why: str) -> PluginError:
    return PluginError(f"the keyring backend {name} is refused: {why}: name another")


def _dotted(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


T = TypeVar("T")

MAX_TOLD = 200
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class Entries:
    """Reads and writes entries of a keyring.

    make: makes the backend, when it is first needed; called again until it succeeds.
    name: of the backend, to be told.
    patience: seconds that a call may take, after which it is unavailable until that call returns;
    None where the caller sees to that.
    Every call raises StoreSealed where the keyring is locked, and StoreUnavailable where it
    cannot be used; their text says what to do.
    """

    def __init__(self, make: Callable[[], Any], name: str, patience: float | None = None) -> None:
        self._make, self.name, self._patience = make, name, patience
        self._made: Any = None
        self._hanging: Attempt[Any] | None = None

    def read(self, service: str, entry: str) -> str | None:
        """Return an entry; None where there is none."""
        found = self._asked(lambda: self._backend().get_password(service, entry))
        return None if found is None else str(found)

    def write(self, service: str, entry: str, text: str) -> None:
        """Write an entry, and read it back.  Raises StoreFull, too."""
        self._asked(lambda: self._backend().set_password(service, entry, text))
        self._asked(self._sync)
        found = self.read(service, entry)
        if found is None or not hmac.compare_digest(found.encode(), text.encode()):
            raise StoreUnavailable(f"the keyring {self.name} does not keep what it is given")

    def remove(self, service: str, entry: str) -> None:
        """Delete an entry, if there is one, and make sure that it is gone."""
        if self.read(service, entry) is None:
            return
        self._asked(lambda: self._backend().delete_password(service, entry))
        self._asked(self._sync)
        if self.read(service, entry) is not None:
            raise StoreUnavailable(f"the keyring {self.name} does not delete")

    def _backend(self) -> Any:  # noqa: ANN401  # keyring has no types
        if self._made is None:
            backend = self._make()
            try:
                _ = backend.priority
            except RuntimeError as error:  # it cannot serve here, and says why
                raise _NotViable(ascii(str(error)[:MAX_TOLD])[1:-1]) from None
            self._made = backend
        return self._made

    def _sync(self) -> None:
        """Bring the file of a backend that has one to the disk, and its name."""
        if isinstance(path := getattr(self._made, "file_path", None), str | Path):
            with Path(path).open("rb") as file:
                os.fsync(file.fileno())
            sync_directory(Path(path).parent)

    def _asked(self, act: Callable[[], T]) -> T:
        """Call the backend.  Its own error is dropped, with all that its frames hold."""
        try:
            return self._answered(act)
        except Hangs:
            ours: StoreError = StoreUnavailable(
                f"the keyring {self.name} does not answer: see what keeps it busy"
            )
        except Exception as error:  # noqa: BLE001  # border: a keyring is somebody else's code
            ours = self._translated(error)
        raise ours

    def _answered(self, act: Callable[[], T]) -> T:
        """Call the backend, one call at a time.  Raises Hangs, and what that raises."""
        if self._patience is None:
            return act()
        if self._hanging is not None and self._hanging.goes_on:
            raise Hangs
        self._hanging, attempt = None, Attempt(act)
        try:
            return attempt.result(self._patience)
        except Hangs:
            self._hanging = attempt
            raise

    def _translated(self, error: Exception) -> StoreError:
        """Tell what a backend says of why it cannot serve; of all else, no more than the type."""
        if isinstance(error, KeyringLocked):
            return StoreSealed(f"the keyring {self.name} is locked: unlock it")
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            return StoreFull(f"the disk is full: the keyring {self.name} cannot grow")
        cause = str(error) if isinstance(error, _NotViable) else type(error).__name__
        return StoreUnavailable(f"the keyring {self.name} cannot be used ({cause}): bring it back")


class _NotViable(Exception):
    """What a backend says of why it cannot serve, bounded and printable."""
