"""Runs the discoverers: each in a task of its own, restarted when it asks for that.

Looks for devices anew when somebody asks for it, for a while.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from gatewayd.discovery.discoverer import Context, Discoverer, Sighting, Sink
from gatewayd.errors import DiscoveryFatal, DiscoveryRetry, InvalidArgs
from gatewayd.runtime.tasks import is_cancelled

log = logging.getLogger(__name__)

RESTART_DELAY = 60.0
"""Seconds until a discoverer that broke is started again."""


class Supervisor:
    """Keeps the named discoverers running, and finds the one that a sighting came from."""

    def __init__(self, discoverers: Sequence[Discoverer], context: Context) -> None:
        self._discoverers: Mapping[str, Discoverer] = {one.name: one for one in discoverers}
        self._context = context
        self.faults: dict[str, str] = {}

    async def run(self, sink: Sink) -> None:
        """Run all, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for one in self._discoverers.values():
                group.create_task(self._keep(one, sink), name=f"discover {one.name}")

    @property
    def names(self) -> tuple[str, ...]:
        """The discoverers."""
        return tuple(self._discoverers)

    async def rescan(self, name: str) -> None:
        """Have one discoverer look again for all, as if just started; nothing if it cannot now."""
        if name in self.faults:
            return
        try:
            await self._discoverers[name].rescan()
        except Exception:  # border: a plug-in's fault must not end what asked for it
            log.exception("Discovery by %s could not look again.", name)

    async def verify(self, sighting: Sighting) -> Sighting | None:
        """Look again for one device, with the discoverer that saw it.

        Raises DiscoveryRetry where nobody can look: that says nothing of the device.
        """
        name = sighting.source.partition("/")[0]
        discoverer = self._discoverers.get(name)
        if discoverer is None or name in self.faults:
            raise DiscoveryRetry(f"{name} cannot look now", RESTART_DELAY)
        return await discoverer.verify(sighting)

    def counters(self) -> dict[str, int]:
        """Return what each discoverer counted, as "mdns:dropped:oversized"."""
        counted = {}
        for name, one in self._discoverers.items():
            health = one.health
            counted[f"{name}:sighted"] = health.sighted
            counted[f"{name}:lost"] = health.lost
            counted[f"{name}:entries"] = health.entries
            counted |= {f"{name}:dropped:{cause}": n for cause, n in health.dropped.items()}
        return counted

    async def _keep(self, discoverer: Discoverer, sink: Sink) -> None:
        name = discoverer.name
        while True:
            try:
                self.faults.pop(name, None)
                await discoverer.run(self._context, sink)
                after = RESTART_DELAY
            except DiscoveryFatal as error:
                self.faults[name] = str(error)
                log.error("Discovery by %s is not possible here: %s", name, error)  # noqa: TRY400  # expected
                return
            except DiscoveryRetry as error:
                self.faults[name], after = str(error), error.after
                log.warning("Discovery by %s waits: %s", name, error, extra={"once": str(error)})
            except (Exception, asyncio.CancelledError):  # border: a plug-in's fault must not stop
                # the others, nor pass for the end that was asked for
                if is_cancelled():
                    raise
                self.faults[name], after = "it broke; the journal says how", RESTART_DELAY
                log.exception("Discovery by %s broke.", name)
            await asyncio.sleep(after)


RESCAN_EVERY = 15.0
"""Seconds from one look to the next."""

MAX_SCAN = 900


class Scan:
    """Has discoverers look again, as long as somebody wants it.

    names: of the discoverers.  rescan: has one look again for all.
    now: the event loop's clock, seconds.
    """

    def __init__(
        self,
        names: Collection[str],
        rescan: Callable[[str], Awaitable[None]],
        now: Callable[[], float],
    ) -> None:
        self._names, self._rescan, self._now = names, rescan, now
        self._wanted: Sequence[str] = ()
        self._until = 0.0
        self._called = asyncio.Event()

    def begin(self, seconds: int, names: Sequence[str]) -> None:
        """Look now and again for so many seconds, instead of what was wanted before; 0 ends it.

        names: of the discoverers that are to look; none for all.  Raises InvalidArgs.
        """
        if seconds > MAX_SCAN:
            raise InvalidArgs(f"Discovery looks for at most {MAX_SCAN} s")
        if not set(names) <= set(self._names):
            raise InvalidArgs(f"A protocol is one of {', '.join(sorted(self._names)) or 'none'}")
        self._wanted = tuple(dict.fromkeys(names)) or tuple(self._names)
        self._until = self._now() + seconds
        self._called.set()

    async def run(self) -> None:
        """Look when it is wanted, until cancelled."""
        while True:
            await self._called.wait()
            self._called.clear()
            while (left := self._until - self._now()) > 0:
                for name in self._wanted:
                    await self._rescan(name)
                await self._pause(min(left, RESCAN_EVERY))

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._called.wait()
        except TimeoutError:
            return
        self._called.clear()
