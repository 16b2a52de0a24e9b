"""A vault that no daemon uses, as gatewayctl opens it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from gatewayd.cli.systemd_creds import SystemdCredentials, credentials_directory
from gatewayd.config import Config, load
from gatewayd.errors import GatewayError, StoreUnavailable
from gatewayd.plugins import Plugins
from gatewayd.secretstore.keyslots.factory import VaultSettings
from gatewayd.secretstore.keyslots.recovery import RecoveryKey
from gatewayd.secretstore.vault.admin import VaultReport, report
from gatewayd.secretstore.vault.offline import open_offline
from gatewayd.secretstore.vault.sealed_database import log as sealed_log
from gatewayd.secretstore.vault.vault import Vault
from gatewayd.settings.files import ConfigPaths
from gatewayd.storage.import_staging import recover_import
from gatewayd.storage.records import DirectoryLock


@dataclass(frozen=True, slots=True)
class OfflineVault:
    """A vault that no daemon uses.

    systemd: the encrypted credentials of this machine.  environ: of the process.
    recovery: opens the vault instead of its own slot; None to use that slot.
    """

    settings: VaultSettings
    directory: Path
    systemd: SystemdCredentials
    environ: Mapping[str, str]
    recovery: RecoveryKey | None = None

    @classmethod
    def of(
        cls, config: Path, environ: Mapping[str, str], recovery: RecoveryKey | None = None
    ) -> OfflineVault:
        """Return the vault of a configuration.  Raises ConfigError, GatewayError."""
        loaded = load(ConfigPaths.of(config), Plugins.installed())
        if (found := cls.within(loaded, environ, recovery)) is None:
            raise GatewayError(
                f"No vault is configured: [secretstore] backend is {loaded.store.kind!a}"
            )
        return found

    @classmethod
    def within(
        cls, loaded: Config, environ: Mapping[str, str], recovery: RecoveryKey | None = None
    ) -> OfflineVault | None:
        """Return the vault of a configuration that was read; None where it names another store."""
        settings, directory = loaded.store.settings, loaded.gateway.state_directory
        if not isinstance(settings, VaultSettings):
            return None
        return cls(settings, directory, SystemdCredentials(), environ, recovery)

    @property
    def file(self) -> Path:
        """The path of the vault."""
        return self.directory / "vault.db"

    @contextmanager
    def locked(self, instead: str = "", *, new: bool = False) -> Iterator[None]:
        """Hold the lock that keeps every daemon away.

        instead: the command of gatewayctl that does the same beside a running daemon; "" if none.
        new: whether the vault may be missing.
        Raises StoreUnavailable where a daemon runs, or the directory or the keyring is another
        user's; GatewayError where a vault is missing.
        """
        if self.settings.key == "keyring":
            _check_owner(self.directory)
        if not new:
            self._check_exists()
        remedy = f"systemctl stop gatewayd{f', or run gatewayctl {instead}' if instead else ''}"
        try:
            lock = DirectoryLock(self.directory)
        except StoreUnavailable as error:
            raise StoreUnavailable(f"{error} ({remedy})") from None
        with closing(lock), _without_sealed_warnings():
            recover_import(self.directory)
            yield

    @contextmanager
    def opened(self, credential: bytes | None = None) -> Iterator[Vault]:
        """Open the vault, within `locked`.

        credential: the key, instead of the one in the encrypted credential.
        Raises StoreSealed, which says why, StoreError, GatewayError.
        """
        with (
            self.credentials(credential) as directory,
            open_offline(self.settings, self.directory, directory, self.recovery) as vault,
        ):
            yield vault

    def report(self) -> VaultReport:
        """Describe the vault, sealed or not, within `locked`.  Raises StoreError, GatewayError."""
        with (
            self.credentials() as directory,
            closing(Vault(self.settings, self.directory, directory, opener=self.recovery)) as vault,
        ):
            return report(vault)

    def has_key(self) -> bool:
        """Whether the vault is more than an empty file, within `locked`."""
        if not self.file.exists():
            return False
        without = VaultSettings(credential="no-such-credential")
        with closing(Vault(without, self.directory)) as vault:
            return report(vault).generation > 0

    @contextmanager
    def credentials(self, credential: bytes | None = None) -> Iterator[Path | None]:
        """Yield the directory to use as $CREDENTIALS_DIRECTORY; None for none."""
        name = self.settings.credential
        if credential is None:
            given = self.environ.get("CREDENTIALS_DIRECTORY")
            if given or not self.systemd.exists(name):
                yield Path(given) if given else None
                return
            credential = self._decrypted(name)
        if credential is None:
            yield None
            return
        with credentials_directory(name, credential, self.systemd.encrypted(name)) as directory:
            yield directory

    def _check_exists(self) -> None:
        try:
            exists = self.file.exists()
        except OSError as error:
            raise StoreUnavailable(f"{self.file} cannot be read: {error.strerror}") from error
        if not exists:
            raise GatewayError(f"No vault in {self.directory}. Run gatewayctl vault init")

    def _decrypted(self, name: str) -> bytes | None:
        """Return the credential; None if it cannot be decrypted and is not needed."""
        try:
            return self.systemd.decrypt(name)
        except GatewayError:
            if self.recovery is None and self.settings.key == "credential":
                raise
            return None


@contextmanager
def _without_sealed_warnings() -> Iterator[None]:
    """Suppress the log of why a vault is sealed: the command reports it as its error or output."""
    before = sealed_log.level
    sealed_log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        sealed_log.setLevel(before)


def _check_owner(directory: Path) -> None:
    """Raise StoreUnavailable unless the keyring of this user is that of the service."""
    if directory.exists() and directory.stat().st_uid != os.geteuid():
        owner = directory.owner()
        raise StoreUnavailable(
            f"The key is in the keyring of user {owner}. "
            f"Repeat the command as that user, with runuser -u {owner} -- before it"
        )
