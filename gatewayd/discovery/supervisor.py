"""Runs the discoverers: each in a task of its own, restarted when it asks for that."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

from gatewayd.discovery.discoverer import Context, Discoverer, Sighting, Sink
from gatewayd.errors import DiscoveryFatal, DiscoveryRetry

log = logging.getLogger(__name__)

AFTER_A_FAULT = 60.0
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
            raise DiscoveryRetry(f"{name} cannot look now", AFTER_A_FAULT)
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
                after = AFTER_A_FAULT
            except DiscoveryFatal as error:
                self.faults[name] = str(error)
                log.error("Discovery by %s is not possible here: %s", name, error)  # noqa: TRY400  # expected
                return
            except DiscoveryRetry as error:
                self.faults[name], after = str(error), error.after
                log.warning("Discovery by %s waits: %s", name, error, extra={"once": str(error)})
            except (Exception, asyncio.CancelledError):  # border: a plug-in's fault must not stop
                # the others, nor pass for the end that was asked for
                if _is_cancelled():
                    raise
                self.faults[name], after = "it broke; the journal says how", AFTER_A_FAULT
                log.exception("Discovery by %s broke.", name)
            await asyncio.sleep(after)


def _is_cancelled() -> bool:
    """Whether the running task was told to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
