"""What policy needs to know besides the device itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gatewayd.device.identity import DeviceId
from gatewayd.device.record import CloudName
from gatewayd.policy.window import Window


@dataclass(frozen=True, slots=True)
class Census:
    """What policy needs to know of the children that are already in, and of the join window.

    window: what it covers; None while it is closed.
    """

    names: Mapping[CloudName, DeviceId]
    by_rule: Mapping[str, int]
    window: Window | None = None
