"""A vault that no gatewayd uses: made, opened, brought to an end.

The caller holds the lock of the directory, and may be root: what is made belongs to whom the
directory belongs to.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from gatewayd.errors import StoreSealed, StoreUnavailable
from gatewayd.secretstore.keyslots.factory import VaultSettings
from gatewayd.secretstore.keyslots.recovery import RecoveryKey
from gatewayd.secretstore.store import State
from gatewayd.secretstore.vault.admin import Report, add_recovery, report
from gatewayd.secretstore.vault.sealed_database import KeyedDatabase
from gatewayd.secretstore.vault.vault import Vault


def init(
    settings: VaultSettings,
    directory: Path,
    credentials: Path | None = None,
    pem: bytes | None = None,
) -> Report:
    """Make a vault where there is none, opened by the slot that the settings name.

    pem: a public key for recovery.
    Raises StoreUnavailable where there is a vault; StoreSealed where its slot cannot be used,
    ConfigError, StoreError.
    """
    with at_rest(settings, directory, credentials) as vault:
        told = report(vault)
        if told.secrets or told.writes or told.generation > 1:
            raise StoreUnavailable(f"there is a vault in {directory} already, and it is in use")
        if pem is not None:
            with group(vault):
                add_recovery(vault, pem)
        return report(vault)


@contextmanager
def at_rest(
    settings: VaultSettings,
    directory: Path,
    credentials: Path | None = None,
    recovery_key: RecoveryKey | None = None,
) -> Iterator[Vault]:
    """Open a vault.

    recovery_key: opens it in the place of the slot that the settings name.
    Raises StoreSealed, which says why, ConfigError, StoreError.
    """
    with closing(Vault(settings, directory, credentials, opener=recovery_key)) as vault:
        if vault.state is State.SEALED:
            raise StoreSealed(vault.why)
        yield vault


@contextmanager
def group(vault: KeyedDatabase) -> Iterator[None]:
    """Do something with a vault at rest, and make it durable."""
    vault.begin()
    try:
        yield
        vault.commit()
    except BaseException:
        vault.rollback()
        raise


def finish(vault: KeyedDatabase, now: float = 0.0) -> None:
    """Complete the rotation of a vault at rest."""
    while vault.rotating:
        with group(vault):
            vault.tend(now)
