"""The agents of a site: each shard works at one gateway, and changes hands in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from functools import partial

import pytest

from gatewayd.cloud.credentials import read_secret
from gatewayd.device.reason import NONE
from gatewayd.device.record import CloudName
from gatewayd.errors import (
    EtcdRefused,
    EtcdUnreachable,
    GatewayError,
    ShardOverfull,
    StoreUnavailable,
)
from gatewayd.site.agent import GAIN_LAST, READ_EVERY, KeyClient, LeaseClient, SiteAgent
from gatewayd.site.etcd import EtcdClient
from gatewayd.site.etcd_messages import Put
from gatewayd.site.fence import FENCE, LEASE, RENEW_EVERY, Fence, boot_time
from gatewayd.site.ownership import SiteOwnership
from gatewayd.site.reading import SiteKeys
from gatewayd.site.shards import SHARDS, shard_of
from tests.support.etcd import Cluster, running_etcd
from tests.support.memory_etcd import MemoryClient, MemoryEtcd, loop_time

KEYS = SiteKeys("plant")
NAME = CloudName("cloud", "p", "TH20-1")
SHARD = shard_of(NAME)


class Gateway:
    """One gateway of a site, whose children are a set of shards that work.

    everywhere: the shards that work at any gateway, of which none may be there twice.
    """

    def __init__(
        self,
        name: str,
        everywhere: Counter[int],
        leases: LeaseClient,
        store: KeyClient,
        *,
        boots: bool = False,
    ) -> None:
        now = boot_time if boots else loop_time
        self.fence = Fence(now)
        self.ownership = SiteOwnership(name, shard_of, self.fence)
        self.everywhere, self.working = everywhere, dict[int, int]()
        self.gains = Counter[int]()
        self.ready, self.fails, self.stop_takes = True, 0, 0.0
        self.fault: GatewayError = StoreUnavailable("the disk is busy")
        self.boots = boots
        self.agent = SiteAgent(
            KEYS, name, "1.2", leases=leases, store=store, fence=self.fence, jitter=lambda: 0.5,
            ownership=self.ownership, listener=self, is_ready=lambda: self.ready, now=now,
        )  # fmt: skip

    async def gained(self, shard: int, token: int) -> None:
        await asyncio.sleep(0.01)
        if self.fails:
            self.fails -= 1
            raise self.fault
        assert self.fence.holds() or self.boots
        self.everywhere[shard] += 1
        assert self.everywhere[shard] == 1, "it works elsewhere"
        self.working[shard] = token
        self.gains[shard] += 1
        self.ownership.gained(shard, token)

    async def lost(self, shard: int) -> None:
        await asyncio.sleep(self.stop_takes)
        if self.working.pop(shard, None) is not None:
            self.everywhere[shard] -= 1

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Gateway]:
        """Run the agent; afterwards it is killed."""
        task = asyncio.create_task(self.agent.run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.wait({task})


class Site:
    """Gateways of one site in memory, all of them members."""

    def __init__(self, *names: str) -> None:
        self.etcd = MemoryEtcd()
        self.everywhere = Counter[int]()
        self.clients: dict[str, list[MemoryClient]] = {}
        members = [Put(f"{KEYS.prefix}member/{name}", b"{}") for name in names]
        self.etcd.now = lambda: 0.0
        self.etcd.txn([], members, [])
        self.etcd.now = loop_time
        self.gateways = [self.gateway(name) for name in names]

    def gateway(self, name: str) -> Gateway:
        clients = self.clients[name] = [self.etcd.client(), self.etcd.client()]
        return Gateway(name, self.everywhere, *clients)

    def cut_off(self, name: str, *, away: bool = True) -> None:
        for client in self.clients[name]:
            client.away = away


async def until_all_work(*gateways: Gateway) -> float:
    """Return after how many seconds every shard works at one of these gateways."""
    began = loop_time()
    async with asyncio.timeout(120):
        while len(set().union(*(one.working for one in gateways))) < SHARDS:
            await asyncio.sleep(0.05)
    return loop_time() - began


class RefusedClient(MemoryClient):
    """A client that etcd refuses, as one with a wrong password; each try costs etcd a bcrypt."""

    grants = 0

    async def grant(self, seconds: int) -> int:
        self.grants += 1
        raise EtcdRefused("etcd refuses the user: invalid user ID or password.")


@pytest.mark.jumping_clock
async def test_a_gateway_that_etcd_refuses_asks_no_more_often_than_one_that_it_serves() -> None:
    etcd = MemoryEtcd()
    refused = RefusedClient(etcd)
    async with Gateway("a", Counter(), refused, etcd.client()).running():
        await asyncio.sleep(60)
    assert 10 < refused.grants <= 60 / RENEW_EVERY + 1


def shares(*gateways: Gateway) -> list[int]:
    return sorted(len(one.working) for one in gateways)


@pytest.mark.jumping_clock
async def test_three_share_all_and_one_that_comes_moves_each_shard_once_at_most() -> None:
    site = Site("a", "b", "c")
    a, b, c = site.gateways
    async with a.running(), b.running():
        assert await until_all_work(a, b) < 10
        await asyncio.sleep(10)
        assert shares(a, b) == [32, 32]
        a.gains.clear()
        b.gains.clear()
        async with c.running():
            await asyncio.sleep(10)
            assert shares(a, b, c) == [21, 21, 22]
            assert a.gains.total() + b.gains.total() == 0
            assert max(c.gains.values()) == 1
            assert c.ownership.elsewhere(NAME) == NONE or SHARD not in c.working


@pytest.mark.jumping_clock
async def test_what_a_dead_gateway_had_works_elsewhere_after_lease_and_fence() -> None:
    site = Site("a", "b", "c")
    a, b, c = site.gateways
    async with b.running(), c.running():
        async with a.running():
            await until_all_work(a, b, c)
            await asyncio.sleep(10)
            before = dict(b.working)
        for shard in list(a.working):
            await a.lost(shard)
        took = await until_all_work(b, c)
        assert LEASE - 3 + FENCE < took < LEASE + FENCE + 1 + 2 * READ_EVERY
        assert shares(b, c) == [32, 32]
        assert before.items() <= b.working.items()


@pytest.mark.jumping_clock
async def test_one_that_is_cut_off_ends_by_itself_before_another_begins() -> None:
    site = Site("a", "b")
    a, b = site.gateways
    async with a.running(), b.running():
        await until_all_work(a, b)
        await asyncio.sleep(10)
        site.cut_off("a")
        began = loop_time()
        while a.working:
            await asyncio.sleep(0.05)
        assert FENCE - 4 < loop_time() - began <= FENCE + 1
        assert a.ownership.elsewhere(NAME).code == "site-unreachable"
        assert not a.agent.snapshot().reachable
        await until_all_work(b)
        assert a.ownership.elsewhere(NAME).code == "site-unreachable"
        site.cut_off("a", away=False)
        await asyncio.sleep(30)
        assert shares(a, b) == [32, 32]


@pytest.mark.jumping_clock
async def test_without_etcd_all_end_and_each_has_its_own_again_at_once() -> None:
    site = Site("a", "b")
    a, b = site.gateways
    async with a.running(), b.running():
        await until_all_work(a, b)
        await asyncio.sleep(10)
        before = set(a.working), set(b.working)
        site.etcd.away = True
        await asyncio.sleep(8)
        assert shares(a, b) == [32, 32], "it goes on while the fence holds"
        await asyncio.sleep(40)
        assert shares(a, b) == [0, 0]
        site.etcd.away = False
        assert await until_all_work(a, b) < 8
        assert (set(a.working), set(b.working)) == before


class LateClient(MemoryClient):
    """A client whose answer comes a moment after the fence was over, which some have seen."""

    fence: Fence | None = None

    async def keep_alive(self, lease: int) -> None:
        await super().keep_alive(lease)
        if self.fence is not None:
            fence, self.fence = self.fence, None
            fence.end()


@pytest.mark.jumping_clock
async def test_a_renewal_after_the_fence_was_over_has_all_children_begin_again() -> None:
    site = Site("a")
    leases = LateClient(site.etcd)
    a = Gateway("a", site.everywhere, leases, site.etcd.client())
    async with a.running():
        await until_all_work(a)
        a.gains.clear()
        leases.fence = a.fence
        while not a.gains:
            await asyncio.sleep(0.05)
        await until_all_work(a)
        assert a.gains == dict.fromkeys(range(SHARDS), 1)
        assert a.fence.holds()


@pytest.mark.jumping_clock
async def test_a_lease_that_ends_early_is_no_reason_to_begin_elsewhere() -> None:
    # As etcd 3.4.23 does after its leader was stopped: issue 15247.
    site = Site("a", "b")
    a, b = site.gateways
    async with a.running(), b.running():
        await until_all_work(a, b)
        await asyncio.sleep(10)
        site.cut_off("a")
        site.etcd.revoke(a.agent.snapshot().lease)
        await until_all_work(b)
        assert not a.working


@pytest.mark.jumping_clock
async def test_a_drained_gateway_gives_up_all_in_order_and_has_some_again_when_resumed() -> None:
    site = Site("a", "b")
    a, b = site.gateways
    a.stop_takes = 4.0
    async with a.running(), b.running():
        await until_all_work(a, b)
        await asyncio.sleep(10)
        await a.agent.drain()
        assert not a.working
        assert a.agent.snapshot().draining
        assert await until_all_work(b) < 4
        assert a.ownership.elsewhere(NAME).code == "owned-by-another"
        assert "Run this command at b." in str(a.ownership.elsewhere(NAME))
        await a.agent.resume()
        await asyncio.sleep(15)
        assert shares(a, b) == [32, 32]


@pytest.mark.jumping_clock
async def test_one_that_ends_in_order_leaves_its_shards_at_once() -> None:
    site = Site("a", "b")
    a, b = site.gateways
    async with b.running():
        async with a.running():
            await until_all_work(a, b)
            await asyncio.sleep(10)
            await a.agent.close(10)
            assert not a.working
        assert await until_all_work(b) < 4
        assert KEYS.gateway("a") not in site.etcd.pairs
        again = site.gateway("a")
        async with again.running():
            await asyncio.sleep(15)
            assert shares(again, b) == [32, 32]


@pytest.mark.jumping_clock
async def test_one_that_is_cut_off_gives_up_by_time_and_what_takes_too_long_says_so() -> None:
    site = Site("a", "b")
    a, b = site.gateways
    async with a.running(), b.running():
        await until_all_work(a, b)
        await asyncio.sleep(10)
        site.cut_off("a")
        await a.agent.drain()
        assert not a.working
        assert not a.agent.snapshot().lease
        b.stop_takes = 60.0
        with pytest.raises(EtcdUnreachable, match="could be given up in 30 s"):
            await b.agent.drain()


@pytest.mark.jumping_clock
async def test_who_is_no_member_or_not_ready_has_nothing_and_the_others_do_not_wait() -> None:
    site = Site("a", "b")
    a, b = site.gateways
    stranger = site.gateway("z")
    b.ready = False
    async with a.running(), b.running(), stranger.running():
        await until_all_work(a)
        await asyncio.sleep(10)
        assert not b.working
        assert not stranger.working
        owned = stranger.ownership.elsewhere(NAME)
        assert owned.code == "owned-by-another"
        b.ready = True
        await asyncio.sleep(15)
        assert shares(a, b) == [32, 32]
        site.etcd.txn([], [Put(f"{KEYS.prefix}layout", b"2")], [])
        await asyncio.sleep(15)
        assert shares(a, b) == [0, 0]
        assert a.ownership.elsewhere(NAME).code == "site-of-another-version"


@pytest.mark.jumping_clock
async def test_one_of_the_same_name_has_nothing_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    site = Site("a")
    (a,) = site.gateways
    twin = site.gateway("a")
    async with a.running():
        await until_all_work(a)
        async with twin.running():
            await asyncio.sleep(3 * LEASE)
            assert shares(a, twin) == [0, SHARDS]
    assert caplog.text.count("is called a, too") == 1


@pytest.mark.jumping_clock
async def test_one_that_is_no_member_takes_no_members_name_while_that_starts_again() -> None:
    site = Site("a", "b")
    a, b = site.gateways
    stranger = site.gateway("a")
    stranger.ready = False
    async with b.running(), stranger.running():
        async with a.running():
            await until_all_work(a, b)
            await a.agent.close(10)
        again = site.gateway("a")
        async with again.running():
            await asyncio.sleep(60)
            assert shares(again, b) == [32, 32]


@pytest.mark.jumping_clock
async def test_one_that_no_answer_reaches_in_time_gives_its_children_to_the_others() -> None:
    site = Site("a", "b")
    a, b = site.gateways
    async with a.running(), b.running():
        await until_all_work(a, b)
        await asyncio.sleep(10)
        for client in site.clients["a"]:
            client.is_late = True
        while a.working:
            await asyncio.sleep(0.05)
        assert await until_all_work(b) < 5 * LEASE


@pytest.mark.jumping_clock
async def test_keys_that_hide_our_own_make_no_more_requests() -> None:
    site = Site("a", "b")
    a, b = site.gateways
    async with a.running(), b.running():
        await until_all_work(a, b)
        site.etcd.txn([], [Put(f"{KEYS.prefix}gateway/0{n}", b"{}") for n in range(64)], [])
        before = site.etcd.requests
        await asyncio.sleep(60)
        assert site.etcd.requests - before < 2 * 120


@pytest.mark.jumping_clock
async def test_a_gain_that_fails_is_tried_again_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    site = Site("a")
    (a,) = site.gateways
    a.fails = 3 * SHARDS
    async with a.running():
        await until_all_work(a)
    assert caplog.text.count("cannot be taken over yet: the disk is busy") == SHARDS


@pytest.mark.jumping_clock
async def test_one_that_can_gain_nothing_leaves_all_to_the_others_for_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    site = Site("a", "b")
    a, b = site.gateways
    a.fails = 10_000
    async with a.running():
        await asyncio.sleep(300)
        assert "other gateways" not in caplog.text, "there is none"
        async with b.running():
            await until_all_work(b)
            assert caplog.text.count("other gateways get them for 300 s") == 1
            a.fails = 0
            await asyncio.sleep(320)
            assert shares(a, b) == [32, 32]


@pytest.mark.jumping_clock
async def test_what_etcd_has_too_much_of_is_worked_on_as_soon_as_that_is_gone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No other gateway could do better, so that none leaves the shards to another one."""
    site = Site("a", "b")
    for one in site.gateways:
        one.fails, one.fault = 10_000, ShardOverfull("shard 1 has more than 2000 keys at etcd")
    async with site.gateways[0].running(), site.gateways[1].running():
        await asyncio.sleep(600)
        assert not any(one.working for one in site.gateways)
        for one in site.gateways:
            one.fails = 0
        assert await until_all_work(*site.gateways) <= GAIN_LAST
    assert "other gateways" not in caplog.text


@pytest.mark.jumping_clock
async def test_steady_traffic_is_a_few_requests_however_long_it_lasts() -> None:
    site = Site("a")
    (a,) = site.gateways
    async with a.running():
        await until_all_work(a)
        await asyncio.sleep(10)
        before = site.etcd.requests
        await asyncio.sleep(60)
        assert site.etcd.requests - before <= 60 / READ_EVERY + 60 / 3 + 2


@pytest.mark.jumping_clock
@pytest.mark.parametrize("part", ["gained", "lost"])
async def test_an_error_that_was_not_expected_ends_the_agent(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would hold the shard for ever, and no line would say why its children are offline."""
    site = Site("a")
    (a,) = site.gateways

    async def failing(*_: int) -> None:
        raise KeyError(part)

    if part == "gained":
        monkeypatch.setattr(a, part, failing)
    running = asyncio.create_task(a.agent.run())
    if part == "lost":
        await until_all_work(a)
        monkeypatch.setattr(a, part, failing)
        with pytest.raises(EtcdUnreachable):
            await a.agent.drain()
    with pytest.raises(KeyError, match=part):
        async with asyncio.timeout(120):
            await running


async def what_is_too_large_is_named(one: Gateway, cluster: Cluster) -> None:
    """Put what no gateway wrote among what is read, and have it deleted once it is named."""
    keys = [f"{KEYS.prefix}join/n{number}" for number in range(8)]
    for number, key in enumerate(keys):
        cluster.control("put", key, "x" * (110_000 + number))
    async with asyncio.timeout(120):
        while keys[-1] not in (seen := one.agent.snapshot()).fault:
            await asyncio.sleep(0.05)
        assert "too large" in seen.fault
        assert not seen.reachable
        assert len(one.working) == SHARDS, "the lease is renewed"
        cluster.control("del", "--prefix", f"{KEYS.prefix}join/")
        while not one.agent.snapshot().reachable:
            await asyncio.sleep(0.05)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with running_etcd() as one:
        for name in ("gateway-a", "gateway-b"):
            one.control("put", f"{KEYS.prefix}member/{name}", "{}")
        yield one


async def test_with_a_real_etcd_shards_change_hands_by_a_drain_and_by_an_end(
    cluster: Cluster,
) -> None:
    everywhere = Counter[int]()
    clients = [EtcdClient.of(cluster.settings(), partial(read_secret, None), 5.0) for _ in range(4)]
    a = Gateway("gateway-a", everywhere, *clients[:2], boots=True)
    b = Gateway("gateway-b", everywhere, *clients[2:], boots=True)
    try:
        async with a.running():
            await until_all_work(a)
            async with b.running():
                async with asyncio.timeout(120):
                    while len(b.working) < SHARDS // 2:
                        await asyncio.sleep(0.05)
                await b.agent.drain()
                await until_all_work(a)
                await b.agent.close(30)
            await until_all_work(a)
            async with asyncio.timeout(120):
                while (found := a.agent.snapshot().reading) is None or len(found.gateways) > 1:
                    await asyncio.sleep(0.05)
            assert found.gateways["gateway-a"].version == "1.2"
            assert {one.token for one in found.owners.values()} == {*a.working.values()}
            await what_is_too_large_is_named(a, cluster)
    finally:
        for one in clients:
            one.close()
