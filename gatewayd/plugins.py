"""Plug-ins by entry point.  Only those that the configuration names are ever loaded.

A process that holds secrets must not run code that was not asked for: so nothing is loaded only
to inspect it, and a name that two packages claim is loaded from neither.  What was written for
another version of its port is refused at once, before a fault shows where it is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple

from gatewayd.errors import PluginError


class PortVersion(NamedTuple):
    """The version of a port, as "1.0".

    major: grows when a plug-in of before would no longer work.  minor: when the port has got
    something that a plug-in of before need not know.
    """

    major: int
    minor: int

    @classmethod
    def read(cls, text: object) -> PortVersion | None:
        """Return the version that a text says; None if it says none."""
        found = _VERSION.fullmatch(text) if isinstance(text, str) else None
        return cls(int(found[1]), int(found[2])) if found else None

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


_VERSION = re.compile(r"([1-9][0-9]{0,3})\.(0|[1-9][0-9]{0,3})", re.ASCII)

DISCOVERERS = "gatewayd.discoverers"
CLOUDS = "gatewayd.clouds"
SECRETSTORES = "gatewayd.secretstores"

GROUPS = (DISCOVERERS, CLOUDS, SECRETSTORES)

PORTS: Mapping[str, PortVersion] = {
    DISCOVERERS: PortVersion(1, 0),
    CLOUDS: PortVersion(1, 0),
    SECRETSTORES: PortVersion(1, 0),
}
"""The version of the port of each group, which is what the contract of the group tests: the classes
in discovery/discoverer.py, cloud/provider.py and secretstore/store.py with all that they name."""


class Plugins:
    """The installed plug-ins, by name; loaded one by one."""

    def __init__(self, installed: Iterable[EntryPoint]) -> None:
        self._installed = tuple(installed)

    @classmethod
    def installed(cls) -> Plugins:
        """Return the plug-ins of the running Python.  Reads metadata of packages; loads nothing."""
        return cls(point for group in GROUPS for point in entry_points(group=group))

    def names(self, group: str) -> tuple[str, ...]:
        """Return the names in a group, sorted."""
        return tuple(sorted({point.name for point in self._installed if point.group == group}))

    def load(self, group: str, name: str) -> Any:  # noqa: ANN401  # a class that the group defines
        """Import one plug-in; return its class, which declares `Settings` and `port_version`.

        Raises PluginError: none or several have this name, or it cannot be used.
        """
        point = self._find(group, name)
        try:
            plugin = point.load()
        except Exception as error:  # border: importing another author's module may raise anything
            raise PluginError(
                f"plug-in {name!r} ({_described(point)}) cannot be imported ({_cause(error)}): "
                "install what it needs, or name another"
            ) from error
        settings = getattr(plugin, "Settings", None)
        if not isinstance(plugin, type) or not is_dataclass(settings):
            raise PluginError(
                f"plug-in {name!r} ({_described(point)}) is no class with a dataclass `Settings`: "
                "ask its author for a fixed version"
            )
        stated = vars(plugin).get("port_version")  # a base class of ours would have the newest
        if fault := port_fault(group, PORTS[group], stated, _package(point)):
            raise PluginError(f"plug-in {name!r} ({_described(point)}) {fault}")
        return plugin

    def _find(self, group: str, name: str) -> EntryPoint:
        found = {
            (_package(p), p.value): p for p in self._installed if (p.group, p.name) == (group, name)
        }
        if len(found) == 1:
            return next(iter(found.values()))
        if found:
            both = " and ".join(sorted(_described(point) for point in found.values()))
            raise PluginError(f"plug-in {name!r} is claimed by {both}: remove all but one")
        known = ", ".join(self.names(group)) or "none"
        kind = "" if group == SECRETSTORES else "set kind to one of these, "
        raise PluginError(
            f"no plug-in {name[:64]!a} in {group}; installed: {known}: correct the name, {kind}or "
            "install the package that has it"
        )


def port_fault(group: str, ours: PortVersion, stated: object, package: str) -> str:
    """Return why a plug-in does not fit the port of its group, and the remedy; "" if it does.

    ours: the version of the port here.  stated: the `port_version` of the plug-in's own class.
    package: the plug-in's.
    """
    theirs = PortVersion.read(stated)
    if theirs is None:
        return (
            f"does not state `port_version`, the version of {group} that it was written for, of "
            f"which this gatewayd has {ours}: ask its author for a release that does"
        )
    if theirs.major == ours.major and theirs <= ours:
        return ""
    said = f"was written for version {theirs} of {group}, and this gatewayd has {ours}: "
    other = f"install a release of {package} for version {ours.major}"
    return said + (f"upgrade gatewayd, or {other}" if theirs > ours else other)


def _cause(error: Exception) -> str:
    """Return the type and the missing module, but not the text, which other authors wrote."""
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    return type(error).__name__ + (f" {missing}" if missing else "")


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "?"


def _described(point: EntryPoint) -> str:
    return f"{point.value} of {_package(point)}"
