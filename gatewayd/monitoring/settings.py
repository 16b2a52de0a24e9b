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


@dataclass(frozen=True, slots=True)
class NoticeSettings:
    """[notices]"""

    pending_after: float = setting(
        3600.0, "how long a child may wait for an operator", unit="s", low=1, high=604800
    )
    certificate_days: int = setting(
        14, "days before its end at which a certificate is noticed", low=1, high=3650
    )
    outbox_percent: int = setting(
        80, "how full the outbox may become, in percent of what may wait", low=1, high=99
    )
    hold: float = setting(
        300.0,
        "how long a cause must hold until it is noticed, and be gone until it is over",
        unit="s",
        low=1,
        high=86400,
    )
