"""The authorities of one cloud, by generation: the newest that can be read is in use."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from gatewayd.ca.authority import Authority, read_authority
from gatewayd.cloud.ca.given import GIVEN_ENDS, GivenIdentities
from gatewayd.cloud.ca.identity import CertificateIdentity
from gatewayd.cloud.ca.issued import IssuedCertificates
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.recovery import reason_of
from gatewayd.device.secret import Secret
from gatewayd.errors import InvalidArgs, SecretCorrupt, SecretNotFound, StoreError, WrongState

log = logging.getLogger(__name__)

DAY = 86_400.0
WARN_DAYS = 30
"""Days before its end from which on the expiry of an authority is warned of."""

NO_AUTHORITY = Reason(
    "authority-missing",
    "There is no device CA to issue certificates.",
    "Run gatewayctl ca make --cloud CLOUD; then have the cloud trust the CA, as its page says.",
    "waiting",
)
EXPIRED = Reason(
    "authority-expired",
    "The device CA is not valid now.",
    "Check the gateway's clock; if it is right, make or import another CA.",
    "waiting",
)


@dataclass(frozen=True, slots=True)
class AuthoritySlots:
    """The slots of one cloud's authorities in the secret store.  All raise StoreError.

    generations: the numbers in use, from 1.  get: reads one.
    put: returns when one is durable and was read back.
    """

    generations: Callable[[], Awaitable[Sequence[int]]]
    get: Callable[[int], Awaitable[Secret]]
    put: Callable[[int, Secret], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class AuthorityGeneration:
    """An authority and the number of its generation."""

    authority: Authority
    generation: int

    def warning(self, now: float) -> str:
        """Return a sentence if the authority has expired or expires within 30 days; else ""."""
        span = self.authority.span
        if fault := span.fault(now):
            return f"The device CA {fault}."
        days = int((span.ends.timestamp() - now) // DAY)
        return f"The device CA expires in {days} days." if days < WARN_DAYS else ""


class AuthorityStore:
    """The store of one cloud's authorities, with the one in use in memory: reading its key is slow.

    now: seconds since the epoch.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self._slots: AuthoritySlots | None = None
        self._issued: IssuedCertificates | None = None
        self._given: GivenIdentities | None = None
        self._listed: tuple[frozenset[int], int, str] = (frozenset(), 0, "")
        self._current: AuthorityGeneration | None = None
        self._warned = 0.0
        self._lock = asyncio.Lock()

    def set_slots(
        self,
        slots: AuthoritySlots,
        issued: IssuedCertificates | None = None,
        given: GivenIdentities | None = None,
    ) -> None:
        """Set where the authorities are kept, and what they have issued.  Until then is none.

        given: the identities that are used in place of what they would issue.
        """
        self._slots, self._issued, self._given = slots, issued, given

    @property
    def issued(self) -> IssuedCertificates:
        """What they have issued, for a cloud that revokes by list.  Raises WrongState."""
        if self._issued is None:
            raise WrongState("The secret store is not open")
        return self._issued

    @property
    def given(self) -> GivenIdentities:
        """The identities that an operator has given.  Raises WrongState."""
        if self._given is None:
            raise WrongState("The secret store is not open")
        return self._given

    async def given_to(self, name: CloudName) -> CertificateIdentity | None:
        """Return the identity that an operator gave a device, and that is good for long.

        Raises StoreError.
        """
        return await self._given.current(name) if self._given is not None else None

    async def forget_given(self, name: CloudName) -> None:
        """Remove the identity that an operator gave a device; what stays is logged."""
        try:
            if self._given is not None:
                await self._given.remove(name)
        except StoreError as error:
            log.warning(
                "The certificate that was imported for %s stays: %s.  Run gatewayctl certificate "
                "remove --cloud %s --product %s --node-id %s.",
                name, error, name.provider, name.product, name.device,
                extra={"cloud": str(name)},
            )  # fmt: skip

    def replaces(self, name: CloudName, secret: Secret) -> bool:
        """Whether a device is to have another identity, which an operator has given."""
        return self._given is not None and self._given.replaces(name, secret)

    async def current(self) -> AuthorityGeneration | None:
        """Return the authority in use; None without one.  Raises StoreError."""
        async with self._lock:
            if self._current is None and self._slots is not None:
                self._current = await self._newest(self._slots)
            return self._current

    async def require(self) -> AuthorityGeneration:
        """Return the authority in use.  Raises StoreError; WrongState without a valid one."""
        current = await self.current()
        if current is None:
            raise WrongState("There is no device CA: make or import one")
        if fault := current.authority.span.fault(self.now()):
            raise WrongState(f"The device CA {fault}: make or import another")
        self._warn(current)
        return current

    async def warn_of_expiry(self) -> None:
        """Log a warning if the authority in use expires soon.  Raises StoreError."""
        current = await self.current()
        if current is not None:
            self._warn(current)

    def expiry(self) -> float | None:
        """Return when the one in use ends, seconds since the epoch; None until it was read."""
        return self._current.authority.span.ends.timestamp() if self._current else None

    def _warn(self, current: AuthorityGeneration) -> None:
        """Log, once a day at most, that an authority expires soon."""
        now = self.now()
        text = current.warning(now)
        if text and not self._warned <= now < self._warned + DAY:
            self._warned = now
            log.warning("%s Make another with gatewayctl ca make --replace.", text)

    async def check_ready(self, name: CloudName) -> Reason | None:
        """Return why a device could not get a certificate now; None if it could."""
        try:
            if await self.given_to(name) is not None:
                return None
            current = await self.current()
            if current is None and self._given is not None and await self._given.has_ended(name):
                return GIVEN_ENDS
        except StoreError as error:
            return reason_of(error)
        if current is None:
            return NO_AUTHORITY
        return EXPIRED if current.authority.span.fault(self.now()) else None

    async def keep(self, authority: Authority, *, replace: bool) -> AuthorityGeneration:
        """Make an authority durable, and use it from now on.

        replace: whether it may take the place of another, which is kept beside it.
        Raises WrongState, StoreError.
        """
        async with self._lock:
            slots = self._slots
            if slots is None:
                raise WrongState("The secret store is not open")
            generations = await slots.generations()
            if generations and not replace:
                raise WrongState(
                    "There is a device CA already. To have another one succeed it, repeat the "
                    "command with --replace"
                )
            generation = max(generations, default=0) + 1
            await slots.put(generation, authority.secret())
            self._current = AuthorityGeneration(authority, generation)
            return self._current

    async def revocation_lists(self) -> str:
        """Return a list of what is revoked for each authority that is valid, PEM.

        It stays the same text until another certificate is revoked.  Raises StoreError, WrongState.
        """
        revoked = await self.issued.revoked()
        newest = (await self.require()).generation
        serials = frozenset(one.serial for one in revoked)
        if (serials, newest) != self._listed[:2]:
            lists = [
                await asyncio.to_thread(
                    made.authority.revoke,
                    sorted(one.serial for one in revoked if one.generation == made.generation),
                )
                for made in await self._all()
                if not made.authority.span.fault(self.now())
            ]
            self._listed = serials, newest, b"".join(lists).decode("ascii")
        return self._listed[2]

    async def _all(self) -> Sequence[AuthorityGeneration]:
        """Return the authorities that can be read, the newest first."""
        slots = self._slots
        if slots is None:
            return ()
        numbers = sorted(await slots.generations(), reverse=True)
        found = [await self._read(slots, number) for number in numbers]
        return [one for one in found if one is not None]

    async def _newest(self, slots: AuthoritySlots) -> AuthorityGeneration | None:
        for generation in sorted(await slots.generations(), reverse=True):
            if (found := await self._read(slots, generation)) is not None:
                return found
        return None

    @staticmethod
    async def _read(slots: AuthoritySlots, generation: int) -> AuthorityGeneration | None:
        try:
            secret = await slots.get(generation)
            return AuthorityGeneration(await asyncio.to_thread(read_authority, secret), generation)
        except (SecretNotFound, SecretCorrupt, InvalidArgs):
            return None  # the store has logged it
