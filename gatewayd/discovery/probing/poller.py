"""The mechanism of sources that ask listed hosts: one device at a time, paced, and bounded.

What is asked, and what an answer says, is the protocol's.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Protocol

from gatewayd.discovery.discoverer import Context, Health, Sighting, Sink
from gatewayd.discovery.kernel.routes import interface_to
from gatewayd.discovery.probing.hosts import PollSettings, addresses_of, size_of
from gatewayd.discovery.probing.protocol import (
    SUSPECT,
    Found,
    Transmission,
    UnreadableAnswer,
)
from gatewayd.discovery.probing.table import FoundPlace, FoundTable
from gatewayd.errors import ConfigError, DiscoveryRetry
from gatewayd.runtime.tasks import cancel_and_wait

log = logging.getLogger(__name__)

GAP = 1.0
"""Seconds between the beginnings of two visits, whatever they are for."""
VISIT = 3.0
"""Seconds that a visit may take: some devices accept one connection, which is free again then."""
VERIFY = 1.8
"""Seconds of a visit that verifies a device; its turn may take TURN before."""
TURN = 1.1
REST = 3600.0
"""Seconds for which a host is left alone that has refused to be asked."""
TWICE = 2
"""Refusals in a row by which a host counts as one that does not answer."""
LIFETIME = 2.5
"""Rounds for which a device is believed."""
EXPIRE_EVERY = 10.0
"""Seconds between two looks for devices that were not found again."""
MAX_FURTHER = 8
"""Parts of a host that are visited because the host has named them."""
MAX_INTERFACES = 64
"""Interfaces by which hosts are reached."""
ROUND_SPREAD = 0.2
"""The share of the time between two rounds within which it varies."""


class BusyAnswer(UnreadableAnswer):
    """An answer by which a device says that it cannot be asked now."""


@dataclass(frozen=True, slots=True)
class HostQuestion:
    """What is sent to each host, for `gatewayctl discover --dry-run`.

    to: as "port 502 by TCP".  size: bytes of the payload.  purpose: in a few words.
    """

    to: str
    size: int
    purpose: str


@dataclass(frozen=True, slots=True)
class HostVisit:
    """What a visit has found.

    found: the devices.  further: parts of the same host that it has named, to be visited, too.
    dropped: counters of what was not believed, by kebab-case cause.
    """

    found: Sequence[Found]
    further: Sequence[str] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)


class HostProtocol(Protocol):
    """One protocol in which listed hosts are asked.

    kind: of the discoverer, as "modbus": the attribute "source".
    parts: what is asked of each host in visits of their own, as the numbers of units.
    questions: what a round sends to each host.
    """

    kind: str
    parts: Sequence[str]
    questions: Sequence[HostQuestion]

    async def visit(self, address: str, part: str, context: Context) -> HostVisit:
        """Ask one part of a host.  The key of each device is made by `device_key`.

        It is cancelled after some seconds, and leaves no connection open.
        address: an IP address, a link-local one of IPv6 with its interface, "fe80::1%lan0".
        Raises ConnectionError if the host refuses to be asked, another OSError if nothing answers,
        BusyAnswer, UnreadableAnswer.
        """


def device_key(address: str, part: str) -> str:
    """Return the key of a device.  part: of its host; "" if there is one only."""
    return f"{address}/{part}" if part else address


class Turnstile:
    """The turnstile before all hosts of a source: one visit at a time, and a gap between two.

    gap: seconds from the beginning of one visit to that of the next.
    """

    def __init__(self, gap: float) -> None:
        self._gap, self._last = gap, float("-inf")
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def turn(self, now: Callable[[], float]) -> AsyncIterator[None]:
        """Wait for a turn as long as it takes, and have it until the block ends.

        Who is in a hurry goes before: nothing is held up by a wait for the gap.
        """
        while True:
            await asyncio.sleep(self._left(now))
            async with self._lock:
                if not self._left(now):
                    self._last = now()
                    yield
                    return

    @asynccontextmanager
    async def soon(self, now: Callable[[], float], patience: float) -> AsyncIterator[None]:
        """Wait for a turn at most so many seconds.  Raises TimeoutError."""
        async with asyncio.timeout(patience):
            await self._lock.acquire()
            try:
                await asyncio.sleep(self._left(now))
            except BaseException:
                self._lock.release()
                raise
        try:
            self._last = now()
            yield
        finally:
            self._lock.release()

    def _left(self, now: Callable[[], float]) -> float:
        return max(self._last + self._gap - now(), 0.0)


class Outcome(Enum):
    """How a visit has ended."""

    ANSWERED = auto()
    UNREADABLE = auto()  # it has answered what says nothing
    BUSY = auto()  # it says that it cannot be asked now
    REFUSED = auto()  # it refuses to be asked
    SILENT = auto()  # nothing has answered


@dataclass(slots=True)
class _Refusal:
    """That a host has refused to be asked.  times: how often in a row; until: when it is asked."""

    until: float
    times: int = 1


class HostPoller:
    """A discoverer that asks listed hosts.  That of each protocol is made from it.

    gap: seconds between the beginnings of two visits.  Raises ConfigError.
    """

    def __init__(
        self, name: str, settings: PollSettings, protocol: HostProtocol, *, gap: float = GAP
    ) -> None:
        for problem in settings.problems():
            raise ConfigError(f"{name}: {problem}")
        self.name = name
        self.health = Health()
        self._settings, self._protocol = settings, protocol
        self._addresses = addresses_of(settings.hosts)
        self._turnstile = Turnstile(gap)
        self._refusals: dict[str, _Refusal] = {}
        self._tables: dict[str, FoundTable] = {}
        self._reached: set[tuple[str, str | None]] = set()  # since the start; None: all parts
        self._again = asyncio.Event()
        self._context: Context | None = None

    def transmissions(self) -> Sequence[Transmission]:
        """Return what is sent to the hosts of each entry of the list, and to one device."""
        every, questions = self._settings.probe_every, self._protocol.questions
        regular = [
            Transmission(f"{_whom(listed)} {one.to}", "", every, one.size, one.purpose)
            for listed in self._settings.hosts
            for one in questions
        ]
        size = sum(one.size for one in questions)
        return [*regular, Transmission("the device", "", 0.0, size, "the same", SUSPECT)]

    async def run(self, context: Context, sink: Sink) -> None:
        """Ask all hosts, round after round, until cancelled."""
        self._context = context
        expiring = asyncio.create_task(self._expire(), name=f"{self.name}/expire")
        try:
            while True:
                began = context.now()
                self._again.clear()
                await self._round(context, sink)
                await self._rest(context, began)
        finally:
            await cancel_and_wait([expiring])
            for table in self._tables.values():
                table.stop()
            self._tables, self._context = {}, None
            self._reached.clear()

    async def verify(self, sighting: Sighting) -> Sighting | None:
        """Ask one device, in at most 3 s; None if it does not answer.

        A host that has refused to be asked is not asked again so soon; if it refuses once more
        then, it counts as one that does not answer.
        Raises DiscoveryRetry if others are asked, the first round has not reached its host, or it
        is busy: this says nothing of the device.
        """
        context, table = self._context, self._tables.get(sighting.interface)
        address, _, part = sighting.key.partition("/")
        if context is None or address not in self._addresses:
            return None
        if {(address, part), (address, None)}.isdisjoint(self._reached):
            raise DiscoveryRetry(f"{self.name} has not asked {address} yet", GAP)
        if table is None or not self._may_ask(address, part, table):
            return None
        outcome, visit = await self._verified(address, part, context)
        refusal = self._refusals.get(address)
        if outcome is Outcome.BUSY or (
            outcome is Outcome.REFUSED and refusal and refusal.times < TWICE
        ):
            raise DiscoveryRetry(f"{self.name}: a device cannot be asked now", GAP)
        same = next((one for one in visit.found if one.key == sighting.key), None)
        if same is None or await interface_to(address) != sighting.interface:
            return None
        return table.confirm(same, (address,))

    async def rescan(self) -> None:
        """Ask all hosts, but for those that have refused to be asked."""
        for table in self._tables.values():
            table.renew()
        self._again.set()

    def _may_ask(self, address: str, part: str, table: FoundTable) -> bool:
        """Whether a device is at a part of a host that is asked or was found."""
        return part in self._protocol.parts or table.get(device_key(address, part)) is not None

    async def _verified(
        self, address: str, part: str, context: Context
    ) -> tuple[Outcome, HostVisit]:
        """Visit a host soon.  Raises DiscoveryRetry if others are visited meanwhile."""
        if self._is_left_alone(address, context):
            return Outcome.REFUSED, HostVisit(())
        try:
            async with self._turnstile.soon(context.now, TURN):
                return await self._visit(address, part, VERIFY, context)
        except TimeoutError:
            raise DiscoveryRetry(f"{self.name} asks other devices", GAP) from None

    async def _round(self, context: Context, sink: Sink) -> None:
        """Visit all parts of all hosts."""
        most = len(self._protocol.parts) + MAX_FURTHER
        for address in self._addresses:
            parts = list(self._protocol.parts)
            for part in parts:  # it grows by what the host names
                if self._is_left_alone(address, context):
                    break
                async with self._turnstile.turn(context.now):
                    _, visit = await self._visit(address, part, VISIT, context)
                self._reached.add((address, part))
                await self._report(address, visit.found, context, sink)
                new = [one for one in dict.fromkeys(visit.further) if one not in parts]
                parts += new[: most - len(parts)]
            self._reached.add((address, None))

    async def _visit(
        self, address: str, part: str, seconds: float, context: Context
    ) -> tuple[Outcome, HostVisit]:
        try:
            async with asyncio.timeout(seconds):
                visit = await self._protocol.visit(address, part, context)
        except BusyAnswer as answer:
            self.health.drop(answer.cause, sender=address)
            return Outcome.BUSY, HostVisit(())
        except UnreadableAnswer as answer:
            self.health.drop(answer.cause, sender=address)
            return Outcome.UNREADABLE, HostVisit(())
        except ConnectionError:
            self._note_refusal(address, context)
            return Outcome.REFUSED, HostVisit(())
        except OSError as error:  # a time-out is one, too
            if error.errno in (errno.EPERM, errno.EACCES):
                self.health.drop("not-permitted", sender=address)
            return Outcome.SILENT, HostVisit(())
        except Exception as error:  # noqa: BLE001  # the border to a parser of hostile answers
            self.health.drop("packet-failed", sender=address)
            kind = type(error).__name__
            log.warning("Failed to read what a host answers to %s: %s.", self._protocol.kind, kind,
                        extra={"once": f"{self._protocol.kind} {kind}"})  # fmt: skip
            return Outcome.UNREADABLE, HostVisit(())
        self._refusals.pop(address, None)
        for cause, times in visit.dropped.items():
            for _ in range(times):
                self.health.drop(cause, sender=address)
        return Outcome.ANSWERED, visit

    def _note_refusal(self, address: str, context: Context) -> None:
        self.health.drop("refused", sender=address)
        before = self._refusals.get(address)
        times = before.times + 1 if before else 1
        self._refusals[address] = _Refusal(context.now() + REST, times)

    def _is_left_alone(self, address: str, context: Context) -> bool:
        refusal = self._refusals.get(address)
        return refusal is not None and context.now() < refusal.until

    async def _report(
        self, address: str, found: Sequence[Found], context: Context, sink: Sink
    ) -> None:
        if not found:
            return
        interface = await interface_to(address)
        table = self._tables.get(interface)
        if table is None and len(self._tables) < MAX_INTERFACES:
            place = FoundPlace(self._protocol.kind, self.name, interface)
            limit = len(self._addresses) * (len(self._protocol.parts) + MAX_FURTHER)
            table = self._tables[interface] = FoundTable(
                place,
                limit=limit,
                lifetime=LIFETIME * self._settings.probe_every,
                context=context,
                sink=sink,
                health=self.health,
            )
        if table is None:
            self.health.drop("table-full", interface=interface, sender=address)
            return
        for one in found:
            await sink.room()
            table.add(one, (address,))

    async def _expire(self) -> None:
        """Report what was not found again in time."""
        while True:
            await asyncio.sleep(EXPIRE_EVERY)
            for table in self._tables.values():
                table.expire()

    async def _rest(self, context: Context, began: float) -> None:
        """Wait for the next round."""
        spread = 1 + ROUND_SPREAD * (context.jitter() - 0.5)
        left = began + spread * self._settings.probe_every - context.now()
        try:
            async with asyncio.timeout(max(left, 0.0)):
                await self._again.wait()
        except TimeoutError:
            pass  # it is time


def _whom(listed: str) -> str:
    many = size_of(listed)
    return listed if many == 1 else f"each of {many} addresses of {listed},"
