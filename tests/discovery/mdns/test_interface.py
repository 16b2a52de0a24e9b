"""One interface, on a clock that jumps and a backend that receives what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_interface
from typing import Any

import pytest

from gatewayd.discovery.discoverer import Context, Health, Interest, LossReason, Sighting
from gatewayd.discovery.kernel.interfaces import LanInterface
from gatewayd.discovery.link.link_life import CHECK_EVERY, REOPEN_EVERY
from gatewayd.discovery.mdns.backend import NameCallback, PacketJudge
from gatewayd.discovery.mdns.interface import (
    ASK_EVERY,
    CALM,
    RENEW_EVERY,
    MdnsInterface,
)
from gatewayd.discovery.mdns.records import InstanceName, ServiceInfo, sighting
from gatewayd.discovery.mdns.settings import MdnsSettings
from gatewayd.discovery.mdns.traffic import QUERIES
from gatewayd.errors import DiscoveryRetry
from gatewayd.testing.contracts.discoverer import RecordingSink
from tests.support.tasks import in_background

TYPE = "_gatewayd-child._tcp"

pytestmark = pytest.mark.jumping_clock


@dataclass
class Air:
    """What all backends of a test share: the answers, and what was asked."""

    answers: dict[str, ServiceInfo] = field(default_factory=dict)
    fails: int = 0
    opened: list[FakeBackend] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    verdicts: dict[str, Interest] = field(default_factory=dict)

    def open(
        self, link: LanInterface, judge: PacketJudge, on_full: Callable[[], None]
    ) -> FakeBackend:
        self.opened.append(FakeBackend(self, link, judge, on_full))
        return self.opened[-1]

    @property
    def backend(self) -> FakeBackend:
        return self.opened[-1]

    def interest(self, view: Mapping[str, str]) -> Interest:
        assert view["source"] == "mdns"
        return self.verdicts.get(view["instance"], Interest.WANTED)


class FakeBackend:
    def __init__(
        self, air: Air, link: LanInterface, judge: PacketJudge, on_full: Callable[[], None]
    ) -> None:
        self.air, self.link, self.judge, self.on_full = air, link, judge, on_full
        self.cache: dict[str, ServiceInfo] = {}
        self.browses = self.questions = 0
        self.closed = False
        self.sender = ""
        self.announced: NameCallback = lambda *_: None
        self.removed: NameCallback = lambda *_: None

    async def start(self) -> None:
        if self.air.fails:
            self.air.fails -= 1
            raise DiscoveryRetry("not now", after=1)

    def relink(self, link: LanInterface) -> None:
        assert link.endpoint == self.link.endpoint
        self.link = link

    async def browse(
        self, services: Sequence[str], announced: NameCallback, removed: NameCallback
    ) -> None:
        assert services == [TYPE]
        self.browses += 1
        self.announced, self.removed = announced, removed

    def ask(self, services: Sequence[str]) -> None:
        assert services == [TYPE]
        self.questions += 1

    def newest(self, name: InstanceName) -> float:
        return self.cache[name.instance].received_at if name.instance in self.cache else 0.0

    def cached(self, name: InstanceName) -> ServiceInfo | None:
        return self.cache.get(name.instance)

    async def resolve(self, name: InstanceName, patience: float) -> ServiceInfo | None:
        self.air.asked.append(name.instance)
        if name.instance in self.air.answers:
            await asyncio.sleep(0.1)
            return self.air.answers[name.instance]
        await asyncio.sleep(patience)
        return None

    async def confirm(self, name: InstanceName, matches: Callable[[bytes], bool]) -> bytes | None:
        found = self.air.answers.get(name.instance)
        await asyncio.sleep(0.1 if found and matches(found.text) else 2.8)
        return found.text if found else None

    async def close(self) -> None:
        self.closed = True

    def announce(self, *instances: str) -> None:
        for one in instances:
            self.announced(TYPE, f"{one}.{TYPE}.local.")

    def goodbye(self, instance: str) -> None:
        self.removed(TYPE, f"{instance}.{TYPE}.local.")


def info(at: float = 0.0, ttl: float = 120.0, text: bytes = b"") -> ServiceInfo:
    return ServiceInfo("h.local.", 1, ("127.1.0.1",), text, at, ttl)


USABLE = LanInterface("lo", 1, True, (ip_interface("127.0.0.1/8"),))
GONE = LanInterface("lo")


@dataclass
class Scene:
    air: Air
    sink: RecordingSink
    health: Health
    interface: MdnsInterface
    links: list[LanInterface]

    def become(self, link: LanInterface) -> None:
        """Have the kernel say so of the interface."""
        self.links.append(link)
        self.interface.relinked()

    async def verify(self, instance: str, known: ServiceInfo | None = None) -> Sighting | None:
        """Look for a device that was seen with an answer before."""
        name = InstanceName(TYPE, instance)
        return await self.interface.verify(name, sighting(name, known or info(), "m/lo", "lo"))

    def reasons(self) -> list[LossReason]:
        return [one.reason for one in self.sink.lost]


@asynccontextmanager
async def listening(link: LanInterface = USABLE, **settings: int) -> AsyncIterator[Scene]:
    """Run one interface until the block ends."""
    air, sink, health = Air(), RecordingSink(), Health()
    now_it_is = [link]
    tested = MdnsInterface(
        "lo",
        MdnsSettings(interfaces=("lo",), types=(TYPE,), **settings),
        link=lambda: now_it_is[-1],
        source="m/lo",
        services=[TYPE],
        context=Context(asyncio.get_running_loop().time, lambda: 0.5, air.interest),
        sink=sink,
        health=health,
        open_backend=air.open,
    )
    async with in_background(tested.run()):
        await asyncio.sleep(0.01)
        yield Scene(air, sink, health, tested, now_it_is)
    assert all(one.closed for one in air.opened)


async def test_what_is_in_the_packet_is_reported_without_asking() -> None:
    async with listening() as scene:
        scene.air.backend.cache["a"] = info()
        scene.air.backend.announce("a")
        assert set(scene.sink.seen) == {f"{TYPE}|a"}
    assert scene.air.asked == []
    assert scene.reasons() == [LossReason.STOPPED]
    assert scene.health == Health(sighted=1, lost=1, entries=0)


async def test_policy_is_asked_before_anything_is_sent() -> None:
    async with listening() as scene:
        air = scene.air
        air.verdicts = {"phone": Interest.IGNORED, "odd": Interest.STRANGER}
        air.answers = {"phone": info(), "odd": info(), "child": info()}
        air.backend.announce("phone", "odd", "child")
        await asyncio.sleep(1)
        assert sorted(air.asked) == ["child", "odd"]
        assert set(scene.sink.seen) == {f"{TYPE}|odd", f"{TYPE}|child"}
    assert scene.health.dropped == {"ignored": 1}


async def test_real_children_are_resolved_while_strangers_flood() -> None:
    """20,000 names beyond reason cannot keep 20 wanted ones waiting."""
    async with listening(flood_limit=100_000) as scene:
        air = scene.air
        strangers = [f"x{i}" for i in range(20_000)]
        children = [f"c{i}" for i in range(20)]
        air.verdicts = dict.fromkeys(strangers, Interest.STRANGER)
        air.answers = dict.fromkeys(children, info())
        air.backend.announce(*strangers, *children)
        await asyncio.sleep(0.2)
        assert set(scene.sink.seen) == {f"{TYPE}|{one}" for one in children}
    assert scene.health.dropped["queue-full"] == 20_000 - 4 - 64


@pytest.mark.parametrize(
    ("bounds", "key"),
    [
        ({"max_entries": 5}, "max_entries"),
        ({"resolve_in_flight": 1, "resolve_queue": 5}, "resolve_queue"),
    ],
)
async def test_names_that_rules_could_match_are_not_dropped_silently(
    caplog: pytest.LogCaptureFixture, bounds: dict[str, Any], key: str
) -> None:
    async with listening(**bounds) as scene:
        names = [f"c{n}" for n in range(20)]
        scene.air.answers = dict.fromkeys(names, info())
        scene.air.backend.announce(*names)
        await asyncio.sleep(1)
    (warning,) = (one.getMessage() for one in caplog.records if one.levelname == "WARNING")
    assert key in warning


async def test_too_many_names_free_everything_and_listening_goes_on() -> None:
    async with listening(flood_limit=10) as scene:
        first = scene.air.backend
        first.announce(*(f"x{i}" for i in range(50)))
        await asyncio.sleep(1)
        assert first.closed
        scene.air.answers["child"] = info()
        await asyncio.sleep(RENEW_EVERY)
        scene.air.backend.announce("child")
        await asyncio.sleep(1)
        assert f"{TYPE}|child" in scene.sink.seen
    assert len(scene.air.opened) == 2
    assert scene.health.dropped["flood"] == 1


async def test_a_backend_that_is_full_late_is_renewed_at_once() -> None:
    async with listening() as scene:
        await asyncio.sleep(RENEW_EVERY)
        scene.air.backend.on_full()
        await asyncio.sleep(0.01)
        assert [one.closed for one in scene.air.opened] == [True, False]


async def test_a_flood_is_logged_once_until_it_has_been_over_for_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with listening() as scene:
        question, packets = bytes(1000), int(QUERIES.packets * QUERIES.burst) + 10
        for _ in range(3 * packets):
            scene.air.backend.judge("127.1.0.9", question)
        await asyncio.sleep(CALM - 1)
        scene.air.backend.on_full()
        await asyncio.sleep(1)
        assert len(caplog.records) == 1
        await asyncio.sleep(CALM)
        scene.air.backend.on_full()
        await asyncio.sleep(1)
    assert [vars(one)["message_id"] for one in caplog.records] == 2 * ["lan-flooded"]


async def test_all_are_asked_again_and_again_while_strangers_are_dropped_unread() -> None:
    async with listening() as scene:
        backend = scene.air.backend
        await asyncio.sleep(2 * CHECK_EVERY)
        assert backend.questions == 0
        answer = b"\0\0\x84" + bytes(997)
        for n in range(1 << 16):
            backend.judge(f"127.1.{n >> 8}.{n & 255}", answer)
        await asyncio.sleep(3 * ASK_EVERY)
        assert backend.questions >= 3
        await asyncio.sleep(2 * CHECK_EVERY)
        asked = backend.questions
        await asyncio.sleep(2 * CHECK_EVERY)
        assert backend.questions == asked


async def test_a_child_can_be_looked_for_while_the_backend_is_renewed() -> None:
    async with listening(flood_limit=10) as scene:
        scene.air.backend.announce(*(f"x{i}" for i in range(50)))
        await asyncio.sleep(1)
        scene.air.answers["child"] = info()
        assert await scene.verify("child") is not None
        assert await scene.verify("gone") is None
        assert [one.closed for one in scene.air.opened] == [True, True, True]


async def test_a_child_that_answers_is_there_whatever_others_say_of_its_host() -> None:
    async with listening() as scene:
        known = info(text=b"\x0bserial=A-01")
        scene.air.answers["child"] = known
        nowhere = ServiceInfo("elsewhere.local.", 1, (), b"\x0bserial=B-02", 0.0, 120.0)
        scene.air.backend.cache["child"] = nowhere
        found = await scene.verify("child", known)
        assert found is not None
        assert (found.addresses, found.attributes["txt.serial"]) == (("127.1.0.1",), "A-01")


async def test_who_answers_in_the_place_of_another_is_reported_as_what_it_is() -> None:
    async with listening() as scene:
        other = info(text=b"\x0bserial=B-02")
        scene.air.answers["child"] = scene.air.backend.cache["child"] = other
        found = await scene.verify("child", info(text=b"\x0bserial=A-01"))
        assert found is not None
        assert found.attributes["txt.serial"] == "B-02"


async def test_more_records_than_can_be_kept_are_a_flood() -> None:
    async with listening() as scene:
        scene.air.backend.on_full()
        await asyncio.sleep(1)
        assert scene.air.backend.closed
    assert scene.health.dropped == {"flood": 1}


async def test_what_is_cached_is_no_news_and_what_came_over_the_wire_is() -> None:
    async with listening() as scene:
        backend = scene.air.backend
        backend.cache["a"] = info(at=1.0)
        backend.announce("a", "a")
        assert scene.sink.sightings == 1
        backend.cache["a"] = info(at=2.0)
        backend.announce("a")
        assert scene.sink.sightings == 2


async def test_a_goodbye_is_a_hint_and_the_name_can_come_back() -> None:
    async with listening() as scene:
        backend = scene.air.backend
        backend.cache["a"] = info()
        backend.announce("a")
        backend.goodbye("a")
        backend.goodbye("a")
        backend.goodbye("never-seen")
        assert scene.reasons() == [LossReason.GOODBYE]
        backend.announce("a")
        assert scene.sink.sightings == 2


async def test_a_silent_name_expires_and_a_refreshed_one_does_not() -> None:
    async with listening() as scene:
        backend = scene.air.backend
        backend.cache = {"dead": info(ttl=100.0), "alive": info(ttl=100.0)}
        backend.announce("dead", "alive")
        backend.cache["alive"] = info(at=90.0, ttl=1000.0)
        await asyncio.sleep(100.0 + 2 * CHECK_EVERY)
        assert [(one.key, one.reason) for one in scene.sink.lost] == [
            (f"{TYPE}|dead", LossReason.EXPIRED)
        ]
        assert scene.sink.seen[f"{TYPE}|alive"].at == 90.0


async def test_the_late_removal_of_a_library_is_an_expiry() -> None:
    async with listening() as scene:
        scene.air.backend.cache["a"] = info(ttl=60.0)
        scene.air.backend.announce("a")
        await asyncio.sleep(60.5)
        scene.air.backend.goodbye("a")
        assert scene.reasons() == [LossReason.EXPIRED]


async def test_a_full_table_evicts_strangers_first() -> None:
    async with listening(max_entries=2) as scene:
        backend = scene.air.backend
        scene.air.verdicts = {"s1": Interest.STRANGER, "s2": Interest.STRANGER}
        backend.cache = dict.fromkeys(("s1", "w1", "w2", "s2", "w3"), info())
        backend.announce("s1", "w1", "w2", "s2", "w3")
        assert [(one.key, one.reason) for one in scene.sink.lost] == [
            (f"{TYPE}|s1", LossReason.EVICTED),
            (f"{TYPE}|w1", LossReason.EVICTED),
        ]
        assert f"{TYPE}|s2" not in scene.sink.seen
        assert scene.health.entries == 2
    assert scene.health.dropped == {"table-full": 3}


async def test_hostile_names_and_answers_are_counted_by_cause() -> None:
    async with listening() as scene:
        backend = scene.air.backend
        backend.cache["lost"] = replace(info(), addresses=())
        backend.sender = "192.0.2.7"
        backend.announced(TYPE, "no such type")
        backend.announce("lost", "\ufffd", "\ud800", "x" * 64, "")
        scene.air.backend.announce("silent")
        await asyncio.sleep(4)
    assert scene.health.dropped == {"no-usable-address": 1, "bad-name": 5, "unresolved": 1}
    assert scene.sink.seen == {}
    noted = {(cause, *one) for cause, one, _ in scene.health.refused.take()}
    assert {
        ("no-usable-address", "lo", "192.0.2.7", "lost"),
        ("bad-name", "lo", "192.0.2.7", "no such type"),
        ("unresolved", "lo", "192.0.2.7", "silent"),
    } <= noted


async def test_the_lan_is_asked_again_from_time_to_time() -> None:
    async with listening() as scene:
        await asyncio.sleep(1000)
        assert scene.air.backend.browses == 4
    assert len(scene.air.opened) == 1


async def test_a_rescan_forgets_what_was_received() -> None:
    async with listening() as scene:
        scene.interface.rescan()
        await asyncio.sleep(0.01)
    assert [one.closed for one in scene.air.opened] == [True, True]


async def test_a_stack_that_does_not_start_is_tried_again() -> None:
    async with listening() as scene:
        scene.air.fails = 2
        scene.interface.rescan()
        await asyncio.sleep(3 * CHECK_EVERY)
        assert scene.air.backend.browses == 1
    assert scene.health.dropped == {"no-socket": 2}


async def test_sockets_that_cannot_be_opened_are_tried_less_and_less_often() -> None:
    async with listening() as scene:
        scene.air.fails = 100
        scene.interface.rescan()
        await asyncio.sleep(60.0)
        assert 4 <= len(scene.air.opened) <= 10
        scene.become(GONE)
        scene.air.fails = 0
        scene.become(USABLE)
        await asyncio.sleep(2 * REOPEN_EVERY)
        assert scene.air.backend.browses == 1


async def test_an_interface_that_is_not_there_is_waited_for() -> None:
    async with listening(GONE) as scene:
        await asyncio.sleep(2.5 * CHECK_EVERY)
        assert scene.health.dropped == {"no-interface": 3}
        assert scene.air.opened == []
        scene.become(USABLE)
        await asyncio.sleep(0.01)
        assert scene.air.backend.browses == 1


@pytest.mark.parametrize("gone", [GONE, replace(USABLE, is_running=False)])
async def test_a_device_is_not_lost_while_nothing_can_be_received(gone: LanInterface) -> None:
    async with listening() as scene:
        scene.air.backend.cache["a"] = info(ttl=60.0)
        scene.air.backend.announce("a")
        scene.become(gone)
        await asyncio.sleep(600.0)
        assert scene.reasons() == []
        with pytest.raises(DiscoveryRetry):
            await scene.verify("a")
        scene.become(USABLE)
        await asyncio.sleep(0.01)
        scene.air.backend.cache["a"] = info(at=asyncio.get_running_loop().time(), ttl=60.0)
        scene.air.backend.announce("a")
        assert scene.sink.sightings == 2
        assert scene.reasons() == []


async def test_who_does_not_answer_while_the_interface_changes_is_not_gone() -> None:
    async with listening() as scene:
        asked = asyncio.create_task(scene.verify("a"))
        await asyncio.sleep(0.5)
        scene.become(GONE)
        with pytest.raises(DiscoveryRetry):
            await asked
        scene.become(USABLE)
        assert await scene.verify("a") is None


async def test_an_interface_that_was_made_again_is_listened_to_at_once() -> None:
    async with listening() as scene:
        await asyncio.sleep(REOPEN_EVERY)
        scene.become(replace(USABLE, index=2))
        await asyncio.sleep(0.01)
        assert [one.closed for one in scene.air.opened] == [True, False]


async def test_an_interface_that_was_down_for_a_moment_is_asked_again() -> None:
    async with listening() as scene:
        await asyncio.sleep(REOPEN_EVERY)
        scene.become(replace(USABLE, is_running=False))
        scene.become(USABLE)
        await asyncio.sleep(0.01)
        assert [one.closed for one in scene.air.opened] == [True, False]


async def test_another_network_or_address_closes_nothing() -> None:
    second = (*USABLE.addresses, ip_interface("192.0.2.1/24"))
    async with listening() as scene:
        for link in (
            replace(USABLE, addresses=(ip_interface("127.0.0.1/30"),)),
            replace(USABLE, addresses=second),
            USABLE,
        ):
            scene.become(link)
            await asyncio.sleep(1.0)
            assert scene.air.backend.link == link
    assert len(scene.air.opened) == 1


async def test_an_interface_that_comes_and_goes_costs_little() -> None:
    async with listening() as scene:
        for number in range(1000):
            scene.become(replace(USABLE, index=2 + number))
            await asyncio.sleep(0.01)
        assert len(scene.air.opened) <= 10.0 / REOPEN_EVERY + 2
