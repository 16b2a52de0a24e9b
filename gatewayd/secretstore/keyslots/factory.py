"""The settings of the vault, and the key slots that they describe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gatewayd.errors import StoreUnavailable
from gatewayd.secretstore.keyslots.slots import (
    CredentialSlot,
    DevelopmentSlot,
    KeyringSlot,
    KeySlot,
)
from gatewayd.secretstore.keyslots.tpm import TpmSlot
from gatewayd.secretstore.tpm.policy import SignedPolicy
from gatewayd.settings.declare import setting


@dataclass(frozen=True, slots=True)
class VaultSettings:
    """[secretstore.vault]"""

    key: str = setting(
        "credential",
        "which key slot opens the vault; a development file protects nothing",
        choices=("credential", "tpm2", "keyring", "development-file"),
    )
    credential: str = setting("vault.key", "name of the systemd credential that is the key")
    key_file: str = setting(
        "development.key", "file of the development key, within the state directory"
    )
    tcti: str = setting(
        "device:/dev/tpmrm0", "how the TPM is reached, as tpm2-tss writes it (key tpm2)"
    )
    tpm2_counter: bool = setting(
        True, "keep a counter in the TPM, by which an old copy of the vault shows itself"
    )
    tpm2_policy_key: Path | None = setting(
        None,
        "PEM file of the public key that signs which measured boots may open the vault (PCR 7, "
        "SHA-256); without one: any boot of this TPM",
    )
    tpm2_policy: Path = setting(
        Path("/etc/gatewayd/pcr.policy"), "file of the digest that was signed"
    )
    tpm2_signature: Path = setting(
        Path("/etc/gatewayd/pcr.signature"), "file of the signature of that digest"
    )
    keyring_backend: str = setting(
        "keyring.backends.SecretService.Keyring",
        "the keyring backend that has the master key (key keyring): the name of an entry point of "
        "keyring.backends, or module.Class",
    )
    keyring_properties: Mapping[str, str] = setting(
        {}, "attributes of that backend to set, as file_path; no secret belongs here"
    )


class KeySlotFactory:
    """A factory of the key slots of one vault, each made when it is needed.

    directory: of the vault.  credentials: $CREDENTIALS_DIRECTORY, or None.
    """

    def __init__(self, settings: VaultSettings, directory: Path, credentials: Path | None) -> None:
        self._settings, self._directory, self._credentials = settings, directory, credentials

    def make(self, key: str) -> KeySlot:
        """Return a slot by the word that the setting `key` has for it, or by its kind.

        Raises StoreUnavailable where there is no such kind.
        """
        makers: Mapping[str, Callable[[], KeySlot]] = {
            "credential": self._credential,
            CredentialSlot.kind: self._credential,
            TpmSlot.kind: self._tpm2,
            KeyringSlot.kind: self._keyring,
            DevelopmentSlot.kind: self._development,
        }
        if key not in makers:
            raise StoreUnavailable(f"unknown kind of key slot: {key[:64]!a}")
        return makers[key]()

    def _credential(self) -> KeySlot:
        return CredentialSlot(self._credentials, self._settings.credential)

    def _development(self) -> KeySlot:
        return DevelopmentSlot(self._directory / self._settings.key_file)

    def _tpm2(self) -> KeySlot:
        settings, policy = self._settings, None
        if (key := settings.tpm2_policy_key) is not None:
            policy = SignedPolicy(key, settings.tpm2_policy, settings.tpm2_signature)
        return TpmSlot(settings.tcti, policy, with_counter=settings.tpm2_counter)

    def _keyring(self) -> KeySlot:
        # imported here: only a gateway that uses a keyring loads that package
        from gatewayd.secretstore.keyring import backends  # noqa: PLC0415
        from gatewayd.secretstore.keyring.client import KeyringClient  # noqa: PLC0415

        name, properties = self._settings.keyring_backend, self._settings.keyring_properties

        def connect() -> KeyringClient:
            backend = backends.find(name, backends.installed())
            return KeyringClient(lambda: backends.make(backend, properties), name)

        return KeyringSlot(connect)
