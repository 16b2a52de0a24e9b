"""A vault while no gatewayd runs: made, opened, and its rotation completed.

The caller holds the lock of the directory, and may be root: what is made belongs to the owner of
the directory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from gatewayd.errors import StoreSealed, StoreUnavailable
from gatewayd.secretstore.keyslots.factory import VaultSettings
from gatewayd.secretstore.keyslots.recovery import RecoveryKey
from gatewayd.secretstore.vault import admin
from gatewayd.secretstore.vault.admin import VaultReport, add_recovery, report
from gatewayd.secretstore.vault.sealed_database import SealedDatabase
from gatewayd.secretstore.vault.vault import Vault


def init(
    settings: VaultSettings,
    directory: Path,
    credentials: Path | None = None,
    pem: bytes | None = None,
) -> VaultReport:
    """Make a vault where there is none, opened by the slot that the settings name.

    pem: a public key for recovery.
    Raises StoreUnavailable where there is a vault; StoreSealed where its slot cannot be used,
    ConfigError, StoreError.
    """
    with open_offline(settings, directory, credentials) as vault:
        found = report(vault)
        if found.secrets or found.writes or found.generation > 1:
            raise StoreUnavailable(
                f"the vault in {directory} is in use already: choose another state_directory"
            )
        if pem is not None:
            with group(vault):
                add_recovery(vault, pem)
        return report(vault)


@contextmanager
def open_offline(
    settings: VaultSettings,
    directory: Path,
    credentials: Path | None = None,
    recovery_key: RecoveryKey | None = None,
) -> Iterator[Vault]:
    """Open a vault, and close it at the end.

    recovery_key: opens it instead of the slot that the settings name.
    Raises StoreSealed, which says why, ConfigError, StoreError.
    """
    with closing(Vault(settings, directory, credentials, opener=recovery_key)) as vault:
        if not vault.has_key:
            raise StoreSealed(vault.why)
        yield vault


@contextmanager
def group(vault: SealedDatabase) -> Iterator[None]:
    """Do something with the vault, and make it durable."""
    vault.begin()
    try:
        yield
        vault.commit()
    except BaseException:
        vault.rollback()
        raise


def finish_rotation(
    vault: SealedDatabase, now: float = 0.0, at: Callable[[int, int], object] = lambda *_: None
) -> None:
    """Complete the rotation of the data key that was begun.

    at: is called after each step with the number of secrets that are done, and of all.
    """
    while vault.rotating:
        with group(vault):
            vault.tend(now)
        at(*admin.rotated(vault))
