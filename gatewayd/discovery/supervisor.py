"""The supervision of the discoverers: each runs in a task, and is restarted after a fault.

A scan has them ask for all devices again for a while, when an operator requests it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence

from gatewayd.discovery.diagnosis.refusals import Refusal
from gatewayd.discovery.discoverer import Context, Discoverer, Sighting, Sink
from gatewayd.discovery.sanitize import refused_name
from gatewayd.errors import DiscoveryFatal, DiscoveryRetry, InvalidArgs
from gatewayd.runtime.tasks import is_cancelled

log = logging.getLogger(__name__)

RESTART_DELAY = 60.0
"""Seconds until a discoverer that failed is started again."""
RESCAN_EVERY = 15.0
"""Seconds between two rescans of a scan."""
MAX_SCAN = 900
"""Seconds of the longest scan."""


class _OwnSink:
    """The sink as one discoverer has it: what other discoverers report takes no room from it."""

    def __init__(self, sink: Sink, name: str) -> None:
        self._sink, self._name = sink, name
        self.sight, self.lose = sink.sight, sink.lose

    async def room(self, name: str = "") -> None:
        await self._sink.room(name or self._name)


class Supervisor:
    """The supervisor of the discoverers: it runs them, and verifies sightings by their source.

    faults: why a discoverer does not run now, by its name.
    """

    def __init__(self, discoverers: Sequence[Discoverer], context: Context) -> None:
        self._discoverers: Mapping[str, Discoverer] = {one.name: one for one in discoverers}
        self._context = context
        self.faults: dict[str, str] = {}

    async def run(self, sink: Sink) -> None:
        """Run all discoverers, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for one in self._discoverers.values():
                group.create_task(self._keep(one, sink), name=f"discover {one.name}")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the discoverers."""
        return tuple(self._discoverers)

    async def rescan(self, name: str) -> None:
        """Have one discoverer ask for all devices, unless it does not run now."""
        if name in self.faults:
            return
        try:
            await self._discoverers[name].rescan()
        except Exception:  # border: a plug-in's fault must not end the scan
            log.exception("Discoverer %s failed to rescan.", name)

    async def verify(self, sighting: Sighting) -> Sighting | None:
        """Ask one device for a fresh sighting, by the discoverer that saw it.

        Raises DiscoveryRetry if that discoverer does not run: this says nothing of the device.
        """
        name = sighting.source.partition("/")[0]
        discoverer = self._discoverers.get(name)
        if discoverer is None or name in self.faults:
            raise DiscoveryRetry(f"discoverer {name} does not run", RESTART_DELAY)
        return await discoverer.verify(sighting)

    def counters(self) -> dict[str, int]:
        """Return the counters of each discoverer, by names like "mdns:dropped:oversized"."""
        counted = {}
        for name, one in self._discoverers.items():
            health = one.health
            counted[f"{name}:sighted"] = health.sighted
            counted[f"{name}:lost"] = health.lost
            counted[f"{name}:entries"] = health.entries
            counted |= {f"{name}:dropped:{cause}": n for cause, n in health.dropped.items()}
        return counted

    def refusals(self, now: float) -> Iterator[Refusal]:
        """Yield what was refused since this was called last, fit to be shown."""
        for name, one in self._discoverers.items():
            for cause, (interface, sender, refused), times in one.health.refused.take():
                yield Refusal(now, name, interface, sender, refused_name(refused), cause, times)

    async def _keep(self, discoverer: Discoverer, sink: Sink) -> None:
        name = discoverer.name
        while True:
            try:
                self.faults.pop(name, None)
                await discoverer.run(self._context, _OwnSink(sink, name))
                after = RESTART_DELAY
            except DiscoveryFatal as error:
                self.faults[name] = str(error)
                log.error("Discoverer %s cannot run: %s", name, error)  # noqa: TRY400  # expected
                return
            except DiscoveryRetry as error:
                self.faults[name], after = str(error), error.after
                log.warning("Discoverer %s waits: %s", name, error, extra={"once": str(error)})
            except (Exception, asyncio.CancelledError):  # border: a plug-in's fault must not stop
                # the others, nor be taken for a cancellation of this task
                if is_cancelled():
                    raise
                self.faults[name], after = "it failed; see the journal", RESTART_DELAY
                log.exception("Discoverer %s failed.", name)
            await asyncio.sleep(after)


def is_isolated(plugin: object) -> bool:
    """Whether a discoverer, or its class, is to run in the discovery helper."""
    return bool(getattr(plugin, "isolated", True))


class Scan:
    """A scan: rescans by some discoverers, again and again for a while.

    names: of all discoverers.  rescan: has the named one ask for all devices.
    now: the event loop's clock, seconds.
    """

    def __init__(
        self,
        names: Collection[str],
        rescan: Callable[[str], Awaitable[None]],
        now: Callable[[], float],
    ) -> None:
        self._names, self._rescan, self._now = names, rescan, now
        self._scanning: Sequence[str] = ()
        self._until = 0.0
        self._requested = asyncio.Event()

    def begin(self, seconds: int, names: Sequence[str]) -> None:
        """Scan for so many seconds, instead of the scan that runs; 0 ends it.

        names: of the discoverers to scan with; none for all.  Raises InvalidArgs.
        """
        if seconds > MAX_SCAN:
            raise InvalidArgs(f"A scan lasts at most {MAX_SCAN} s")
        if not set(names) <= set(self._names):
            raise InvalidArgs(
                f"Unknown protocol: choose from {', '.join(sorted(self._names)) or 'none'}"
            )
        self._scanning = tuple(dict.fromkeys(names)) or tuple(self._names)
        self._until = self._now() + seconds
        self._requested.set()

    async def run(self) -> None:
        """Scan when requested, until cancelled."""
        while True:
            await self._requested.wait()
            self._requested.clear()
            while (left := self._until - self._now()) > 0:
                for name in self._scanning:
                    await self._rescan(name)
                await self._pause(min(left, RESCAN_EVERY))

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._requested.wait()
        except TimeoutError:
            return
        self._requested.clear()
