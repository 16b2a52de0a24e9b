"""What comes from the bus and is not answered yet: counted before it waits, served in turns.

GDBus puts each message into a queue that has no end, and dispatches all of it before anything else.
So a message is counted on GDBus's own thread, before it is queued: all that wait, and those of one
sender, in number, bytes and file descriptors.  What would exceed a limit is refused there.

    GDBus's thread    fits, admit                    a message is queued, or refused
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
from functools import partial
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


@dataclass(slots=True)
class Amount:
    """A number of messages, with the bytes of their arguments and their descriptors."""

    messages: int = 0
    bytes: int = 0
    descriptors: int = 0

    def add(self, size: int, descriptors: int) -> None:
        """Count one more message."""
        self.messages += 1
        self.bytes += size
        self.descriptors += descriptors

    def subtract(self, other: Amount) -> None:
        """Count less."""
        self.messages -= other.messages
        self.bytes -= other.bytes
        self.descriptors -= other.descriptors

    def exceeds(self, messages: int, size: int, descriptors: int) -> bool:
        """Whether this is more than any of the three."""
        return self.messages > messages or self.bytes > size or self.descriptors > descriptors


@dataclass(frozen=True, slots=True)
class QueuedCall:
    """A call that waits for its turn.  It is either served or dropped."""

    sender: str
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
        self._round: list[tuple[str, Amount]] = []
        self._calls: OrderedDict[str, deque[QueuedCall]] = OrderedDict()
        self._refusals = Refusals()
        self._introspections = SlidingWindow(INTROSPECTIONS, 1.0)
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

    def fits(self, sender: str) -> bool:
        """Whether one more message of this sender may fit, whatever its size.  Counts nothing."""
        if self._muted and self._is_muted(sender):
            return False
        with self._lock:
            return self._fits(sender, 0, 0)

    def admit(self, sender: str, size: int, descriptors: int) -> bool:
        """Count a message that is about to be queued; return False, and count it refused, else.

        size: bytes of its arguments.
        """
        with self._lock:
            if admitted := size <= LARGEST and self._fits(sender, size, descriptors):
                self._round.append((sender, self._count(sender, size, descriptors)))
            waiting = len(self._round)
        if not admitted:
            self.refuse(sender)
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

    def begin_round(self) -> list[tuple[str, Amount]]:
        """Return what was queued by now, for `end_round` once all of it has been dispatched."""
        with self._lock:
            queued, self._round = self._round, []
        return queued

    def end_round(self, dispatched: list[tuple[str, Amount]]) -> None:
        """Stop counting what was dispatched; calls that wait further are counted by `put`."""
        with self._lock:
            for sender, amount in dispatched:
                self._uncount(sender, amount)

    def put(self, call: QueuedCall, size: int, descriptors: int) -> Callable[[], None]:
        """Let a call wait for its turn; return what is to be called when it is answered.

        It was admitted, so there is room for it.  size: bytes of its arguments.
        """
        with self._lock:
            amount = self._count(call.sender, size, descriptors)
        self._calls.setdefault(call.sender, deque()).append(call)
        return partial(self._release, call.sender, amount)

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

    def _fits(self, sender: str, size: int, descriptors: int) -> bool:
        limits, one, total = self._limits, self._of_one.get(sender), Amount(1, size, descriptors)
        total.messages += self._total.messages
        total.bytes += self._total.bytes
        total.descriptors += self._total.descriptors
        if one is None and size <= FEW_BYTES:
            return not total.exceeds(limits.messages, limits.bytes, limits.descriptors)
        mine = one or Amount()
        if (
            mine.messages + 1 > limits.messages_of_one
            or mine.bytes + size > limits.bytes_of_one
            or mine.descriptors + descriptors > limits.descriptors_of_one
        ):
            return False
        half = (limit // 2 for limit in (limits.messages, limits.bytes, limits.descriptors))
        return not total.exceeds(*half)

    def _is_muted(self, sender: str) -> bool:
        until = self._muted.get(sender)
        if until is None or self._now() < until:
            return until is not None
        del self._muted[sender]
        return False

    def _mute(self, sender: str) -> None:
        self._muted[sender] = self._now() + MUTE
        if len(self._muted) > MUTED:
            self._muted.popitem(last=False)

    def _count(self, sender: str, size: int, descriptors: int) -> Amount:
        amount = Amount(1, size, descriptors)
        self._total.add(size, descriptors)
        self._of_one.setdefault(sender, Amount()).add(size, descriptors)
        return amount

    def _uncount(self, sender: str, amount: Amount) -> None:
        self._total.subtract(amount)
        one = self._of_one[sender]
        one.subtract(amount)
        if not one.messages:
            del self._of_one[sender]

    def _release(self, sender: str, amount: Amount) -> None:
        with self._lock:
            self._uncount(sender, amount)
