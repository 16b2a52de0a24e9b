"""What `gatewayctl vault init` and `reseal` do: the key of a vault is made, and bound to something.

Whatever is made is made before the vault depends on it, and nothing that a vault may depend on is
replaced before it does not any more.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from gatewayd.ctl_vault_rest import AtRest
from gatewayd.ctl_vault_seal import SEALINGS, for_credential, for_tpm
from gatewayd.errors import GatewayError
from gatewayd.secretstore import atrest, recovery, vaultadmin
from gatewayd.secretstore.envelope import KEY
from gatewayd.secretstore.keyslots import CredentialSlot
from gatewayd.secretstore.vaultadmin import Report

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
            told = atrest.init(vault.settings, vault.directory, directory, pem)
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
            with atrest.group(opened):
                vaultadmin.reseal(opened, key)
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
        known = vaultadmin.report(opened).slots
        if pem is not None and recovery.slot_kind(recovery.read_public(pem)) not in known:
            with atrest.group(opened):
                done.append(f"The key slot {vaultadmin.add_recovery(opened, pem)} was added.")
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
