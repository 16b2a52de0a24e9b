"""Certificates of devices that were made elsewhere, and given to gatewayd with their keys.

They are kept in the secret store by the name that the device has at the cloud, whether it is known
here yet or not.  The next registration or renewal of that device uses the one that was given last,
until that is due for renewal itself; from then on the device CA issues its certificates, where
there is one.  No two devices are given one certificate, or one ID at the cloud: each would end the
session of the other.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Collection, Mapping
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

GIVEN, HOLDER = "given", "holder"
MAX_WITHOUT = 1024
"""Names for which none was given that are remembered: each child asks four times on its way."""
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
    return _kept(word, _shown(name))


def _kept(word: str, text: str) -> DeviceId:
    return DeviceId(f"{word}-{hashlib.sha256(text.encode()).hexdigest()[:32]}")


def _shown(name: CloudName) -> str:
    return f"{name.product}/{name.device}"


def _unique(identity: CertificateIdentity) -> Mapping[str, str]:
    """Return what no other device may have, and how it is named in an error."""
    own = identity.device_id
    return {f"certificate {identity.fingerprint}": "The certificate", f"id {own}": f"The ID {own}"}


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
        self._without: dict[DeviceId, None] = {}  # names that were not, the oldest first
        self._written = 0  # times that an identity was written, or may have been
        self._lock = asyncio.Lock()

    async def put(self, name: CloudName, identity: CertificateIdentity) -> None:
        """Keep an identity for a device, in place of any other.

        Raises InvalidArgs where another device was given this certificate, or its ID.
        """
        device = kept_for(GIVEN, name)
        async with self._lock:
            before = await self._newest(device)
            await self._hold(_shown(name), identity)
            try:
                await self._replace(device, GIVEN, identity.secret)
            finally:  # it may be there even where that failed
                self._without.pop(device, None)
                self._written += 1
            self._know(device, identity)
            if before is not None:
                await self._release(_unique(before).keys() - _unique(identity).keys())

    async def current(self, name: CloudName) -> CertificateIdentity | None:
        """Return the identity that a device is to have; None without one that is good for long."""
        device = kept_for(GIVEN, name)
        if device in self._without or (device in self._known and self._good(device) is None):
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
        async with self._lock:
            refs = await self._refs(device)
            before = await self._newest(device) if refs else None
            for ref in refs:
                await self._slots.delete(ref)
            self._know(device, None)
            await self._release(_unique(before) if before is not None else ())
        return bool(refs)

    def replaces(self, name: CloudName, secret: Secret) -> bool:
        """Whether another identity than this one is to be used: as far as is known, at once."""
        known = self._good(kept_for(GIVEN, name))
        return known is not None and known.fingerprint != fingerprint_of(secret)

    async def _hold(self, name: str, identity: CertificateIdentity) -> None:
        """Put down whose an identity is, before it is: what a crash leaves is no one's."""
        new = []
        for fact, shown in _unique(identity).items():
            holder = await self._holder(fact)
            if holder not in ("", name):
                raise InvalidArgs(
                    f"{shown} was imported for {holder} already, and each would end the session of "
                    "the other: get another one for this device, or first run gatewayctl "
                    "certificate remove for that one"
                )
            if not holder:
                new.append(fact)
        for fact in new:
            await self._replace(_kept(HOLDER, fact), HOLDER, Secret(name.encode()))

    async def _holder(self, fact: str) -> str:
        """Return which device has an identity with this; "" for none."""
        for ref in await self._refs(_kept(HOLDER, fact), HOLDER):
            try:
                name = (await self._slots.get(ref)).reveal().decode()
            except (SecretNotFound, SecretCorrupt):
                continue
            found = await self._newest(_kept(GIVEN, name))
            if found is not None and fact in _unique(found):
                return name
        return ""

    async def _release(self, facts: Collection[str]) -> None:
        for fact in facts:
            for ref in await self._refs(_kept(HOLDER, fact), HOLDER):
                await self._slots.delete(ref)

    async def _replace(self, device: DeviceId, kind: str, secret: Secret) -> None:
        """Keep a secret, in place of any other of this kind."""
        older = await self._refs(device, kind)
        newest = max((ref.attempt for ref in older), default=0) + 1
        await self._slots.put(SecretRef(self._provider, device, newest, kind), secret)
        for ref in older:
            await self._slots.delete(ref)

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

    def _note_without(self, device: DeviceId) -> None:
        self._without[device] = None
        if len(self._without) > MAX_WITHOUT:
            del self._without[next(iter(self._without))]

    async def _newest(self, device: DeviceId) -> CertificateIdentity | None:
        """Return the newest that can be read: a crash may have left an older one."""
        written = self._written
        refs = await self._refs(device)
        if not refs and written == self._written:  # else it may have come meanwhile
            self._note_without(device)
        for ref in sorted(refs, reverse=True):
            try:
                return read_identity(await self._slots.get(ref))
            except (SecretNotFound, SecretCorrupt, InvalidArgs) as error:
                log.warning("A certificate that was imported cannot be read: %s.", error)
        return None

    async def _refs(self, device: DeviceId, kind: str = GIVEN) -> list[SecretRef]:
        refs = await self._slots.refs(device)
        return [ref for ref in refs if (ref.provider, ref.kind) == (self._provider, kind)]
