"""The mechanism that asks listed hosts: its pace, and what becomes of hosts that do not answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest

from gatewayd.discovery.discoverer import Context, Interest, LossReason
from gatewayd.discovery.probing.hosts import PollSettings
from gatewayd.discovery.probing.poller import (
    GAP,
    LIFETIME,
    MAX_FURTHER,
    REST,
    TURN,
    VERIFY,
    VISIT,
    BusyAnswer,
    HostPoller,
    HostQuestion,
    HostVisit,
    device_key,
)
from gatewayd.discovery.probing.protocol import SUSPECT, Found, Transmission, UnreadableAnswer
from gatewayd.errors import ConfigError, DiscoveryRetry
from gatewayd.testing.contracts.discoverer import RecordingSink

pytestmark = pytest.mark.jumping_clock

FIRST, SECOND, THIRD = "127.0.0.1", "127.0.0.2", "127.0.0.3"
EVERY = 100.0
SETTINGS = PollSettings(hosts=("127.0.0.1", "127.0.0.2/31"), probe_every=EVERY)


def found(key: str) -> Found:
    return Found(key, frozenset(), {"toy.part": key}, key, 0.0, 7)


@dataclass
class ToyHosts:
    """A protocol, and the hosts that it asks.

    answers: what a visit of an address gives; an error is raised.  slow: those that hang.
    visits: when each visit began, and of what.
    """

    kind: str = "toy"
    parts: Sequence[str] = ("",)
    questions: Sequence[HostQuestion] = (HostQuestion("port 7 by TCP", 12, "who it is"),)
    answers: dict[str, HostVisit | Exception] = field(default_factory=dict)
    slow: dict[str, float] = field(default_factory=dict)
    visits: list[tuple[float, str]] = field(default_factory=list)
    at_once: int = 0

    async def visit(self, address: str, part: str, context: Context) -> HostVisit:
        key = device_key(address, part)
        self.visits.append((context.now(), key))
        self.at_once += 1
        assert self.at_once == 1
        try:
            await asyncio.sleep(self.slow.get(key, 0.0))
        finally:
            self.at_once -= 1
        answer = self.answers.get(key, HostVisit([found(key)]))
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def visited(self) -> list[str]:
        return [key for _, key in self.visits]


@asynccontextmanager
async def polling(
    hosts: ToyHosts, settings: PollSettings = SETTINGS
) -> AsyncIterator[tuple[HostPoller, RecordingSink]]:
    """Run a poller until the block ends."""
    poller, sink = HostPoller("toys", settings, hosts), RecordingSink()
    now = asyncio.get_running_loop().time
    context = Context(now, lambda: 0.5, lambda _: Interest.WANTED)
    task = asyncio.create_task(poller.run(context, sink))
    try:
        yield poller, sink
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_each_host_is_visited_one_at_a_time_and_one_a_second() -> None:
    hosts = ToyHosts()
    async with polling(hosts) as (poller, sink):
        await asyncio.sleep(EVERY + 2.5)
        assert [key for _, key in hosts.visits] == 2 * [FIRST, SECOND, THIRD]
        times = [at for at, _ in hosts.visits]
        assert times == pytest.approx([0, 1, 2, EVERY, EVERY + 1, EVERY + 2])
        assert set(sink.seen) == {FIRST, SECOND, THIRD}
        assert poller.health.entries == 3
        seen = sink.seen[FIRST]
        assert (seen.source, seen.interface, seen.addresses) == ("toys/lo", "lo", (FIRST,))
        assert seen.valid_for == LIFETIME * EVERY
    assert [one.reason for one in sink.lost] == 3 * [LossReason.STOPPED]
    assert poller.health.entries == 0


async def test_a_host_that_hangs_is_left_after_some_seconds() -> None:
    hosts = ToyHosts(slow={FIRST: 1000.0})
    async with polling(hosts) as (_, sink):
        await asyncio.sleep(VISIT + 0.5)
        assert hosts.visited == [FIRST, SECOND]
        assert set(sink.seen) == {SECOND}


async def test_a_host_that_refuses_is_left_alone_for_an_hour() -> None:
    hosts = ToyHosts(parts=("1", "2"))
    hosts.answers["127.0.0.2/1"] = ConnectionRefusedError()
    async with polling(hosts) as (poller, _):
        await asyncio.sleep(REST - 10)
        refused = [key for key in hosts.visited if key.startswith(SECOND)]
        assert refused == ["127.0.0.2/1"]
        await poller.rescan()
        await asyncio.sleep(EVERY + 10)
        refused = [key for key in hosts.visited if key.startswith(SECOND)]
        assert refused == 2 * ["127.0.0.2/1"]
        assert poller.health.dropped == {"refused": 2}


async def test_an_answer_that_trips_a_parser_costs_no_other_host() -> None:
    hosts = ToyHosts(answers={SECOND: LookupError("a fault in a parser")})
    async with polling(hosts) as (poller, sink):
        await asyncio.sleep(EVERY + 2.5)
        assert hosts.visited == 2 * [FIRST, SECOND, THIRD]
        assert set(sink.seen) == {FIRST, THIRD}
        assert poller.health.dropped == {"packet-failed": 2}
        assert not sink.lost


async def test_what_is_not_found_again_is_lost() -> None:
    hosts = ToyHosts()
    async with polling(hosts) as (_, sink):
        await asyncio.sleep(3)
        hosts.answers[SECOND] = TimeoutError()
        await asyncio.sleep(LIFETIME * EVERY + 10)
        assert [(one.key, one.reason) for one in sink.lost] == [(SECOND, LossReason.EXPIRED)]


async def test_a_rescan_begins_a_round_at_once_and_keeps_the_pace() -> None:
    hosts = ToyHosts()
    async with polling(hosts) as (poller, sink):
        await asyncio.sleep(5)
        await poller.rescan()
        await poller.rescan()
        await asyncio.sleep(3.5)
        assert hosts.visited == 2 * [FIRST, SECOND, THIRD]
        assert sink.sightings == 6


async def test_a_device_is_verified_by_a_visit() -> None:
    hosts = ToyHosts()
    async with polling(hosts) as (poller, sink):
        await asyncio.sleep(5)
        known = sink.seen[SECOND]
        verified = await poller.verify(known)
        assert verified is not None
        assert (verified.key, verified.at) == (SECOND, 5.0)
        assert sink.sightings == 3
        hosts.answers[SECOND] = TimeoutError()
        assert await poller.verify(known) is None
        hosts.answers[SECOND] = UnreadableAnswer("garbled")
        assert await poller.verify(known) is None
        hosts.answers[SECOND] = HostVisit([found("127.0.0.2/9")])
        assert await poller.verify(known) is None
        assert poller.health.dropped == {"garbled": 1}


async def test_verification_takes_no_more_than_three_seconds() -> None:
    hosts = ToyHosts(slow={SECOND: 1000.0})
    async with polling(hosts) as (poller, sink):
        await asyncio.sleep(0.5)
        known = sink.seen[FIRST]
        began = asyncio.get_running_loop().time()
        assert await poller.verify(known) is not None
        assert asyncio.get_running_loop().time() - began <= TURN + VERIFY <= 3.0
        await asyncio.sleep(GAP + 0.5)
        began = asyncio.get_running_loop().time()
        with pytest.raises(DiscoveryRetry):  # another is asked, and hangs
            await poller.verify(known)
        assert asyncio.get_running_loop().time() - began <= TURN


async def test_a_busy_device_is_not_absent() -> None:
    hosts = ToyHosts()
    async with polling(hosts) as (poller, sink):
        await asyncio.sleep(5)
        hosts.answers[FIRST] = BusyAnswer("busy")
        with pytest.raises(DiscoveryRetry):
            await poller.verify(sink.seen[FIRST])


async def test_a_host_that_refuses_again_after_an_hour_counts_as_absent() -> None:
    hosts = ToyHosts()
    settings = PollSettings(hosts=(FIRST,), probe_every=86_400.0)
    async with polling(hosts, settings) as (poller, sink):
        await asyncio.sleep(5)
        known = sink.seen[FIRST]
        hosts.answers[FIRST] = ConnectionResetError()
        for _ in range(3):
            with pytest.raises(DiscoveryRetry):
                await poller.verify(known)
        assert len(hosts.visits) == 2
        await asyncio.sleep(REST)
        assert await poller.verify(known) is None
        assert await poller.verify(known) is None
        assert len(hosts.visits) == 3
        await asyncio.sleep(REST)
        del hosts.answers[FIRST]
        assert await poller.verify(known) is not None
        hosts.answers[FIRST] = ConnectionResetError()
        with pytest.raises(DiscoveryRetry):
            await poller.verify(known)


async def test_only_listed_hosts_are_verified() -> None:
    hosts = ToyHosts()
    async with polling(hosts) as (poller, sink):
        await asyncio.sleep(3)
        visits = len(hosts.visits)
        known = sink.seen[FIRST]
        changes: list[dict[str, str]] = [
            {"key": "127.0.0.9"}, {"key": "127.0.0.1/5"}, {"interface": "lan0"},
        ]  # fmt: skip
        for change in changes:
            changed = type(known)(**{**{k: getattr(known, k) for k in known.__slots__}, **change})
            assert await poller.verify(changed) is None
        assert len(hosts.visits) == visits
    assert await poller.verify(known) is None  # it does not run


async def test_before_a_host_was_reached_nothing_is_said_of_its_devices() -> None:
    hosts = ToyHosts()
    async with polling(hosts) as (_, sink):
        await asyncio.sleep(3)
        known = sink.seen[THIRD]
    async with polling(hosts) as (poller, _):  # as after a restart of the helper
        await asyncio.sleep(0.5)
        with pytest.raises(DiscoveryRetry, match=f"has not asked {THIRD} yet"):
            await poller.verify(known)
        await asyncio.sleep(3)
        assert await poller.verify(known) is not None


async def test_parts_that_a_host_names_are_visited_within_a_bound() -> None:
    hosts = ToyHosts(parts=("1",))
    named = [str(number) for number in range(2, 100)]
    hosts.answers["127.0.0.1/1"] = HostVisit([found("127.0.0.1/1")], named, {"off-host": 2})
    hosts.answers["127.0.0.1/2"] = HostVisit([found("127.0.0.1/2")], ["1", "2", "77"])
    settings = PollSettings(hosts=(FIRST,), probe_every=EVERY)
    async with polling(hosts, settings) as (poller, sink):
        await asyncio.sleep(50)
        assert hosts.visited == [f"127.0.0.1/{n}" for n in range(1, 2 + MAX_FURTHER)]
        assert poller.health.dropped == {"off-host": 2}
        verified = await poller.verify(sink.seen["127.0.0.1/2"])
        assert verified is not None


async def test_what_the_kernel_does_not_permit_is_counted() -> None:
    hosts = ToyHosts()
    hosts.answers[FIRST] = PermissionError(1, "no")
    async with polling(hosts) as (poller, _):
        await asyncio.sleep(0.5)
        assert poller.health.dropped == {"not-permitted": 1}


def test_the_plan_has_each_entry_of_the_list() -> None:
    poller = HostPoller("toys", SETTINGS, ToyHosts())
    first, *rest, last = poller.transmissions()
    assert first == Transmission("127.0.0.1 port 7 by TCP", "", EVERY, 12, "who it is")
    assert last == Transmission("the device", "", 0.0, 12, "the same", SUSPECT)
    (second,) = rest
    assert second.to == "each of 2 addresses of 127.0.0.2/31, port 7 by TCP"


def test_settings_with_a_problem_are_refused() -> None:
    with pytest.raises(ConfigError, match="hosts must name at least one"):
        HostPoller("toys", PollSettings(hosts=()), ToyHosts())
