"""Plug-ins by entry point.  Only those that the configuration names are ever loaded.

A process that holds secrets must not run code that was not asked for: so nothing is loaded only
to inspect it, and a name that two packages claim is loaded from neither.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import is_dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from gatewayd.errors import PluginError

DISCOVERERS = "gatewayd.discoverers"
CLOUDS = "gatewayd.clouds"
SECRETSTORES = "gatewayd.secretstores"

GROUPS = (DISCOVERERS, CLOUDS, SECRETSTORES)


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
        """Import one plug-in, and return its class, which declares `Settings`.

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
        raise PluginError(
            f"no plug-in {name[:64]!a} in {group}; installed: {known}: correct the name, or "
            "install the package that has it"
        )


def _cause(error: Exception) -> str:
    """Return the type and the missing module, but not the text, which other authors wrote."""
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    return type(error).__name__ + (f" {missing}" if missing else "")


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "?"


def _described(point: EntryPoint) -> str:
    return f"{point.value} of {_package(point)}"
