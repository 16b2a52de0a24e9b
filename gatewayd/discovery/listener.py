"""Who is told what becomes of the devices on the LAN."""

from __future__ import annotations

from typing import Protocol

from gatewayd.device.identity import DeviceId
from gatewayd.device.reason import Reason


class Listener(Protocol):
    """Is told at once.  Never blocks; it may ask the inventory, and changes it only later."""

    def seen(self, device: DeviceId) -> None:
        """It is on the LAN: for the first time, or again."""

    def lost(self, device: DeviceId, reason: Reason) -> None:
        """It has left the LAN: it was asked, and did not answer."""

    def changed(self, device: DeviceId) -> None:
        """What is known of it has changed: its evidence, a conflict, or whether it is flapping."""

    def merged(self, kept: DeviceId, gone: DeviceId) -> None:
        """Two devices turned out to be one."""

    def evicted(self, device: DeviceId) -> None:
        """It had to make room.  Nobody knows whether it is there."""
