"""The life of what listens on one interface: when its sockets are opened, and when again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from gatewayd.discovery.discoverer import Context, Health
from gatewayd.discovery.kernel.interfaces import LanInterface
from gatewayd.errors import DiscoveryRetry

log = logging.getLogger(__name__)

CHECK_EVERY = 15.0
"""Seconds between two checks of what has expired, and until sockets that could not be opened are
opened again, at most."""
FIRST_RETRY = 1.0
"""Seconds until they are opened again, at first."""
REOPEN_EVERY = 0.5
"""Seconds from one opening of the sockets until the next, at least, whatever the interface does."""

Again = Callable[[float, float], float | None]
"""Takes when the sockets were opened, and closed; returns when to open them again, if it is not as
usual."""


def _as_usual(_opened_at: float, _since: float) -> float | None:
    return None


class LinkLife:
    """One interface, and whether what listens there is still bound to what it has.

    what: listens there, for people.  source: of the sightings.  link: returns what the kernel says
    of the interface.  bound: what sockets that are opened now would be bound to.
    moved: whether that has changed since they were opened: then they are deaf.
    failures: how often they could not be opened, or used, one after the other.
    """

    def __init__(  # noqa: PLR0913  # by keyword
        self,
        interface: str,
        what: str,
        *,
        source: str,
        link: Callable[[], LanInterface],
        bound: object,
        context: Context,
        health: Health,
    ) -> None:
        self._interface, self._what, self._source = interface, what, source
        self._link, self._context, self._health = link, context, health
        self._bound, self._opened_at = bound, float("-inf")
        self._wake = asyncio.Event()
        self.moved, self.failures = False, 0

    async def run(
        self, listen: Callable[[LanInterface], Awaitable[None]], again: Again = _as_usual
    ) -> None:
        """Listen again and again, until cancelled.

        listen: opens sockets, and returns when they are to be closed; it may raise OSError or
        DiscoveryRetry.  again: see `Again`; it is asked again whenever this is woken.
        """
        self._context.hook.states[self._source] = self._record
        try:
            while True:
                self.moved = False
                try:
                    await listen(self._link())
                except (OSError, DiscoveryRetry) as error:
                    self.failures += 1
                    self._health.drop("no-socket")
                    where = f"{self._what} on {self._interface}"
                    log.warning("Failed to listen for %s: %s.", where, error,
                                extra={"once": f"{where} {error}"})  # fmt: skip
                await self._pause(again)
        finally:
            self._context.hook.states.pop(self._source, None)

    def bind(self, bound: object) -> None:
        """Note what sockets will be bound to that are about to be opened."""
        self._bound = bound

    def opening(self) -> None:
        """Note that sockets are opened now."""
        self._opened_at = self._context.now()

    def unusable(self) -> None:
        """Note that no socket can be opened, which is no failure."""
        self.failures = 0
        self._health.drop("no-interface")

    def has_moved(self, bound: object) -> bool:
        """Note that the interface has changed; return whether sockets are deaf from now on.

        bound: what they would be bound to now.
        """
        self._record()
        if bound == self._bound:
            return False
        self.moved = True
        self._wake.set()
        return True

    def wake(self) -> None:
        """Have what waits look around."""
        self._wake.set()

    async def wait(self, seconds: float) -> None:
        """Return after some seconds, or when woken."""
        self._wake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def sleep(self, until: float) -> None:
        """Return at a moment, or when the interface has changed."""
        while (left := until - self._context.now()) > 0 and not self.moved:
            await self.wait(left)

    # What is asked of one device there: a failure says nothing of the device.

    def usable_link(self) -> LanInterface:
        """Return what the kernel says of it.  Raises DiscoveryRetry where it cannot be used."""
        link = self._link()
        if not link.is_usable:
            raise DiscoveryRetry(f"{self._interface} is down, or has no address", CHECK_EVERY)
        return link

    def not_asked(self, error: OSError) -> DiscoveryRetry:
        """Return what to raise where a device could not be asked."""
        return DiscoveryRetry(f"{self._interface} cannot be asked: {error.strerror}", CHECK_EVERY)

    def check_unmoved(self, link: LanInterface) -> None:
        """Raise DiscoveryRetry if an answer may have been missed since the kernel said this."""
        if self._link().endpoint != link.endpoint:
            raise DiscoveryRetry(f"{self._interface} has changed meanwhile", CHECK_EVERY)

    async def _pause(self, again: Again) -> None:
        since = self._context.now()
        while (left := self._due(since, again) - self._context.now()) > 0:
            await self.wait(left)

    def _due(self, since: float, again: Again) -> float:
        """Return when to open sockets again.  since: when they were closed."""
        if self.moved:
            return self._opened_at + REOPEN_EVERY
        if (due := again(self._opened_at, since)) is not None:
            return due
        if self.failures:
            return since + min(FIRST_RETRY * (1 << min(self.failures - 1, 8)), CHECK_EVERY)
        return since + CHECK_EVERY

    def _record(self) -> None:
        if (observe := self._context.hook.observe) is not None:
            observe("interface", self._context.now(), self._link().facts)
