"""The key of the vault at the first start, made as a host's SSH keys are: `vault make-key`.

gatewayd-vault-keygen.service runs it before the daemon.  Nothing of it is in the package or in an
image, so two machines that were made from one image have different keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gatewayd.cli.output import PROTECTION_TEXTS
from gatewayd.cli.vault.init import create_key, key_is_missing
from gatewayd.cli.vault.offline import OfflineVault
from gatewayd.errors import GatewayError
from gatewayd.secretstore.keyslots.slots import SHIPPED_NAME, SOCKET, encrypted_by


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """What decides whether a key is made.

    slot: the setting `key`.  name: of the credential.  file: where it is, encrypted, or would be.
    exists: whether it is there.  passed_by: the unit file that passes another one; None for none.
    vault_has_key: whether there is a vault that a key opens.
    """

    slot: str
    name: str
    file: Path
    exists: bool
    passed_by: Path | None
    vault_has_key: bool


def why_not(facts: KeyFacts, directory: Path) -> str:
    """Return why no key is to be made, a sentence; "" where one is.

    directory: of the vault.  Raises GatewayError where the key of a vault is gone: another would
    open nothing, and hide what has happened.
    """
    if facts.slot != "credential":
        return f"No key is made: the key slot {facts.slot} has its own."
    if facts.exists:
        return f"The key is in {facts.file}."
    if facts.passed_by is not None:
        return f"No key is made: {facts.passed_by} passes the credential {facts.name}."
    if facts.name != SHIPPED_NAME:
        return f"No key is made: to make the credential {facts.name}, run gatewayctl vault init."
    if facts.vault_has_key:
        raise key_is_missing(directory, facts.file)
    return ""


def make_first_key(vault: OfflineVault) -> Iterator[str]:
    """Make the key of a vault that has none yet; yield what was done, or why nothing was.

    Raises GatewayError.
    """
    if why := why_not(facts_of(vault), vault.directory):
        yield why
        return
    file = create_key(vault, "")[0]
    protection = PROTECTION_TEXTS[encrypted_by(vault.systemd.encrypted(vault.settings.credential))]
    yield f"Made a key for the vault: {file}.  What it protects from: {protection}."
    yield "To open the vault where this machine is lost, run gatewayctl vault add-recovery."


def facts_of(vault: OfflineVault) -> KeyFacts:
    """Return the facts of this machine.  Raises GatewayError."""
    name, systemd = vault.settings.credential, vault.systemd
    file = systemd.file(name)
    exists = systemd.exists(name)
    passed_by = systemd.passed_by(name, {str(SOCKET), str(file)})
    return KeyFacts(
        slot=vault.settings.key,
        name=name,
        file=file,
        exists=exists,
        passed_by=passed_by,
        vault_has_key=not exists and passed_by is None and _has_key(vault),
    )


def _has_key(vault: OfflineVault) -> bool:
    """Whether a key opens the vault; its directory is not made where there is none."""
    try:
        exists = vault.file.exists()
    except OSError as error:
        raise GatewayError(f"{vault.file} cannot be read: {error.strerror}") from error
    if not exists:
        return False
    with vault.locked():
        return vault.has_key()
