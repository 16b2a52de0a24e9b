"""What is said of the vault, for every combination of facts that matters."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from gatewayd.secretstore.keyslots.factory import Slots, VaultSettings
from gatewayd.secretstore.store import Condition, Protection, State
from gatewayd.secretstore.vault.sealed_database import EXPOSED, NO_RECOVERY, WORTH, Facts, judge

TPM, DEV, CREDS = "tpm2", "development-file", "systemd-credential"
RECOVERY = "recovery-0123456789abcdef"


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        (Facts("no key"), Condition(State.SEALED, Protection.NONE, "no key")),
        (
            Facts("no key", (TPM, DEV), "old", ("full",)),
            Condition(State.SEALED, Protection.NONE, "no key"),
        ),
        (
            Facts("", (TPM,), "old", ("full",)),
            Condition(State.ROLLBACK_SUSPECTED, Protection.TPM2, "old"),
        ),
        (
            Facts("", (CREDS, RECOVERY), "", ("", "")),
            Condition(State.UNSEALED, Protection.SYSTEMD_CREDS),
        ),
        (
            Facts("", (CREDS,)),
            Condition(State.DEGRADED, Protection.SYSTEMD_CREDS, NO_RECOVERY),
        ),
        (
            Facts("", ("keyring",), "", ("full", "lost")),
            Condition(State.DEGRADED, Protection.KEYRING, f"full; lost; {NO_RECOVERY}"),
        ),
        (Facts("", (DEV,)), Condition(State.UNSEALED, Protection.DEVELOPMENT)),
        (Facts("", (DEV, RECOVERY)), Condition(State.UNSEALED, Protection.DEVELOPMENT)),
        (
            Facts("", (DEV,), "", ("full",)),
            Condition(State.DEGRADED, Protection.DEVELOPMENT, "full"),
        ),
        (
            Facts("", (TPM, DEV, RECOVERY)),
            Condition(State.DEGRADED, Protection.DEVELOPMENT, EXPOSED),
        ),
    ],
)
def test_the_truth_is_told(facts: Facts, told: Condition) -> None:
    assert judge(facts) == told


def test_every_slot_has_its_worth(tmp_path: Path) -> None:
    (key,) = (one for one in fields(VaultSettings) if one.name == "key")
    slots = Slots(VaultSettings(), tmp_path, None)
    assert {slots.of(word).kind for word in key.metadata["choices"]} == set(WORTH)
    assert all(slots.of(kind).kind == kind for kind in WORTH)
