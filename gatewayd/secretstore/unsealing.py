"""How the vault comes by its key: tried at the start, and again and again until it is there."""

from __future__ import annotations

from dataclasses import dataclass

from gatewayd.backoff import delay
from gatewayd.secretstore.attempt import Attempt, Hangs
from gatewayd.secretstore.datakeys import Random, SlotKey
from gatewayd.secretstore.keyslots import KeySlot, NoKey, Offer
from gatewayd.secretstore.rollback import Counter
from gatewayd.secretstore.tpmlib import HANDLE, TpmError
from gatewayd.secretstore.tpmslot import TpmSlot

FIRST, LAST = 1.0, 300.0
"""Seconds between two tries: at first, and at most."""

POLL = 1.0
"""Seconds between two looks at a try that hangs."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a slot has given.

    material: by which it is found again.  counter: beside it; None where there is none.
    count: what that says; None where it is gone.
    """

    key: SlotKey
    material: bytes
    counter: Counter | None = None
    count: int | None = None


def ask(slot: KeySlot, material: bytes | None, random: Random) -> Found:
    """Ask a slot for its key.  May hang.  Raises NoKey.

    material: of an existing slot; None for a new one.
    """
    offer = slot.provide(random) if material is None else Offer(slot.read(material), material)
    key = SlotKey(slot.kind, offer.secret)
    if not isinstance(slot, TpmSlot):
        return Found(key, offer.material)
    counter = slot.counter(offer.material, offer.secret)
    if counter is None:
        return Found(key, offer.material)
    return Found(key, offer.material, counter, _count(counter))


class Unsealing:
    """Tries to get the key from one slot, one try at a time."""

    def __init__(self, slot: KeySlot, random: Random) -> None:
        self.slot, self._random = slot, random
        self._attempt: Attempt[Found] | None = None
        self._made: Found | None = None
        self._failures = 0

    def attempt(self, material: bytes | None, patience: float) -> Found:
        """Return what the slot gives, or raise NoKey.

        material: of an existing slot; None for a new one, which is made once.
        patience: seconds to wait; a try that takes longer goes on, and the next call looks at it.
        """
        if material is None and self._made is not None:
            return self._made
        if self._attempt is None:
            self._attempt = Attempt(lambda: ask(self.slot, material, self._random))
        try:
            found = self._attempt.result(patience)
        except Hangs:
            raise NoKey(f"the {self.slot.kind} does not answer: see what keeps it busy") from None
        except BaseException:
            self._attempt, self._failures = None, self._failures + 1
            raise
        self._attempt, self._made = None, found if material is None else None
        return found

    def succeeded(self) -> None:
        """Forget what was made: it is in use."""
        self._made = None

    def failed(self) -> None:
        """Count what the slot gave as a failure: it did not open the vault."""
        self._failures += 1

    @property
    def pause(self) -> float:
        """Seconds until the next try."""
        if self._attempt is not None:
            return POLL
        return delay(max(self._failures, 1), FIRST, LAST, 0.5)


def _count(counter: Counter) -> int | None:
    try:
        return counter.read()
    except TpmError as error:
        if error.code == HANDLE:
            return None
        raise NoKey(f"{error}: see that the TPM answers") from error
