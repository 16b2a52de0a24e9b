"""The settings of the vault, and the key slots that they describe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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
from gatewayd.settings import grammar
from gatewayd.settings.declare import FileUse, setting

OWN_FILES = ("state.db", "vault.db", "keyring.db", "lock")
"""How the names of gatewayd's own files in the state directory begin."""


@dataclass(frozen=True, slots=True)
class VaultSettings:
    """[secretstore.vault]"""

    key: str = setting(
        "credential",
        "which key slot opens the vault; a development file protects nothing",
        choices=("credential", "tpm2", "keyring", "development-file"),
    )
    credential: str = setting(
        "vault.key",
        "name of the systemd credential that is the key",
        grammar=grammar.credential_name,
    )
    key_file: str = setting(
        "development.key",
        "name of the file of the development key, in the state directory",
        grammar=grammar.file_name,
    )
    tcti: str = setting(
        "device:/dev/tpmrm0",
        "the device of the TPM, as tpm2-tss writes it (key tpm2)",
        grammar=grammar.tcti,
    )
    tpm2_emulated: bool = setting(
        False,
        "for development: let tcti be a TPM emulated by software, as swtpm:path=/run/swtpm.sock, "
        "which protects nothing",
    )
    tpm2_counter: bool = setting(
        True, "keep a counter in the TPM, by which an old copy of the vault shows itself"
    )
    tpm2_policy_key: Path | None = setting(
        None,
        "PEM file of the public key that signs which measured boots may open the vault (PCR 7, "
        "SHA-256); without one: any boot of this TPM",
        file=FileUse.LATER,
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
        grammar=grammar.backend_name,
    )
    keyring_properties: Mapping[str, str] = setting(
        {}, "attributes of that backend to set, as file_path; no secret belongs here"
    )

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with them as a whole."""
        if self.key_file.startswith(OWN_FILES):
            yield (
                f"key_file must not be one of gatewayd's own files, as {self.key_file}: the key "
                "would be made, and removed, in its place"
            )
        for name in self.keyring_properties:
            if rule := grammar.attribute_name(name):
                yield f"the property {name[:64]!a} of keyring_properties {rule}"
        if grammar.emulated(self.tcti) and not self.tpm2_emulated:
            yield (
                "tcti is a TPM emulated by software, which protects nothing: name the device of a "
                "TPM or, for development, set tpm2_emulated = true"
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
            "credential": self.credential,
            CredentialSlot.kind: self.credential,
            TpmSlot.kind: self._tpm2,
            KeyringSlot.kind: self._keyring,
            DevelopmentSlot.kind: self._development,
        }
        if key not in makers:
            raise StoreUnavailable(f"unknown kind of key slot: {key[:64]!a}")
        return makers[key]()

    def credential(self) -> CredentialSlot:
        """Return the slot of the systemd credential."""
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
        from gatewayd.secretstore.keyring import backends  # noqa: PLC0415  # as said above
        from gatewayd.secretstore.keyring.client import KeyringClient  # noqa: PLC0415  # as said above

        name, properties = self._settings.keyring_backend, self._settings.keyring_properties

        def connect() -> KeyringClient:
            backend = backends.find(name, backends.installed())
            return KeyringClient(lambda: backends.make(backend, properties), name)

        return KeyringSlot(connect)
