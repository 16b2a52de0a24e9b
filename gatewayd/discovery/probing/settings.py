"""The settings that all sources have which ask; each adds its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gatewayd.settings import grammar
from gatewayd.settings.declare import REQUIRED, setting


def time_between_rounds(low: float, usual: float = 600.0) -> Any:  # noqa: ANN401  # a value of any type
    """Declare how often all devices are asked.

    low: how many seconds there are at least.  usual: how many there are by default.
    """
    return setting(
        usual,
        "time between two rounds of questions to all devices, give or take a tenth",
        unit="s",
        low=low,
        high=86400,
    )


@dataclass(frozen=True, slots=True)
class ProbingSettings:
    """[discovery.<name>] of a source that asks.  The bounds hold for each interface."""

    interfaces: tuple[str, ...] = setting(
        REQUIRED,
        "names of the network interfaces to ask on; an uplink only where devices are on it, too",
        grammar=grammar.interface,
    )
    probe_every: float = time_between_rounds(60)
    max_entries: int = setting(
        2000,
        "devices kept; those that no rule matches leave first, then the oldest",
        low=1,
        high=100_000,
    )

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with the settings as a whole."""
        yield from grammar.at_least_one("interfaces", self.interfaces, "those that devices are on")
