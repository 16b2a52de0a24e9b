"""A vault that no gatewayd uses, as gatewayctl opens it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from gatewayd.cli.systemd_creds import Machine, handed_over
from gatewayd.config import load
from gatewayd.errors import GatewayError, StoreUnavailable
from gatewayd.plugins import Plugins
from gatewayd.secretstore.keyslots.factory import VaultSettings
from gatewayd.secretstore.keyslots.recovery import RecoveryKey
from gatewayd.secretstore.vault.admin import Report, report
from gatewayd.secretstore.vault.offline import at_rest
from gatewayd.secretstore.vault.vault import Vault
from gatewayd.settings.files import ConfigPaths
from gatewayd.storage.import_staging import settle
from gatewayd.storage.records import Lock


@dataclass(frozen=True, slots=True)
class AtRest:
    """One vault.

    environ: of the process.  recovery: opens it in the place of its own slot; None for that.
    """

    settings: VaultSettings
    directory: Path
    machine: Machine
    environ: Mapping[str, str]
    recovery: RecoveryKey | None = None

    @classmethod
    def of(
        cls, config: Path, environ: Mapping[str, str], recovery: RecoveryKey | None = None
    ) -> AtRest:
        """Return the one of a configuration.  Raises ConfigError, GatewayError."""
        told = load(ConfigPaths.of(config), Plugins.installed())
        settings, directory = told.store.settings, told.gateway.state_directory
        if not isinstance(settings, VaultSettings):
            raise GatewayError(f"the store that is configured is no vault but {told.store.kind!a}")
        if settings.key == "keyring":
            _demand_owner(directory)
        return cls(settings, directory, Machine(), environ, recovery)

    @property
    def file(self) -> Path:
        """Where it is."""
        return self.directory / "vault.db"

    @contextmanager
    def locked(self, instead: str = "", *, new: bool = False) -> Iterator[None]:
        """Keep every gatewayd away.  Raises StoreUnavailable where one is there.

        instead: what to say to one that runs; "" for nothing.  new: whether it may be made;
        otherwise GatewayError is raised where there is none.
        """
        if not new:
            self._demand()
        remedy = f"systemctl stop gatewayd{f', or say gatewayctl {instead}' if instead else ''}"
        try:
            lock = Lock(self.directory)
        except StoreUnavailable as error:
            raise StoreUnavailable(f"{error} ({remedy})") from None
        with closing(lock), _quietly():
            settle(self.directory)
            yield

    @contextmanager
    def opened(self, handed: bytes | None = None) -> Iterator[Vault]:
        """Open it, within `locked`.

        handed: the credential, instead of the one that is sealed.
        Raises StoreSealed, which says why, StoreError, GatewayError.
        """
        with (
            self.credentials(handed) as directory,
            at_rest(self.settings, self.directory, directory, self.recovery) as vault,
        ):
            yield vault

    def report(self) -> Report:
        """Describe it, sealed or not, within `locked`.  Raises StoreError, GatewayError."""
        with (
            self.credentials() as directory,
            closing(Vault(self.settings, self.directory, directory, opener=self.recovery)) as vault,
        ):
            return report(vault)

    def has_key(self) -> bool:
        """Tell whether it is more than an empty file, within `locked`."""
        if not self.file.exists():
            return False
        without = VaultSettings(credential="no-such-credential")
        with closing(Vault(without, self.directory)) as vault:
            return report(vault).generation > 0

    @contextmanager
    def credentials(self, handed: bytes | None = None) -> Iterator[Path | None]:
        """Yield what stands for $CREDENTIALS_DIRECTORY."""
        name = self.settings.credential
        if handed is None:
            given = self.environ.get("CREDENTIALS_DIRECTORY")
            if given or not self.machine.has(name):
                yield Path(given) if given else None
                return
            handed = self._unsealed(name)
        if handed is None:
            yield None
            return
        with handed_over(name, handed) as directory:
            yield directory

    def _demand(self) -> None:
        try:
            there = self.file.exists()
        except OSError as error:
            raise GatewayError(f"{self.file} cannot be read: {error.strerror}") from error
        if not there:
            raise GatewayError(f"there is no vault in {self.directory}: gatewayctl vault init")

    def _unsealed(self, name: str) -> bytes | None:
        """Return the sealed credential; None where it is not needed, and does not open."""
        try:
            return self.machine.unseal(name)
        except GatewayError:
            if self.recovery is None and self.settings.key == "credential":
                raise
            return None


@contextmanager
def _quietly() -> Iterator[None]:
    """Do not log why a vault is sealed: whoever called is told."""
    logger = logging.getLogger(Vault.__mro__[1].__module__)
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _demand_owner(directory: Path) -> None:
    """Make sure that the keyring asked is that of the service.  Raises GatewayError."""
    if directory.exists() and directory.stat().st_uid != os.geteuid():
        owner = directory.owner()
        raise GatewayError(
            f"the key is in the keyring of {owner}: runuser -u {owner} -- gatewayctl vault ..."
        )
