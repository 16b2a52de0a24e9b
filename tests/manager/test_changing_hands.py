"""Children change hands, a shard at a time: two gateways, one cloud, and the copies of a site."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import pytest

from gatewayd.device import lifecycle as lc
from gatewayd.device.identity import DeviceId
from gatewayd.device.lifecycle import State
from gatewayd.device.reason import NONE, Reason
from gatewayd.device.record import CloudName, Verdict
from gatewayd.errors import NotAdmitted, StoreUnavailable, WrongState
from gatewayd.manager.changing_hands import GRACE, ChangingHands
from tests.support.fakes import FakeCloud, MemoryRecords
from tests.support.stage import Stage
from tests.support.tasks import in_background

pytestmark = pytest.mark.jumping_clock

TH = "TH20-1"


def shard_of(name: CloudName) -> int:
    return int(name.device[-1])


@dataclass
class Shards:
    """What one gateway has: an Ownership, and a ShardOwnership."""

    owned: dict[int, int] = field(default_factory=dict)
    owner: str = "b"

    def elsewhere(self, name: CloudName) -> Reason:
        if shard_of(name) in self.owned:
            return NONE
        return Reason("owned-by-another", f"It is owned by {self.owner}.", "Run this there.")

    def gained(self, shard: int, token: int) -> None:
        self.owned[shard] = token


@dataclass
class Site:
    """The records and secrets that etcd has, for the gateways that have each shard in turn."""

    rows: MemoryRecords = field(default_factory=MemoryRecords)
    calls: list[str] = field(default_factory=list)


@dataclass
class Copies:
    """What `ReplicaReader` does, on memory: all that one gateway wrote is there for the next."""

    site: Site
    gateway: Stage
    fails: int = 0
    hands: ChangingHands = field(init=False)

    async def load(self, shard: int, token: int) -> None:
        self.site.calls.append(f"load {shard}")
        self._answer()
        for record in self.site.rows.all():
            if record.cloud is not None and shard_of(record.cloud) == shard:
                self.gateway.records.rows[record.device] = record
                self.hands.adopt(record)
        self.gateway.records.slots |= self.site.rows.slots

    def _answer(self) -> None:
        if self.fails:
            self.fails -= 1
            raise StoreUnavailable("etcd does not answer")

    async def release(self, shard: int) -> None:
        self.site.calls.append(f"release {shard}")
        self._answer()
        for record in self.gateway.records.all():
            if record.cloud is not None and shard_of(record.cloud) == shard:
                self.site.rows.rows[record.device] = record
        self.site.rows.slots |= self.gateway.records.slots


@dataclass
class Gateway:
    """One gateway of a site."""

    stage: Stage
    shards: Shards
    hands: ChangingHands
    copies: Copies
    fenced: bool = False
    waiting: list[DeviceId] = field(default_factory=list)

    async def lose(self, shard: int) -> None:
        del self.shards.owned[shard]  # as the agent does before it calls
        await self.hands.lost(shard)


@asynccontextmanager
async def gateway(
    site: Site, cloud: FakeCloud, *shards: int, there: FakeCloud | None = None
) -> AsyncIterator[Gateway]:
    owned = Shards()
    made = Stage(
        MemoryRecords(), cloud, ownership=owned, shared=True, others=[there] if there else []
    )
    copies = Copies(site, made)
    one: Gateway
    hands = ChangingHands(
        made.manager, made.app.admission, records=made.placed, secrets=made.records.secrets,
        ownership=owned, copies=copies, begin_move=made.app.mover.begin, shard_of=shard_of,
        may_send=lambda: not one.fenced, waiting=lambda: one.waiting,
    )  # fmt: skip
    made.app.admission.move_together = lambda now, to: (
        (now.product in to.product) and (shard_of(now) == shard_of(to))
    )
    one, copies.hands = Gateway(made, owned, hands, copies), hands
    async with made.running(), in_background(hands.run()), in_background(made.app.mover.run()):
        for shard in shards:
            await hands.gained(shard, 1)
        yield one


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def cloud() -> FakeCloud:
    return FakeCloud()


async def wait(one: Gateway, device: DeviceId, state: str, reason: str = "") -> None:
    async with asyncio.timeout(600):
        await one.stage.tape.wait_for(device, state, reason)


async def test_a_child_that_changes_hands_is_online_at_its_new_gateway(
    site: Site, cloud: FakeCloud
) -> None:
    async with gateway(site, cloud, 1) as first, gateway(site, cloud) as second:
        device = first.stage.announce(TH)
        assert second.stage.announce(TH) == device
        await wait(first, device, "online")
        await wait(second, device, "elsewhere", "owned-by-another")
        await first.lose(1)
        assert first.stage.manager.children[device].state is State.ELSEWHERE
        assert cloud.online == {}
        await second.hands.gained(1, 2)
        await wait(second, device, "online")
        assert cloud.calls.count(f"register {TH}") == 1
        assert cloud.contested == []
        await second.lose(1)
        await first.hands.gained(1, 3)
        await wait(first, device, "online")


async def test_nothing_works_before_what_the_site_has_is_merged(
    site: Site, cloud: FakeCloud
) -> None:
    async with gateway(site, cloud) as one:
        device = one.stage.announce(TH)
        await wait(one, device, "elsewhere")
        one.copies.fails = 1
        with pytest.raises(StoreUnavailable):
            await one.hands.gained(1, 1)
        await asyncio.sleep(60)
        assert cloud.calls == []
        await one.hands.lost(1)
        await one.hands.gained(1, 2)
        await wait(one, device, "online")


async def test_a_registration_under_way_ends_before_its_shard_is_given_up(
    site: Site, cloud: FakeCloud
) -> None:
    async with gateway(site, cloud, 1) as first, gateway(site, cloud) as second:
        device = first.stage.announce(TH)
        second.stage.announce(TH)
        await wait(first, device, "registering")
        await first.lose(1)
        assert first.stage.records[device].stored == 1
        await second.hands.gained(1, 2)
        await wait(second, device, "online")
        assert cloud.calls.count(f"register {TH}") == 1


async def test_a_registration_that_does_not_end_is_given_up_and_counts_as_unknown(
    site: Site, cloud: FakeCloud
) -> None:
    async with gateway(site, cloud, 1) as first, gateway(site, cloud) as second:
        device = first.stage.announce(TH)
        second.stage.announce(TH)
        await wait(first, device, "registering")
        first.stage.records.failing = StoreUnavailable("its disk is away")
        began = asyncio.get_running_loop().time()
        await first.lose(1)
        assert asyncio.get_running_loop().time() - began < GRACE + 1
        await second.hands.gained(1, 2)
        await wait(second, device, "admitted", "quiet-time")
        await wait(second, device, "online")
        assert len(cloud.issued[CloudName("cloud", "p", TH)]) == 2


async def test_a_gateway_whose_lease_has_ended_waits_for_no_registration(
    site: Site, cloud: FakeCloud
) -> None:
    async with gateway(site, cloud, 1) as first:
        device = first.stage.announce(TH)
        await wait(first, device, "registering")
        first.fenced = True
        began = asyncio.get_running_loop().time()
        await first.lose(1)
        assert asyncio.get_running_loop().time() - began < 0.1
        await wait(first, device, "elsewhere")


async def test_another_shard_goes_on(site: Site, cloud: FakeCloud) -> None:
    async with gateway(site, cloud, 1, 2) as one:
        first, second = one.stage.announce(TH), one.stage.announce("TH20-2")
        await wait(one, first, "online")
        await wait(one, second, "online")
        before = one.stage.manager.children[second].task
        await one.lose(1)
        await wait(one, first, "elsewhere")
        assert one.stage.manager.children[second].task is before
        assert one.stage.tape.shown[second].state == "online"


async def test_strangers_wait_for_an_operator_at_one_gateway(site: Site, cloud: FakeCloud) -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(gateway(site, cloud, 1))
        second = await stack.enter_async_context(gateway(site, cloud))
        device = first.stage.announce("stranger-1")
        second.stage.announce("stranger-1")
        await wait(first, device, "pending")
        await wait(second, device, "elsewhere")
        await first.lose(1)
        await second.hands.gained(1, 2)
        await wait(first, device, "elsewhere")
        await wait(second, device, "pending")


async def test_a_child_that_was_rejected_is_so_at_its_new_gateway(
    site: Site, cloud: FakeCloud
) -> None:
    async with gateway(site, cloud, 1) as first, gateway(site, cloud) as second:
        device = first.stage.announce(TH)
        await wait(first, device, "online")
        await first.stage.app.commands.reject(device, "", "uid 0")
        await wait(first, device, "rejected")
        await first.lose(1)
        await second.hands.gained(1, 2)
        await wait(second, device, "rejected")
        assert second.stage.records[device].verdict is Verdict.REJECTED


async def test_who_has_a_child_is_shown_as_that_changes(site: Site, cloud: FakeCloud) -> None:
    async with gateway(site, cloud, 1) as one:
        device = one.stage.announce(TH)
        await wait(one, device, "online")
        await one.lose(1)
        one.shards.owner = "c"
        async with asyncio.timeout(60):
            while "c." not in one.stage.tape.shown[device].explanation:
                await asyncio.sleep(1)


async def test_what_is_late_leaves_no_child_without_a_gateway(site: Site, cloud: FakeCloud) -> None:
    async with gateway(site, cloud, 1) as one:
        device = one.stage.announce(TH)
        await wait(one, device, "online")
        manager = one.stage.manager
        manager.post(device, lc.OwnedElsewhere(Reason("shard-changes-hands", "It goes.")))
        await wait(one, device, "elsewhere", "shard-changes-hands")
        await wait(one, device, "online")
        assert cloud.calls.count(f"register {TH}") == 1


async def test_who_has_a_child_is_shown_in_the_order_of_what_was_found(
    site: Site, cloud: FakeCloud
) -> None:
    async with gateway(site, cloud, 1) as one:
        device = one.stage.announce(TH)
        await wait(one, device, "online")
        await one.lose(1)
        child, manager = one.stage.manager.children[device], one.stage.manager
        why = Reason("shard-changes-hands", "It goes.")
        manager.show_elsewhere(child, why)
        await one.hands.gained(1, 2)
        manager.show_elsewhere(child, why)  # found before it was gained
        assert child.state is not State.ELSEWHERE
        await wait(one, device, "online")
        await manager.ping()
        assert child.state is State.ONLINE


async def test_no_step_that_is_late_works_for_a_child_of_another_gateway(
    site: Site, cloud: FakeCloud
) -> None:
    """An approval that was under way is recorded before the loss, and its event comes after it."""
    async with gateway(site, cloud, 1) as one:
        device = one.stage.announce("stranger-1")
        await wait(one, device, "pending")
        approving = asyncio.create_task(one.stage.app.commands.approve(device, "", "uid 0"))
        await asyncio.sleep(0.001)
        await one.lose(1)
        await approving
        await wait(one, device, "elsewhere", "owned-by-another")
        await asyncio.sleep(60)
        assert one.stage.records[device].verdict is Verdict.ADMITTED
        assert cloud.calls == ["found stranger-1"]


@pytest.mark.parametrize("command", [
    lambda do, device: do.approve(device, "", "uid 0"),
    lambda do, device: do.reject(device, "", "uid 0"),
    lambda do, device: do.forget(device, "uid 0"),
    lambda do, device: do.retry(device, "uid 0"),
    lambda do, device: do.rename(device, "x", "uid 0"),
    lambda do, device: do.reregister(device, device, "uid 0"),
    lambda do, device: do.move(device, "cloud", {}, "uid 0"),
])  # fmt: skip
@pytest.mark.parametrize("recorded", [True, False])
async def test_a_command_at_another_gateway_names_the_one_that_has_the_child(
    site: Site, cloud: FakeCloud, command: Callable[..., Awaitable[None]], recorded: bool
) -> None:
    async with gateway(site, cloud, 1) as one:
        device = one.stage.announce(TH if recorded else "stranger-1")
        await wait(one, device, "online" if recorded else "pending")
        await one.lose(1)
        await wait(one, device, "elsewhere")
        before = dict(one.stage.records.rows)
        with pytest.raises(WrongState, match=r"owned by b\. Run this there"):
            await command(one.stage.app.commands, device)
        assert one.stage.records.rows == before


async def test_a_child_that_was_forgotten_at_another_gateway_is_a_stranger(
    site: Site, cloud: FakeCloud
) -> None:
    async with gateway(site, cloud, 1) as one:
        device = one.stage.announce("stranger-1")
        await wait(one, device, "pending")
        await one.stage.app.commands.approve(device, "", "uid 0")
        await wait(one, device, "online")
        await one.lose(1)
        del one.stage.records.rows[device], site.rows.rows[device]  # as a merge of that does
        one.hands.drop(device)
        await one.hands.gained(1, 2)
        await wait(one, device, "pending")


async def test_what_cannot_be_written_at_the_end_keeps_no_shard(
    site: Site, cloud: FakeCloud, caplog: pytest.LogCaptureFixture
) -> None:
    async with gateway(site, cloud, 1) as one:
        one.copies.fails = 1
        await one.lose(1)
        assert "Not all that changed of shard 1 is in etcd" in caplog.text


async def test_a_name_of_the_gateway_itself_is_logged_in_by_one_gateway_of_the_site(
    site: Site, cloud: FakeCloud
) -> None:
    """What is behind it is in its shard."""
    cloud.gateway_name = own = CloudName("cloud", "hub", "hub-1", "gateway")
    async with gateway(site, cloud, 1) as first, gateway(site, cloud) as second:
        for one in (first, second):
            await one.stage.app.admit_gateway()
        device = DeviceId("gateway-cloud")
        await wait(first, device, "online")
        await wait(second, device, "elsewhere", "owned-by-another")
        await first.lose(1)
        await wait(first, device, "elsewhere")
        await second.hands.gained(1, 2)
        await wait(second, device, "online")
        assert cloud.contested == []
        assert cloud.calls.count("register hub-1") == len(cloud.issued[own]) == 1


async def test_a_move_that_is_under_way_goes_on_at_the_new_gateway(
    site: Site, cloud: FakeCloud
) -> None:
    """Nothing is registered twice at the other cloud, and the child is at one cloud in the end."""
    there = FakeCloud(name="there", down=True)
    async with (
        gateway(site, cloud, 1, there=there) as first,
        gateway(site, cloud, there=there) as second,
    ):
        device = first.stage.announce(TH)
        second.stage.announce(TH)
        await wait(first, device, "online")
        await first.stage.app.commands.move(device, "there", {"product": "p"}, "uid 0")
        async with asyncio.timeout(600):
            while not there.calls.count(f"connect {TH}"):  # registered there, and not logged in yet
                await asyncio.sleep(1)
        await first.lose(1)
        before = list(there.calls)
        await asyncio.sleep(1200)
        assert there.calls == before
        there.down = False
        await second.hands.gained(1, 2)
        async with asyncio.timeout(1200):
            while second.stage.records[device].is_moving:
                await asyncio.sleep(1)
        await wait(second, device, "online")
        assert there.calls.count(f"register {TH}") == 1
        assert (len(there.online), len(cloud.online)) == (1, 0)


async def test_messages_are_owed_that_could_not_be_sent_before_a_child_changed_hands(
    site: Site, cloud: FakeCloud
) -> None:
    async with gateway(site, cloud, 1, 2) as one:
        first, second = one.stage.announce(TH), one.stage.announce("TH20-2")
        for device in (first, second):
            await wait(one, device, "online")
        one.waiting = [first, DeviceId("child-that-is-gone")]
        assert one.hands.owed() == frozenset()
        await one.lose(1)
        assert one.hands.owed() == frozenset(), "given up in good order"
        await one.hands.gained(1, 2)
        one.fenced = True
        await one.lose(1)
        await one.lose(2)
        assert one.hands.owed() == {1}
        one.fenced = False
        await one.hands.gained(1, 3)
        assert one.hands.owed() == frozenset()


async def test_messages_of_an_earlier_run_are_owed(site: Site, cloud: FakeCloud) -> None:
    async with gateway(site, cloud, 1) as one:
        device = one.stage.announce(TH)
        await wait(one, device, "online")
        rows = one.stage.records.rows
    async with gateway(site, cloud) as again:
        again.stage.records.rows |= rows
        again.waiting = [device]
        assert again.hands.owed() == {1}


async def test_a_move_to_a_name_of_another_shard_is_refused_at_once(
    site: Site, cloud: FakeCloud
) -> None:
    """Else the gateway of the one shard could register what that of the other has moved away."""
    there = FakeCloud(name="there")
    async with gateway(site, cloud, 1, there=there) as one:
        device = one.stage.announce(TH)
        await wait(one, device, "online")
        with pytest.raises(NotAdmitted, match="in another shard of the site"):
            await one.stage.app.commands.move(device, "there", {"product": "q"}, "uid 0")
        assert there.calls == []
        assert not one.stage.records[device].is_moving
