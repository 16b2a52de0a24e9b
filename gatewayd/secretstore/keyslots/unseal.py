"""How the vault gets its key from a key slot: at the start, and again until the slot answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from gatewayd.runtime.backoff import delay
from gatewayd.runtime.timeout_call import CallTimeout, TimeoutCall
from gatewayd.secretstore.keyslots.slots import EnrolledKey, KeySlot, KeyUnavailable
from gatewayd.secretstore.keyslots.tpm import TpmSlot
from gatewayd.secretstore.tpm.esapi import HANDLE, TpmError
from gatewayd.secretstore.vault.data_keys import Random, SlotKey
from gatewayd.secretstore.vault.rollback import MonotonicCounter

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0
"""Seconds between two tries: at first, and at most."""

POLL = 1.0
"""Seconds between two checks of a try that hangs."""

ABANDON_AFTER, MAX_ABANDONED = 300, 3
"""Checks after which a try that hangs is abandoned for another, and how many may be abandoned."""


@dataclass(frozen=True, slots=True)
class UnsealedKey:
    """A key that a slot has given.

    material: by which it is found again.  counter: beside it, or None.
    count: the value of the counter; None where it is gone.
    """

    key: SlotKey
    material: bytes
    counter: MonotonicCounter | None = None
    count: int | None = None


def unseal(slot: KeySlot, material: bytes | None, random: Random) -> UnsealedKey:
    """Get the key of a slot.  May hang.  Raises KeyUnavailable.

    material: of an existing key; None to enroll a new one.
    """
    return call_slot(slot, lambda: _unseal(slot, material, random))


def call_slot(slot: KeySlot, call: Callable[[], T]) -> T:
    """Call a slot; whatever it raises becomes KeyUnavailable."""
    try:
        return call()
    except KeyUnavailable:
        raise
    except Exception as error:  # noqa: BLE001  # border: behind a slot is foreign code
        raise KeyUnavailable(
            f"key slot '{slot.kind}' failed ({type(error).__name__}): check the device and its log"
        ) from None


def _unseal(slot: KeySlot, material: bytes | None, random: Random) -> UnsealedKey:
    if material is None:
        enrolled = slot.enroll(random)
    else:
        enrolled = EnrolledKey(slot.unseal(material), material)
    key = SlotKey(slot.kind, enrolled.secret, enrolled.material)
    if not isinstance(slot, TpmSlot):
        return UnsealedKey(key, enrolled.material)
    counter = slot.counter(enrolled.material, enrolled.secret)
    if counter is None:
        return UnsealedKey(key, enrolled.material)
    return UnsealedKey(key, enrolled.material, counter, _count(counter))


class Unsealer:
    """A loop that tries to get the key from one slot, one try at a time."""

    def __init__(self, slot: KeySlot, random: Random) -> None:
        self.slot, self._random = slot, random
        self._call: TimeoutCall[UnsealedKey] | None = None
        self._enrolled: UnsealedKey | None = None
        self._failures, self._checks = 0, 0
        self._abandoned: list[TimeoutCall[UnsealedKey]] = []

    def attempt(self, material: bytes | None, timeout: float) -> UnsealedKey:
        """Return what the slot gives, or raise KeyUnavailable.

        material: of an existing key; None for a new one, which is enrolled once.
        timeout: seconds to wait; a try that takes longer goes on, and the next call checks it.
        """
        if material is None and self._enrolled is not None:
            return self._enrolled
        if self._call is None:
            self._call = TimeoutCall(lambda: unseal(self.slot, material, self._random))
        try:
            found = self._call.result(timeout)
        except CallTimeout:
            self._check_hanging()
            raise KeyUnavailable(
                f"key slot '{self.slot.kind}' does not answer: check what keeps it busy"
            ) from None
        except BaseException:
            self._next_call()
            self._failures += 1
            raise
        self._next_call()
        self._enrolled = found if material is None else None
        return found

    def _check_hanging(self) -> None:
        """Abandon a try that has hung for long: its answer may have been lost on the bus."""
        self._checks += 1
        self._abandoned = [call for call in self._abandoned if call.running]
        may_abandon = self._checks >= ABANDON_AFTER and len(self._abandoned) < MAX_ABANDONED
        if may_abandon and self._call is not None:
            self._abandoned.append(self._call)
            self._next_call()
            self._failures += 1

    def _next_call(self) -> None:
        self._call, self._checks = None, 0

    def succeeded(self) -> None:
        """Forget the key that was enrolled: it is in use."""
        self._enrolled = None

    def failed(self) -> None:
        """Count what the slot gave as a failure: it did not open the vault."""
        self._failures += 1

    @property
    def pause(self) -> float:
        """Seconds until the next try."""
        if self._call is not None:
            return POLL
        return delay(max(self._failures, 1), FIRST_PAUSE, LONGEST_PAUSE, 0.5)


def _count(counter: MonotonicCounter) -> int | None:
    try:
        return counter.read()
    except TpmError as error:
        if error.code == HANDLE:
            return None
        raise KeyUnavailable(f"{error}: check that the TPM answers") from error
