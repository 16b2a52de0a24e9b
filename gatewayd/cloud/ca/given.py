"""Certificates of devices that were made elsewhere, and given to gatewayd with their keys.

They are kept in the secret store by the name that the device has at the cloud, whether it is known
here yet or not.  The next registration or renewal of that device uses the one that was given last,
until that is due for renewal itself; from then on the device CA issues its certificates, where
there is one.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

from gatewayd.ca.bundle import Bundle, client_fault
from gatewayd.ca.certificates import Validity, fingerprint_of
from gatewayd.cloud.ca.identity import DAY, CertificateIdentity, keep_identity, read_identity
from gatewayd.device.identity import DeviceId
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret, SecretRef, SecretSlots
from gatewayd.errors import InvalidArgs, SecretCorrupt, SecretNotFound

log = logging.getLogger(__name__)

GIVEN = "given"
GIVEN_ENDS = Reason(
    "certificate-given-ends",
    "The certificate in use was imported and expires soon, and no device CA is here to issue "
    "another.",
    "Import a newer one with gatewayctl certificate import; or run gatewayctl ca make --cloud "
    "CLOUD, and have the cloud trust that CA.",
    "waiting",
)


def given_identity(bundle: Bundle, device_id: str, now: float) -> CertificateIdentity:
    """Return what a device logs in with, from what an operator has given.

    now: seconds since the epoch.  Raises InvalidArgs where it cannot log in with that.
    """
    if fault := client_fault(bundle, now):
        raise InvalidArgs(f"The device cannot log in with this: {fault}")
    return keep_identity(device_id, bundle.pem)


def kept_for(word: str, name: CloudName) -> DeviceId:
    """Return under what something is kept for a name at a cloud; it is no child's id."""
    digest = hashlib.sha256(f"{name.product}/{name.device}".encode()).hexdigest()
    return DeviceId(f"{word}-{digest[:32]}")


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a name: the certificate, its begin, and when it is due for renewal."""

    fingerprint: str
    starts: float
    due: float


class GivenIdentities:
    """The identities that were given for devices of one cloud.  Its methods raise StoreError.

    renew_before: days before its end at which a certificate is due for renewal.
    now: seconds since the epoch.
    """

    def __init__(
        self, provider: str, slots: SecretSlots, renew_before: int, now: Callable[[], float]
    ) -> None:
        self._provider, self._slots = provider, slots
        self._renew_before, self._now = renew_before, now
        self._known: dict[DeviceId, _Known] = {}  # of names that were given one

    async def put(self, name: CloudName, identity: CertificateIdentity) -> None:
        """Keep an identity for a device, in place of any other."""
        device = kept_for(GIVEN, name)
        older = await self._refs(device)
        newest = max((ref.attempt for ref in older), default=0) + 1
        await self._slots.put(self._slot(device, newest), identity.secret)
        self._know(device, identity)
        for ref in older:
            await self._slots.delete(ref)

    async def current(self, name: CloudName) -> CertificateIdentity | None:
        """Return the identity that a device is to have; None without one that is good for long."""
        device = kept_for(GIVEN, name)
        if device in self._known and self._good(device) is None:
            return None
        found = await self._newest(device)
        self._know(device, found)
        return found if self._good(device) is not None else None

    async def has_ended(self, name: CloudName) -> bool:
        """Whether there is one that is due for renewal."""
        await self.current(name)
        known = self._known.get(kept_for(GIVEN, name))
        return known is not None and known.due <= self._now()

    async def remove(self, name: CloudName) -> bool:
        """Remove what was given for a device; return whether there was something."""
        device = kept_for(GIVEN, name)
        refs = await self._refs(device)
        for ref in refs:
            await self._slots.delete(ref)
        self._know(device, None)
        return bool(refs)

    def replaces(self, name: CloudName, secret: Secret) -> bool:
        """Whether another identity than this one is to be used: as far as is known, at once."""
        known = self._good(kept_for(GIVEN, name))
        return known is not None and known.fingerprint != fingerprint_of(secret)

    def _good(self, device: DeviceId) -> _Known | None:
        known = self._known.get(device)
        # the clock may have stood before its begin when it was read, and may be right by now
        return known if known is not None and known.starts <= self._now() < known.due else None

    def _know(self, device: DeviceId, identity: CertificateIdentity | None) -> None:
        if identity is None:
            self._known.pop(device, None)
            return
        span = Validity.of(identity.certificate)
        due = span.ends.timestamp() - self._renew_before * DAY
        self._known[device] = _Known(identity.fingerprint, span.starts.timestamp(), due)

    async def _newest(self, device: DeviceId) -> CertificateIdentity | None:
        """Return the newest that can be read: a crash may have left an older one."""
        for ref in sorted(await self._refs(device), reverse=True):
            try:
                return read_identity(await self._slots.get(ref))
            except (SecretNotFound, SecretCorrupt, InvalidArgs) as error:
                log.warning("A certificate that was imported cannot be read: %s.", error)
        return None

    async def _refs(self, device: DeviceId) -> list[SecretRef]:
        refs = await self._slots.refs(device)
        return [ref for ref in refs if ref == self._slot(device, ref.attempt)]

    def _slot(self, device: DeviceId, attempt: int) -> SecretRef:
        return SecretRef(self._provider, device, attempt, GIVEN)
