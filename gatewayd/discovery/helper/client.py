"""Discovery as gatewayd sees it: the helper does the work, and is believed no more than a packet.

It is started again when it ends, fails, is silent, or sends what it may not.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from gatewayd.device.secret import Secret
from gatewayd.discovery.births.port import BirthMessage, BirthRequest
from gatewayd.discovery.diagnosis.recorder import RecordedEvent
from gatewayd.discovery.diagnosis.recording import RecordingPipe
from gatewayd.discovery.diagnosis.refusals import RefusalList
from gatewayd.discovery.discoverer import Loss, Sighting, Sink
from gatewayd.discovery.helper.connect import Connect
from gatewayd.discovery.helper.messages import (
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
    ToHelper,
    Verify,
    decode_to_gatewayd,
    encode_to_helper,
)
from gatewayd.discovery.name_rules import NameRule
from gatewayd.errors import ConfigError, DiscoveryRetry, WrongState
from gatewayd.runtime.backoff import delay
from gatewayd.runtime.clock import Clock
from gatewayd.runtime.tasks import cancel_and_wait

log = logging.getLogger(__name__)

FIRST_RESTART, LAST_RESTART = 1.0, 60.0
"""Seconds until a helper that ended is started again; doubled after each that ends soon."""
STEADY = 60.0
"""Seconds after which a helper that ended has not ended soon."""
SILENCE = 10.0
"""Seconds without any message after which it is believed to hang; it sends one each second."""
ANSWER = 4.0
"""Seconds in which a device must have been asked; a discoverer has three."""
UPDATE_EVERY = 1.0
"""Seconds between two checks of what the helper needs to know."""
MAX_RATE = 2000
"""Messages that are read in a second; more wait in the helper, which keeps the newest."""

NOT_RUNNING = "the discovery helper does not run"
SECRETS_CHANGED = "what its sources ask with may have changed"

ReadSecrets: TypeAlias = Callable[[], Awaitable[Mapping[str, Secret]]]


class DiscoveryHelper:
    """The discoverers of the helper, as one.

    rules: returns what is of interest now.  known: returns where devices on record are.
    log_level: returns from which level on to log now.
    secrets: reads what its sources ask with, by their names, at each of its starts; None for a
    helper without secrets.  It may raise ConfigError.
    on_request: called with what a discoverer asks of a door; it decides, and never blocks.
    faults: why a discoverer does not run now, by its name.
    refused: what was not believed, or had no room.
    """

    def __init__(  # noqa: PLR0913  # the last by keyword
        self,
        specs: Sequence[DiscovererSpec],
        connect: Connect,
        rules: Callable[[], tuple[NameRule, ...]],
        known: Callable[[], frozenset[str]],
        clock: Clock,
        log_level: Callable[[], str],
        *,
        secrets: ReadSecrets | None = None,
    ) -> None:
        self._specs, self._secrets = tuple(specs), secrets
        self._is_outdated = False
        self._kinds = {one.name: one.kind for one in specs}
        self._connect, self._clock = connect, clock
        self._rules, self._known, self._log_level = rules, known, log_level
        self._writer: asyncio.StreamWriter | None = None
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Answer]] = {}
        self._health = HelperHealth()
        self._restarts = 0
        self.faults: dict[str, str] = {}
        self.refused = RefusalList()
        self.on_request: Callable[[BirthRequest], None] = lambda _: None
        self._recording = RecordingPipe(clock)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the discoverers."""
        return tuple(self._kinds)

    def counters(self) -> dict[str, int]:
        """Return the counters of each discoverer, by names like "mdns:dropped:oversized".

        Those of a helper that has ended are gone: it knows no device, and nothing is on its queues.
        """
        return {**self._health.counters, "discovery-restarts": self._restarts}

    async def run(self, sink: Sink) -> None:
        """Keep the helper running, until cancelled."""
        failures = 0
        while True:
            began = self._clock.now()
            why = await self._once(sink)
            self._health = HelperHealth()
            self.faults = dict.fromkeys(self._kinds, f"{NOT_RUNNING}: {why}")
            failures = 1 if self._clock.now() - began > STEADY else failures + 1
            self._restarts += 1
            log.warning("The discovery helper ended, and is started again: %s.", why,
                        extra={"once": why})  # fmt: skip
            await asyncio.sleep(delay(failures, FIRST_RESTART, LAST_RESTART, self._clock.jitter()))

    def reread(self) -> None:
        """Start the helper again if it has secrets, which may have changed."""
        if self._secrets is not None and self._writer is not None:
            self._is_outdated = True
            self._writer.close()

    async def rescan(self, name: str) -> None:
        """Have one discoverer ask for all devices, unless it does not run now."""
        if self._writer is not None and name not in self.faults:
            self._send(self._writer, Rescan(name))

    async def verify(self, sighting: Sighting) -> Sighting | None:
        """Ask one device for a fresh sighting, by the discoverer that saw it.

        Raises DiscoveryRetry if it cannot be asked now: this says nothing of the device.
        """
        name = sighting.source.partition("/")[0]
        if self._writer is None or name in self.faults:
            raise DiscoveryRetry(f"discoverer {name} does not run", LAST_RESTART)
        number = next(self._numbers)
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._answers[number] = answered
        self._send(self._writer, Verify(number, sighting))
        try:
            async with asyncio.timeout(ANSWER):
                answer = await answered
        except TimeoutError:
            raise DiscoveryRetry("the discovery helper does not answer", LAST_RESTART) from None
        finally:
            self._answers.pop(number, None)
        if not answer.asked:
            raise DiscoveryRetry(f"discoverer {name} could not ask", LAST_RESTART)
        return answer.sighting

    async def pass_on(self, message: BirthMessage) -> bool:
        """Pass on what comes from a door, once the helper has room for it.

        Returns whether the discoverer runs.
        """
        writer = self._writer
        if writer is None or message.source in self.faults:
            return False
        self._send(writer, message)
        try:
            await writer.drain()
        except OSError:  # it has ended, which is noted where it is read
            return False
        return True

    async def record(self, seconds: int, most: int, version: str) -> int:
        """Return a descriptor from which can be read what comes for so many seconds, and bytes.

        most: 0 for the usual number.  version: of gatewayd.  The caller closes the descriptor.
        Raises Busy, InvalidArgs, WrongState, OSError.
        """
        if self._writer is None:
            raise WrongState(f"Nothing can be recorded: {NOT_RUNNING}")
        return await self._recording.begin(seconds, most, version, self._request_recording)

    def _request_recording(self, seconds: int, most: int) -> None:
        if self._writer is not None:
            self._send(self._writer, RecordingRequest(seconds, most))

    async def _once(self, sink: Sink) -> str:
        """Run the helper once; return why it ended."""
        self._is_outdated = False
        try:
            start = await self._started()
            async with self._connect() as (reader, writer):
                await self._serve(reader, writer, sink, start)
        except ConfigError as error:  # of a secret
            return str(error).rstrip(".")
        except MalformedMessage as error:
            return f"it sent what it may not: {error}"
        except TimeoutError:  # an OSError, too
            return f"it was silent for {SILENCE:.0f} s"
        except ConnectionError:
            return self._closed()
        except OSError as error:
            return error.strerror or type(error).__name__
        finally:
            self._writer = None
            self._recording.end("helper-ended")
            for waiting in self._answers.values():
                if not waiting.done():
                    waiting.set_result(Answer(0, None, asked=False))
        return self._closed()

    def _closed(self) -> str:
        return SECRETS_CHANGED if self._is_outdated else "it closed the connection"

    async def _started(self) -> Start:
        """Return the first message.  Raises ConfigError."""
        if self._secrets is None:
            return Start(self._specs)
        secrets = await self._secrets()
        return Start(tuple(replace(one, secret=secrets.get(one.name)) for one in self._specs))

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sink: Sink, start: Start
    ) -> None:
        """Serve one connection until it ends.  Raises MalformedMessage, OSError."""
        self._send(writer, start)
        updates = asyncio.create_task(self._update(writer), name="discovery updates")
        try:
            self._writer = writer
            await self._read(reader, sink)
        finally:
            await cancel_and_wait({updates})

    async def _read(self, reader: asyncio.StreamReader, sink: Sink) -> None:
        second, count = self._clock.now(), 0
        while line := await self._line(reader):
            message = decode_to_gatewayd(line, self._kinds, self._clock.now())
            match message:
                case Sighting():
                    await sink.room()
                    sink.sight(message)
                case Loss():
                    sink.lose(message)
                case Answer(number):
                    answered = self._answers.get(number)
                    if answered is not None and not answered.done():
                        answered.set_result(message)
                case HelperHealth():
                    self._health, self.faults = message, dict(message.faults)
                case BirthRequest():
                    self.on_request(message)
                case RefusalReport() | RecordedEvent():
                    self._keep(message)
            count += 1
            if count >= MAX_RATE:
                await asyncio.sleep(max(second + 1 - self._clock.now(), 0))
                second, count = self._clock.now(), 0

    def _keep(self, message: RefusalReport | RecordedEvent) -> None:
        """Keep what helps to find out why a device was not seen."""
        if isinstance(message, RecordedEvent):
            self._recording.add(message)
            return
        for one in message.refusals:
            self.refused.add(one)

    async def _line(self, reader: asyncio.StreamReader) -> bytes:
        try:
            async with asyncio.timeout(SILENCE):
                return await reader.readline()
        except ValueError as error:
            raise MalformedMessage("it is too long") from error

    async def _update(self, writer: asyncio.StreamWriter) -> None:
        """Send what the helper needs to know, and again whatever of it has changed."""
        sent: list[ToHelper] = []
        while True:
            news: list[ToHelper] = [
                LogLevel(self._log_level()), Rules(self._rules()), KnownAddresses(self._known()),
            ]  # fmt: skip
            for message in news:
                if message not in sent:
                    self._send(writer, message)
            sent = news
            await writer.drain()
            await asyncio.sleep(UPDATE_EVERY)

    @staticmethod
    def _send(writer: asyncio.StreamWriter, message: ToHelper) -> None:
        writer.write(encode_to_helper(message))
