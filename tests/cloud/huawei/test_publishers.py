"""How messages of devices and of sub-devices leave: in order, together, and within the limits."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from gatewayd.cloud.huawei.reporting import publishers
from gatewayd.cloud.huawei.reporting.publishers import (
    MAX_WAITING,
    MESSAGES,
    UNDER_WAY,
    HuaweiLimit,
    HuaweiReports,
    HuaweiSubDevicePublisher,
    device_publisher,
    weight,
)
from gatewayd.cloud.huawei.reporting.uploads import MAX_CHILDREN, MAX_MESSAGE
from gatewayd.cloud.paho_socket import Acknowledgement, Gone
from gatewayd.cloud.provider import MessageAccepted, MessageDelayed, MessageRefused, Publication
from gatewayd.cloud.publisher import MessagePublisher, PublicationLimit
from gatewayd.cloud.sub_devices.link import NotSent
from gatewayd.device.message import Message
from gatewayd.runtime.rate_limiter import Pacer, RateLimiter
from gatewayd.testing.contracts.cloud import cancel
from gatewayd.testing.waiting import until
from tests.cloud.stand_ins import CountLimit, Steps

OWN = "gateways_gw-1"


def loop_time() -> float:
    return asyncio.get_running_loop().time()


@dataclass
class FakeConnection:
    """Acknowledges at once, unless it is to hold; notes when each packet came."""

    held: bool = False
    posts: list[tuple[float, str, bytes]] = field(default_factory=list)
    answers: list[asyncio.Future[Acknowledgement | None]] = field(default_factory=list)
    closed: asyncio.Future[None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def post(self, topic: str, payload: bytes) -> asyncio.Future[Acknowledgement | None]:
        answer: asyncio.Future[Acknowledgement | None] = asyncio.Future()
        if self.closed.done():
            answer.set_result(None)
            return answer
        self.posts.append((loop_time(), topic, payload))
        self.answers.append(answer)
        if not self.held:
            answer.set_result(())
        return answer

    def end(self, lost: int = 0) -> None:
        """Let the connection end.  lost: how many of the last packets never arrived."""
        self.closed.set_result(None)
        del self.posts[len(self.posts) - lost :]
        for answer in self.answers:
            if not answer.done():
                answer.set_result(None)

    @property
    def said(self) -> list[tuple[str, int]]:
        """The values that came, in order: of whom, and which."""
        found = []
        for _, topic, payload in self.posts:
            message = json.loads(payload)
            if topic.endswith("/sys/messages/up"):
                found.append((message["object_device_id"], message["content"]))
            for device in message.get("devices", ()):
                values = [service["properties"]["n"] for service in device["services"]]
                found += [(device["device_id"], value) for value in values]
        return found


def free() -> CountLimit:
    """No limit."""
    return CountLimit(RateLimiter(Pacer(1e9), Steps().now, 1000))


def reports_over(
    connection: FakeConnection, limit: PublicationLimit | None = None
) -> HuaweiReports:
    return HuaweiReports(OWN, connection, connection.closed, limit or free())


def child(current: Callable[[], HuaweiReports], number: int = 1) -> HuaweiSubDevicePublisher:
    return HuaweiSubDevicePublisher(f"sensors_{number}", "climate", current)


def reading(number: int) -> Message:
    return Message("properties", json.dumps({"n": number}).encode(), 0)


def alone(number: int) -> Message:
    return Message("sys/messages/up", json.dumps({"content": number}).encode(), 0)


@dataclass
class Saying:
    """Publishes for children of one gateway, while their sessions last."""

    ended: asyncio.Future[Any] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def say(self, publisher: MessagePublisher, *messages: Message) -> list[asyncio.Task[Any]]:
        return [asyncio.create_task(self._publish(publisher, one)) for one in messages]

    async def _publish(self, publisher: MessagePublisher, message: Message) -> Publication | None:
        """Return the outcome; None for Gone."""
        try:
            return await publisher.publish(message, self.ended)
        except Gone:
            return None


async def outcomes(tasks: list[asyncio.Task[Any]]) -> list[Any]:
    async with asyncio.timeout(60):
        return list(await asyncio.gather(*tasks))


async def test_what_comes_together_leaves_together_and_in_order() -> None:
    connection = FakeConnection()
    reports = reports_over(connection)
    tasks = []
    for number in range(3):
        for one in (1, 2):
            tasks += Saying().say(child(lambda: reports, one), reading(number))
    assert await outcomes(tasks) == [MessageAccepted()] * 6
    assert [number for device, number in connection.said if device == "sensors_1"] == [0, 1, 2]
    ((_, topic, _),) = connection.posts
    assert topic == f"$oc/devices/{OWN}/sys/gateway/sub_devices/properties/report"


async def test_what_stands_alone_keeps_its_place() -> None:
    connection = FakeConnection()
    reports = reports_over(connection)
    one, saying = child(lambda: reports), Saying()
    tasks = saying.say(one, reading(0), reading(1), alone(2), alone(3), reading(4))
    assert await outcomes(tasks) == [MessageAccepted()] * 5
    assert connection.said == [("sensors_1", number) for number in range(5)]
    assert len(connection.posts) == 4


async def test_a_message_that_does_not_fit_is_refused_at_once() -> None:
    connection = FakeConnection()
    reports = reports_over(connection)
    (refused,) = await outcomes(Saying().say(child(lambda: reports), Message("x", b"", 0)))
    assert isinstance(refused, MessageRefused)
    assert connection.posts == []


async def test_when_the_connection_ends_nothing_waits() -> None:
    connection = FakeConnection(held=True)
    reports = reports_over(connection)
    one = child(lambda: reports)
    tasks = Saying().say(one, *map(alone, range(5)))
    await asyncio.sleep(0)
    connection.end()
    tasks += Saying().say(one, alone(9))
    assert not any(isinstance(one, MessageAccepted) for one in await outcomes(tasks))


async def test_when_the_session_ends_its_messages_are_not_sent() -> None:
    connection = FakeConnection()
    blocked = CountLimit(RateLimiter(Pacer(0.001), loop_time, 1000))
    reports, saying, other = reports_over(connection, blocked), Saying(), Saying()
    await outcomes(other.say(child(lambda: reports, 2), reading(0)))
    tasks = saying.say(child(lambda: reports), reading(1))
    rest = other.say(child(lambda: reports, 2), reading(2))
    await asyncio.sleep(0)
    saying.ended.set_result(None)
    assert await outcomes(tasks) == [None]
    assert not rest[0].done()
    connection.end()
    assert await outcomes(rest) == [None]
    assert connection.said == [("sensors_2", 0)]


async def test_messages_under_way_stay_with_one_session() -> None:
    """Else the first could be lost with the old one, and the second overtake it."""
    old, new = FakeConnection(held=True), FakeConnection()
    links = [reports_over(old), reports_over(new)]
    current, saying = links[0], Saying()
    one = child(lambda: current)
    tasks = saying.say(one, reading(0))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    current = links[1]
    tasks += saying.say(one, reading(1))
    await asyncio.sleep(0)
    old.end()
    tasks += saying.say(one, reading(2))
    assert not any(isinstance(one, MessageAccepted) for one in await outcomes(tasks))
    assert new.posts == []
    assert await outcomes(saying.say(one, reading(0), reading(1))) == [MessageAccepted()] * 2
    assert new.said == [("sensors_1", 0), ("sensors_1", 1)]


async def test_without_a_link_it_is_delayed() -> None:
    def none() -> HuaweiReports:
        raise NotSent

    (delayed,) = await outcomes(Saying().say(child(none), reading(0)))
    assert isinstance(delayed, MessageDelayed)


async def test_one_that_is_cancelled_does_not_hold_up_the_next() -> None:
    connection = FakeConnection(held=True)
    reports = reports_over(connection)
    one = child(lambda: reports)
    tasks = Saying().say(one, reading(0), reading(1))
    await asyncio.sleep(0)
    assert await cancel(tasks[0])
    await asyncio.sleep(0)
    connection.answers[0].set_result(())
    assert await outcomes(tasks[1:]) == [MessageAccepted()]


async def test_what_waits_is_bounded_and_the_order_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_WAITING >= 2000 * 8
    monkeypatch.setattr(publishers, "MAX_WAITING", 3)
    connection = FakeConnection()
    reports = reports_over(connection)
    one, saying = child(lambda: reports), Saying()
    found = await outcomes(saying.say(one, *map(reading, range(6))))
    assert [type(each) for each in found] == [MessageAccepted] * 3 + [MessageDelayed] * 3
    assert connection.said == [("sensors_1", number) for number in range(3)]
    assert await outcomes(saying.say(one, reading(3))) == [MessageAccepted()]


@pytest.mark.jumping_clock
async def test_no_second_has_more_messages_than_the_platform_takes() -> None:
    """2,000 children say something each, twice: in few messages, at the pace of the limit."""
    connection = FakeConnection()
    reports = reports_over(connection, HuaweiLimit(loop_time))
    tasks = []
    for number in range(2000):
        tasks += Saying().say(child(lambda: reports, number), reading(0), reading(1))
    assert set(await outcomes(tasks)) == {MessageAccepted()}
    moments = [moment for moment, _, _ in connection.posts]
    assert len(connection.posts) <= 4000 / MAX_CHILDREN + 1
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert min(gaps) >= 1 / MESSAGES - 1e-9
    assert all(len(payload) <= 64 * 1024 for _, _, payload in connection.posts)


async def lane(publisher: MessagePublisher, messages: list[Message], window: int) -> None:
    """Publish as the delivery does: as many as may be under way, and from the first delayed on
    again, once nothing is under way."""
    saying, sent = Saying(), 0
    tasks = deque[asyncio.Task[Any]]()
    while sent < len(messages) or tasks:
        while sent < len(messages) and len(tasks) < window:
            tasks.extend(saying.say(publisher, messages[sent]))
            sent += 1
        if await tasks.popleft() != MessageAccepted():
            assert MessageAccepted() not in await outcomes([*tasks])
            sent -= 1 + len(tasks)
            tasks.clear()


def acknowledge_some(link: FakeConnection, chance: random.Random) -> None:
    """Acknowledge some of what is under way, in its order."""
    for answer in link.answers:
        if not answer.done():
            if chance.random() < 0.7:
                return
            answer.set_result(())


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_happens_to_the_links_nothing_is_lost_or_overtaken(seed: int) -> None:
    """Links are replaced while messages are held, acknowledged, or lost with the older link."""
    chance, links = random.Random(seed), [FakeConnection(held=True)]
    current = reports_over(links[0])
    children = [child(lambda: current, number) for number in range(3)]
    said = [chance.choice((reading, alone))(number) for number in range(40)]
    lanes = [asyncio.create_task(lane(one, said, chance.randint(1, 9))) for one in children]
    while not all(one.done() for one in lanes):
        await asyncio.sleep(0)
        for link in links:
            acknowledge_some(link, chance)
        if chance.random() < 0.05:
            links.append(FakeConnection(held=True))
            current = reports_over(links[-1])
        if chance.random() < 0.1:
            for link in links[:-1]:
                if not link.closed.done():
                    unsure = sum(not answer.done() for answer in link.answers)
                    link.end(chance.randint(0, unsure))
    await outcomes(lanes)
    assert len(links) > 1
    arrived = [one for link in links for one in link.said]
    for number in range(3):
        own = [value for device, value in arrived if device == f"sensors_{number}"]
        assert list(dict.fromkeys(own)) == list(range(40))


@pytest.mark.jumping_clock
async def test_a_path_that_stood_still_does_not_bring_too_many_at_once() -> None:
    """What was not acknowledged may all arrive in one second, with what is sent in that second."""
    connection, limit = FakeConnection(held=True), HuaweiLimit(loop_time)
    publisher = device_publisher(connection, OWN, "", limit)
    reports = reports_over(connection, limit)
    tasks = Saying().say(publisher, *(Message("user/a", b"x", 0) for _ in range(150)))
    tasks += Saying().say(child(lambda: reports), *map(alone, range(50)))
    arrivals: list[float] = []
    while len(arrivals) < 200:
        await asyncio.sleep(10)
        for answer in connection.answers[len(arrivals) :]:
            arrivals.append(loop_time())
            answer.set_result(())
        await asyncio.sleep(0.5)
        for answer in connection.answers[len(arrivals) :]:
            arrivals.append(loop_time())
            answer.set_result(())
    assert set(await outcomes(tasks)) == {MessageAccepted()}
    for start in arrivals:
        assert sum(start <= one < start + 1 for one in arrivals) <= 50


async def test_what_is_under_way_is_bounded() -> None:
    connection = FakeConnection(held=True)
    reports = reports_over(connection)
    tasks = Saying().say(child(lambda: reports), *map(reading, range(3 * UNDER_WAY)))
    for count in (UNDER_WAY, 2 * UNDER_WAY, 3 * UNDER_WAY):
        await until(partial(has_said, connection, count))
        assert len(connection.said) == count
        for answer in connection.answers:
            if not answer.done():
                answer.set_result(())
    assert set(await outcomes(tasks)) == {MessageAccepted()}
    assert [number for _, number in connection.said] == list(range(3 * UNDER_WAY))


def has_said(connection: FakeConnection, count: int) -> bool:
    return len(connection.said) >= count


@pytest.mark.jumping_clock
async def test_no_second_has_more_bytes_than_the_platform_takes() -> None:
    connection = FakeConnection()
    publisher = device_publisher(connection, OWN, "", HuaweiLimit(loop_time))
    sizes = [MAX_MESSAGE, 10, MAX_MESSAGE - 1, 500_000, 500_000, 500_000, *[100_000] * 30]
    messages = [Message("sys/messages/up", b"x" * size, 0) for size in sizes]
    assert set(await outcomes(Saying().say(publisher, *messages))) == {MessageAccepted()}
    assert [len(payload) for _, _, payload in connection.posts] == sizes
    for start, _, _ in connection.posts:
        within = [len(p) for at, _, p in connection.posts if start <= at < start + 1]
        assert sum(within) <= 1 << 20


def test_every_message_has_a_weight_that_the_limit_allows() -> None:
    assert [weight(size) for size in (0, 1023, 1024, MAX_MESSAGE)] == [1, 1, 2, 1000]


async def test_a_device_names_itself() -> None:
    connection = FakeConnection()
    publisher = device_publisher(connection, OWN, "climate", free())
    assert await outcomes(Saying().say(publisher, reading(1))) == [MessageAccepted()]
    ((_, topic, payload),) = connection.posts
    assert topic == f"$oc/devices/{OWN}/sys/properties/report"
    assert json.loads(payload)["services"][0]["properties"] == {"n": 1}
