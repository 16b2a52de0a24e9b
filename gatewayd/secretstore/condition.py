"""How the vault is, judged from facts: what D-Bus shows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from gatewayd.secretstore.keyslots import CredentialSlot, DevelopmentSlot
from gatewayd.secretstore.slottable import is_recovery
from gatewayd.secretstore.store import Condition, Protection, State
from gatewayd.secretstore.tpmslot import TpmSlot

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
