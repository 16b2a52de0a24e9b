"""The settings of the inventory."""

from __future__ import annotations

from dataclasses import dataclass

from gatewayd.discovery.presence import FlapRules
from gatewayd.settings.declare import setting

MAX_LISTED = 100_000
"""Devices that an operator may list."""


@dataclass(frozen=True, slots=True)
class InventorySettings:
    """[discovery]"""

    settle: float = setting(
        10.0, "a device's evidence must stay unchanged for so long before it is evaluated",
        unit="s", low=0, high=3600,
    )  # fmt: skip
    max_unadmitted: int = setting(
        1024,
        "devices of one source kept that are neither admitted nor listed; the least trusted leave "
        "first, then the oldest",
        low=16, high=100_000,
    )  # fmt: skip
    max_queued: int = setting(
        2000,
        "sightings that may wait to be processed; the least trusted are dropped first, then those "
        "of the source that has most",
        low=16, high=100_000,
    )  # fmt: skip
    probe_wait: float = setting(
        2.0, "shortest wait before a suspect device is probed", unit="s", low=0, high=600
    )
    probe_spread: float = setting(
        3.0, "longest random wait added to probe_wait", unit="s", low=0, high=600
    )  # fmt: skip
    probe_gap: float = setting(
        10.0, "wait between two probes of a suspect device", unit="s", low=1, high=600
    )  # fmt: skip
    probe_tries: int = setting(
        2, "unanswered probes after which a suspect device is absent", low=1, high=10
    )
    probe_timeout: float = setting(
        5.0, "longest wait for the answer to a probe", unit="s", low=1, high=60
    )  # fmt: skip
    probe_at_once: int = setting(16, "devices probed at the same time", low=1, high=256)
    flap_penalty: float = setting(
        1000.0, "penalty added each time a device comes or goes", low=1, high=100_000
    )
    flap_half_life: float = setting(
        900.0, "time in which the penalty decays to its half", unit="s", low=1, high=86_400
    )
    flap_suppress: float = setting(
        3000.0, "penalty above which a device is flapping: presence changes are suppressed",
        low=1, high=1_000_000,
    )  # fmt: skip
    flap_release: float = setting(
        1000.0, "penalty below which presence changes are reported again", low=1, high=1_000_000
    )

    @property
    def flaps(self) -> FlapRules:
        """When a device is flapping."""
        return FlapRules(
            self.flap_penalty, self.flap_half_life, self.flap_suppress, self.flap_release
        )
