"""The discovery helper: it runs discoverers for gatewayd, over one connection.

It knows no rule and no record, and no secret but what its sources ask with.  gatewayd sends what
it needs as data.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial

from gatewayd.discovery.births.port import Birth, BirthReceiver, DoorLink
from gatewayd.discovery.diagnosis.recorder import Recorder
from gatewayd.discovery.diagnosis.refusals import Refusal, RefusalNotes
from gatewayd.discovery.discoverer import (
    MATCHABLE,
    Context,
    Discoverer,
    EventHook,
    Interest,
    Loss,
    LossReason,
    Origin,
    Sighting,
)
from gatewayd.discovery.helper.messages import (
    MAX_COUNTERS,
    MAX_REFUSALS,
    Answer,
    DiscovererSpec,
    HelperHealth,
    KnownAddresses,
    LogLevel,
    MalformedMessage,
    RecordingRequest,
    RefusalReport,
    Rescan,
    Rules,
    Start,
    ToGatewayd,
    Verify,
    decode_to_gatewayd,
    decode_to_helper,
    encode_to_gatewayd,
)
from gatewayd.discovery.name_rules import NameRule, judge_name
from gatewayd.discovery.queues import SightingQueue
from gatewayd.discovery.sanitize import refused_name
from gatewayd.discovery.supervisor import Supervisor
from gatewayd.errors import ConfigError, DiscoveryRetry, PluginError
from gatewayd.runtime.tasks import cancel_and_wait

log = logging.getLogger(__name__)

HEALTH_EVERY = 1.0
"""Seconds between two reports of the counters."""
MAX_WAITING = 2000
"""Reports that wait while gatewayd does not read; those of strangers are dropped first."""
FEW = 64
"""Reports that may wait while many are reported at once."""
TELLING = frozenset({LossReason.GOODBYE, LossReason.EXPIRED})
"""Why a loss says something of a device, and stays longer than a sighting that no rule wants."""
MAX_VERIFIED = 64
"""Devices that are asked at once."""
MAX_UNSENT = 256 << 10
"""Bytes that wait to be sent, beyond which recorded events are lost."""

MakeDiscoverer = Callable[[DiscovererSpec], Discoverer]
"""Makes a discoverer from its table.  Raises ConfigError, PluginError."""


class Outbox:
    """The reports that wait to be sent: a `Sink` of discoverers.

    fits: whether a report is within the bounds of a message.
    dropped: called with the origin of a report for which there was no room.
    """

    def __init__(
        self, fits: Callable[[Sighting | Loss], bool], dropped: Callable[[Origin], None]
    ) -> None:
        self._fits = fits
        self._queue = SightingQueue(MAX_WAITING, dropped)
        self._news, self._sent = asyncio.Event(), asyncio.Event()
        self.interest: Callable[[Mapping[str, str]], Interest] = lambda _: Interest.STRANGER

    async def room(self, name: str = "") -> None:
        """Return when no more than a few reports wait."""
        while self._queue.waiting(name) >= FEW:
            self._sent.clear()
            await self._sent.wait()

    @property
    def overflow(self) -> int:
        """How many reports were dropped, for there were too many."""
        return self._queue.overflow

    def sight(self, sighting: Sighting) -> None:
        """Queue a sighting."""
        if self._fits(sighting):
            self._queue.sight(sighting, int(self.interest(sighting.attributes) in MATCHABLE))
            self._news.set()

    def lose(self, loss: Loss) -> None:
        """Queue a loss."""
        if self._fits(loss):
            self._queue.lose(loss, int(loss.reason in TELLING))
            self._news.set()

    async def next(self) -> Sequence[Sighting | Loss]:
        """Remove and return what waits of one origin, when there is something."""
        while (item := self._queue.pop()) is None:
            self._news.clear()
            await self._news.wait()
        self._sent.set()
        return [one for one in (item.sighting, item.loss) if one is not None]


class HelperServer:
    """One connection of gatewayd, served until it ends.

    make: makes a discoverer.  now: the event loop's clock, seconds.
    jitter: a number from [0, 1) at each call.  set_level: sets the level of the log.
    health_every: seconds between two reports of the counters.
    """

    def __init__(
        self,
        make: MakeDiscoverer,
        now: Callable[[], float],
        jitter: Callable[[], float],
        set_level: Callable[[str], None],
        *,
        health_every: float = HEALTH_EVERY,
    ) -> None:
        self._health_every = health_every
        self._make, self._now, self._jitter, self._set_level = make, now, jitter, set_level
        self._kinds: dict[str, str] = {}
        self._rules: Sequence[NameRule] = ()
        self._known: Collection[str] = ()
        self._faults: dict[str, str] = {}
        self._unfit = 0
        self._own = RefusalNotes()
        self._outbox = Outbox(self._fits, partial(self._refuse, "unsent"))
        self._outbox.interest = self._interest
        self._supervisor: Supervisor | None = None
        self._receivers: Mapping[str, BirthReceiver] = {}
        self._verifying: set[asyncio.Task[None]] = set()
        self._hook = EventHook()
        self._recorder: Recorder | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve until gatewayd closes the connection.  Raises MalformedMessage, OSError."""
        start = await self._receive(reader)
        if start is None:
            return
        if not isinstance(start, Start):
            raise MalformedMessage("the first message is not start")
        self._kinds = {one.name: one.kind for one in start.discoverers}
        context = Context(self._now, self._jitter, self._interest, self._is_known, self._hook)
        made = self._made(start.discoverers)
        self._receivers = {one.name: one for one in made if isinstance(one, BirthReceiver)}
        for receiver in self._receivers.values():
            receiver.attach(partial(self._send, writer))
        self._supervisor = Supervisor(made, context)
        work = {
            "discover": self._discover(self._supervisor),
            "report": self._report(writer),
            "health": self._report_health(writer),
            "obey": self._obey(reader, writer),
        }
        tasks = [asyncio.create_task(one, name=name) for name, one in work.items()]
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for one in ended:
                one.result()
        finally:
            if self._recorder is not None:
                self._recorder.close()
            await cancel_and_wait((*tasks, *self._verifying))

    def _made(self, specs: Sequence[DiscovererSpec]) -> list[Discoverer]:
        made = []
        for spec in specs:
            try:
                made.append(self._make(spec))
            except (ConfigError, PluginError) as error:
                self._faults[spec.name] = str(error)
                log.error("Discoverer %s cannot be made: %s", spec.name, error)  # noqa: TRY400  # expected
        return made

    async def _discover(self, supervisor: Supervisor) -> None:
        """Run the discoverers; do not end before gatewayd does, though all of them may."""
        await supervisor.run(self._outbox)
        await asyncio.Event().wait()

    async def _receive(self, reader: asyncio.StreamReader) -> object:
        """Return the next message; None at the end."""
        line = await reader.readline()
        return decode_to_helper(line, self._kinds, self._now()) if line else None

    async def _obey(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Do what gatewayd sends, until it closes the connection."""
        assert self._supervisor is not None
        while (message := await self._receive(reader)) is not None:
            match message:
                case LogLevel(level):
                    self._set_level(level)
                case Rules(rules):
                    self._rules = rules
                case KnownAddresses(addresses):
                    self._known = addresses
                case Rescan(name) if name in self._supervisor.names:
                    await self._supervisor.rescan(name)
                case Verify(number, sighting) if len(self._verifying) < MAX_VERIFIED:
                    task = asyncio.create_task(self._verify(number, sighting, writer))
                    self._verifying.add(task)
                    task.add_done_callback(self._verifying.discard)
                case Verify(number):
                    self._send(writer, Answer(number, None, asked=False))
                case RecordingRequest(seconds, most):
                    self._record(writer, seconds, most)
                case Birth(source) | DoorLink(source) if source in self._receivers:
                    await self._receivers[source].receive(message)

    async def _verify(self, number: int, known: Sighting, writer: asyncio.StreamWriter) -> None:
        assert self._supervisor is not None
        try:
            found = await self._supervisor.verify(known)
            answer = Answer(number, found if found and self._fits(found) else None)
        except DiscoveryRetry:
            answer = Answer(number, None, asked=False)
        except Exception:  # border: a plug-in's fault says nothing of the device
            log.exception("Discoverer of %s failed to verify.", known.source)
            answer = Answer(number, None, asked=False)
        self._send(writer, answer)

    def _record(self, writer: asyncio.StreamWriter, seconds: int, most: int) -> None:
        """Record what comes; 0 seconds end that."""
        if self._recorder is None:
            waiting = writer.transport.get_write_buffer_size
            self._recorder = Recorder(
                self._hook, partial(self._send, writer), lambda: waiting() > MAX_UNSENT, self._now
            )
        if seconds:
            self._recorder.begin(seconds, most)
        else:
            self._recorder.close()

    async def _report(self, writer: asyncio.StreamWriter) -> None:
        """Send what is seen, as fast as gatewayd reads."""
        while True:
            for one in await self._outbox.next():
                self._send(writer, one)
            await writer.drain()

    async def _report_health(self, writer: asyncio.StreamWriter) -> None:
        while True:
            self._send(writer, self._health())
            refusals = list(self._refusals())
            for at in range(0, len(refusals), MAX_REFUSALS):
                self._send(writer, RefusalReport(tuple(refusals[at : at + MAX_REFUSALS])))
            await asyncio.sleep(self._health_every)

    def _health(self) -> HelperHealth:
        assert self._supervisor is not None
        counters = self._supervisor.counters()
        if self._kinds:
            first = next(iter(self._kinds))
            unsent = {"unfit": self._unfit, "unsent": self._outbox.overflow}
            counters |= {f"{first}:dropped:{cause}": n for cause, n in unsent.items() if n}
        kept = dict(sorted(counters.items())[:MAX_COUNTERS])
        health = HelperHealth(kept, self._faults | self._supervisor.faults)
        return health if self._passes(health) else HelperHealth(faults=health.faults)

    def _fits(self, report: Sighting | Loss) -> bool:
        """Whether gatewayd accepts a report; a plug-in may make others."""
        fits = self._passes(report)
        if not fits:
            self._unfit += 1
            self._refuse("unfit", report.origin)
        return fits

    def _refuse(self, cause: str, origin: Origin) -> None:
        """Note a report that is not sent."""
        source, key = origin
        name, _, interface = str(source).partition("/")
        if name in self._kinds:
            self._own.note(cause, interface, "", f"{name} {key}")

    def _refusals(self) -> Iterator[Refusal]:
        """Yield what was refused since the last report, and gatewayd accepts."""
        assert self._supervisor is not None
        for one in self._supervisor.refusals(self._now()):
            if self._passes(RefusalReport((one,))):
                yield one
        for cause, (interface, sender, text), times in self._own.take():
            name, _, key = text.partition(" ")
            shown = refused_name(key)
            own = Refusal(self._now(), name, interface, sender, shown, cause, times)
            if self._passes(RefusalReport((own,))):
                yield own

    def _passes(self, message: ToGatewayd) -> bool:
        try:
            decode_to_gatewayd(encode_to_gatewayd(message), self._kinds, self._now())
        except (MalformedMessage, TypeError, ValueError):
            return False
        return True

    def _interest(self, attributes: Mapping[str, str]) -> Interest:
        return judge_name(attributes, self._rules)

    def _is_known(self, address: str) -> bool:
        return address in self._known

    @staticmethod
    def _send(writer: asyncio.StreamWriter, message: ToGatewayd) -> None:
        writer.write(encode_to_gatewayd(message))
