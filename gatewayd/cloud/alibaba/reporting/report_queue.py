"""Reports that wait to leave together: what has come by its turn goes in one request.

The cloud takes ten messages a second of a device, and a request may hold twenty reports; so the
more there is to say, the fewer messages it takes, and a report that comes alone does not wait.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, TypeAlias

from gatewayd.cloud.alibaba import result_codes
from gatewayd.cloud.alibaba.alink import SubName
from gatewayd.cloud.alibaba.reporting.reports import (
    MAX_DEVICES,
    DeviceReport,
    Draft,
    ReportRequest,
    batch,
    history,
    pack,
    single,
)
from gatewayd.cloud.provider import MessageDelayed, MessageRefused, Publication
from gatewayd.cloud.publisher import ACCEPTED
from gatewayd.cloud.sub_devices.link import LinkDown, LinkError
from gatewayd.cloud.sub_devices.result_codes import Denied, ResultKind, unanswered
from gatewayd.network.connect_errors import ConnectionEnd
from gatewayd.runtime.backoff import delay
from gatewayd.runtime.rate_limiter import TooManyWaiting

MAX_WAITING = 16_384
"""Reports that wait, at most."""
LOOKED_AT = 256
"""Reports that are left behind when a request is filled, at most: their turn is the next."""
RETRY_FIRST, RETRY_LAST = 1.0, 60.0
"""Seconds without a request after the cloud could not process one, the first time and at most."""
_MIDDLE = 0.5


_NO_SESSION = 520
_OF_REPORT = frozenset({ResultKind.PERMANENT, ResultKind.UNKNOWN})
"""Kinds that are about what was reported: it would be refused again."""


class ReportResult(NamedTuple):
    """What the cloud has done with a report.

    denied: what it says of the device, where that is why it took nothing from it: then its session
    has ended there.
    """

    publication: Publication
    denied: Denied | None = None


def result_of(code: int) -> ReportResult:
    """Return what a result code means for a report."""
    found = result_codes.of_report(code)
    if found.kind is ResultKind.DONE:
        return ReportResult(ACCEPTED)
    reason = replace(found.reason, text=f"{found.reason.text} Its code is {code}.")
    if found.kind in _OF_REPORT:
        return ReportResult(MessageRefused(reason))
    of_device = found.kind is not ResultKind.TRANSIENT or code == _NO_SESSION
    return ReportResult(MessageDelayed(reason), Denied(code, found) if of_device else None)


def concerns_one(code: int) -> bool:
    """Whether a code may be about one report of many, so that the others go without it."""
    kind = result_codes.of_report(code).kind
    return kind not in (ResultKind.DONE, ResultKind.TRANSIENT) or code == _NO_SESSION


class ReportForm(NamedTuple):
    """A form of requests.  most: reports in one.  once: whether no device can have two there."""

    compose: Callable[[Sequence[DeviceReport]], ReportRequest]
    most: int
    once: bool


SINGLE = ReportForm(single, 1, once=True)
PACK = ReportForm(pack, MAX_DEVICES, once=True)
HISTORY = ReportForm(history, 100, once=False)
BATCH = ReportForm(batch, 100, once=False)

Answer: TypeAlias = asyncio.Future[ReportResult | None]
"""What the cloud has done with a report; None as the connection has ended."""


class ReportSender(Protocol):
    """The sender of requests, over one connection.  closed: why it has ended."""

    closed: asyncio.Future[ConnectionEnd]

    async def wait_turn(self) -> None:
        """Return when the cloud's limits allow one request, or the connection has ended."""

    def give_back(self) -> None:
        """Let another take the turn that was waited for."""

    async def ask(self, request: ReportRequest) -> int:
        """Send a request, whose turn it is, and return the code of its reply.  Raises LinkError."""


@dataclass(slots=True)
class _Entry:
    one: DeviceReport
    answer: Answer

    def settle(self, result: ReportResult | None) -> None:
        if not self.answer.done():
            self.answer.set_result(result)


class ReportQueue:
    """The reports of one connection that wait for their turn, in the order of the calls.

    A device has reports in one request at a time: a request that is refused for one of its reports
    goes again as a request for each, and what a device said later comes after that.  Where a report
    is delayed, so is what its device has waiting.  Which report of several the cloud keeps silent
    about is not known: each of those devices has its next request for itself, so that one report
    does not delay the others again and again.
    """

    def __init__(self, sender: ReportSender, form: ReportForm) -> None:
        self._sender, self._form = sender, form
        self._waiting: deque[_Entry] = deque()
        self._busy: set[SubName] = set()
        self._alone: set[SubName] = set()
        self._freed = asyncio.Event()
        self._filling: asyncio.Task[None] | None = None
        self._asking: set[asyncio.Task[None]] = set()
        self._failures, self._pause = 0, 0.0

    def submit(self, one: DeviceReport) -> Answer:
        """Send a report.  The future may be ended before.  Raises TooManyWaiting."""
        if len(self._waiting) >= MAX_WAITING:
            raise TooManyWaiting
        answer: Answer = asyncio.get_running_loop().create_future()
        self._waiting.append(_Entry(one, answer))
        if self._filling is None:
            self._filling = asyncio.create_task(self._send_all())
            self._filling.add_done_callback(self._filled)
        return answer

    def _filled(self, task: asyncio.Task[None]) -> None:
        if task is self._filling:  # it was cancelled: the loop has ended
            self._settle_waiting()

    def _settle_waiting(self) -> None:
        self._filling = None
        self._settle(self._waiting, None)
        self._waiting.clear()

    async def _send_all(self) -> None:
        """Send until nothing waits, or the connection has ended.

        Then what is submitted begins another one, from the very end of this one on.
        """
        while self._waiting and not self._sender.closed.done():
            if self._all_busy():
                self._freed.clear()
                await self._freed.wait()
                continue
            await self._wait_turn()
            if entries := self._fill():
                self._begin(entries)
            else:
                self._sender.give_back()
        self._settle_waiting()

    async def _wait_turn(self) -> None:
        """Wait for the cloud's limits; longer after it could not process a request."""
        if (pause := self._pause) > 0:
            self._pause = 0.0
            await asyncio.wait({self._sender.closed}, timeout=pause)
        await self._sender.wait_turn()

    def _all_busy(self) -> bool:
        some = itertools.islice(self._waiting, LOOKED_AT)
        return all(entry.one.device in self._busy for entry in some)

    def _fill(self) -> list[_Entry]:
        """Return the entries of the next request: the first of each device, as they fit."""
        draft, taken = Draft(self._form.most, once=self._form.once), list[_Entry]()
        left: list[_Entry] = []
        left_behind = set(self._busy)
        while self._waiting and len(taken) < self._form.most and len(left) < LOOKED_AT:
            entry = self._waiting.popleft()
            if entry.answer.done():
                continue
            alone = entry.one.device in self._alone
            free = entry.one.device not in left_behind and not (alone and taken)
            if free and draft.add(entry.one):
                taken.append(entry)
                if alone:
                    break
            else:
                left_behind.add(entry.one.device)
                left.append(entry)
        self._waiting.extendleft(reversed(left))
        return taken

    def _begin(self, entries: Sequence[_Entry]) -> None:
        devices = {entry.one.device for entry in entries}
        self._busy |= devices
        task = asyncio.create_task(self._ask_for_all(entries))
        self._asking.add(task)
        task.add_done_callback(lambda done: self._finish(done, devices, entries))

    def _finish(
        self, task: asyncio.Task[None], devices: set[SubName], entries: Iterable[_Entry]
    ) -> None:
        self._asking.discard(task)
        self._busy -= devices
        self._freed.set()
        self._settle(entries, None)  # they have a result, unless the loop has ended

    async def _ask_for_all(self, entries: Sequence[_Entry]) -> None:
        """Send reports together, and one by one where that was refused."""
        code = await self._ask(entries)
        if code is None:
            return
        if len(entries) == 1 or not concerns_one(code):
            self._conclude(entries, code)
            return
        for place, entry in enumerate(entries):
            if entry.answer.done():
                continue
            await self._wait_turn()
            later = entries[place + 1 :]
            if (own := await self._ask((entry,), later)) is not None:
                self._conclude((entry,), own, later)

    async def _ask(self, entries: Sequence[_Entry], later: Sequence[_Entry] = ()) -> int | None:
        """Return the code of the reply; None where there is none, and all is settled.

        later: what is sent after that.
        """
        devices = {entry.one.device for entry in entries}
        try:
            code = await self._sender.ask(self._form.compose([entry.one for entry in entries]))
        except LinkDown:
            self._settle(entries, None)
        except LinkError as error:
            if len(devices) > 1 and len(self._alone) < MAX_WAITING:
                self._alone |= devices
            self._hold_back(entries, ReportResult(MessageDelayed(unanswered(error))), later)
        else:
            self._alone -= devices
            return code
        return None

    def _conclude(self, entries: Sequence[_Entry], code: int, later: Sequence[_Entry] = ()) -> None:
        result = result_of(code)
        if not isinstance(result.publication, MessageDelayed):
            self._failures = 0
            self._settle(entries, result)
            return
        if result.denied is None:
            self._failures += 1
            self._pause = delay(self._failures, RETRY_FIRST, RETRY_LAST, _MIDDLE)
        self._hold_back(entries, result, later)

    def _hold_back(
        self, entries: Sequence[_Entry], result: ReportResult, later: Sequence[_Entry]
    ) -> None:
        """Delay reports, with what their devices have waiting behind them, in `later` too."""
        devices = {entry.one.device for entry in entries}
        self._settle(entries, result)
        delayed = result.publication
        assert isinstance(delayed, MessageDelayed), "else nothing is held back"
        after = itertools.chain(later, self._waiting)
        behind = (entry for entry in after if entry.one.device in devices)
        self._settle(behind, result._replace(publication=replace(delayed, left=False)))

    def _settle(self, entries: Iterable[_Entry], result: ReportResult | None) -> None:
        for entry in entries:
            entry.settle(result)
