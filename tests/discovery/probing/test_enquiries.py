"""Who is enquired next, how many at once, and what an enquiry has added."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from gatewayd.device.identity import Claim
from gatewayd.discovery.probing.enquiries import AGAIN, AT_ONCE, MAX_WAITING, EnquiryQueue, Where
from gatewayd.discovery.probing.protocol import Found, UnreadableAnswer
from gatewayd.testing.waiting import until

PLAIN = Found("lamp", frozenset({Claim("uuid", "toy", "u")}), {"toy.a": "1"}, "Lamp", 0.0)
SERIAL = Claim("serial", "toy", "s-1")


class Scene:
    """A queue on a clock of its own, and enquiries that last until the test lets them end."""

    def __init__(self, limit: int = 100) -> None:
        self.now = 0.0
        self.free = asyncio.Event()
        self.running: list[Where] = []
        self.most = 0
        self.begun: list[Where] = []
        self.reported: list[tuple[Found, str]] = []
        self.dropped: list[tuple[str, Where]] = []
        self.answer: Exception | None = None
        self.queue = EnquiryQueue(
            limit,
            enquire=self.enquire,
            report=lambda found, address: self.reported.append((found, address)),
            drop=lambda cause, where: self.dropped.append((cause, where)),
            now=lambda: self.now,
        )

    async def enquire(self, found: Found, address: str) -> Sequence[Found]:
        where = (found.key, address)
        self.begun.append(where)
        self.running.append(where)
        self.most = max(self.most, len(self.running))
        try:
            await self.free.wait()
        finally:
            self.running.remove(where)
        if self.answer:
            raise self.answer
        more = {**found.attributes, "toy.a": "2", "model": "M"}
        return [replace(found, claims=found.claims | {SERIAL}, attributes=more, label="The lamp")]

    def put(self, key: str, address: str, places: Sequence[str] = ()) -> None:
        self.queue.put(replace(PLAIN, key=key), address, places or (address,))


async def test_a_few_at_once_and_one_of_each_address() -> None:
    scene = Scene()
    for number in range(10):
        scene.put(f"behind-{number}", "10.0.0.1")
    for number in range(2, 9):
        scene.put("lamp", f"10.0.0.{number}")
    await asyncio.sleep(0)
    addresses = [address for _, address in scene.running]
    assert addresses == [f"10.0.0.{number}" for number in range(1, 1 + AT_ONCE)]
    scene.free.set()
    await until(lambda: len(scene.begun) == 17 and not scene.running)
    assert scene.most == AT_ONCE
    await scene.queue.clear()


async def test_what_an_enquiry_added_is_added_to_later_answers_of_that_place() -> None:
    scene = Scene()
    scene.free.set()
    scene.put("lamp", "10.0.0.1")
    await until(lambda: len(scene.reported) == 1)
    later = replace(PLAIN, attributes={"toy.a": "3"})
    complete = scene.queue.completed(later, "10.0.0.1", ("10.0.0.1",))
    assert complete.claims == PLAIN.claims | {SERIAL}
    assert complete.attributes == {"toy.a": "3", "model": "M"}
    assert complete.label == "The lamp"
    both = ("10.0.0.1", "fe80::1%lan0")
    assert scene.queue.completed(later, "fe80::1%lan0", both) == complete
    assert scene.queue.completed(later, "10.0.0.2", ("10.0.0.2",)) is later


async def test_it_is_enquired_again_after_a_while_and_at_another_address() -> None:
    scene = Scene()
    scene.free.set()
    for moment, address, times in (
        (0.0, "10.0.0.1", 1), (AGAIN - 1, "10.0.0.1", 1), (AGAIN - 1, "10.0.0.2", 2),
        (AGAIN, "10.0.0.1", 3),
    ):  # fmt: skip
        scene.now = moment
        scene.put("lamp", address)
        await asyncio.sleep(0)
        assert len(scene.begun) == times
    scene.put("lamp", "fe80::1%lan0", ("10.0.0.1", "fe80::1%lan0"))
    await asyncio.sleep(0)
    assert len(scene.begun) == 3


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (OSError(), "enquiry-failed"),
        (UnreadableAnswer("odd"), "odd"),
        (LookupError("a bug"), "enquiry-failed"),
    ],
)
async def test_one_that_fails_is_counted_and_what_was_known_stays(
    error: Exception, cause: str
) -> None:
    scene = Scene()
    scene.free.set()
    scene.put("lamp", "10.0.0.1")
    await until(lambda: len(scene.reported) == 1)
    scene.now, scene.answer = AGAIN, error
    scene.put("lamp", "10.0.0.1")
    await until(lambda: scene.dropped == [(cause, ("lamp", "10.0.0.1"))])
    assert SERIAL in scene.queue.completed(PLAIN, "10.0.0.1", ("10.0.0.1",)).claims


async def test_what_waits_and_what_is_kept_are_bounded() -> None:
    scene = Scene(limit=3)
    for number in range(MAX_WAITING + AT_ONCE + 5):
        scene.put(f"k{number}", f"10.0.0.{number}")
    assert scene.dropped == [
        ("enquiry-queue-full", (f"k{number}", f"10.0.0.{number}"))
        for number in range(AT_ONCE, AT_ONCE + 5)
    ]
    scene.free.set()
    await until(lambda: len(scene.reported) == MAX_WAITING + AT_ONCE)
    last = MAX_WAITING + AT_ONCE + 4
    known = [
        number
        for number in range(last + 1)
        if SERIAL in scene.queue.completed(
            replace(PLAIN, key=f"k{number}"), f"10.0.0.{number}", ()
        ).claims
    ]  # fmt: skip
    assert known == [last - 2, last - 1, last]


async def test_none_is_under_way_once_it_is_cleared() -> None:
    scene = Scene()
    for number in range(10):
        scene.put("lamp", f"10.0.0.{number}")
    await asyncio.sleep(0)
    await scene.queue.clear()
    assert not scene.running
    assert len(scene.begun) == AT_ONCE
