"""The authority of one cloud, generation by generation: the newest that can be read is in use."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from gatewayd.cloud.ca.authority import Authority, read_authority
from gatewayd.device.reason import Reason
from gatewayd.device.recovery import reason_of
from gatewayd.device.secret import Secret
from gatewayd.errors import InvalidArgs, SecretCorrupt, SecretNotFound, StoreError, WrongState

log = logging.getLogger(__name__)

DAY = 86_400.0
WARN_DAYS = 30
"""Days before its end from which on an authority is said to expire soon."""

NO_AUTHORITY = Reason(
    "authority-missing",
    "There is no device CA to issue certificates with.",
    "Make or import one: gatewayctl huawei ca make, or import; then upload and verify it at the "
    "cloud.",
    "waiting",
)
EXPIRED = Reason(
    "authority-expired",
    "The device CA is not valid now.",
    "Check the gateway's clock; else make or import another CA.",
    "waiting",
)


@dataclass(frozen=True, slots=True)
class AuthoritySlots:
    """Where the authorities of one cloud are kept.  All raise StoreError.

    generations: numbers from 1 of those that are kept.  get: reads one.
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
        """Return what to tell of one that ends soon; "" where it does not."""
        span = self.authority.span
        if fault := span.fault(now):
            return f"The device CA {fault}."
        days = int((span.ends.timestamp() - now) // DAY)
        return f"The device CA ends in {days} days." if days < WARN_DAYS else ""


class AuthorityStore:
    """Reads the authority once, and keeps it in memory: reading its key is slow.

    wall: seconds since the epoch.
    """

    def __init__(self, wall: Callable[[], float]) -> None:
        self.wall = wall
        self._slots: AuthoritySlots | None = None
        self._held: AuthorityGeneration | None = None
        self._warned = 0.0
        self._lock = asyncio.Lock()

    def entrust(self, slots: AuthoritySlots) -> None:
        """Tell where it is kept.  Until then there is none."""
        self._slots = slots

    async def current(self) -> AuthorityGeneration | None:
        """Return what is in use; None where there is none.  Raises StoreError."""
        async with self._lock:
            if self._held is None and self._slots is not None:
                self._held = await self._newest(self._slots)
            return self._held

    async def demand(self) -> AuthorityGeneration:
        """Return what is in use.  Raises StoreError, WrongState."""
        held = await self.current()
        if held is None:
            raise WrongState("There is no device CA yet: make or import one")
        if fault := held.authority.span.fault(self.wall()):
            raise WrongState(f"The device CA {fault}: make or import another")
        self._warn(held)
        return held

    async def look(self) -> None:
        """Read what is in use, and log where it ends soon.  Raises StoreError."""
        held = await self.current()
        if held is not None:
            self._warn(held)

    def expiry(self) -> float | None:
        """Return when the one in use ends, seconds since the epoch; None until it was read."""
        return self._held.authority.span.ends.timestamp() if self._held else None

    def _warn(self, held: AuthorityGeneration) -> None:
        """Log, once a day, that an authority ends soon."""
        now = self.wall()
        text = held.warning(now)
        if text and not self._warned <= now < self._warned + DAY:
            self._warned = now
            log.warning("%s Make or import another: gatewayctl huawei ca.", text)

    async def check_ready(self) -> Reason | None:
        """Tell why nothing could be issued now; None if it could."""
        try:
            held = await self.current()
        except StoreError as error:
            return reason_of(error)
        if held is None:
            return NO_AUTHORITY
        return EXPIRED if held.authority.span.fault(self.wall()) else None

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
                raise WrongState("There is a device CA already: say that it is to be replaced")
            generation = max(generations, default=0) + 1
            await slots.put(generation, authority.secret())
            self._held = AuthorityGeneration(authority, generation)
            return self._held

    async def _newest(self, slots: AuthoritySlots) -> AuthorityGeneration | None:
        for generation in sorted(await slots.generations(), reverse=True):
            try:
                secret = await slots.get(generation)
                return AuthorityGeneration(
                    await asyncio.to_thread(read_authority, secret), generation
                )
            except (SecretNotFound, SecretCorrupt, InvalidArgs):
                continue  # the store has logged what ails the slot
        return None
