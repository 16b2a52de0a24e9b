"""Whether the vault is an old copy of itself: it says what a counter in the TPM should say.

The vault is written first, and the counter stepped when that is durable: after a crash the vault
is one ahead at most.  A counter of a TPM lasts some hundred thousand steps, so that it is not
stepped at each write.
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Mapping
from enum import IntEnum
from typing import Protocol

from gatewayd.runtime.timeout_call import CallTimeout, TimeoutCall, call_with_timeout
from gatewayd.secretstore.tpm.esapi import HANDLE, TpmError
from gatewayd.secretstore.vault import crypto
from gatewayd.secretstore.vault.data_keys import DataKeys, Run

TIMEOUT = 5.0
"""Seconds that the TPM may take for one step."""

GONE = "the counter is gone from the TPM: make another by gatewayctl vault reseal tpm2"
REMEDY = "put the newest copy back, or accept this one by gatewayctl vault accept"


class VaultChange(IntEnum):
    """What has happened that an old copy would undo, the most urgent last."""

    NONE = 0
    WRITTEN = 1
    FORGOTTEN = 2
    ROTATED = 3


WAIT: Mapping[VaultChange, float] = {
    VaultChange.WRITTEN: 3600.0,
    VaultChange.FORGOTTEN: 60.0,
    VaultChange.ROTATED: 0.0,
}
"""Seconds that must lie between two steps."""

RETRY = 300.0
"""Seconds after which a counter that failed is tried again."""


class MonotonicCounter(Protocol):
    """Counts up, and never down."""

    def read(self) -> int:
        """Return the value.  May hang.  Raises TpmError."""

    def step(self) -> None:
        """Add one.  May hang.  Raises TpmError."""


class RollbackGuard:
    """Compares a vault with its counter, and moves both on.

    keys: for the stamp, without which the vault's own number could be bent.
    count: what the counter said when the vault was opened; None where it is gone.
    suspected: why the vault may be old; empty where it is not.
    fault: why the counter could not be stepped; empty where it was.
    """

    def __init__(
        self, query: Run, keys: DataKeys, counter: MonotonicCounter, count: int | None
    ) -> None:
        self._query, self._keys, self._counter, self._count = query, keys, counter, count
        self._noted, self._owed, self._last = VaultChange.NONE, False, -math.inf
        self._attempt: TimeoutCall[int] | None = None
        self.fault = ""
        self.suspected = self._judge(stored_count(query, keys))

    def note(self, step: VaultChange) -> None:
        """Remember that something has happened that an old copy would undo."""
        self._noted = max(self._noted, step)

    def advance(self, now: float) -> None:
        """Say the next number, within a group, if it is time."""
        if self.suspected or self._count is None or self._noted is VaultChange.NONE:
            return
        if now >= self._last + (RETRY if self.fault else WAIT[self._noted]):
            store_count(self._query, self._keys, self._count + 1)
            self._last, self._owed = now, True

    def settle(self) -> None:
        """Step the counter, after a commit, if the vault is one ahead."""
        owed, self._owed = self._owed, False
        number = stored_count(self._query, self._keys) if owed else None
        if number is None or number == self._count:
            return
        # one that hung is waited for again: a TPM that never answers keeps one thread
        if self._attempt is None:
            self._attempt = TimeoutCall(lambda: _stepped(self._counter, number))
        try:
            count = self._attempt.result(TIMEOUT)
        except CallTimeout:
            self.fault = "the counter in the TPM does not answer"
            return
        except TpmError as error:
            self.fault = f"the counter cannot be stepped: {error}"
        else:
            self._count, self._noted, self.fault = count, VaultChange.NONE, ""
            self.suspected = self._judge(number)
        self._attempt = None

    def accept(self) -> None:
        """Say, within a group, what the counter says now.  Raises TpmError, Hangs."""
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

    def _judge(self, number: int | None) -> str:
        if self._count is None:
            return f"the counter of the vault is gone from the TPM: {REMEDY}"
        if number == self._count + 1:
            self._noted = VaultChange.ROTATED  # what was left to do
        elif number != self._count:
            kept = "says no number" if number is None else f"is at {number}"
            at = f"vault.db {kept}, the TPM is at {self._count}"
            return f"the vault may be an old copy ({at}): {REMEDY}"
        return ""


def _stepped(counter: MonotonicCounter, number: int) -> int:
    """Bring a counter up to a number; return what it says.  A step that hung may be done."""
    count = counter.read()
    if count != number - 1:
        return count
    counter.step()
    return number


def stored_count(query: Run, keys: DataKeys) -> int | None:
    """Return the number that the vault says; None where it says none, or it was bent."""
    for value, stamp in query("SELECT value, stamp FROM counter"):
        for kid in keys.generations:
            if hmac.compare_digest(_stamp(keys, kid, value), stamp):
                return int(value)
    return None


def store_count(query: Run, keys: DataKeys, value: int) -> None:
    """Write the number."""
    query("DELETE FROM counter")
    query("INSERT INTO counter VALUES (?, ?)", value, _stamp(keys, keys.newest, value))


def restamp_count(query: Run, keys: DataKeys) -> None:
    """Stamp the number by the newest generation: an older one is about to go."""
    if (number := stored_count(query, keys)) is not None:
        store_count(query, keys, number)


def _stamp(keys: DataKeys, kid: int, value: int) -> bytes:
    number = value.to_bytes(16, "big", signed=True)
    return crypto.mac(keys.key(kid), b"counter", keys.store + number)
