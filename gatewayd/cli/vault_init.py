"""What `gatewayctl vault init` and `reseal` do: the key of a vault is made, and bound to something.

Whatever is made is made before the vault depends on it, and nothing that a vault may depend on is
replaced before it does not any more.

What `gatewayctl vault export` and `import` do: a fleet moves to another gateway.

Secrets and records go together, and only a recovery key opens them.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from gatewayd.cli.systemd_creds import SEALINGS, for_credential, for_tpm
from gatewayd.cli.vault_offline import AtRest
from gatewayd.errors import ConfigError, GatewayError
from gatewayd.runtime.sqlite import Database, is_ours, upgrade
from gatewayd.secretstore.keyslots import recovery
from gatewayd.secretstore.keyslots.base import CredentialSlot
from gatewayd.secretstore.keyslots.recovery import RecoveryKey
from gatewayd.secretstore.vault import admin, offline
from gatewayd.secretstore.vault.admin import Report
from gatewayd.secretstore.vault.crypto import KEY
from gatewayd.secretstore.vault.export import Imported, export, import_
from gatewayd.storage import records as statefile
from gatewayd.storage.import_staging import RECORDS, finish, stage

DROP_IN = "10-vault.conf"
NEXT = ".next"
"""What stands after the name of a credential that the vault does not depend on yet."""

PROTECTIONS: Mapping[str, str] = {
    **dict.fromkeys(SEALINGS, "credential"),
    "tpm2-in-process": "tpm2",
    "keyring": "keyring",
    "development-file": "development-file",
}
"""What may protect the key, and the setting `key` that goes with it."""


def init(vault: AtRest, protect: str, pem: bytes | None) -> tuple[list[str], Report]:
    """Make the vault of a gateway, unless there is one; return what was done, and how it is now.

    protect: one of PROTECTIONS; "" for what is configured.  pem: public key for recovery.
    Raises GatewayError.
    """
    key = vault.settings.key
    if PROTECTIONS.get(protect, key) != key:
        raise GatewayError(
            f"key = {key!a} is configured: --protect {protect} needs key = "
            f'"{PROTECTIONS[protect]}" under [secretstore.vault]'
        )
    with vault.locked(new=True):
        done, handed = _made(vault, protect) if key == "credential" else ([], None)
        done += _handed_to_service(vault)
        if vault.has_key():
            return [*done, *_kept(vault, pem)], vault.report()
        with vault.credentials(handed) as directory:
            told = offline.init(vault.settings, vault.directory, directory, pem)
        return [*done, f"A vault was made in {vault.directory}."], told


def reseal(vault: AtRest, key: str, sealing: str) -> None:
    """Bind the vault anew to a key slot.

    key: as the setting has it.  sealing: of a credential; "" leaves one that opens as it is.
    Raises GatewayError.
    """
    is_credential = key in ("credential", CredentialSlot.kind)
    if sealing and not is_credential:
        raise GatewayError("--protect is for a key that is a credential")
    with vault.locked(f"store reseal {key}"):
        sealed, handed = _resealed(vault, sealing) if is_credential else (b"", None)
        with vault.opened(handed) as opened:
            name = vault.settings.credential
            if sealed:
                vault.machine.keep(name + NEXT, sealed)
            with offline.group(opened):
                admin.reseal(opened, key)
            if sealed:
                vault.machine.take(name, name + NEXT)


def _made(vault: AtRest, sealing: str) -> tuple[list[str], bytes | None]:
    """Make the credential, unless there is one; return what was done, and the key."""
    machine, name = vault.machine, vault.settings.credential
    file = machine.file(name)
    if machine.has(name):
        return [f"The key is in {file}."], machine.unseal(name)
    if vault.environ.get("CREDENTIALS_DIRECTORY"):
        return ["The key is among the credentials."], None
    if vault.has_key():
        raise GatewayError(
            f"there is a vault in {vault.directory}, and its key is not in {file}: put that back, "
            "or say gatewayctl vault reseal credential --recovery-key FILE"
        )
    key = os.urandom(KEY)
    machine.keep(name, machine.seal(name, key, sealing))
    return [f"A key was made and sealed: {file}."], key


def _handed_to_service(vault: AtRest) -> list[str]:
    """Write the drop-in by which the service gets at the key, if one is needed."""
    machine, name, text = vault.machine, vault.settings.credential, ""
    if vault.settings.key == "credential" and not machine.loads(name):
        text = for_credential(name, machine.file(name))
    elif vault.settings.key == "tpm2":
        text = for_tpm(vault.settings.tcti)
    if not text:
        return []
    return [f"The service gets at it by {machine.drop_in(DROP_IN, text)}: systemctl daemon-reload."]


def _kept(vault: AtRest, pem: bytes | None) -> list[str]:
    """Let a vault be as it is; add a recovery key that is new to it."""
    done = [f"There is a vault in {vault.directory}: it stays as it is."]
    with vault.opened() as opened:
        known = admin.report(opened).slots
        if pem is not None and recovery.slot_kind(recovery.read_public(pem)) not in known:
            with offline.group(opened):
                done.append(f"The key slot {admin.add_recovery(opened, pem)} was added.")
    return done


def _resealed(vault: AtRest, sealing: str) -> tuple[bytes, bytes | None]:
    """Return a sealed credential that is to be put in its place, and the key in it.

    A key that opens is kept.  Nothing is to be put where nobody asks for another sealing.
    """
    machine, name = vault.machine, vault.settings.credential
    if vault.environ.get("CREDENTIALS_DIRECTORY"):
        return b"", None
    try:
        key = machine.unseal(name)
    except GatewayError:
        if vault.recovery is None and vault.settings.key == "credential":
            raise
        key = os.urandom(KEY)
    else:
        if not sealing:
            return b"", key
    return machine.seal(name, key, sealing), key


def export_all(vault: AtRest) -> bytes:
    """Return everything that another gateway needs.  Raises GatewayError."""
    with vault.locked("store export"), vault.opened() as opened:
        return export(opened, {RECORDS: _records(vault.directory)})


def import_all(vault: AtRest, whole: bytes, key: RecoveryKey) -> tuple[Imported, int]:
    """Take everything in that another gateway had; return the secrets, and how many records.

    Raises GatewayError; then nothing was changed.
    """
    with vault.locked():
        if _count(_records(vault.directory), "WHERE stored > 0"):
            raise GatewayError(f"there are registered children in {vault.directory}: import "
                               "into a gateway that has none")  # fmt: skip
        with vault.opened() as opened, offline.group(opened):
            told = import_(opened, whole, key)
            records = told.enclosures.get(RECORDS)
            if records is None:
                raise ConfigError("there are no records of children in that export")
            count = _count(records)
            stage(vault.directory, records)
        finish(vault.directory)
        return told, count


def _records(directory: Path) -> bytes:
    """Return the records there are, as the bytes of a file."""
    file = directory / RECORDS
    with closing(Database(file, statefile.SCHEMA, statefile.VERSION, statefile.STEPS)) as opened:
        return opened.snapshot()


def _count(records: bytes, where: str = "") -> int:
    """Count records.  Raises ConfigError where they are of a newer gatewayd, or none of ours."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as file:

        def run(sql: str, /, *values: object) -> list[Any]:
            return file.execute(sql, values).fetchall()

        try:
            file.deserialize(records)
            run("PRAGMA trusted_schema = OFF")
            found = int(run("PRAGMA user_version")[0][0])
            if found > statefile.VERSION:
                raise ConfigError("the export was made by a newer gatewayd: install that one here")
            upgrade(run, statefile.STEPS, found, statefile.VERSION)
            if not is_ours(run, statefile.SCHEMA) or run("PRAGMA integrity_check(1)") != [("ok",)]:
                raise ConfigError("the records in that export are none of gatewayd's")
            return int(run(f"SELECT count(*) FROM record {where}")[0][0])  # noqa: S608  # ours
        except (sqlite3.Error, KeyError) as error:
            raise ConfigError(f"the records in that export are damaged ({error})") from error
