"""The settings of metrics and of notices."""

from __future__ import annotations

from dataclasses import dataclass

from gatewayd.settings.declare import setting

LONGEST = 60
"""Seconds between two files of metrics, at most."""


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """[metrics]"""

    enabled: bool = setting(
        False,
        "whether metrics for Prometheus are written to /run/gatewayd-metrics/gatewayd.prom",
    )
    every: float = setting(
        15.0,
        "time between two of these files; as often as Prometheus collects, or more often",
        unit="s",
        low=1,
        high=LONGEST,
    )
