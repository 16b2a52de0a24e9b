"""One protocol on one interface: when to open sockets, when to ask, and what becomes of answers."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

from gatewayd.discovery.discoverer import MATCHABLE, Context, Health, Sighting, Sink
from gatewayd.discovery.kernel.interfaces import LanInterface
from gatewayd.discovery.link.link_life import CHECK_EVERY, FIRST_RETRY, LinkLife
from gatewayd.discovery.probing.channel import (
    AskingSocket,
    DeviceQuestion,
    LinkChannel,
    asking_addresses,
)
from gatewayd.discovery.probing.enquiries import EnquiryQueue, Where
from gatewayd.discovery.probing.protocol import (
    TOKEN,
    Datagram,
    DatagramProtocol,
    Found,
    Goodbye,
    News,
    Probe,
    UnreadableAnswer,
)
from gatewayd.discovery.probing.reading import DatagramBudgets
from gatewayd.discovery.probing.settings import ProbingSettings
from gatewayd.discovery.probing.table import FoundPlace, FoundTable
from gatewayd.errors import DiscoveryRetry
from gatewayd.runtime.tasks import cancel_and_wait

log = logging.getLogger(__name__)

LIFETIME = 2.5
"""Rounds for which is believed what has no lifetime of its own: two that it has not answered."""
VERIFY = 2.9
"""Seconds in which a device that is asked by itself must answer."""
MAX_NEWS = 256
"""Devices that one datagram may show."""
MAX_TOKENS = 64
"""Tokens of rounds that are still open."""
MAX_PROBES = 64
"""Probes of one round, in one family of addresses."""

MakeToken = Callable[[int], bytes]
"""Makes so many bytes that cannot be guessed."""


@dataclass(frozen=True, slots=True, eq=False)
class _Expected:
    """A device that is asked: its answer, once there is one, and from which address it came.

    addresses: where it is asked.
    """

    known: Sighting
    addresses: tuple[str, ...]
    answer: asyncio.Future[tuple[Found, str]]

    def offer(self, found: Found, sender: str) -> bool:
        """Whether this is the answer of that device."""
        fits = found.key == self.known.key and sender in self.addresses
        if fits and not self.answer.done():
            self.answer.set_result((found, sender))
        return fits


class ProbedInterface:
    """The unit of one interface.

    link: returns what the kernel says of it; `relinked` is to be called when that has changed.
    gap: seconds between the beginnings of two rounds, at least.
    """

    def __init__(  # noqa: PLR0913  # by keyword
        self,
        place: FoundPlace,
        settings: ProbingSettings,
        protocol: DatagramProtocol,
        *,
        gap: float,
        token: MakeToken,
        link: Callable[[], LanInterface],
        context: Context,
        sink: Sink,
        health: Health,
    ) -> None:
        self._place, self._protocol, self._gap = place, protocol, gap
        self._probe_every = settings.probe_every
        self._new_token, self._link = partial(token, TOKEN), link
        self._context, self._health = context, health
        self._table = FoundTable(
            place,
            limit=settings.max_entries,
            lifetime=LIFETIME * settings.probe_every,
            context=context,
            sink=sink,
            health=health,
        )
        self._enquiries = EnquiryQueue(
            settings.max_entries,
            enquire=self._enquire,
            report=self._add,
            drop=self._drop_enquiry,
            now=context.now,
        )
        self._budgets = DatagramBudgets(
            f"{place.kind} on {place.interface}", context.is_known, context.now()
        )
        self._open_tokens: deque[tuple[bytes, float]] = deque(maxlen=MAX_TOKENS)
        self._expected: list[_Expected] = []
        self._channel: LinkChannel | None = None
        self._life = LinkLife(
            place.interface,
            place.kind,
            source=place.source,
            link=link,
            bound=self._places(link()),
            context=context,
            health=health,
        )
        self._asked_at = self._sent_at = float("-inf")
        self._rescanning = False

    # When it is asked.

    async def run(self) -> None:
        """Ask and listen whenever the interface is usable, until cancelled."""
        expiring = asyncio.create_task(self._expire(), name=f"{self._place.source} expiry")
        try:
            await self._life.run(self._work)
        finally:
            await cancel_and_wait((expiring,))
            await self._enquiries.clear()
            self._table.stop()

    def relinked(self) -> None:
        """Process a change of the interface: once its endpoint has changed, sockets are deaf."""
        link = self._link()
        if not self._life.has_moved(self._places(link)) and self._channel is not None:
            self._channel.relink(link)

    def rescan(self) -> None:
        """Ask for all devices, and report all of them again."""
        self._table.renew()
        self._rescanning = True
        self._life.wake()

    def _places(self, link: LanInterface) -> object:
        """Return what the sockets are bound to."""
        return link.endpoint, asking_addresses(link, self._protocol)

    async def _work(self, link: LanInterface) -> None:
        """Ask again and again, until another endpoint ends it."""
        self._life.bind(self._places(link))
        if not link.is_usable or not asking_addresses(link, self._protocol):
            self._life.unusable()
            return
        self._life.opening()
        self._channel = LinkChannel(
            link,
            self._protocol,
            received=self._received,
            is_flooded=lambda: self._budgets.is_flooded(self._context.now()),
            dropped=partial(self._drop, "off-link"),
        )
        try:
            self._life.failures = 0
            self.relinked()  # a change while it was opened
            while not self._life.moved:
                await self._life.sleep(self._sent_at + self._gap)
                has_failed = await self._round(self._channel)
                self._life.failures = self._life.failures + 1 if has_failed else 0
                await self._rest()
        finally:
            self._channel.close()
            self._channel = None
            await self._enquiries.clear()

    async def _round(self, channel: LinkChannel) -> bool:
        """Ask for all devices, in each family; return whether that has failed."""
        self._asked_at, self._rescanning = self._context.now(), False
        failed = await asyncio.gather(*(self._ask_all(one) for one in channel.asking))
        return any(failed)

    async def _ask_all(self, asking: AskingSocket) -> bool:
        token, failed = self._new_token(), False
        for probe in islice(self._protocol.probes(token, asking.own), MAX_PROBES):
            await self._life.sleep(self._context.now() + probe.after)
            if self._life.moved:
                return False
            until = self._context.now() + self._protocol.answer_time
            self._open_tokens.append((probe.token or token, until))
            try:
                asking.send(probe, probe.to)
                self._sent_at = self._asked_at
            except OSError as error:
                failed = True
                self._health.drop("send-failed", interface=self._place.interface)
                log.debug("Failed to ask on %s: %s.", self._place.interface, error.strerror)
        return failed

    async def _rest(self) -> None:
        """Return when it is to be asked again, or the interface has changed."""
        spread = 0.9 + 0.2 * self._context.jitter()
        wait = spread * self._probe_every
        if failures := self._life.failures:
            wait = min(wait, FIRST_RETRY * (1 << min(failures - 1, 16)))
        end = self._asked_at + wait
        while self._context.now() < end and not self._life.moved and not self._rescanning:
            await self._life.wait(end - self._context.now())

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(CHECK_EVERY)
            self._table.expire()

    # What comes of it.

    def _received(self, datagram: Datagram) -> None:
        """Process a datagram, if there is a budget for its sender."""
        self._observe(datagram)
        now = self._context.now()
        size = len(datagram.payload)
        if cause := self._budgets.judge(datagram.sender, size, now, is_answer=datagram.is_answer):
            self._drop(cause, datagram.sender)
            return
        while self._open_tokens and self._open_tokens[0][1] < now:
            self._open_tokens.popleft()
        asked = frozenset(token for token, _ in self._open_tokens)
        for one in self._read(replace(datagram, asked=asked)):
            if isinstance(one, Goodbye):
                self._table.part(one, datagram.sender)
            else:
                self._report(one, datagram.sender)

    def _observe(self, datagram: Datagram) -> None:
        if (observe := self._context.hook.observe) is not None:
            about: dict[str, str | int | bytes] = {
                "interface": self._place.interface, "source": self._place.name,
                "sender": datagram.sender, "port": datagram.port, "data": datagram.payload,
            }  # fmt: skip
            if datagram.to:
                about |= {"to": datagram.to, "to_port": self._protocol.port}
            observe("datagram", self._context.now(), about)

    def _read(self, datagram: Datagram) -> Sequence[News]:
        """Return what a datagram says; nothing, counted, where it cannot be read."""
        try:
            return tuple(islice(self._protocol.read(datagram), MAX_NEWS))
        except UnreadableAnswer as refused:
            self._drop(refused.cause, datagram.sender)
        except Exception as error:  # noqa: BLE001  # the border to a parser of hostile datagrams
            self._drop("packet-failed", datagram.sender)
            kind = type(error).__name__
            log.warning("Failed to read a datagram of %s: %s.", self._place.kind, kind,
                        extra={"once": f"{self._place.kind} {kind}"})  # fmt: skip
        return ()

    def _report(self, found: Found, sender: str) -> None:
        """Report a device that has answered, answer who waits for it, and have it enquired if it
        is worth that."""
        complete, places = self._add(found, sender)
        for expected in self._expected:
            expected.offer(found, sender)
        if found.is_directory or self._table.interest(complete) in MATCHABLE:
            self._enquiries.put(found, sender, places)

    def _add(self, found: Found, sender: str) -> tuple[Found, Sequence[str]]:
        """Report a device; return it with what was enquired of it, and where it is.

        What an enquiry shows may be as old as that: it is no answer to another question, and what
        it lists is not enquired in turn.
        """
        places = self._table.places(found.key, sender)
        complete = self._enquiries.completed(found, sender, places)
        self._table.add(complete, places)
        return complete, places

    async def _enquire(self, found: Found, address: str) -> Sequence[Found]:
        question = DeviceQuestion(self._link(), address, self._new_token)
        try:
            return await self._protocol.enquire(found, question)
        finally:
            question.close()

    # One device.

    async def verify(self, known: Sighting) -> Sighting | None:
        """Ask one device, in at most 3 s; None if no answer with its key comes from where it is.

        It is asked where it was before, too: what was seen last may have been forged.
        Raises DiscoveryRetry if it could not be asked, or its answer not be received, on this
        interface: this says nothing of the device.
        """
        link = self._life.usable_link()
        places = (*known.addresses, *self._table.former(known))
        expected = _Expected(known, places, asyncio.get_running_loop().create_future())
        self._expected.append(expected)
        asking = [asyncio.create_task(self._ask_one(link, one, expected)) for one in places]
        try:
            await _answered(expected.answer, asking)
        except OSError as error:
            raise self._life.not_asked(error) from error
        finally:
            await cancel_and_wait(asking)
            self._expected.remove(expected)
        if expected.answer.done():
            return self.confirm(*expected.answer.result())
        self._life.check_unmoved(link)
        return None

    def confirm(self, found: Found, sender: str) -> Sighting | None:
        """Return the sighting of an answer to a question that was for this device alone."""
        places = self._table.places(found.key, sender)
        return self._table.confirm(self._enquiries.completed(found, sender, places), places)

    def read(self, datagram: Datagram) -> Sequence[Found]:
        """Return what an answer says that a device has given otherwise, as by TCP."""
        return [one for one in self._read(datagram) if isinstance(one, Found)]

    async def _ask_one(self, link: LanInterface, address: str, expected: _Expected) -> None:
        """Ask a device at one of its addresses, and look for its answer at that socket.

        Raises OSError, DiscoveryRetry if it cannot be asked.
        """
        question = DeviceQuestion(link, address, self._new_token)
        sending = None
        try:
            token = self._new_token()
            probes = self._protocol.probe_of(address, expected.known.key, token, question.own)
            if not probes:
                raise DiscoveryRetry(f"{self._place.kind} cannot ask one device", CHECK_EVERY)
            question.send(probes[0])
            sending = asyncio.create_task(_send_all(question, probes[1:MAX_PROBES]))
            asked = tuple({token, *(one.token for one in probes)})
            async with aclosing(question.answers(asked)) as answers:
                async for one in answers:
                    self._observe(one)
                    if any(expected.offer(found, one.sender) for found in self.read(one)):
                        return
        finally:
            question.close()  # first: this task may be cancelled again
            if sending is not None:
                await cancel_and_wait((sending,))

    def _drop(self, cause: str, sender: str) -> None:
        self._health.drop(cause, interface=self._place.interface, sender=sender)

    def _drop_enquiry(self, cause: str, where: Where) -> None:
        key, address = where
        self._health.drop(cause, interface=self._place.interface, sender=address, name=key)


async def _answered(
    answer: asyncio.Future[tuple[Found, str]], asking: Sequence[asyncio.Task[None]]
) -> None:
    """Return when there is an answer, or too late.  Raises OSError, DiscoveryRetry if it could be
    asked at no address."""
    with suppress(TimeoutError):
        async with asyncio.timeout(VERIFY):
            waits: list[asyncio.Future[Any]] = [answer, *asking]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            failed = [error for one in asking if one.done() and (error := one.exception())]
            if len(failed) == len(asking) and not answer.done():
                raise failed[0]
            await asyncio.shield(answer)


async def _send_all(question: DeviceQuestion, probes: Sequence[Probe]) -> None:
    for probe in probes:
        await asyncio.sleep(probe.after)
        question.send(probe)
