"""What comes from the bus and is not answered yet: counted before it waits, served in turns.

GDBus puts each message into a queue that has no end, and dispatches all of it before anything else.
So a message is counted on GDBus's own thread, before it is queued: all that wait, and those of one
sender, in number, bytes and file descriptors.  What would exceed a limit is refused there.

    relay's thread    is_muted, may_parse, refuse    a message goes on, or its body is passed over
    GDBus's thread    is_muted, admit, refuse        it is queued, or refused
    D-Bus thread      begin_round, end_round         what was queued has been dispatched
                      put, serve_next                a call waits for its turn, and has it
                      release                        it is answered

Half of each total is kept for senders of whom nothing waits, so that one user, with the 256
connections that a system bus allows, keeps out no other.  Each sender has its turn in serving.
A sender that goes on above its limit is refused everything for a second: serving it would take the
time in which its flood, which lies before the calls of others on the same socket, is read.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from gatewayd.runtime.rate_limiter import SlidingWindow

LARGEST: Final = 128 << 10
"""Bytes of the arguments of one message: a certificate request of 64 KiB, and what goes with it."""
FEW_BYTES: Final = 4 << 10
"""Bytes of arguments that are never refused to a sender of whom nothing waits."""
WAKE: Final = 16
"""Messages after which the D-Bus thread is woken: GDBus answers some, as Introspect, without it."""
INTROSPECTIONS: Final = 1000
"""Descriptions of an object, each 0.4 ms with 10,000 children, that GDBus makes in a second."""
PARSED: Final = 512
"""KiB of arguments with many values that are parsed in a second, of all senders: 128 KiB of small
ones take 12 ms on GDBus's thread.  Of each message, FEW_BYTES are parsed anyway."""
MUTE: Final = 1.0
"""Seconds for which all of a sender is refused once something of it waits and more is refused."""
MUTED: Final = 1024
"""Senders that are refused everything at the same time; a system bus has fewer connections."""
NAMED: Final = 16
"""Senders that a report of refusals counts."""


class Limits(NamedTuple):
    """How much may wait, of one sender and of all.

    A system bus lets a connection await 128 replies at the same time.  What is being dispatched
    may count twice, so that a client which uses that to the full needs twice as many.
    """

    messages_of_one: int = 256
    messages: int = 2048
    bytes_of_one: int = 1 << 20
    bytes: int = 4 << 20
    descriptors_of_one: int = 8
    descriptors: int = 64


STANDARD: Final = Limits()


class BusMessage(NamedTuple):
    """What is counted of a message.  size: bytes of its arguments."""

    sender: str
    size: int
    descriptors: int


@dataclass(slots=True)
class Amount:
    """A number of messages, with the bytes of their arguments and their descriptors."""

    messages: int = 0
    bytes: int = 0
    descriptors: int = 0

    def add(self, message: BusMessage, times: int = 1) -> None:
        """Count one message more; with -1, one less."""
        self.messages += times
        self.bytes += times * message.size
        self.descriptors += times * message.descriptors


@dataclass(frozen=True, slots=True)
class QueuedCall:
    """A call that waits for its turn.  It is either served or dropped."""

    message: BusMessage
    serve: Callable[[], None]
    drop: Callable[[], None]


@dataclass(slots=True)
class Refusals:
    """The messages that were refused: how many, and by which senders, of the first ones."""

    count: int = 0
    senders: Counter[str] = field(default_factory=Counter)

    def add(self, sender: str) -> None:
        """Count one more."""
        self.count += 1
        if sender in self.senders or len(self.senders) < NAMED:
            self.senders[sender] += 1


class Intake:
    """The messages from the bus that are not answered yet.

    on_refusal: called on GDBus's thread, with the sender, at the first refusal since
    `take_refusals`.  now: seconds of a steady clock.
    """

    def __init__(
        self,
        limits: Limits = STANDARD,
        on_refusal: Callable[[str], object] = lambda _: None,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits, self._on_refusal, self._now = limits, on_refusal, now
        self._muted: OrderedDict[str, float] = OrderedDict()  # until when
        self._lock = threading.Lock()
        self._total, self._of_one = Amount(), dict[str, Amount]()
        self._round: list[BusMessage] = []
        self._calls: OrderedDict[str, deque[QueuedCall]] = OrderedDict()
        self._refusals = Refusals()
        self._introspections = SlidingWindow(INTROSPECTIONS, 1.0)
        self._parsed = SlidingWindow(PARSED, 1.0)
        self._wake: Callable[[], object] = lambda: None

    def on_backlog(self, wake: Callable[[], object]) -> None:
        """Have the D-Bus thread woken, on GDBus's thread, when messages wait for its next round."""
        self._wake = wake

    def may_introspect(self, weight: int) -> bool:
        """Whether GDBus may describe an object now, on its own thread; the weight of most is 1."""
        now = self._now()
        if self._introspections.wait(now, weight) > 0:
            return False
        self._introspections.record(now, weight)
        return True

    def may_parse(self, size: int) -> bool:
        """Whether so many bytes of many values may be parsed now.  On the relay's thread alone."""
        now, weight = self._now(), -(-size // 1024)
        if self._parsed.wait(now, weight) > 0:
            return False
        self._parsed.record(now, weight)
        return True

    def is_muted(self, sender: str) -> bool:
        """Whether everything of this sender is refused for now."""
        with self._lock:
            until = self._muted.get(sender)
            if until is None or self._now() < until:
                return until is not None
            del self._muted[sender]
            return False

    def admit(self, message: BusMessage) -> bool:
        """Count a message that is about to be queued; return False, and count it refused, else."""
        with self._lock:
            if admitted := self._fits(message):
                self._count(message)
                self._round.append(message)
            waiting = len(self._round)
        if not admitted:
            self.refuse(message.sender)
        elif waiting % WAKE == 0:
            self._wake()
        return admitted

    def refuse(self, sender: str) -> None:
        """Count a message as refused."""
        with self._lock:
            if sender in self._of_one:
                self._mute(sender)
            self._refusals.add(sender)
            first = self._refusals.count == 1
        if first:
            self._on_refusal(sender)

    def begin_round(self) -> list[BusMessage]:
        """Return what was queued by now, for `end_round` once all of it has been dispatched."""
        with self._lock:
            queued, self._round = self._round, []
        return queued

    def end_round(self, dispatched: list[BusMessage]) -> None:
        """Stop counting what was dispatched; calls that wait further are counted by `put`."""
        with self._lock:
            for message in dispatched:
                self._uncount(message)

    def put(self, call: QueuedCall) -> None:
        """Let a call wait for its turn.  It was admitted, so there is room for it."""
        with self._lock:
            self._count(call.message)
        self._calls.setdefault(call.message.sender, deque()).append(call)

    def release(self, message: BusMessage) -> None:
        """Stop counting a call: it is answered."""
        with self._lock:
            self._uncount(message)

    def serve_next(self) -> bool:
        """Serve the next call, of the sender who has waited longest; return whether more wait."""
        if not self._calls:
            return False
        sender, waiting = self._calls.popitem(last=False)
        call = waiting.popleft()
        if waiting:
            self._calls[sender] = waiting
        call.serve()
        return bool(self._calls)

    def drop_all(self) -> None:
        """Drop the calls that wait: those who sent them are gone."""
        dropped, self._calls = self._calls, OrderedDict()
        for waiting in dropped.values():
            for call in waiting:
                call.drop()

    def take_refusals(self) -> Refusals:
        """Return what was refused since the last time."""
        with self._lock:
            taken, self._refusals = self._refusals, Refusals()
        return taken

    @property
    def refused(self) -> int:
        """How many messages were refused since `take_refusals`."""
        return self._refusals.count

    def __len__(self) -> int:
        return self._total.messages

    def _fits(self, message: BusMessage) -> bool:
        _, size, descriptors = message
        limits, total, share = self._limits, self._total, 1
        mine = self._of_one.get(message.sender)
        if mine is not None or size > FEW_BYTES:
            mine, share = mine or Amount(), 2
            if (
                mine.messages >= limits.messages_of_one
                or mine.bytes + size > limits.bytes_of_one
                or mine.descriptors + descriptors > limits.descriptors_of_one
            ):
                return False
        return (
            share * (total.messages + 1) <= limits.messages
            and share * (total.bytes + size) <= limits.bytes
            and share * (total.descriptors + descriptors) <= limits.descriptors
            and size <= LARGEST
        )

    def _mute(self, sender: str) -> None:
        self._muted[sender] = self._now() + MUTE
        if len(self._muted) > MUTED:
            self._muted.popitem(last=False)

    def _count(self, message: BusMessage) -> None:
        self._total.add(message)
        if (mine := self._of_one.get(message.sender)) is None:
            mine = self._of_one[message.sender] = Amount()
        mine.add(message)

    def _uncount(self, message: BusMessage) -> None:
        self._total.add(message, -1)
        mine = self._of_one[message.sender]
        mine.add(message, -1)
        if not mine.messages:
            del self._of_one[message.sender]
