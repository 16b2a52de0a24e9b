"""Devices that have proven a credential of ours, over what discovery knows of them.

gatewayd's own broker lets a child in by a password or a certificate that was made for its id.  Only
then is an identity AUTHENTICATED, and a rule may require that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from gatewayd.admission.controller import DiscoveredDevices
from gatewayd.device.identity import Claim, DeviceId, Evidence, Trust

MOST = 20_000
"""Devices that are remembered: as many as the broker has users."""


class AuthenticatedDevices:
    """The `DiscoveredDevices`, with more trust in those that have proven themselves in this run.

    changed: called for a device whose evidence is better now.
    """

    def __init__(self, discovered: DiscoveredDevices, changed: Callable[[DeviceId], None]) -> None:
        self._discovered, self._changed = discovered, changed
        self._proven: dict[DeviceId, None] = {}

    def prove(self, device: DeviceId) -> None:
        """Note that a device has proven its credential."""
        if device not in self._proven:
            while len(self._proven) >= MOST:
                del self._proven[next(iter(self._proven))]
            self._proven[device] = None
            self._changed(device)

    def evidence(self, device: DeviceId) -> Evidence:
        """Return all that is known of a device; a dispute about it is not settled by a proof."""
        found = self._discovered.evidence(device)
        if device not in self._proven or found.conflict:
            return found
        views = tuple({**view, "trust": Trust.AUTHENTICATED.word} for view in found.views)
        return replace(found, views=views, trust=Trust.AUTHENTICATED)

    def changed_at(self, device: DeviceId) -> float:
        """Return when what is known last changed, seconds of the event loop's clock."""
        return self._discovered.changed_at(device)

    def last_seen(self, device: DeviceId) -> float:
        """Return when it was last seen, seconds of the event loop's clock; 0 for never."""
        return self._discovered.last_seen(device)

    def add_known(self, device: DeviceId, claims: Iterable[Claim]) -> None:
        """Pin a device that is on record, with the claims that identify it."""
        self._discovered.add_known(device, claims)

    def pin(self, device: DeviceId) -> None:
        """Keep a device in the table, as it is on record."""
        self._discovered.pin(device)

    def unpin(self, device: DeviceId) -> None:
        """Let a device leave the table again: what it has proven is forgotten, too."""
        self._proven.pop(device, None)
        self._discovered.unpin(device)
