"""What keeps one interface's mDNS within bounds, whoever shouts: table, lanes, flood alarm."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial

from gatewayd.discovery.discoverer import Sighting
from gatewayd.discovery.mdns_names import Name

log = logging.getLogger(__name__)

FIRST_PAUSE = 5.0
"""Seconds of the pause after the first flood; doubled after each that follows within minutes."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One name that was resolved.  wanted: whether some rule could match it."""

    name: Name
    wanted: bool
    sighting: Sighting


class Table:
    """The names that were resolved.  When it is full, strangers leave first, then the oldest.

    An old one that leaves is heard again at the next rescan; a new one would stay unseen.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._wanted: OrderedDict[str, Entry] = OrderedDict()
        self._strangers: OrderedDict[str, Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._wanted) + len(self._strangers)

    def __iter__(self) -> Iterator[Entry]:
        yield from self._wanted.values()
        yield from self._strangers.values()

    def get(self, key: str) -> Entry | None:
        """Return the entry of a name."""
        return self._wanted.get(key) or self._strangers.get(key)

    def pop(self, key: str) -> Entry | None:
        """Remove the entry of a name."""
        return self._wanted.pop(key, None) or self._strangers.pop(key, None)

    def put(self, entry: Entry) -> Entry | None:
        """Keep the newest entry of a name; return the one that had to leave, maybe itself."""
        self.pop(entry.name.key)
        (self._wanted if entry.wanted else self._strangers)[entry.name.key] = entry
        if len(self) <= self._limit:
            return None
        return (self._strangers or self._wanted).popitem(last=False)[1]


class Lane:
    """Resolves names, the newest first, some at a time; what waits too long falls out."""

    def __init__(
        self,
        resolve: Callable[[Name], Awaitable[None]],
        drop: Callable[[str], None],
        in_flight: int,
        waiting: int,
    ) -> None:
        self._resolve = resolve
        self._drop = drop
        self._in_flight = in_flight
        self._limit = waiting
        self._waiting: OrderedDict[str, Name] = OrderedDict()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def put(self, name: Name) -> None:
        """Ask for a name to be resolved, unless it already is."""
        if name.key in self._tasks:
            return
        self._waiting[name.key] = name
        self._waiting.move_to_end(name.key)
        self._fill()
        if len(self._waiting) > self._limit:
            self._waiting.popitem(last=False)
            self._drop("queue-full")

    def forget(self, key: str) -> None:
        """Take a name that still waits out of the lane."""
        self._waiting.pop(key, None)

    async def clear(self) -> None:
        """Forget all, and wait for what was under way to end."""
        self._waiting.clear()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _fill(self) -> None:
        while self._waiting and len(self._tasks) < self._in_flight:
            key, name = self._waiting.popitem()
            self._tasks[key] = task = asyncio.create_task(self._run(name))
            task.add_done_callback(partial(self._done, key))

    async def _run(self, name: Name) -> None:
        try:
            await self._resolve(name)
        except Exception as error:  # noqa: BLE001  # the border to zeroconf, which trips over names
            self._drop("resolve-failed")
            log.warning("A name could not be resolved: %s.", type(error).__name__)

    def _done(self, key: str, _: asyncio.Task[None]) -> None:
        del self._tasks[key]
        self._fill()


class Flood:
    """Counts the distinct names of ten minutes, and says for how long to stop listening.

    limit: how many names are too many.  longest: seconds of the longest pause.
    """

    WINDOW = 600.0

    def __init__(self, limit: int, longest: float) -> None:
        self._limit = limit
        self._longest = longest
        self._names: set[int] = set()
        self._since = 0.0
        self._pause = FIRST_PAUSE

    def add(self, key: str, now: float) -> bool:
        """Count one name; return whether they have become too many."""
        if now - self._since >= self.WINDOW:
            self._pause = FIRST_PAUSE
            self._names.clear()
            self._since = now
        self._names.add(hash(key))
        return len(self._names) > self._limit

    def pause(self, now: float) -> float:
        """Return how many seconds to stop listening; begin to count anew after them."""
        seconds = min(self._pause, self._longest)
        self._pause *= 2
        self._names.clear()
        self._since = now + seconds
        return seconds
