"""Devices that have proven a key, over what discovery knows of them; and whose key it is.

A device proves what it has, and not whose place it is in: where its key or its identity is that of
another child, the two are in conflict, and never one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from gatewayd.admission.controller import DiscoveredDevices
from gatewayd.device.identity import PROOF_OF_ANOTHER, Claim, DeviceId, Evidence, Trust
from gatewayd.device.proof import PinIndex, Proof

MOST = 20_000
"""Devices whose proof is remembered."""


class ProvenDevices:
    """The `DiscoveredDevices`, with what they have proven in this run.  pins: of the children."""

    def __init__(self, discovered: DiscoveredDevices, pins: PinIndex) -> None:
        self._discovered, self._pins = discovered, pins
        self._proofs: dict[DeviceId, Proof] = {}

    def note(self, device: DeviceId, proof: Proof) -> None:
        """Note what came of a connection to a device."""
        self._proofs.pop(device, None)
        while len(self._proofs) >= MOST:
            del self._proofs[next(iter(self._proofs))]
        self._proofs[device] = proof

    def forget(self, device: DeviceId) -> None:
        """Forget what a device has proven: it has left, and another may come in its place."""
        self._proofs.pop(device, None)

    def evidence(self, device: DeviceId) -> Evidence:
        """Return all that is known of a device, with its proof."""
        found, proof = self._discovered.evidence(device), self._proofs.get(device)
        if proof is None:
            return found
        proof = replace(proof, pinned=bool(proof.key) and proof.key == self._pins.key(device))
        others = self._pins.others(device, proof) if proof.key else frozenset()
        if others:
            rivals = tuple(sorted({*found.rivals, *others}))
            return replace(
                found, proof=proof, trust=Trust.CLAIMED, conflict=PROOF_OF_ANOTHER, rivals=rivals
            )
        claims = found.claims | ({proof.claim} if proof.claim else set())
        return replace(found, proof=proof, claims=claims)

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
        """Keep a device in the table, as it is on record; what it has proven is its own."""
        self._discovered.add_known(device, self.evidence(device).claims)

    def unpin(self, device: DeviceId) -> None:
        """Let a device leave the table again: what it has proven is forgotten, too."""
        self.forget(device)
        self._discovered.unpin(device)
