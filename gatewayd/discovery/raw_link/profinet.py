"""The discoverer of PROFINET devices, which have no need of IP to be found.

It opens no raw socket: the link helper asks, a process of its own, and passes answers on.
"""

from __future__ import annotations

import asyncio
import errno
import math
import os
import socket
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import ClassVar

from gatewayd.discovery.discoverer import Context, Health, Sighting, Sink
from gatewayd.discovery.probing.protocol import SUSPECT, Found, Transmission, UnreadableAnswer
from gatewayd.discovery.probing.settings import ProbingSettings
from gatewayd.discovery.probing.table import FoundPlace, FoundTable
from gatewayd.discovery.protocols.profinet import read_answer
from gatewayd.discovery.raw_link.frames import (
    MAX_FRAME,
    MAX_INTERFACES,
    SENDER,
    LinkEvent,
    LinkReport,
    ask_message,
    identify_all,
)
from gatewayd.errors import ConfigError, DiscoveryRetry
from gatewayd.runtime.tasks import cancel_and_wait
from gatewayd.settings.declare import setting

KIND = "profinet"
SOCKET = "/run/gatewayd-link.socket"
REMEDIES = {
    errno.ENOENT: "run systemctl start gatewayd-link.socket",
    errno.EACCES: "start gatewayd by its units, as none but their discovery helper may use it",
}
LATER = "it is tried again"
RETRY = 15.0
"""Seconds until it is tried again where the helper, or an interface, could not be used."""
CHECK_EVERY = 15.0
"""Seconds between two checks of what has expired."""
SILENCE = 5.0
"""Seconds in which the helper says that it has asked; it waits for one at most."""
VERIFY = 2.9
"""Seconds in which one device has answered, if it is there: until the helper may ask, and then as
long as a device may take."""
ROUNDS = 2.5
"""Rounds of questions until a device that answers none is believed to be gone."""

_MESSAGE = MAX_FRAME + 2  # bytes: the event, and the number of the interface


@dataclass(frozen=True, slots=True)
class ProfinetSettings(ProbingSettings):
    """[discovery.<name>] with kind = "profinet".  The bounds hold for each interface."""

    helper: str = setting(SOCKET, "the socket of the link helper, which sends and receives frames")

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with the settings as a whole."""
        yield from super(ProfinetSettings, self).problems()
        if len(self.interfaces) > MAX_INTERFACES:
            yield f"interfaces must name at most {MAX_INTERFACES}; use another table for the rest"


class Profinet:
    """The discoverer, with a `FoundTable` for each interface.  Raises ConfigError."""

    port_version: ClassVar[str] = "1.0"
    Settings: ClassVar[type] = ProfinetSettings

    def __init__(self, name: str, settings: ProfinetSettings) -> None:
        for problem in settings.problems():
            raise ConfigError(f"{name}: {problem}")
        self.name = name
        self.health = Health()
        self._settings = settings
        self._interfaces = tuple(dict.fromkeys(settings.interfaces))
        self._run: _LinkRun | None = None

    def transmissions(self) -> Sequence[Transmission]:
        """Return what is sent, on each interface."""
        to, size = "01:0e:cf:00:00:00 by Ethernet, type 0x8892", len(identify_all(bytes(6), 0))
        return [
            Transmission(to, one, every, size, "all devices, by DCP Identify-All", occasion)
            for one in self._interfaces
            for every, occasion in ((self._settings.probe_every, ""), (0.0, SUSPECT))
        ]

    async def run(self, context: Context, sink: Sink) -> None:
        """Ask on each interface, again and again.  Raises DiscoveryRetry."""
        tables = {one: self._table(one, context, sink) for one in self._interfaces}
        try:
            async with link_client(self._settings.helper, self._interfaces) as link:
                self._run = _LinkRun(self.name, link, tables, context, self.health)
                await self._run.serve(self._settings.probe_every)
        except OSError as error:
            remedy = REMEDIES.get(error.errno or 0, LATER)
            raise DiscoveryRetry(
                f"{self.name}: the link helper cannot be used: {_text(error)}; {remedy}", RETRY
            ) from error
        finally:
            self._run = None
            for table in tables.values():
                table.stop()

    async def verify(self, sighting: Sighting) -> Sighting | None:
        """Ask all devices, as the helper can do nothing else; return what this one answers.

        Raises DiscoveryRetry if they cannot be asked now.
        """
        if self._run is None or sighting.interface not in self._interfaces:
            raise DiscoveryRetry(f"{self.name} cannot ask there now", RETRY)
        return await self._run.verify(sighting)

    async def rescan(self) -> None:
        """Ask all devices."""
        if self._run is not None:
            self._run.rescan()

    def _table(self, interface: str, context: Context, sink: Sink) -> FoundTable:
        return FoundTable(
            FoundPlace(KIND, self.name, interface),
            limit=self._settings.max_entries,
            lifetime=ROUNDS * self._settings.probe_every,
            context=context,
            sink=sink,
            health=self.health,
        )


class _LinkSide:
    """One interface of a connection.

    number: as the helper knows it.  wake: ends the pause.  reported: whether the helper has said
    what became of the last question.  asked_at: when it was asked last.  fault: errno, why not.
    """

    def __init__(self, number: int, table: FoundTable) -> None:
        self.number, self.table = number, table
        self.wake, self.reported = asyncio.Event(), asyncio.Event()
        self.asked_at, self.fault = -math.inf, 0
        self.awaited: dict[asyncio.Future[Sighting | None], str] = {}

    def answer(self, found: Found) -> None:
        """Report what was found, to those who await it or to all."""
        waiting = [one for one, key in self.awaited.items() if key == found.key and not one.done()]
        if not waiting:
            self.table.add(found, sender=found.key)
            return
        confirmed = self.table.confirm(found, ())
        for one in waiting:
            one.set_result(confirmed)


class _LinkRun:
    """One connection to the link helper, while it lasts."""

    def __init__(
        self,
        name: str,
        link: LinkClient,
        tables: Mapping[str, FoundTable],
        context: Context,
        health: Health,
    ) -> None:
        self._name, self._link, self._context, self._health = name, link, context, health
        self._sides = {one: _LinkSide(n, table) for n, (one, table) in enumerate(tables.items())}

    async def serve(self, every: float) -> None:
        """Ask and read until cancelled.  Raises DiscoveryRetry, OSError."""
        asking = (self._ask_again(one, side, every) for one, side in self._sides.items())
        tasks = [asyncio.create_task(one) for one in (self._read(), self._expire(), *asking)]
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for one in ended:
                one.result()
        finally:
            await cancel_and_wait(tasks)

    def rescan(self) -> None:
        """Ask now, and report all that answer."""
        for side in self._sides.values():
            side.table.renew()
            side.wake.set()

    async def verify(self, known: Sighting) -> Sighting | None:
        """Ask, and return what one device answers.  Raises DiscoveryRetry."""
        began, side = self._context.now(), self._sides[known.interface]
        answered: asyncio.Future[Sighting | None] = asyncio.get_running_loop().create_future()
        side.awaited[answered] = known.key
        try:
            await self._link.ask(side.number)
            await asyncio.wait((answered,), timeout=VERIFY)
        except OSError as error:
            raise self._could_not_ask(known.interface) from error
        finally:
            del side.awaited[answered]
        if not answered.done() and side.asked_at < began:
            raise self._could_not_ask(known.interface)
        return answered.result() if answered.done() else None

    def _could_not_ask(self, interface: str) -> DiscoveryRetry:
        return DiscoveryRetry(f"{self._name} could not ask on {interface}", RETRY)

    async def _ask_again(self, interface: str, side: _LinkSide, every: float) -> None:
        while True:
            side.wake.clear()
            side.reported.clear()
            await self._link.ask(side.number)
            try:
                async with asyncio.timeout(SILENCE):
                    await side.reported.wait()
            except TimeoutError:
                raise DiscoveryRetry(f"{self._name}: the link helper is silent", RETRY) from None
            if all(one.fault and one.asked_at == -math.inf for one in self._sides.values()):
                raise DiscoveryRetry(
                    f"{self._name}: {interface} cannot be used: {os.strerror(side.fault)}; "
                    "bring it up, or name others under interfaces",
                    RETRY,
                )
            spread = 0.9 + 0.2 * self._context.jitter()
            with suppress(TimeoutError):
                async with asyncio.timeout(RETRY if side.fault else spread * every):
                    await side.wake.wait()

    async def _read(self) -> None:
        sides = tuple(self._sides.items())
        while (report := await self._next()) is not None:
            interface, side = sides[report.number]
            match report.event:
                case LinkEvent.ANSWER:
                    self._answer(interface, side, report.data)
                    continue
                case LinkEvent.ASKED:
                    side.asked_at, side.fault = self._context.now(), 0
                case LinkEvent.FAULT:
                    side.fault = int.from_bytes(report.data, "big")
                    self._health.drop("no-interface", interface=interface)
            side.reported.set()
        raise ConnectionResetError(errno.ECONNRESET, "it closed the connection")

    async def _next(self) -> LinkReport | None:
        try:
            return await self._link.report(len(self._sides))
        except ValueError as error:
            raise OSError(errno.EBADMSG, "it sent what it may not") from error

    def _answer(self, interface: str, side: _LinkSide, frame: bytes) -> None:
        try:
            side.answer(read_answer(frame))
        except UnreadableAnswer as error:
            self._health.drop(error.cause, interface=interface, name=frame[SENDER].hex(":"))

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(CHECK_EVERY)
            for side in self._sides.values():
                side.table.expire()


class LinkClient:
    """One connection to the link helper, of kind SOCK_SEQPACKET: messages keep their bounds."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected

    async def ask(self, number: int) -> None:
        """Have all devices of an interface asked as soon as the helper may.  Raises OSError."""
        await asyncio.get_running_loop().sock_sendall(self._socket, ask_message(number))

    async def report(self, count: int) -> LinkReport | None:
        """Return the next report; None at the end.  Raises OSError, ValueError.

        count: of the interfaces that were named.
        """
        message = await asyncio.get_running_loop().sock_recv(self._socket, _MESSAGE)
        return LinkReport.decode(message, count) if message else None


@asynccontextmanager
async def link_client(path: str, interfaces: Sequence[str]) -> AsyncIterator[LinkClient]:
    """Connect, and name the interfaces to ask on.  Raises OSError.  path: of the socket."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connected:
        connected.setblocking(False)
        await loop.sock_connect(connected, path)
        names = b"".join(one.encode() + b"\0" for one in interfaces)
        await loop.sock_sendall(connected, names)
        yield LinkClient(connected)


def _text(error: OSError) -> str:
    return error.strerror or type(error).__name__
