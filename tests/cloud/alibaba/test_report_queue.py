"""Which reports leave together, in what order, and what becomes of them when one is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from gatewayd.cloud.alibaba.alink import SubName
from gatewayd.cloud.alibaba.reporting import report_queue
from gatewayd.cloud.alibaba.reporting.report_queue import (
    HISTORY,
    PACK,
    RETRY_FIRST,
    Answer,
    ReportForm,
    ReportQueue,
    ReportResult,
    concerns_one,
    result_of,
)
from gatewayd.cloud.alibaba.reporting.reports import AlibabaReport, DeviceReport, ReportRequest
from gatewayd.cloud.provider import MessageAccepted, MessageDelayed, MessageRefused
from gatewayd.cloud.publisher import ACCEPTED
from gatewayd.cloud.sub_devices.link import LinkDown, NoAnswer
from gatewayd.network.connect_errors import ConnectionEnd
from gatewayd.runtime.rate_limiter import TooManyWaiting

Said = tuple[str, int]
"""A device, and the number of what it reports."""

DONE = ReportResult(ACCEPTED)


@dataclass
class Sender:
    """A cloud that answers when a test says so.  Implements ReportSender.

    turns: how many requests may leave.  asked: each request, as what was said.
    code: of the reply to what was said; an error to raise.
    """

    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1000))
    answering: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[list[Said]] = field(default_factory=list)
    code: Callable[[list[Said]], int | Exception] = lambda _: 200
    closed: asyncio.Future[ConnectionEnd] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    given_back: int = 0

    async def wait_turn(self) -> None:
        await self.turns.acquire()

    def give_back(self) -> None:
        self.given_back += 1
        self.turns.release()

    async def ask(self, request: ReportRequest) -> int:
        said = _said(json.loads(request.params))
        self.asked.append(said)
        await self.answering.wait()
        code = self.code(said)
        if isinstance(code, Exception):
            raise code
        return code


def _said(params: Any) -> list[Said]:
    parts = params["subDevices"] if isinstance(params, dict) else params
    found: list[Said] = []
    for part in parts:
        some = part["properties"] if isinstance(part["properties"], list) else [part["properties"]]
        found += [(part["identity"]["deviceName"], one["n"]["value"]) for one in some]
    return found


def report(device: str, number: int, properties: int = 1) -> DeviceReport:
    params = json.dumps({"n": {"value": number}})
    return DeviceReport(SubName("a1Product", device), AlibabaReport("", params, properties, 1))


def queue_with(sender: Sender, form: ReportForm = PACK) -> ReportQueue:
    return ReportQueue(sender, form)


def submitted(queue: ReportQueue, *said: Said) -> list[Answer]:
    return [queue.submit(report(*one)) for one in said]


async def settle(steps: int = 20) -> None:
    for _ in range(steps):
        await asyncio.sleep(0)


async def results(answers: Sequence[Answer]) -> list[ReportResult | None]:
    async with asyncio.timeout(30):
        return await asyncio.gather(*answers)


async def test_what_has_come_by_its_turn_goes_together() -> None:
    sender = Sender(turns=asyncio.Semaphore(0))
    answers = submitted(queue := queue_with(sender), ("a", 1), ("b", 1), ("a", 2), ("c", 1))
    await settle()
    answers += submitted(queue, ("d", 1))
    sender.answering.set()
    sender.turns.release()
    await settle()
    assert sender.asked == [[("a", 1), ("b", 1), ("c", 1), ("d", 1)]]
    sender.turns.release()
    assert await results(answers) == [DONE] * 5
    assert sender.asked[1:] == [[("a", 2)]]


async def test_one_that_comes_alone_leaves_at_once() -> None:
    sender = Sender()
    sender.answering.set()
    assert await results(submitted(queue_with(sender), ("a", 1))) == [DONE]


async def test_a_device_has_one_request_under_way_and_others_go_on() -> None:
    sender = Sender()
    answers = submitted(queue_with(sender), ("a", 1), ("a", 2))
    await settle()
    assert sender.asked == [[("a", 1)]]
    queue = queue_with(sender)
    answers += submitted(queue, ("a", 3))
    await settle()
    answers += submitted(queue, ("a", 4), ("b", 1), ("b", 2))
    await settle()
    assert sender.asked == [[("a", 1)], [("a", 3)], [("b", 1)]]
    sender.answering.set()
    assert await results(answers) == [DONE] * 6
    assert sorted(sender.asked[3:]) == [[("a", 2)], [("a", 4), ("b", 2)]]


async def test_a_history_has_many_of_one_device() -> None:
    sender = Sender(turns=asyncio.Semaphore(0))
    said = [("a", n) for n in range(5)]
    answers = submitted(queue_with(sender, HISTORY), *said)
    sender.answering.set()
    sender.turns.release()
    assert await results(answers) == [DONE] * 5
    assert sender.asked == [said]


async def test_what_did_not_fit_is_not_overtaken_by_what_would() -> None:
    sender = Sender(turns=asyncio.Semaphore(0))
    queue = queue_with(sender, HISTORY)
    sizes = [("a", 1, 150), ("a", 2, 100), ("a", 3, 10), ("b", 1, 10)]
    answers = [queue.submit(report(*one)) for one in sizes]
    sender.answering.set()
    for _ in range(2):
        sender.turns.release()
    assert await results(answers) == [DONE] * 4
    assert sender.asked == [[("a", 1), ("b", 1)], [("a", 2), ("a", 3)]]


async def test_a_refused_request_goes_again_one_by_one_before_what_came_later() -> None:
    sender = Sender(code=lambda said: 460 if ("b", 1) in said else 200)
    answers = submitted(queue := queue_with(sender), ("a", 1))
    await settle()
    answers = submitted(queue, ("a", 2), ("b", 1), ("c", 1), ("c", 2))
    await settle()
    sender.answering.set()
    found = await results(answers)
    assert [type(one.publication) for one in found if one] == [
        MessageAccepted, MessageRefused, MessageAccepted, MessageAccepted,
    ]  # fmt: skip
    assert sender.asked[1] == [("b", 1), ("c", 1)]
    assert ("c", 2) in sender.asked[-1]
    order = [said for request in sender.asked[2:] for said in request]
    assert order.index(("c", 1)) < order.index(("c", 2))


@pytest.mark.parametrize("why", [NoAnswer(), 429])
async def test_one_that_goes_alone_and_is_delayed_is_not_overtaken(why: int | Exception) -> None:
    """A request is refused for one of its reports, and the first of a is delayed by itself."""
    sender = Sender(code=lambda said: 460 if len(said) > 1 else why if said == [("a", 1)] else 200)
    sender.answering.set()
    queue = queue_with(sender, HISTORY)
    one, two, other = await results(submitted(queue, ("a", 1), ("a", 2), ("b", 1)))
    assert one is not None
    assert two is not None
    assert isinstance(one.publication, MessageDelayed)
    assert one.publication.left
    assert two.publication == MessageDelayed(one.publication.reason, left=False)
    assert other == DONE
    assert sender.asked == [[("a", 1), ("a", 2), ("b", 1)], [("a", 1)], [("b", 1)]]


async def test_one_report_without_a_reply_delays_the_others_once() -> None:
    """The cloud keeps silent about a: b and c do not wait for its time-out again."""
    sender = Sender(code=lambda said: NoAnswer() if ("a", 1) in said else 200)
    sender.answering.set()
    answers = submitted(queue := queue_with(sender), ("a", 1), ("b", 1), ("c", 1))
    first = await results(answers)
    assert all(isinstance(one.publication, MessageDelayed) for one in first if one is not None)
    answers = submitted(queue, ("a", 1), ("b", 1), ("c", 1), ("d", 1))
    silent, *others = await results(answers)
    assert silent is not None
    assert isinstance(silent.publication, MessageDelayed)
    assert others == [DONE] * 3
    assert sender.asked[0] == [("a", 1), ("b", 1), ("c", 1)]
    assert sorted(sender.asked[1:]) == [[("a", 1)], [("b", 1)], [("c", 1)], [("d", 1)]]
    # whom the cloud has replied to is among others again
    assert await results(submitted(queue, ("b", 2), ("a", 1), ("c", 2), ("d", 2))) == [
        DONE, silent, DONE, DONE,
    ]  # fmt: skip
    assert [("b", 2), ("c", 2), ("d", 2)] in sender.asked


async def test_what_waits_behind_a_delayed_report_is_delayed_and_others_are_not() -> None:
    sender = Sender(code=lambda said: NoAnswer() if ("a", 1) in said else 200)
    answers = submitted(queue := queue_with(sender), ("a", 1))
    await settle()
    answers += submitted(queue, ("a", 2), ("b", 1))
    await settle()
    sender.answering.set()
    found = await results(answers)
    assert [type(one.publication) for one in found if one] == [
        MessageDelayed, MessageDelayed, MessageAccepted,
    ]  # fmt: skip
    assert sender.asked == [[("a", 1)], [("b", 1)]]


async def test_a_child_that_is_not_online_is_named() -> None:
    sender = Sender(code=lambda said: 6401 if ("a", 1) in said else 200)
    sender.turns = asyncio.Semaphore(0)
    answers = submitted(queue_with(sender), ("a", 1), ("b", 1))
    sender.answering.set()
    for _ in range(3):
        sender.turns.release()
    one, two = await results(answers)
    assert one is not None
    assert one.denied is not None
    assert (one.denied.code, two) == (6401, DONE)


@pytest.mark.jumping_clock
async def test_a_cloud_that_cannot_process_one_has_time_to_recover() -> None:
    loop, codes = asyncio.get_running_loop(), iter([500, 429, 200, 500, 200])
    sender = Sender(code=lambda _: next(codes))
    sender.answering.set()
    queue, waits = queue_with(sender), list[float]()
    for _ in range(5):
        began = loop.time()
        await results(submitted(queue, ("a", 1)))
        waits.append(loop.time() - began)
    assert waits == [0, pytest.approx(RETRY_FIRST), pytest.approx(2 * RETRY_FIRST), 0,
                     pytest.approx(RETRY_FIRST)]  # fmt: skip


async def test_the_end_of_the_connection_ends_everything() -> None:
    sender = Sender(code=lambda _: LinkDown())
    answers = submitted(queue := queue_with(sender), ("a", 1))
    await settle()
    answers += submitted(queue, ("a", 2), ("a", 3))
    sender.closed.set_result(ConnectionEnd.LOST)
    sender.answering.set()
    assert await results(answers) == [None] * 3
    answers = submitted(queue, ("b", 1))
    assert await results(answers) == [None]
    assert sender.asked == [[("a", 1)]]


async def test_what_is_given_up_before_its_turn_is_not_sent() -> None:
    sender = Sender(turns=asyncio.Semaphore(0))
    one, two = submitted(queue_with(sender), ("a", 1), ("b", 1))
    await settle()
    one.cancel()
    sender.answering.set()
    sender.turns.release()
    assert await results([two]) == [DONE]
    (three,) = submitted(queue := queue_with(sender), ("c", 1))
    await settle()
    three.cancel()
    sender.turns.release()
    await settle()
    assert sender.asked == [[("b", 1)]]
    assert sender.given_back == 1
    assert await results(submitted(queue, ("d", 1))) == [DONE]


async def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_queue, "MAX_WAITING", 3)
    sender = Sender(turns=asyncio.Semaphore(0))
    queue = queue_with(sender)
    answers = submitted(queue, ("a", 1), ("a", 2), ("a", 3))
    with pytest.raises(TooManyWaiting):
        queue.submit(report("b", 1))
    sender.closed.set_result(ConnectionEnd.LOST)
    sender.turns.release()
    assert await results(answers) == [None] * 3


@pytest.mark.parametrize(
    ("code", "kind", "of_device"),
    [
        (200, MessageAccepted, False),
        (400, MessageDelayed, False), (429, MessageDelayed, False), (500, MessageDelayed, False),
        (6760, MessageDelayed, False),
        (460, MessageRefused, False), (5160, MessageRefused, False), (6106, MessageRefused, False),
        (6300, MessageRefused, False), (6203, MessageRefused, False), (6356, MessageRefused, False),
        (6357, MessageRefused, False), (6450, MessageRefused, False), (7, MessageRefused, False),
        (520, MessageDelayed, True), (521, MessageDelayed, True), (522, MessageDelayed, True),
        (427, MessageDelayed, True), (6401, MessageDelayed, True), (6100, MessageDelayed, True),
        (6287, MessageDelayed, True),
    ],
)  # fmt: skip
def test_what_a_code_means_for_a_report(code: int, kind: type, *, of_device: bool) -> None:
    result = result_of(code)
    assert type(result.publication) is kind
    assert (result.denied is not None) is of_device
    assert concerns_one(code) is (of_device or kind is MessageRefused)
    if not isinstance(result.publication, MessageAccepted):
        assert f"code is {code}." in result.publication.reason.text


@pytest.mark.parametrize("steps", range(12))
async def test_what_is_reported_as_a_queue_becomes_empty_is_sent(steps: int) -> None:
    """At whatever turn of the loop that is: what fills requests may just have ended."""
    sender = Sender()
    sender.answering.set()
    answers = submitted(queue := queue_with(sender), ("a", 1))
    await settle(steps)
    answers += submitted(queue, ("a", 2), ("a", 3))
    assert await results(answers) == [DONE] * 3
    assert sender.asked == [[("a", 1)], [("a", 2)], [("a", 3)]]
