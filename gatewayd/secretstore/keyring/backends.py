"""A keyring backend by its name, and only by its name.

keyring.get_keyring() is never called: it takes whatever is installed, and lets the environment
and a file in a home directory decide (keyring.readthedocs.io, "Configuring").
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, TypeAlias

from keyring.backend import KeyringBackend

from gatewayd.errors import PluginError

GROUP = "keyring.backends"
OURS = "gatewayd.secretstore.vault.keyring_backend"
_CLEAR = "it writes secrets in the clear"
_FORWARDS = "it passes secrets on to backends that the configuration does not name"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")

UNSAFE: Mapping[str, str] = {
    "keyring.backends.fail.Keyring": "it keeps nothing",
    "keyring.backends.null.Keyring": "it keeps nothing",
    "keyring.backends.chainer.ChainerBackend": _FORWARDS,
    "keyrings.alt.file.PlaintextKeyring": _CLEAR,
    "keyrings.alt.multi.MultipartKeyringWrapper": _FORWARDS,
    "keyrings.alt.Google.DocsKeyring": "it sends secrets to a service that has ended",
    "keyrings.alt.Google.KeyczarDocsKeyring": "it sends secrets to a service that has ended",
    f"{OURS}.VaultKeyring": 'it is the vault itself: name that with backend = "vault"',
}
"""Backends that are no place for a secret; nor are classes derived from them."""

INTERACTIVE: Mapping[str, str] = {
    "keyrings.alt.file.EncryptedKeyring": "it asks for its password on a terminal",
    "keyrings.cryptfile.cryptfile.CryptFileKeyring": "it asks for its password on a terminal",
}
"""Backends that cannot serve a daemon as they are; a class derived from one may."""

BackendClass: TypeAlias = type[KeyringBackend]


def installed() -> tuple[EntryPoint, ...]:
    """Return the backends that packages declare.  Loads nothing."""
    return tuple(entry_points(group=GROUP))


def refusal(name: str) -> str:
    """Return why a class of this dotted name is refused; "" where nothing speaks against it."""
    return UNSAFE.get(name) or INTERACTIVE.get(name, "")


def find(name: str, points: Iterable[EntryPoint]) -> BackendClass:
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
    if why := _refusal(backend):
        raise _refuse(name, why)
    return backend


def make(backend: BackendClass, properties: Mapping[str, str]) -> Any:  # noqa: ANN401  # keyring has no types
    """Make an instance that ignores KEYRING_PROPERTY_* in the environment.

    properties: attributes to set instead.
    """
    overrides = {"set_properties_from_env": lambda _: None, "__module__": backend.__module__}
    made = type(backend.__name__, (backend,), overrides)()
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
    except Exception as error:  # border: importing foreign code may raise anything
        raise PluginError(
            f"keyring backend {name} cannot be imported ({type(error).__name__}): "
            "install what it needs, or name another"
        ) from error


def _only_one(name: str, found: object) -> BackendClass:
    """Return the one backend of a module."""
    if found is None:
        raise PluginError(f"no keyring backend {name} is installed: correct the name")
    kinds = _backends(found) if isinstance(found, ModuleType) else []
    if len(kinds) == 1:
        return kinds[0]
    listed = ", ".join(_dotted(kind) for kind in kinds) or "none"
    raise PluginError(f"{name} has these keyring backends: {listed}: write one as module.Class")


def _backends(module: ModuleType) -> list[BackendClass]:
    return [
        kind
        for kind in vars(module).values()
        if inspect.isclass(kind)
        and issubclass(kind, KeyringBackend)
        and kind.__module__ == module.__name__
        and not inspect.isabstract(kind)
    ]


def _refusal(backend: BackendClass) -> str:
    inherited = (UNSAFE.get(_dotted(kind), "") for kind in backend.__mro__)
    return next(filter(None, inherited), INTERACTIVE.get(_dotted(backend), ""))


def _refuse(name: str, why: str) -> PluginError:
    return PluginError(f"the keyring backend {name} is refused: {why}: name another")


def _dotted(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
