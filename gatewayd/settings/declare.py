"""How a module declares its settings: a frozen dataclass whose fields carry unit, range and help.

config.py builds such a dataclass from a table of the configuration, and refuses what does not
fit.  The commented etc/gatewayd/gatewayd.toml is checked against the same declarations.
"""

from __future__ import annotations

from dataclasses import MISSING, field
from typing import Any, TypedDict

REQUIRED: Any = MISSING
"""Stands for the default of a setting that has none."""


class Meta(TypedDict):
    """What a field's metadata says.

    low, high: the numbers between which a value must lie, both allowed; None for no limit.
    choices: the only words allowed; empty for any.
    """

    help: str
    unit: str
    low: float | None
    high: float | None
    choices: tuple[str, ...]


def setting(
    default: Any,  # noqa: ANN401  # likewise
    help: str,  # noqa: A002  # the word argparse uses
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:  # noqa: ANN401  # likewise
    """Declare one setting; an empty table or list as default is made anew for each instance."""
    meta = Meta(help=help, unit=unit, low=low, high=high, choices=choices)
    if default is MISSING:
        return field(metadata=dict(meta))
    if isinstance(default, dict | list):
        return field(default_factory=type(default), metadata=dict(meta))
    return field(default=default, metadata=dict(meta))
