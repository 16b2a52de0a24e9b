"""Detects whether the vault is an old copy of itself, by the number of a counter in the TPM.

The vault is written first, and the counter incremented when that is durable: after a crash the
vault is one ahead at most.  A counter of a TPM lasts some hundred thousand increments, so that it
is not incremented at each write.
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Mapping
from enum import IntEnum
from typing import Protocol

from gatewayd.runtime.sqlite import Execute
from gatewayd.runtime.timeout_call import CallTimeout, TimeoutCall, call_with_timeout
from gatewayd.secretstore.tpm.esapi import HANDLE, TpmError
from gatewayd.secretstore.vault import crypto
from gatewayd.secretstore.vault.data_keys import DataKeys

TIMEOUT = 5.0
"""Seconds that the TPM may take for one call."""

GONE = "the counter is gone from the TPM: make another with gatewayctl vault reseal tpm2"
REMEDY = "put the newest copy back, or accept this one with gatewayctl vault accept"


class VaultChange(IntEnum):
    """A kind of change that an old copy would undo, the most urgent last."""

    NONE = 0
    WRITTEN = 1
    DELETED = 2
    ROTATED = 3


WAIT: Mapping[VaultChange, float] = {
    VaultChange.WRITTEN: 3600.0,
    VaultChange.DELETED: 60.0,
    VaultChange.ROTATED: 0.0,
}
"""Seconds that must lie between two increments."""

RETRY = 300.0
"""Seconds after which a counter that failed is tried again."""


class MonotonicCounter(Protocol):
    """A counter that only counts up."""

    def read(self) -> int:
        """Return the value.  May hang.  Raises TpmError."""

    def increment(self) -> None:
        """Add one.  May hang.  Raises TpmError."""


class RollbackGuard:
    """A guard that compares a vault with its counter, and increments both.

    keys: for the MAC, without which the vault's own number could be altered.
    count: the value of the counter when the vault was opened; None where it is gone.
    suspected: why the vault may be old; empty where it is not.
    fault: why the counter could not be incremented; empty where it was.
    """

    def __init__(
        self, query: Execute, keys: DataKeys, counter: MonotonicCounter, count: int | None
    ) -> None:
        self._query, self._keys, self._counter, self._count = query, keys, counter, count
        self._noted, self._owed, self._last = VaultChange.NONE, False, -math.inf
        self._call: TimeoutCall[int] | None = None
        self.fault = ""
        self.suspected = self._compare(stored_count(query, keys))

    def note(self, change: VaultChange) -> None:
        """Remember that something has changed that an old copy would undo."""
        self._noted = max(self._noted, change)

    def advance(self, now: float) -> None:
        """Store the next number, within a group, if it is time."""
        if self.suspected or self._count is None or self._noted is VaultChange.NONE:
            return
        if now >= self._last + (RETRY if self.fault else WAIT[self._noted]):
            store_count(self._query, self._keys, self._count + 1)
            self._last, self._owed = now, True

    def settle(self) -> None:
        """Increment the counter, after a commit, if the vault is one ahead."""
        owed, self._owed = self._owed, False
        number = stored_count(self._query, self._keys) if owed else None
        if number is None or number == self._count:
            return
        # one that hung is waited for again: a TPM that never answers keeps one thread
        if self._call is None:
            self._call = TimeoutCall(lambda: _incremented(self._counter, number))
        try:
            count = self._call.result(TIMEOUT)
        except CallTimeout:
            self.fault = "the counter in the TPM does not answer: check what keeps the TPM busy"
            return
        except TpmError as error:
            self.fault = f"the counter in the TPM cannot be incremented: {error}"
        else:
            self._count, self._noted, self.fault = count, VaultChange.NONE, ""
            self.suspected = self._compare(number)
        self._call = None

    def accept(self) -> None:
        """Store, within a group, the present value of the counter.

        Raises TpmError, CallTimeout.
        """
        try:
            self._count = call_with_timeout(self._counter.read, TIMEOUT)
        except TpmError as error:
            if error.code != HANDLE:
                raise
            self.fault = GONE
        else:
            store_count(self._query, self._keys, self._count)

    def accepted(self) -> None:
        """Trust the vault again: what `accept` has written is durable."""
        self.suspected = ""

    def _compare(self, number: int | None) -> str:
        """Return why the vault may be old.  number: that of the vault."""
        if self._count is None:
            return f"the counter of the vault is gone from the TPM: {REMEDY}"
        if number == self._count + 1:
            self._noted = VaultChange.ROTATED  # the increment that a crash has prevented
        elif number != self._count:
            kept = "has no number" if number is None else f"is at {number}"
            at = f"vault.db {kept}, the TPM is at {self._count}"
            return f"the vault may be an old copy ({at}): {REMEDY}"
        return ""


def _incremented(counter: MonotonicCounter, number: int) -> int:
    """Increment a counter up to a number; return its value.  A call that hung may be done."""
    count = counter.read()
    if count != number - 1:
        return count
    counter.increment()
    return number


def stored_count(query: Execute, keys: DataKeys) -> int | None:
    """Return the number that the vault has; None where it has none, or it was altered."""
    for value, stamp in query("SELECT value, stamp FROM counter"):
        for kid in keys.generations:
            if hmac.compare_digest(_mac(keys, kid, value), stamp):
                return int(value)
    return None


def store_count(query: Execute, keys: DataKeys, value: int) -> None:
    """Write the number."""
    query("DELETE FROM counter")
    query("INSERT INTO counter VALUES (?, ?)", value, _mac(keys, keys.newest, value))


def restamp_count(query: Execute, keys: DataKeys) -> None:
    """Authenticate the number by the newest generation: an older one is about to go."""
    if (number := stored_count(query, keys)) is not None:
        store_count(query, keys, number)


def _mac(keys: DataKeys, kid: int, value: int) -> bytes:
    number = value.to_bytes(16, "big", signed=True)
    return crypto.mac(keys.key(kid), b"counter", keys.store + number)
