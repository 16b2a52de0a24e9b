"""What a device has proven with a key of its own, and the key that is pinned to it.  Pure.

A proof is made by gatewayd, which connects to the device: proofs/ has how.  That a certificate or a
host key was merely shown proves nothing; a handshake proves that its key is there.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, replace
from enum import Enum, auto

from gatewayd.device.identity import Claim, DeviceId, mac
from gatewayd.device.reason import NONE, Reason

PROVEN_CLAIM = "cert"
"""The kind of the claim that a certificate makes; its namespace is that of `namespace`."""


@dataclass(frozen=True, slots=True)
class Proof:
    """The outcome of one connection that was made so that a device proves its key.

    name: of the table [proof.NAME].  address: where it was made, numeric.
    at: microseconds since the epoch.
    key: "sha256:" and the hex digits of the public key's digest; "" where no key was proven.
    identity: what its certificate says it is, in lower case; "" unless the vendor's CA signed that.
    signer: the name of who signed the certificate; serial: its serial number, in hex digits.
    Of a certificate that is not trusted these two are as it says.
    reason: why the identity is not proven; NONE where it is, or where only the key is asked for.
    pinned: whether the key is the one that is pinned to the device.
    """

    name: str
    address: str
    at: int
    key: str = ""
    identity: str = ""
    signer: str = ""
    serial: str = ""
    reason: Reason = NONE
    pinned: bool = False

    @property
    def claim(self) -> Claim | None:
        """The claim that is proven; None where there is none."""
        if not self.identity:
            return None
        return Claim(PROVEN_CLAIM, namespace(self.name), self.identity)

    def covers(self, fields: Collection[str]) -> bool:
        """Whether each of these, the fields of a name, is the identity that is proven.

        One alone is not enough: who has a genuine certificate could vary the others.
        """
        return bool(self.identity and fields) and all(map(self._says, fields))

    def _says(self, value: str) -> bool:
        if value.lower() == self.identity:
            return True
        return bool(mac(value)) and mac(value) == mac(self.identity)


def namespace(name: str) -> str:
    """Return the namespace of what the certificates of a proof say: its vendor assigns that."""
    return f"idevid.{name}"


@dataclass(frozen=True, slots=True)
class Pin:
    """The key of a child, as it was when the child was first approved.

    name: of the proof.  key, identity, signer, serial: as of the `Proof` then.
    at: when that was, microseconds since the epoch.
    address: where it was proven last.
    refused: another key that was shown since; "" for none.  Then the child is frozen.
    """

    name: str
    key: str
    identity: str = ""
    signer: str = ""
    serial: str = ""
    at: int = 0
    address: str = ""
    refused: str = ""

    @classmethod
    def of(cls, proof: Proof) -> Pin | None:
        """Return the pin of a proof; None where it has no key."""
        if not proof.key:
            return None
        return cls(
            proof.name, proof.key, proof.identity, proof.signer, proof.serial, proof.at,
            proof.address,
        )  # fmt: skip

    def text(self) -> str:
        """Return it as it stands on the disk."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def parse(cls, text: str) -> Pin:
        """Read what `text` made.  Raises TypeError, ValueError."""
        made = cls(**json.loads(text))
        if not isinstance(made.at, int) or not all(
            isinstance(value, str) for name, value in asdict(made).items() if name != "at"
        ):
            raise ValueError("a pin holds texts and a number")
        return made


class PinCheck(Enum):
    """What a proof says of the child that a key is pinned to."""

    CONFIRMED = auto()  # it is the one
    UNPROVEN = auto()  # it has not proven that; it may later
    CHANGED = auto()  # it has another key


def check(pin: Pin, proof: Proof, *, dated: bool) -> PinCheck:
    """Compare what a child has proven with what is pinned to it.

    dated: whether the clock is set.  Before it is, no certificate can be said to be valid, and the
    key alone counts: its certificate was valid when it was pinned.
    """
    if not proof.key:
        return PinCheck.UNPROVEN
    if proof.key != pin.key:
        return PinCheck.CHANGED
    named = pin.identity in ("", proof.identity)
    return PinCheck.CONFIRMED if named or not dated else PinCheck.UNPROVEN


def completed(pin: Pin, proof: Proof) -> Pin:
    """Return a pin with the identity that is proven for its key, where it had none."""
    if pin.identity or not proof.identity or proof.key != pin.key:
        return pin
    return replace(pin, identity=proof.identity, signer=proof.signer, serial=proof.serial)


class PinIndex:
    """The children by the key, and by the proven identity, that is pinned to them."""

    def __init__(self) -> None:
        self._pins: dict[DeviceId, Pin] = {}
        self._holders: dict[tuple[str, str], frozenset[DeviceId]] = {}

    def update(self, device: DeviceId, pin: Pin | None) -> None:
        """Index a child by this pin, in place of any other; None removes it."""
        if (before := self._pins.pop(device, None)) is not None:
            for entry in _entries(before.name, before.key, before.identity):
                left = self._holders[entry] - {device}
                if left:
                    self._holders[entry] = left
                else:
                    del self._holders[entry]
        if pin is not None:
            self._pins[device] = pin
            for entry in _entries(pin.name, pin.key, pin.identity):
                self._holders[entry] = self._holders.get(entry, frozenset()) | {device}

    def key(self, device: DeviceId) -> str:
        """Return the key that is pinned to a child; "" for none."""
        return self._pins[device].key if device in self._pins else ""

    def others(self, device: DeviceId, proof: Proof) -> frozenset[DeviceId]:
        """Return the children besides a device whose key or identity it has proven."""
        entries = _entries(proof.name, proof.key, proof.identity)
        holders = (self._holders.get(entry, frozenset()) for entry in entries)
        return frozenset[DeviceId]().union(*holders) - {device}


def _entries(name: str, key: str, identity: str) -> Iterable[tuple[str, str]]:
    """Return what a key and an identity are looked up by: an identity is its vendor's."""
    return [("", key)] * bool(key) + [(name, identity)] * bool(identity)
