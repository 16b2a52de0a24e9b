"""A sealed database: how it gets its data keys, changes them, and detects an old copy of itself."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from gatewayd.errors import StoreCloned, StoreRolledBack, StoreSealed, StoreUnavailable
from gatewayd.runtime.sqlite import Database, Execute
from gatewayd.runtime.timeout_call import CallTimeout
from gatewayd.secretstore.keyslots import table
from gatewayd.secretstore.keyslots.factory import KeySlotFactory
from gatewayd.secretstore.keyslots.slots import (
    CredentialSlot,
    DevelopmentSlot,
    KeyringSlot,
    KeyUnavailable,
)
from gatewayd.secretstore.keyslots.table import is_recovery
from gatewayd.secretstore.keyslots.tpm import TpmSlot
from gatewayd.secretstore.keyslots.unseal import UnsealedKey, Unsealer
from gatewayd.secretstore.store import (
    IDLE,
    KEY_BESIDE,
    NO_RECOVERY,
    BindingCounts,
    ConditionProperties,
    Protection,
    StoreCondition,
    StoreState,
)
from gatewayd.secretstore.tpm.esapi import TpmError
from gatewayd.secretstore.vault import data_keys, rows
from gatewayd.secretstore.vault.binding import COPIED, BoundVault, is_of_another_machine
from gatewayd.secretstore.vault.data_keys import DataKeys, KeyOpener, Random
from gatewayd.secretstore.vault.memory import KeyPage
from gatewayd.secretstore.vault.rollback import (
    RollbackGuard,
    VaultChange,
    restamp_count,
    store_count,
)
from gatewayd.secretstore.vault.rows import RotationPass
from gatewayd.secretstore.vault.schema import SCHEMA, STEPS, VERSION

log = logging.getLogger(__name__)

TIMEOUT, RETRY_TIMEOUT = 10.0, 0.5
"""Seconds that a key slot may take at the start, and while others wait for the storage thread."""

MAX_WRITES = 1 << 30
"""Secrets encrypted with one key: a quarter of what random nonces serve (SP 800-38D, 8.3)."""

WORN = "the data key has encrypted many secrets: change it with gatewayctl vault rotate"
CLOSED = "the vault is closed"


class SealedDatabase(ConditionProperties, Database):
    """A database that key slots open.  Its secrets are in vault.py, the commands on it in admin.py.

    key_slots: the key slots there could be.  key: the one that opens it (`KeySlotFactory.make`).
    opener: opens it instead of that slot.  machine: a digest of the machine's id; b"" for none.
    """

    def __init__(
        self,
        path: Path,
        key_slots: KeySlotFactory,
        key: str,
        random: Random,
        opener: KeyOpener | None,
        machine: bytes,
    ) -> None:
        super().__init__(path, SCHEMA, VERSION, STEPS)
        self._machine, self._bound = machine, BoundVault(self._run, random)
        self.query: Execute = self._run
        self.key_slots, self.random, self.key = key_slots, random, key
        self._opener, self._unsealer = opener, Unsealer(key_slots.make(key), random)
        self._keys: DataKeys | None = None
        self._guard: RollbackGuard | None = None
        self._rotation: RotationPass | None = None
        self._again, self._worn = 0.0, ""
        self._facts = VaultFacts(sealed=CLOSED)
        self._assessed = self._facts
        self._condition = assess(self._facts)

    @property
    def has_key(self) -> bool:
        """Whether its secrets can be read, wherever it belongs."""
        return self._keys is not None

    @property
    def rotating(self) -> bool:
        """Whether rows of an older generation are being encrypted again."""
        return self._rotation is not None

    def keys(self) -> DataKeys:
        """Return the data keys.  Raises StoreSealed."""
        if self._keys is None:
            raise StoreSealed(self.why)
        return self._keys

    def writable(self) -> DataKeys:
        """Return the data keys to write with.  Raises StoreSealed, StoreRolledBack."""
        keys = self.keys()
        self.check_trusted()
        return keys

    def changeable(self) -> DataKeys:
        """Return the data keys, to change keys or slots, once in a group.

        Raises StoreUnavailable where another change waits for the end of this group.
        """
        keys = self.writable()
        if self.waits:
            raise StoreUnavailable("the keys of the vault are being changed: try again")
        return keys

    def check_trusted(self) -> None:
        """Raise StoreRolledBack where this may be an old copy, StoreCloned as `check_machine`."""
        self.check_machine()
        if self._facts.is_copy:
            raise StoreCloned(self.why)
        if self.suspected:
            raise StoreRolledBack(self.suspected)

    def check_machine(self) -> None:
        """Raise StoreCloned where this belongs to another machine."""
        if self._bound.cloned:
            raise StoreCloned(self._bound.cloned)

    @property
    def suspected(self) -> str:
        """Why this may be an old copy; empty where it is none.  Known before `state` shows it."""
        by_counter = self._guard.suspected if self._guard is not None else ""
        return by_counter or self._bound.suspected

    @property
    def trusted(self) -> bool:
        """Whether it is open, and neither an old copy nor another machine's."""
        return self._keys is not None and not (self.suspected or self._bound.cloned)

    def binding(self) -> BindingCounts | None:
        """Return its own count and that of the records; None while it is sealed or not trusted."""
        return self._bound.counts if self.trusted else None

    def mac(self, text: bytes) -> bytes:
        """Authenticate a text that lies outside of the vault.  Raises StoreSealed."""
        self.keys()
        return self._bound.mac(text)

    def note_records(self, count: int) -> None:
        """Know of this count of changes of the records from the next group on."""
        self._bound.note(count)

    def suspect(self, why: str) -> None:
        """Trust it no more until an operator accepts it."""
        self._bound.suspected = why

    def note(self, change: VaultChange) -> None:
        """Remember that something has changed that an old copy would undo."""
        if self._guard is not None:
            self._guard.note(change)

    def tend(self, now: float) -> float:
        """Do one step of what is due: get the key, or change it, or increment the counter.

        now: seconds of a clock that only goes forward.  Returns when to be called again, seconds.
        """
        if self._keys is None:
            return self._tend_sealed(now)
        if not self.trusted:
            return IDLE
        self._bound.due = self._bound.due or self._bound.is_behind
        if self._guard is not None:
            self._guard.advance(now)
        return self._rotate()

    def commit(self) -> None:
        """Make the group durable."""
        try:
            if self._keys is not None and self.trusted and not self.read_only:
                self._bound.stamp(self._keys, changed=self._begun)
            super().commit()
            self._bound.settle()
            if self._guard is not None:
                self._guard.settle()
        finally:
            self._assess()

    def rollback(self) -> None:
        """Take back the group, if one is open."""
        super().rollback()
        self._bound.rollback()
        self._assess()

    def close(self) -> None:
        """Close the file and wipe the keys.  Closing twice is fine."""
        if self._keys is not None:
            self._keys.wipe()
        self._keys = self._guard = self._rotation = None
        self._bound = BoundVault(self._run, self.random)
        self._facts = VaultFacts(sealed=CLOSED)
        self._assess()
        super().close()

    def add_generation(self, kid: int, page: KeyPage) -> None:
        """Encrypt with a new generation from now on; it is durable."""
        keys = self.keys()
        keys.add(kid, page)
        self._rotation = RotationPass(self._run, keys, self.random)
        self.note(VaultChange.ROTATED)

    def slots_changed(self, found: UnsealedKey | None = None) -> None:
        """Read the slots again, which are durable.  found: the key of the one that was resealed."""
        self._facts = self._with_slots()
        kind = self._unsealer.slot.kind
        if kind not in self._facts.kinds:
            self._guard = None
        elif found is not None and found.key.kind == kind:
            self._guard = self._guarded(self.keys(), found)
        self.note(VaultChange.ROTATED)

    def accept(self) -> None:
        """Trust what may be an old copy, as an operator has decided.  Raises StoreUnavailable."""
        if self._bound.suspected:
            self._bound.release(self.keys())
            self.after(self._bound.released)
        guard = self._guard
        if guard is None or not guard.suspected:
            return
        try:
            guard.accept()
        except (TpmError, CallTimeout) as error:
            why = str(error) or "it does not answer"
            raise StoreUnavailable(f"the counter in the TPM cannot be read: {why}") from error
        self.after(guard.accepted)

    def unbind(self) -> None:
        """Let other records be bound to it: those of an import.  Raises StoreSealed."""
        self._bound.release(self.keys())

    def accept_machine(self) -> None:
        """Let it belong to this machine, as an operator has decided.  Raises StoreSealed."""
        if self._bound.cloned:
            self._bound.move(self.keys(), self._machine)
            self.after(self._bound.moved)

    def unseal(self, timeout: float) -> None:
        """Try to get the key, within a group.  timeout: seconds that its slot may take."""
        try:
            self._open_with(timeout)
        except KeyUnavailable as error:
            if str(error) != self._facts.sealed:
                about = {"message_id": "store-sealed"}
                log.error("The vault is sealed: %s.", error, extra=about)  # noqa: TRY400  # not a fault of ours
            is_copy = is_of_another_machine(self._run, self._machine)
            self._facts = VaultFacts(sealed=str(error), is_copy=is_copy)

    def _open_with(self, timeout: float) -> None:
        query = self._run
        is_new = not query("SELECT 1 FROM data_key UNION ALL SELECT 1 FROM secret LIMIT 1")
        if self._opener is not None:
            self._opened(data_keys.unlock(query, self._opener), None)
            return
        slot = self._unsealer.slot
        if is_new and self.read_only:
            raise KeyUnavailable(self.fault)
        if is_new:
            found = self._unsealer.attempt(None, timeout)
            keys = table.create(query, found.key, found.material, self.random)
            if found.count is not None:
                store_count(query, keys, found.count)
            self.after(lambda: self._opened(keys, found))
            return
        data_keys.require_slot(query, slot.kind)
        found = self._unsealer.attempt(table.read_slots(query).get(slot.kind, b""), timeout)
        try:
            self._opened(data_keys.unlock(query, found.key), found)
        except KeyUnavailable:
            self._unsealer.failed()
            raise

    def _opened(self, keys: DataKeys, found: UnsealedKey | None) -> None:
        """Serve, with these keys."""
        self._unsealer.succeeded()
        self._keys = keys
        self._guard = self._guarded(keys, found)
        self._bound.load(keys, self._machine)
        if len(keys.generations) > 1:
            self._rotation = RotationPass(self._run, keys, self.random)
        self._facts = self._with_slots()

    def _guarded(self, keys: DataKeys, found: UnsealedKey | None) -> RollbackGuard | None:
        if found is None or found.counter is None:
            return None
        return RollbackGuard(self._run, keys, found.counter, found.count)

    def _tend_sealed(self, now: float) -> float:
        if self._opener is not None or self._facts.sealed == CLOSED:
            return IDLE
        if now >= self._again:
            self.unseal(RETRY_TIMEOUT)
            if self._keys is not None or self.waits:
                log.warning("The vault is unsealed now.")
                return 0.0
            self._again = now + self._unsealer.pause
        return self._again - now

    def _rotate(self) -> float:
        """Do one step of a rotation that was begun."""
        if self._rotation is None:
            self._worn = WORN if data_keys.writes_under_newest(self._run) >= MAX_WRITES else ""
            return IDLE
        if self._rotation.step():
            return 0.0
        restamp_count(self._run, self.keys())
        rows.remove_unused_generations(self._run, self.keys().newest)
        self.after(self._rotated)
        return 0.0

    def _with_slots(self) -> VaultFacts:
        credential = self.key_slots.credential().protection
        return VaultFacts(kinds=tuple(table.read_slots(self._run)), credential=credential)

    def _rotated(self) -> None:
        self._rotation = None
        self.keys().keep(data_keys.generations(self._run))
        self.scrub()
        log.info("All secrets are encrypted with the new key.")

    def _assess(self) -> None:
        """Update the condition, if what it follows from has changed since the last group."""
        guard = self._guard
        faults = (self.fault, guard.fault if guard else "", self._worn)
        facts = replace(
            self._facts, suspected=self.suspected, cloned=self._bound.cloned, faults=faults
        )
        if facts == self._assessed:
            return
        self._assessed = facts
        before, self._condition = self.state, assess(facts)
        if self.state is StoreState.ROLLBACK_SUSPECTED is not before:
            about = {"message_id": "rollback-suspected"}
            log.error("The vault is read-only now: %s.", self.why, extra=about)
        if self.state is StoreState.CLONED is not before:
            about = {"message_id": "store-cloned"}
            log.error("No device is logged in: %s.", self.why, extra=about)


STRENGTH: Mapping[str, Protection] = {
    DevelopmentSlot.kind: Protection.KEY_ON_DISK,
    KeyringSlot.kind: Protection.KEYRING,
    TpmSlot.kind: Protection.TPM2,
}
"""The protection that each kind of key slot gives; that of a credential depends on its file."""

WEAKEST_FIRST = (
    Protection.KEY_ON_DISK,
    Protection.CREDENTIAL,
    Protection.KEYRING,
    Protection.TPM2,
)

EXPOSED = (
    "the key is also in a file beside the vault: remove it with gatewayctl vault remove-slot "
    f"{DevelopmentSlot.kind}"
)


@dataclass(frozen=True, slots=True)
class VaultFacts:
    """The facts from which the condition of a vault follows.

    sealed: why there is no key; empty where there is one.
    is_copy: whether another machine had it last, as far as that shows without a key.
    kinds: of all key slots.
    credential: what a thief lacks to open the slot of the systemd credential.
    suspected: why the vault may be an old copy.  cloned: why it belongs to another machine.
    faults: what is wrong, the worst first; empty texts do not count.
    """

    sealed: str = ""
    kinds: Collection[str] = ()
    suspected: str = ""
    faults: tuple[str, ...] = ()
    credential: Protection = Protection.CREDENTIAL
    cloned: str = ""
    is_copy: bool = False


def assess(facts: VaultFacts) -> StoreCondition:
    """Return the condition.  The weakest slot decides: a thief would try that one."""
    if facts.sealed and facts.is_copy:
        return StoreCondition(StoreState.CLONED, Protection.NONE, f"{facts.sealed}; {COPIED}")
    if facts.sealed:
        return StoreCondition(StoreState.SEALED, Protection.NONE, facts.sealed)
    protection = weakest(facts.kinds, facts.credential)
    if facts.cloned:
        return StoreCondition(StoreState.CLONED, protection, facts.cloned)
    if facts.suspected:
        return StoreCondition(StoreState.ROLLBACK_SUSPECTED, protection, facts.suspected)
    if faults := [*filter(None, (*facts.faults, *_advice(facts)))]:
        return StoreCondition(StoreState.DEGRADED, protection, "; ".join(faults))
    return StoreCondition(StoreState.UNSEALED, protection)


def weakest(kinds: Collection[str], credential: Protection) -> Protection:
    """Return the protection of the weakest of some slots."""
    given = {each for kind, each in STRENGTH.items() if kind in kinds}
    if CredentialSlot.kind in kinds:
        given.add(credential)
    return next((each for each in WEAKEST_FIRST if each in given), Protection.NONE)


def _advice(facts: VaultFacts) -> Iterator[str]:
    """Yield what to do about the slots: nothing where gatewayd is only tried out."""
    local = [kind for kind in facts.kinds if not is_recovery(kind)]
    if DevelopmentSlot.kind in local:
        if len(local) > 1:
            yield EXPOSED
        return
    if CredentialSlot.kind in local and facts.credential is Protection.KEY_ON_DISK:
        yield KEY_BESIDE
    if len(local) == len(facts.kinds):
        yield NO_RECOVERY
