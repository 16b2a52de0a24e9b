"""The settings of registration."""

from __future__ import annotations

from dataclasses import dataclass

from gatewayd.settings import setting


@dataclass(frozen=True, slots=True)
class RegistrationSettings:
    """[registration]"""

    in_flight: int = setting(32, "children registered at the same time", low=1, high=1000)
    per_minute: int = setting(600, "registrations begun in a minute, at most", low=1, high=60000)
    retry_first: float = setting(
        15.0, "wait after the first failure; doubled after each more", unit="s", low=0.1, high=3600
    )
    retry_last: float = setting(600.0, "longest wait between tries", unit="s", low=1, high=86400)
    quiet_time: float = setting(
        60.0,
        "wait before asking again when an answer was lost, so that the lost one is spent",
        unit="s",
        low=0,
        high=3600,
    )
