"""Discoverers as data: what the helper needs to make one, and how it does so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Any, TypeAlias

from gatewayd.discovery.discoverer import Discoverer
from gatewayd.discovery.helper.messages import DiscovererSpec
from gatewayd.settings.build import SettingsBuilder
from gatewayd.settings.files import Document, Problems

SecretPlace: TypeAlias = tuple[str, Path | None]
"""Where a secret is: the name of a credential or, where that is "", a file."""


def secret_place(settings: Any) -> SecretPlace | None:  # noqa: ANN401  # of a plug-in
    """Return where the secret is that a source asks with; None if it asks with none."""
    place: SecretPlace = getattr(settings, "secret_place", ("", None))
    return place if any(place) else None


def spec_of(name: str, kind: str, settings: Any) -> DiscovererSpec:  # noqa: ANN401  # of a plug-in
    """Return what makes a discoverer elsewhere.  settings: its `Settings`."""
    return DiscovererSpec(name, kind, _table(asdict(settings)))


def make_discoverer(spec: DiscovererSpec, load: Callable[[str], Any]) -> Discoverer:
    """Return a new discoverer.  Raises ConfigError, PluginError.

    load: returns the class of a kind.
    """
    plugin = load(spec.kind)
    problems = Problems()
    at = ("discovery", spec.name)
    builder = SettingsBuilder(Document(Path(".".join(at)), {}, {}), problems)
    settings = builder.build(plugin.Settings, spec.settings, at)
    problems.check()
    given = () if spec.secret is None else (spec.secret,)
    made: Discoverer = plugin(spec.name, settings, *given)
    return made


def _table(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table as a configuration file could hold it: one that is not set is left out."""
    return {key: _value(value) for key, value in values.items() if value is not None}


def _value(value: Any) -> Any:  # noqa: ANN401  # a value of a setting
    match value:
        case Enum():
            return value.value
        case Path():
            return str(value)
        case Mapping():
            return _table(value)
        case str():
            return value
        case Sequence():
            return [_value(one) for one in value]
    return value
