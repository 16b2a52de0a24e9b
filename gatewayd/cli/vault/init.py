"""Create the key of a vault and bind it to a key slot: `gatewayctl vault init` and `reseal`.

Whatever a vault will depend on is created first; whatever it may still depend on is replaced last.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from gatewayd.cli.systemd_creds import WITH_KEY, credential_drop_in, tpm_drop_in
from gatewayd.cli.vault.offline import OfflineVault
from gatewayd.errors import GatewayError, StoreCloned
from gatewayd.secretstore.keyslots import recovery
from gatewayd.secretstore.keyslots.slots import CredentialSlot
from gatewayd.secretstore.vault import admin, offline
from gatewayd.secretstore.vault.admin import VaultReport
from gatewayd.secretstore.vault.crypto import KEY_SIZE

DROP_IN = "10-vault.conf"
NEXT = ".next"
"""The suffix of the name of a credential that the vault does not depend on yet."""

PROTECTIONS: Mapping[str, str] = {
    **dict.fromkeys(WITH_KEY, "credential"),
    "tpm2-in-process": "tpm2",
    "keyring": "keyring",
    "development-file": "development-file",
}
"""What can protect the key, and the value of the setting `key` that it needs."""


def init(vault: OfflineVault, protect: str, pem: bytes | None) -> tuple[list[str], VaultReport]:
    """Create the vault of a gateway unless there is one; return what was done, and a report of it.

    protect: one of PROTECTIONS; "" for what is configured.  pem: public key for recovery.
    Raises GatewayError.
    """
    key = vault.settings.key
    if PROTECTIONS.get(protect, key) != key:
        raise GatewayError(
            f'Option --protect {protect} needs key = "{PROTECTIONS[protect]}" under '
            f"[secretstore.vault]; {key!a} is configured"
        )
    with vault.locked(new=True):
        done, secret = _create_credential(vault, protect) if key == "credential" else ([], None)
        done += _write_drop_in(vault)
        if vault.has_key():
            return [*done, *_keep(vault, pem)], vault.report()
        with vault.credentials(secret) as directory:
            report = offline.init(vault.settings, vault.directory, directory, pem)
        return [*done, f"Created a vault in {vault.directory}."], report


def reseal(vault: OfflineVault, key: str, with_key: str) -> None:
    """Bind the vault to a key slot again, or to another one.

    key: as in the setting.  with_key: one of WITH_KEY, to encrypt a credential again; "" keeps a
    credential that can be decrypted.
    Raises GatewayError.
    """
    is_credential = key in ("credential", CredentialSlot.kind)
    if with_key and not is_credential:
        raise GatewayError(f"Option --protect needs the key slot credential, not {key!a}")
    with vault.locked(f"store reseal {key}"):
        encrypted, secret = _renew_credential(vault, with_key) if is_credential else (b"", None)
        with vault.opened(secret) as opened:
            name = vault.settings.credential
            if encrypted:
                vault.systemd.write(name + NEXT, encrypted)
            with offline.group(opened):
                admin.reseal(opened, key)
            if encrypted:
                vault.systemd.replace(name, name + NEXT)


def recover(vault: OfflineVault, with_key: str, *, accept_machine: bool) -> list[str]:
    """Give the vault a key slot of this machine again, opened by its recovery key.

    with_key: one of WITH_KEY; "" for the best that there is.
    accept_machine: whether a vault of another machine is to belong to this one.
    Returns what was done.  Raises GatewayError.
    """
    if accept_machine:
        with vault.locked(), vault.opened() as opened, offline.group(opened):
            opened.accept_machine()
    try:
        reseal(vault, vault.settings.key, with_key)
    except StoreCloned:
        raise StoreCloned(
            "the vault belongs to another machine, which may use the same secrets: stop that "
            "gateway for good, then repeat this with --accept-machine"
        ) from None
    with vault.locked():
        return ["The vault opens here again.", *_write_drop_in(vault)]


def _create_credential(vault: OfflineVault, with_key: str) -> tuple[list[str], bytes | None]:
    """Create the credential unless there is one; return what was done, and the key."""
    systemd, name = vault.systemd, vault.settings.credential
    file = systemd.file(name)
    if systemd.exists(name):
        return [f"The key is in {file}."], systemd.decrypt(name)
    if vault.environ.get("CREDENTIALS_DIRECTORY"):
        return ["The key is in $CREDENTIALS_DIRECTORY."], None
    if vault.has_key():
        raise key_is_missing(vault.directory, file)
    file, key = create_key(vault, with_key)
    return [f"Created and encrypted a key: {file}."], key


def create_key(vault: OfflineVault, with_key: str) -> tuple[Path, bytes]:
    """Make the key of a vault, encrypted as its credential; return the file, and the key.

    with_key: one of WITH_KEY; "" for the best that there is.
    Raises GatewayError, also where there is a credential: it is never replaced.
    """
    systemd, name = vault.systemd, vault.settings.credential
    key = os.urandom(KEY_SIZE)
    systemd.create(name, systemd.encrypt(name, key, with_key))
    return systemd.file(name), key


def key_is_missing(directory: Path, file: Path) -> GatewayError:
    """Return what to say where a vault is without its key."""
    return GatewayError(
        f"The vault in {directory} exists, but its key {file} is missing. Restore that file, or "
        "stop gatewayd and run gatewayctl vault recover with a recovery key"
    )


def _write_drop_in(vault: OfflineVault) -> list[str]:
    """Write the drop-in that gives the service access to the key, if it needs one."""
    systemd, name, text = vault.systemd, vault.settings.credential, ""
    if vault.settings.key == "credential" and not systemd.is_loaded(name):
        text = credential_drop_in(name, systemd.file(name))
    elif vault.settings.key == "tpm2":
        text = tpm_drop_in(vault.settings.tcti)
    if not text:
        return []
    path = systemd.write_drop_in(DROP_IN, text)
    return [f"Gave the service access to the key by {path}. Run systemctl daemon-reload."]


def _keep(vault: OfflineVault, pem: bytes | None) -> list[str]:
    """Keep an existing vault; add a recovery key that is new to it."""
    done = [f"The vault in {vault.directory} exists: it stays as it is."]
    with vault.opened() as opened:
        known = admin.report(opened).slots
        if pem is not None and recovery.slot_kind(recovery.read_public(pem)) not in known:
            with offline.group(opened):
                done.append(f"Added the key slot {admin.add_recovery(opened, pem)}.")
    return done


def _renew_credential(vault: OfflineVault, with_key: str) -> tuple[bytes, bytes | None]:
    """Return the encrypted credential to install, and the key in it.

    A key that can be decrypted is kept; then, without `with_key`, b"": there is nothing to install.
    """
    systemd, name = vault.systemd, vault.settings.credential
    if vault.environ.get("CREDENTIALS_DIRECTORY"):
        return b"", None
    try:
        key = systemd.decrypt(name)
    except GatewayError:
        if vault.recovery is None and vault.settings.key == "credential":
            raise
        key = os.urandom(KEY_SIZE)
    else:
        if not with_key:
            return b"", key
    return systemd.encrypt(name, key, with_key), key
