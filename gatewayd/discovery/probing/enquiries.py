"""What is asked of single devices, beyond their answers: who is next, and what it has added."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from gatewayd.device.identity import Claim
from gatewayd.discovery.probing.protocol import Found, UnreadableAnswer
from gatewayd.runtime.tasks import cancel_and_wait

log = logging.getLogger(__name__)

AT_ONCE = 4
"""Devices that are enquired at the same time, one for each address."""
MAX_WAITING = 64
"""Devices that wait for that; the oldest are dropped, until they answer again."""
AGAIN = 600.0
"""Seconds until a device is enquired again, after it has answered again."""
LONGEST = 10.0
"""Seconds that an enquiry may take."""
MAX_LISTED = 256
"""Devices that one may list."""

Where = tuple[str, str]
"""A device: its key, and the address that it has answered from."""
Enquire = Callable[[Found, str], Awaitable[Sequence[Found]]]
"""Asks a device at an address.  Raises OSError, UnreadableAnswer."""
Report = Callable[[Found, str], object]
"""Called with a device and an address."""


@dataclass(frozen=True, slots=True)
class EnquiredFacts:
    """What an enquiry has added to what the answers of a device say.

    at: when it was enquired, seconds of the event loop's clock.
    """

    at: float
    claims: frozenset[Claim] = frozenset()
    attributes: Mapping[str, str] | None = None
    label: str = ""
    port: int | None = None

    def added_to(self, found: Found) -> Found:
        """Return a device with these facts.  What its answer says goes first."""
        return replace(
            found,
            claims=found.claims | self.claims,
            attributes={**(self.attributes or {}), **found.attributes},
            label=self.label or found.label,
            port=found.port or self.port,
        )


def facts_between(before: Found, after: Found, at: float) -> EnquiredFacts:
    """Return what an enquiry has added."""
    return EnquiredFacts(
        at,
        after.claims - before.claims,
        {key: text for key, text in after.attributes.items() if key not in before.attributes},
        after.label if after.label != before.label else "",
        after.port if before.port is None else None,
    )


class EnquiryQueue:
    """The enquiries of one interface.

    limit: for how many devices is kept what was added; the oldest leave.
    enquire: asks.  report: called with what was found so.  drop: counts what failed, by cause.
    now: the event loop's clock, seconds.
    """

    def __init__(
        self,
        limit: int,
        *,
        enquire: Enquire,
        report: Report,
        drop: Callable[[str, Where], None],
        now: Callable[[], float],
    ) -> None:
        self._limit, self._enquire, self._report = limit, enquire, report
        self._drop, self._now = drop, now
        self._facts: OrderedDict[Where, EnquiredFacts] = OrderedDict()
        self._waiting: OrderedDict[Where, Found] = OrderedDict()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def completed(self, found: Found, address: str, places: Collection[str]) -> Found:
        """Return a device with what was enquired of it.

        address: where it has answered from.  places: where it is; at another address of the same
        family, it may be another device.
        """
        facts = self._known(found.key, address, places)
        return facts.added_to(found) if facts else found

    def put(self, found: Found, address: str, places: Collection[str]) -> None:
        """Have a device enquired, unless it was not long ago.  found: as it has answered."""
        facts, elsewhere = self._known(found.key, address, places), _others(address, places)
        if facts is not None and self._now() - facts.at < AGAIN:
            return
        if any((found.key, one) in self._waiting for one in elsewhere):
            return
        self._waiting[found.key, address] = found
        self._fill()
        if len(self._waiting) > MAX_WAITING:
            self._drop("enquiry-queue-full", self._waiting.popitem(last=False)[0])

    async def clear(self) -> None:
        """Enquire none that wait, and end what is under way."""
        self._waiting.clear()
        await cancel_and_wait(self._tasks.values())

    def _known(self, key: str, address: str, places: Collection[str]) -> EnquiredFacts | None:
        known = (self._facts.get((key, one)) for one in (address, *_others(address, places)))
        return next((one for one in known if one is not None), None)

    def _fill(self) -> None:
        """Start what may be enquired now, first come, first served."""
        for where in tuple(self._waiting):
            if len(self._tasks) >= AT_ONCE:
                return
            if where[1] in self._tasks:
                continue
            found, before = self._waiting.pop(where), self._facts.get(where, EnquiredFacts(0.0))
            self._keep(where, replace(before, at=self._now()))
            self._tasks[where[1]] = task = asyncio.create_task(self._run(where, found))
            task.add_done_callback(partial(self._done, where[1]))

    def _done(self, address: str, _: asyncio.Task[None]) -> None:
        del self._tasks[address]
        self._fill()

    async def _run(self, where: Where, found: Found) -> None:
        try:
            async with asyncio.timeout(LONGEST):
                shown = (await self._enquire(found, where[1]))[: MAX_LISTED + 1]
        except (OSError, UnreadableAnswer) as error:  # a time-out is an OSError, too
            cause = error.cause if isinstance(error, UnreadableAnswer) else "enquiry-failed"
            self._drop(cause, where)
            return
        except Exception as error:  # noqa: BLE001  # the border to a parser of hostile answers
            self._drop("enquiry-failed", where)
            kind = type(error).__name__
            log.warning("Failed to read what was enquired: %s.", kind, extra={"once": kind})
            return
        for one in shown:
            if one.key == found.key:
                self._keep(where, facts_between(found, one, self._now()))
            self._report(one, where[1])

    def _keep(self, where: Where, facts: EnquiredFacts) -> None:
        self._facts[where] = facts
        self._facts.move_to_end(where)
        if len(self._facts) > self._limit:
            self._facts.popitem(last=False)


def _others(address: str, places: Collection[str]) -> tuple[str, ...]:
    """Return those of some addresses that are of the other family."""
    return tuple(one for one in places if (":" in one) != (":" in address))
