"""A database with a key: how it comes by it, changes it, and knows that it is no old copy.

How the vault is, judged from facts: what D-Bus shows.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from gatewayd.errors import StoreRolledBack, StoreSealed, StoreUnavailable
from gatewayd.runtime.sqlite import Database
from gatewayd.runtime.timeout_call import Hangs
from gatewayd.secretstore.keyslots import table
from gatewayd.secretstore.keyslots.base import CredentialSlot, DevelopmentSlot, NoKey
from gatewayd.secretstore.keyslots.factory import Slots
from gatewayd.secretstore.keyslots.table import is_recovery
from gatewayd.secretstore.keyslots.tpm import TpmSlot
from gatewayd.secretstore.keyslots.unseal import Found, Unsealing
from gatewayd.secretstore.store import IDLE, Condition, Conditioned, Protection, State
from gatewayd.secretstore.tpm.esapi import TpmError
from gatewayd.secretstore.vault import data_keys, rows
from gatewayd.secretstore.vault.crypto import KeyPage
from gatewayd.secretstore.vault.data_keys import Keys, Opener, Query, Random
from gatewayd.secretstore.vault.rollback import Guard, Step, restamp, say
from gatewayd.secretstore.vault.rows import Rotation
from gatewayd.secretstore.vault.schema import SCHEMA, STEPS, VERSION

WORTH: Mapping[str, Protection] = {
    DevelopmentSlot.kind: Protection.DEVELOPMENT,
    "keyring": Protection.KEYRING,
    CredentialSlot.kind: Protection.SYSTEMD_CREDS,
    TpmSlot.kind: Protection.TPM2,
}
"""What each kind of slot is worth, the weakest first."""

NO_RECOVERY = (
    "nobody but this gateway can open the vault: add a recovery key by gatewayctl vault "
    "add-recovery"
)
EXPOSED = (
    "the key lies in a file beside the vault as well: remove it by gatewayctl vault remove-slot "
    f"{DevelopmentSlot.kind}"
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known.

    sealed: why there is no key; empty where there is one.  kinds: of all slots.
    suspected: why the vault may be an old copy.
    faults: what is wrong, the worst first; empty texts are not.
    """

    sealed: str = ""
    kinds: Collection[str] = ()
    suspected: str = ""
    faults: tuple[str, ...] = ()


def judge(facts: Facts) -> Condition:
    """Return the truth: the weakest slot is what a thief would try."""
    if facts.sealed:
        return Condition(State.SEALED, Protection.NONE, facts.sealed)
    protection = weakest(facts.kinds)
    if facts.suspected:
        return Condition(State.ROLLBACK_SUSPECTED, protection, facts.suspected)
    if faults := [*filter(None, (*facts.faults, _advice(facts.kinds)))]:
        return Condition(State.DEGRADED, protection, "; ".join(faults))
    return Condition(State.UNSEALED, protection)


def weakest(kinds: Collection[str]) -> Protection:
    """Return what the weakest of some slots is worth."""
    return next((worth for kind, worth in WORTH.items() if kind in kinds), Protection.NONE)


def _advice(kinds: Collection[str]) -> str:
    """Return what should be done about the slots: nothing is asked of who only tries gatewayd."""
    local = [kind for kind in kinds if not is_recovery(kind)]
    if DevelopmentSlot.kind in local:
        return EXPOSED if len(local) > 1 else ""
    return "" if len(local) < len(kinds) else NO_RECOVERY


log = logging.getLogger(__name__)

PATIENCE, SHORT = 10.0, 0.5
"""Seconds that a key slot may take at the start, and while others wait for the store thread."""

MAX_WRITES = 1 << 30
"""Secrets encrypted with one key: a quarter of what random nonces serve (SP 800-38D, 8.3)."""

WORN = "the data key has served long enough: change it by gatewayctl vault rotate"
CLOSED = "the vault is closed"


class KeyedDatabase(Conditioned, Database):
    """The file of a vault.  Its secrets are in vault.py, what an operator does in vaultadmin.py.

    slots: the key slots there could be.  key: of those, which opens it (`Slots.of`).
    opener: opens it in the place of that slot.
    """

    def __init__(
        self, path: Path, slots: Slots, key: str, random: Random, opener: Opener | None
    ) -> None:
        super().__init__(path, SCHEMA, VERSION, STEPS)
        self.query: Query = self._run
        self.slots, self.random, self.key = slots, random, key
        self._opener, self._unsealing = opener, Unsealing(slots.of(key), random)
        self._keys: Keys | None = None
        self._guard: Guard | None = None
        self._rotation: Rotation | None = None
        self._again, self._worn = 0.0, ""
        self._facts = Facts(sealed=CLOSED)
        self._condition = judge(self._facts)

    @property
    def rotating(self) -> bool:
        """Whether rows of an older generation are being encrypted anew."""
        return self._rotation is not None

    def keys(self) -> Keys:
        """Return the data keys.  Raises StoreSealed."""
        if self._keys is None:
            raise StoreSealed(self.why)
        return self._keys

    def writable(self) -> Keys:
        """Return the data keys to write with.  Raises StoreSealed, StoreRolledBack."""
        keys = self.keys()
        self.check_trusted()
        return keys

    def changeable(self) -> Keys:
        """Return the data keys, to change keys or slots, one thing in a group.

        Raises StoreUnavailable where another waits for the end of this group.
        """
        keys = self.writable()
        if self.waits:
            raise StoreUnavailable("the keys of the vault are being changed just now: try again")
        return keys

    def check_trusted(self) -> None:
        """Raise StoreRolledBack where this may be an old copy."""
        if self.suspected:
            raise StoreRolledBack(self.suspected)

    @property
    def suspected(self) -> str:
        """Why this may be an old copy; empty where it is none.  Known before `state` tells it."""
        return self._guard.suspected if self._guard is not None else ""

    def note(self, step: Step) -> None:
        """Remember that something has happened that an old copy would undo."""
        if self._guard is not None:
            self._guard.note(step)

    def tend(self, now: float) -> float:
        """Do one step of what is due: get the key, or change it, or step the counter.

        now: seconds of a clock that only goes forward.  Returns when to be called again, seconds.
        """
        if self._keys is None:
            return self._tend_sealed(now)
        if self.suspected:
            return IDLE
        if self._guard is not None:
            self._guard.advance(now)
        return self._rotate()

    def commit(self) -> None:
        """Make the group durable."""
        try:
            super().commit()
            if self._guard is not None:
                self._guard.settle()
        finally:
            self._judge()

    def rollback(self) -> None:
        """Take back the group, if one is open."""
        super().rollback()
        self._judge()

    def close(self) -> None:
        """Close the file and wipe the keys.  Closing twice is fine."""
        if self._keys is not None:
            self._keys.wipe()
        self._keys = self._guard = self._rotation = None
        self._facts = Facts(sealed=CLOSED)
        self._judge()
        super().close()

    def grown(self, kid: int, page: KeyPage) -> None:
        """Encrypt by a new generation from now on; it is durable."""
        keys = self.keys()
        keys.add(kid, page)
        self._rotation = Rotation(self._run, keys, self.random)
        self.note(Step.ROTATED)

    def slots_changed(self, found: Found | None = None) -> None:
        """Look at the slots again, which are durable.  found: what was put into one of them."""
        self._facts = Facts(kinds=tuple(table.slots(self._run)))
        kind = self._unsealing.slot.kind
        if kind not in self._facts.kinds:
            self._guard = None
        elif found is not None and found.key.kind == kind:
            self._guard = self._guarded(self.keys(), found)
        self.note(Step.ROTATED)

    def accept(self) -> None:
        """Trust what may be an old copy, as an operator has decided.  Raises StoreUnavailable."""
        guard = self._guard
        if guard is None or not guard.suspected:
            return
        try:
            guard.accept()
        except (TpmError, Hangs) as error:
            raise StoreUnavailable(f"the counter in the TPM cannot be read: {error}") from error
        self.after(guard.accepted)

    def unseal(self, patience: float) -> None:
        """Try to get the key, within a group.  patience: seconds that its slot may take."""
        try:
            self._open_with(patience)
        except NoKey as error:
            if str(error) != self._facts.sealed:
                about = {"message_id": "store-sealed"}
                log.error("The vault is sealed: %s.", error, extra=about)  # noqa: TRY400  # for the operator
            self._facts = Facts(sealed=str(error))

    def _open_with(self, patience: float) -> None:
        query = self._run
        is_new = not query("SELECT 1 FROM data_key UNION ALL SELECT 1 FROM secret LIMIT 1")
        if self._opener is not None:
            self._opened(data_keys.unlock(query, self._opener), None)
            return
        slot = self._unsealing.slot
        if is_new:
            found = self._unsealing.attempt(None, patience)
            keys = table.make(query, found.key, found.material, self.random)
            if found.count is not None:
                say(query, keys, found.count)
            self.after(lambda: self._opened(keys, found))
            return
        data_keys.look_for(query, slot.kind)
        found = self._unsealing.attempt(table.slots(query).get(slot.kind, b""), patience)
        try:
            self._opened(data_keys.unlock(query, found.key), found)
        except NoKey:
            self._unsealing.failed()
            raise

    def _opened(self, keys: Keys, found: Found | None) -> None:
        """Serve, with these keys."""
        self._unsealing.succeeded()
        self._keys = keys
        self._guard = self._guarded(keys, found)
        if len(keys.numbers) > 1:
            self._rotation = Rotation(self._run, keys, self.random)
        self._facts = Facts(kinds=tuple(table.slots(self._run)))

    def _guarded(self, keys: Keys, found: Found | None) -> Guard | None:
        if found is None or found.counter is None:
            return None
        return Guard(self._run, keys, found.counter, found.count)

    def _tend_sealed(self, now: float) -> float:
        if self._opener is not None or self._facts.sealed == CLOSED:
            return IDLE
        if now >= self._again:
            self.unseal(SHORT)
            if self._keys is not None or self.waits:
                log.warning("The vault is open now.")
                return 0.0
            self._again = now + self._unsealing.pause
        return self._again - now

    def _rotate(self) -> float:
        """Do one step of a rotation that was begun."""
        if self._rotation is None:
            self._worn = WORN if data_keys.age(self._run) >= MAX_WRITES else ""
            return IDLE
        if self._rotation.step():
            return 0.0
        restamp(self._run, self.keys())
        rows.retire(self._run, self.keys().newest)
        self.after(self._rotated)
        return 0.0

    def _rotated(self) -> None:
        self._rotation = None
        self.keys().keep(data_keys.numbers(self._run))
        self.scrub()
        log.info("All secrets are encrypted with the new key.")

    def _judge(self) -> None:
        guard = self._guard
        faults = (self.fault, guard.fault if guard else "", self._worn)
        facts = replace(self._facts, suspected=self.suspected, faults=faults)
        before, self._condition = self.state, judge(facts)
        if self.state is State.ROLLBACK_SUSPECTED is not before:
            about = {"message_id": "rollback-suspected"}
            log.error("Nothing is written any more: %s.", self.why, extra=about)
