"""gatewayd as a client of OPC UA: its own certificate, by which devices know whom they answer.

Many servers open a secure channel only for clients whose certificate an operator has made them
trust.  So it stays the same: its key is a secret in the store, and the certificate is a file.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from gatewayd.ca.certificates import Validity, application, fingerprint, read_certificates, to_pem
from gatewayd.ca.keys import key_pem, make_key, read_key
from gatewayd.device.identity import DeviceId
from gatewayd.device.secret import Secret, SecretRef, SecretSlots
from gatewayd.errors import InvalidArgs, SecretNotFound, StoreError, StoreUnavailable
from gatewayd.proofs import reasons
from gatewayd.proofs.secure_channel import OwnCertificate
from gatewayd.proofs.tls import ProofFailed
from gatewayd.runtime.private_files import write_private

log = logging.getLogger(__name__)

SLOT: Final = SecretRef("opc-ua", DeviceId("application-opc-ua"), 1, "application")
"""Where key and certificate are kept."""
FILE = "opc-ua.der"
"""The certificate, in the state directory: operators have devices trust it."""
ALGORITHM = "rsa-2048"  # what every policy permits, and slow devices verify quickly
ALWAYS: Final = Validity(datetime(2020, 1, 1, tzinfo=UTC), datetime(2049, 12, 31, tzinfo=UTC))
"""When it is valid: it is given to devices by hand, and made when the clock may be wrong."""


class OwnApplication:
    """The certificate and the key, which are made once.

    slots: of the secret store.  directory: of the file.  host: the name of this gateway, a label of
    the DNS.
    """

    def __init__(self, slots: SecretSlots, directory: Path, host: str) -> None:
        self._slots, self._file, self._host = slots, directory / FILE, host
        self._made: OwnCertificate | None = None
        self._fault = ""
        self._lock = asyncio.Lock()

    async def get(self) -> OwnCertificate:
        """Return both.  Raises ProofFailed where the store does not have them."""
        async with self._lock:
            if self._made is None:
                try:
                    self._made = await self._read_or_make()
                except StoreError as error:
                    if str(error) != self._fault:  # many devices may be asked
                        log.warning("gatewayd's own certificate cannot be used: %s.", error)
                    self._fault = str(error)
                    raise ProofFailed(reasons.NO_OWN) from error
                await asyncio.to_thread(self._publish, self._made.certificate)
            return self._made

    async def _read_or_make(self) -> OwnCertificate:
        try:
            return await asyncio.to_thread(_read, await self._slots.get(SLOT))
        except SecretNotFound:
            secret = await asyncio.to_thread(_make, self._host)
            await self._slots.put(SLOT, secret)
            return await asyncio.to_thread(_read, secret)
        except InvalidArgs as error:
            raise StoreUnavailable(str(error)) from error

    def _publish(self, certificate: bytes) -> None:
        try:
            write_private(self._file, certificate)
        except OSError as error:
            log.warning("Cannot write gatewayd's own certificate: %s.", error.strerror)
        else:
            log.info("gatewayd's own certificate is in %s.", self._file)


def _make(host: str) -> Secret:
    key = make_key(ALGORITHM)
    made = application(host, key, ALWAYS)
    log.info("Made gatewayd's own certificate for OPC UA: SHA-256 %s.", fingerprint(made))
    return Secret(key_pem(key) + to_pem(made).encode("ascii"))


def _read(secret: Secret) -> OwnCertificate:
    pem = secret.reveal()
    key, found = read_key(pem), read_certificates(pem)
    if not isinstance(key, RSAPrivateKey) or not found:
        raise InvalidArgs("the secret has no key of RSA with its certificate")
    return OwnCertificate(found[0].public_bytes(Encoding.DER), key)
