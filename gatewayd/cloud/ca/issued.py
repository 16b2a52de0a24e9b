"""What a device CA has issued for whom, so that it can be revoked: a ledger in the secret store.

A certificate is on record before it is given to anyone.  When its device is forgotten, it moves to
the list of revoked ones, first written there and then removed here; so a crash between the two
leaves it in both.  What has ended by itself is in neither.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from gatewayd.cloud.ca.given import kept_for
from gatewayd.device.identity import DeviceId
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret, SecretRef, SecretSlots
from gatewayd.errors import SecretCorrupt, SecretNotFound, StoreError, WrongState

log = logging.getLogger(__name__)

MAX_OF_ONE = 32
"""Valid certificates that one device may have."""
MAX_REVOKED = 20_000
"""Certificates on the list; each leaves it when it ends."""
ISSUED, REVOKED = "issued", "revoked"
_LINE = re.compile(r"([0-9a-f]{1,40}) ([0-9]{1,12}) ([0-9]{1,9})", re.ASCII)
_ATTEMPTS = 1 << 31


class IssuedCertificate(NamedTuple):
    """A certificate of a device.

    ends: seconds since the epoch.  generation: of the authority that has issued it.
    """

    serial: int
    ends: int
    generation: int


def encode(certificates: Iterable[IssuedCertificate]) -> Secret:
    """Return certificates as text, a line each."""
    lines = (f"{one.serial:x} {one.ends} {one.generation}\n" for one in certificates)
    return Secret("".join(lines).encode("ascii"))


def decode(text: Secret) -> Sequence[IssuedCertificate]:
    """Return what `encode` has made a text of.  Raises SecretCorrupt."""
    found = []
    for line in text.reveal().decode("ascii", "replace").splitlines():
        if (parts := _LINE.fullmatch(line)) is None:
            raise SecretCorrupt("The record of issued certificates cannot be read")
        found.append(IssuedCertificate(int(parts[1], 16), int(parts[2]), int(parts[3])))
    return found


class IssuedCertificates:
    """The ledger of one cloud's device CA.  Its methods raise StoreError.

    now: seconds since the epoch.
    """

    def __init__(self, provider: str, slots: SecretSlots, now: Callable[[], float]) -> None:
        self._provider, self._slots, self._now = provider, slots, now
        self._revoked: Mapping[int, IssuedCertificate] | None = None
        self._to_revoke: dict[int, IssuedCertificate] = {}
        self._attempt = 0
        self._lock = asyncio.Lock()

    async def note(self, name: CloudName, made: IssuedCertificate) -> None:
        """Put a certificate on record.  Raises WrongState where the device has too many."""
        found = await self._of(name)
        ended = [ref for ref, one in found if one.ends <= self._now()]
        if len(found) - len(ended) >= MAX_OF_ONE:
            raise WrongState(
                f"{name.device} has {MAX_OF_ONE} valid certificates. Forget it, or wait for their "
                "end"
            )
        await self._slots.put(self._issued_slot(name, made.serial), encode([made]))
        for one in ended:
            await self._slots.delete(one)

    async def withdraw(self, name: CloudName, serial: int) -> None:
        """Remove a certificate that no one has got."""
        await self._slots.delete(self._issued_slot(name, serial))

    async def revoke(self, name: CloudName) -> None:
        """Revoke all certificates of a device.  Raises WrongState where the list is full.

        After an error those that were not revoked before are not revoked.
        """
        found = await self._of(name)
        own = {one.serial: one for _, one in found if one.ends > self._now()}
        self._to_revoke |= own
        try:
            async with self._lock:
                await self._write_revoked(own)
        finally:
            for serial in own:
                self._to_revoke.pop(serial, None)
        with suppress(StoreError):  # what stays would be revoked once more, which is nothing
            for ref, _ in found:
                await self._slots.delete(ref)

    async def revoked(self) -> Sequence[IssuedCertificate]:
        """Return the revoked certificates that would still be valid."""
        async with self._lock:
            listed = await self._list()
        return [one for one in listed.values() if one.ends > self._now()]

    async def _write_revoked(self, own: Mapping[int, IssuedCertificate]) -> None:
        """Make the list durable; what others revoke at the same time is written with it."""
        listed, now = await self._list(), self._now()
        if not own.keys() - listed:
            return
        kept = {serial: one for serial, one in listed.items() if one.ends > now}
        longer = {**kept, **self._to_revoke}
        if len(longer) > MAX_REVOKED:
            longer = {**kept, **own}
        if len(longer) > MAX_REVOKED:
            raise WrongState(
                f"{MAX_REVOKED} certificates are revoked already. Wait until some of them have "
                "ended"
            )
        before = self._slot(self._attempt)
        await self._slots.put(self._slot(self._attempt + 1), encode(longer.values()))
        self._attempt += 1
        self._revoked = longer
        if before.attempt:
            await self._slots.delete(before)

    async def _list(self) -> Mapping[int, IssuedCertificate]:
        """Return the list: the newest that is there, as an older one may be left by a crash."""
        if self._revoked is None:
            refs = await self._slots.refs(self._slot(0).device)
            attempts = [ref.attempt for ref in refs if ref == self._slot(ref.attempt)]
            self._attempt = max(attempts, default=0)
            listed: Sequence[IssuedCertificate] = ()
            if self._attempt:
                listed = decode(await self._slots.get(self._slot(self._attempt)))
            self._revoked = {one.serial: one for one in listed}
        return self._revoked

    async def _of(self, name: CloudName) -> Sequence[tuple[SecretRef, IssuedCertificate]]:
        found = []
        for ref in await self._slots.refs(self._device(name)):
            if (ref.provider, ref.kind) == (self._provider, ISSUED):
                try:
                    found += [(ref, one) for one in decode(await self._slots.get(ref))]
                except SecretNotFound:
                    continue  # removed meanwhile
                except SecretCorrupt as error:
                    log.warning(
                        "What was issued for %s is not known in full, so a certificate of it may "
                        "be good until it ends: %s.", name, error, extra={"cloud": str(name)},
                    )  # fmt: skip
        return found

    def _device(self, name: CloudName) -> DeviceId:
        """Return under what the certificates of a device are kept; it is no child's id."""
        return kept_for(ISSUED, name)

    def _issued_slot(self, name: CloudName, serial: int) -> SecretRef:
        return SecretRef(self._provider, self._device(name), serial % _ATTEMPTS + 1, ISSUED)

    def _slot(self, attempt: int) -> SecretRef:
        return SecretRef(self._provider, DeviceId(f"{REVOKED}-{self._provider}"), attempt, REVOKED)
