"""What is said of the vault, for every combination of facts that matters."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from gatewayd.secretstore.keyslots.factory import KeySlotFactory, VaultSettings
from gatewayd.secretstore.store import (
    KEY_BESIDE,
    NO_RECOVERY,
    Protection,
    StoreCondition,
    StoreState,
)
from gatewayd.secretstore.vault.sealed_database import (
    EXPOSED,
    STRENGTH,
    VaultFacts,
    assess,
)

TPM, DEV, CREDS = "tpm2", "development-file", "systemd-credential"
RECOVERY = "recovery-0123456789abcdef"


@pytest.mark.parametrize(
    ("facts", "condition"),
    [
        (VaultFacts("no key"), StoreCondition(StoreState.SEALED, Protection.NONE, "no key")),
        (
            VaultFacts("no key", (TPM, DEV), "old", ("full",)),
            StoreCondition(StoreState.SEALED, Protection.NONE, "no key"),
        ),
        (
            VaultFacts("", (TPM,), "old", ("full",)),
            StoreCondition(StoreState.ROLLBACK_SUSPECTED, Protection.TPM2, "old"),
        ),
        (
            VaultFacts("", (CREDS, RECOVERY), "", ("", "")),
            StoreCondition(StoreState.UNSEALED, Protection.CREDENTIAL),
        ),
        (
            VaultFacts("", (CREDS,)),
            StoreCondition(StoreState.DEGRADED, Protection.CREDENTIAL, NO_RECOVERY),
        ),
        (
            VaultFacts("", ("keyring",), "", ("full", "lost")),
            StoreCondition(StoreState.DEGRADED, Protection.KEYRING, f"full; lost; {NO_RECOVERY}"),
        ),
        (
            VaultFacts("", (CREDS, RECOVERY), credential=Protection.KEY_ON_DISK),
            StoreCondition(StoreState.DEGRADED, Protection.KEY_ON_DISK, KEY_BESIDE),
        ),
        (
            VaultFacts("", (CREDS, "keyring", RECOVERY), credential=Protection.TPM2),
            StoreCondition(StoreState.UNSEALED, Protection.KEYRING),
        ),
        (
            VaultFacts("", (CREDS,), credential=Protection.TPM2),
            StoreCondition(StoreState.DEGRADED, Protection.TPM2, NO_RECOVERY),
        ),
        (VaultFacts("", (DEV,)), StoreCondition(StoreState.UNSEALED, Protection.KEY_ON_DISK)),
        (
            VaultFacts("", (DEV, RECOVERY)),
            StoreCondition(StoreState.UNSEALED, Protection.KEY_ON_DISK),
        ),
        (
            VaultFacts("", (DEV,), "", ("full",)),
            StoreCondition(StoreState.DEGRADED, Protection.KEY_ON_DISK, "full"),
        ),
        (
            VaultFacts("", (TPM, DEV, RECOVERY)),
            StoreCondition(StoreState.DEGRADED, Protection.KEY_ON_DISK, EXPOSED),
        ),
    ],
)
def test_the_condition_follows_from_the_facts(facts: VaultFacts, condition: StoreCondition) -> None:
    assert assess(facts) == condition


def test_every_kind_of_slot_has_its_strength(tmp_path: Path) -> None:
    (key,) = (one for one in fields(VaultSettings) if one.name == "key")
    slots = KeySlotFactory(VaultSettings(), tmp_path, None)
    assert {slots.make(word).kind for word in key.metadata["choices"]} == {*STRENGTH, CREDS}
    assert all(slots.make(kind).kind == kind for kind in STRENGTH)
