"""How the vault comes by its key: tried at the start, and again and again until it is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from gatewayd.runtime.backoff import delay
from gatewayd.runtime.timeout_call import Attempt, Hangs
from gatewayd.secretstore.keyslots.base import KeySlot, NoKey, Offer
from gatewayd.secretstore.keyslots.tpm import TpmSlot
from gatewayd.secretstore.tpm.esapi import HANDLE, TpmError
from gatewayd.secretstore.vault.data_keys import Random, SlotKey
from gatewayd.secretstore.vault.rollback import Counter

T = TypeVar("T")

FIRST, LAST = 1.0, 300.0
"""Seconds between two tries: at first, and at most."""

POLL = 1.0
"""Seconds between two looks at a try that hangs."""

LOOKS, LEFT = 300, 3
"""Looks after which a try that hangs is left to itself for another, and how many may be left."""


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
    return guarded(slot, lambda: _ask(slot, material, random))


def guarded(slot: KeySlot, call: Callable[[], T]) -> T:
    """Ask a slot for something; whatever it raises becomes NoKey."""
    try:
        return call()
    except NoKey:
        raise
    except Exception as error:  # noqa: BLE001  # border: behind a slot is somebody else's code
        raise NoKey(f"the {slot.kind} fails ({type(error).__name__}): see what ails it") from None


def _ask(slot: KeySlot, material: bytes | None, random: Random) -> Found:
    offer = slot.provide(random) if material is None else Offer(slot.read(material), material)
    key = SlotKey(slot.kind, offer.secret, offer.material)
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
        self._failures, self._looks = 0, 0
        self._left: list[Attempt[Found]] = []

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
            self._leave()
            raise NoKey(f"the {self.slot.kind} does not answer: see what keeps it busy") from None
        except BaseException:
            self._attempt, self._looks, self._failures = None, 0, self._failures + 1
            raise
        self._attempt, self._looks, self._made = None, 0, found if material is None else None
        return found

    def _leave(self) -> None:
        """Give up a try that has hung for long, as one whose bus has forgotten it."""
        self._looks += 1
        self._left = [one for one in self._left if one.goes_on]
        if self._looks >= LOOKS and len(self._left) < LEFT and self._attempt is not None:
            self._left.append(self._attempt)
            self._attempt, self._looks, self._failures = None, 0, self._failures + 1

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
