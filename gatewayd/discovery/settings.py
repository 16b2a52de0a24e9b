"""The settings of the inventory."""

from __future__ import annotations

from dataclasses import dataclass

from gatewayd.discovery.presence import FlapRules
from gatewayd.settings.declare import setting


@dataclass(frozen=True, slots=True)
class InventorySettings:
    """[discovery]"""

    settle: float = setting(
        10.0, "a sighting must stay the same for so long before it is judged", unit="s",
        low=0, high=3600,
    )  # fmt: skip
    max_unadmitted: int = setting(
        4096, "devices kept that nobody admitted; the least proven, then the oldest, go first",
        low=16, high=100_000,
    )  # fmt: skip
    max_keys: int = setting(
        2000, "sightings that may wait to be taken in; the least proven go first",
        low=16, high=100_000,
    )  # fmt: skip
    verify_wait: float = setting(
        2.0, "shortest wait before a device in doubt is asked", unit="s", low=0, high=600
    )
    verify_spread: float = setting(
        3.0, "random wait on top of it", unit="s", low=0, high=600
    )  # fmt: skip
    verify_gap: float = setting(
        10.0, "wait before it is asked again", unit="s", low=1, high=600
    )  # fmt: skip
    verify_tries: int = setting(
        2, "questions without an answer after which it is absent", low=1, high=10
    )
    verify_timeout: float = setting(
        5.0, "longest wait for an answer", unit="s", low=1, high=60
    )  # fmt: skip
    verify_at_once: int = setting(16, "devices asked at the same time", low=1, high=256)
    flap_penalty: float = setting(
        1000.0, "added each time a device comes or goes", low=1, high=100_000
    )
    flap_half_life: float = setting(
        900.0, "time in which the penalty decays to its half", unit="s", low=1, high=86_400
    )
    flap_suppress: float = setting(
        3000.0, "penalty above which coming and going is not reported", low=1, high=1_000_000
    )
    flap_release: float = setting(
        1000.0, "penalty below which it is reported again", low=1, high=1_000_000
    )

    @property
    def flaps(self) -> FlapRules:
        """What makes a device one that comes and goes too often."""
        return FlapRules(
            self.flap_penalty, self.flap_half_life, self.flap_suppress, self.flap_release
        )
