"""Reads the disk of a gatewayd that was killed, on a copy."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections import defaultdict
from contextlib import closing
from pathlib import Path

from gatewayd.device.identity import DeviceId
from gatewayd.errors import SecretCorrupt, SecretNotFound
from gatewayd.secretstore.store import SecretStore
from gatewayd.secretstore.vault.vault import Vault, VaultSettings
from gatewayd.storage.records import RecordDatabase
from script.soaking.laws import Digest, StoredFacts

LEFT_OUT = shutil.ignore_patterns("lock", "*.ballast", "*-shm")


def look(state: Path) -> dict[str, StoredFacts]:
    """Return what a state directory says of each child that has a name at the cloud.

    The directory stays as it is: to open the files would repair them.  Raises StoreError where
    they do not open.
    """
    with tempfile.TemporaryDirectory(prefix="gatewayd-soak-") as copy:
        shutil.copytree(state, copy, ignore=LEFT_OUT, dirs_exist_ok=True)
        return _read(Path(copy))


def _read(directory: Path) -> dict[str, StoredFacts]:
    settings = VaultSettings(key="development-file")
    with closing(RecordDatabase(directory)) as file, closing(Vault(settings, directory)) as vault:
        secrets = _secrets(vault)
        return {
            record.cloud.device: StoredFacts(
                record.attempt,
                record.stored,
                record.stale,
                bool(record.activated_at),
                secrets[record.device],
            )
            for record in file.all()
            if record.cloud is not None
        }


def _secrets(vault: SecretStore) -> dict[DeviceId, dict[int, Digest]]:
    found: dict[DeviceId, dict[int, Digest]] = defaultdict(dict)
    vault.begin()
    for ref in vault.refs():
        try:
            secret = vault.get(ref).reveal()
        except (SecretCorrupt, SecretNotFound):
            continue
        found[ref.device][ref.attempt] = hashlib.sha256(secret).hexdigest()
    vault.rollback()
    return found
