"""What a device has proven with a key of its own, and the key that is pinned to it.  Pure.

A proof is made by gatewayd, which connects to the device: proofs/ has how.  That a certificate or a
host key was merely shown proves nothing; a handshake proves that its key is there.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass

from gatewayd.device.identity import Claim, mac
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
    refused: another key that was shown since; "" for none.  Then the child is frozen.
    """

    name: str
    key: str
    identity: str = ""
    signer: str = ""
    serial: str = ""
    at: int = 0
    refused: str = ""

    @classmethod
    def of(cls, proof: Proof) -> Pin | None:
        """Return the pin of a proof; None where it has no key."""
        if not proof.key:
            return None
        return cls(proof.name, proof.key, proof.identity, proof.signer, proof.serial, proof.at)

    def text(self) -> str:
        """Return it as it stands on the disk."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def parse(cls, text: str) -> Pin | None:
        """Read what `text` made; None for "".  Raises TypeError, ValueError."""
        if not text:
            return None
        made = cls(**json.loads(text))
        if not isinstance(made.at, int) or not all(
            isinstance(value, str) for name, value in asdict(made).items() if name != "at"
        ):
            raise ValueError("a pin holds texts and a number")
        return made
