"""The certificate of the gateway itself that its settings name, with a key of its own.

Certificate and key are read again for each registration and after each refusal, so that files
which were replaced count at once.  What was read is kept in the secret store as any identity is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias, TypeVar

from gatewayd.ca.bundle import read_bundle
from gatewayd.ca.certificates import MAX_BYTES, fingerprint_of
from gatewayd.cloud.ca.given import given_identity
from gatewayd.cloud.ca.identity import CertificateIdentity, renewal_due
from gatewayd.cloud.credentials import ReadAnySecret
from gatewayd.cloud.mqtt import Handler
from gatewayd.cloud.provider import Issued, KeepSecret, LoginRefused, Outcome, Refused
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.errors import ConfigError, InvalidArgs
from gatewayd.runtime.watched_file import read_regular

log = logging.getLogger(__name__)

Opened = TypeVar("Opened")
LogIn: TypeAlias = Callable[[CloudName, Secret, Handler | None], Awaitable[Opened]]

UNUSABLE = Reason(
    "gateway-certificate-unusable",
    "The gateway's own certificate cannot be used.",
    "Correct certificate_file, private_key_file or private_key_credential of the gateway, and run "
    "gatewayctl reload.",
)


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where certificate and key are.  A credential goes before the file."""

    certificate: Path
    private_key_credential: str
    private_key_file: Path | None
    passphrase_credential: str
    passphrase_file: Path | None

    def read(self, read_secret: ReadAnySecret, device_id: str, now: float) -> CertificateIdentity:
        """Return the identity that they hold.  Blocks.

        now: seconds since the epoch.  Raises ConfigError with the file and the cause.
        """
        try:
            certificate = read_regular(self.certificate, MAX_BYTES)
        except OSError as error:
            raise ConfigError(f"{self.certificate} cannot be read: {error.strerror}.") from error
        key = read_secret(self.private_key_credential, self.private_key_file).reveal()
        passphrase = None
        if self.passphrase_credential or self.passphrase_file is not None:
            passphrase = read_secret(
                self.passphrase_credential, self.passphrase_file, passphrase=True
            ).reveal()
        try:
            return given_identity(read_bundle(certificate, key, passphrase), device_id, now)
        except InvalidArgs as error:
            raise ConfigError(f"{self.certificate} with its key: {error}.") from error


class ConfiguredCertificate:
    """The source of the gateway's identity.  Implements SupportsReplacement.

    device_id: of the gateway.  renew_before: days before the end of the certificate.
    wall: seconds since the epoch.
    """

    def __init__(
        self,
        files: CertificateFiles,
        read_secret: ReadAnySecret,
        device_id: str,
        renew_before: int,
        wall: Callable[[], float],
    ) -> None:
        self._files, self._read_secret = files, read_secret
        self._device_id, self._renew_before, self._wall = device_id, renew_before, wall
        self._newest = ""

    def check_name(self, _: CloudName) -> Reason | None:
        """Return None: the certificate alone says whether it is accepted."""
        return None

    async def register(self, _: CloudName, keep: KeepSecret) -> Outcome:
        """Keep the certificate that the settings name; see Route."""
        try:
            identity = await self._read()
        except ConfigError as error:
            return Refused(replace(UNUSABLE, text=f"{UNUSABLE.text[:-1]}: {error}"))
        await keep(identity.secret)
        return Issued()

    async def open(
        self, log_in: LogIn[Opened], name: CloudName, secret: Secret, on_message: Handler | None
    ) -> Opened:
        """Log in once; where that is refused, read the files again.  Raises LoginError.

        Before the first login they are read, too: they may have been replaced meanwhile.
        """
        if not self._newest:
            await self._try_reading()
        try:
            return await log_in(name, secret, on_message)
        except LoginRefused as error:
            await self._try_reading()
            stale = self.is_replaced(name, secret) or error.stale
            raise LoginRefused(error.reason, stale=stale) from error

    def is_replaced(self, _: CloudName, secret: Secret) -> bool:
        """Whether another certificate than this one was there when it was last read."""
        return self._newest not in ("", fingerprint_of(secret))

    def renew_at(self, name: CloudName, secret: Secret) -> float | None:
        """Return when to replace a certificate: at once by another one that was put there."""
        if self.is_replaced(name, secret):
            return 0.0
        return renewal_due(secret, self._renew_before, self._wall())

    async def reread(self) -> None:
        """Read the files again; what cannot be used is logged."""
        try:
            await self._read()
        except ConfigError as error:
            log.warning("The gateway's certificate in use stays: %s", error)

    async def _try_reading(self) -> None:
        with contextlib.suppress(ConfigError):  # then the kept one is all there is
            await self._read()

    async def _read(self) -> CertificateIdentity:
        identity = await asyncio.to_thread(
            self._files.read, self._read_secret, self._device_id, self._wall()
        )
        self._newest = identity.fingerprint
        return identity
