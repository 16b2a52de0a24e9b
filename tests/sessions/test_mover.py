"""Children move between two clouds: registered there, logged in, switched, logged out here."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

import pytest

from gatewayd.cloud.provider import (
    KeepSecret,
    LoginRefused,
    LoginRemoved,
    Outcome,
    Refused,
    SessionEnd,
)
from gatewayd.device.identity import DeviceId
from gatewayd.device.move import NO_MOVES, MoveStep
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.secret import Secret
from gatewayd.errors import (
    CallerError,
    InvalidArgs,
    NoSuchProvider,
    NotAdmitted,
    StoreError,
    WrongState,
)
from gatewayd.storage.reconcile import decide
from tests.support.fakes import FakeCloud, FakeSession, MemoryRecords
from tests.support.renewing_cloud import LIFE, HoldableCloud, RenewingCloud
from tests.support.stage import NameRules, Stage
from tests.support.tasks import in_background

pytestmark = pytest.mark.jumping_clock

HERE, THERE = CloudName("cloud", "p", "TH20-1"), CloudName("there", "q", "TH20-1")


@dataclass
class Watched(FakeCloud):
    """A cloud that notes, at each login and logout, how many sessions of a child publish."""

    name: str = "there"
    refuse: Reason | None = None
    removed: bool = False

    async def connect(self, name: CloudName, secret: Secret) -> FakeSession:
        if self.removed:
            raise LoginRemoved(Reason("cloud-device-not-found", "", "Create it there."))
        if self.refuse is not None:
            raise LoginRefused(self.refuse, stale=False)
        return await super().connect(name, secret)


@dataclass
class Pair:
    """A gateway with two clouds.  records, here, there: outlive it, as disk and clouds do."""

    records: MemoryRecords = field(default_factory=MemoryRecords)
    here: FakeCloud = field(default_factory=FakeCloud)
    there: FakeCloud = field(default_factory=Watched)
    held: bool = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Stage]:
        rules = NameRules(held=self.held)
        stage = Stage(self.records, self.here, rules=rules, others=(self.there,))
        async with stage.running(), in_background(stage.app.mover.run()):
            yield stage

    async def online(self, stage: Stage, name: str = "TH20-1") -> DeviceId:
        device = stage.announce(name)
        await stage.tape.wait_for(device, "online")
        return device


async def move(stage: Stage, device: DeviceId, to: str = "there", product: str = "") -> None:
    product = product or {"cloud": "p"}.get(to, "q")
    await stage.app.commands.move(device, to, {"product": product}, "uid 0")


async def moved(stage: Stage, device: DeviceId, to: str = "there") -> None:
    """Wait until a child is online at a cloud."""
    while (record := stage.records[device]).is_moving or record.names[0].provider != to:
        await asyncio.sleep(0.1)
    while stage.tape.shown[device].provider != to:
        await asyncio.sleep(0.1)
    await stage.tape.wait_for(device, "online")


async def step(stage: Stage, device: DeviceId, reason: str) -> None:
    """Wait until the move of a child is shown to wait, or to be refused, for a reason."""
    while stage.tape.shown[device].move.get("Reason") != reason:
        await asyncio.sleep(0.1)


async def test_a_child_moves_without_a_moment_offline_and_back_without_a_registration() -> None:
    pair = Pair()
    async with pair.running() as stage:
        device = await pair.online(stage)
        stage.tape.states[device].clear()
        await move(stage, device)
        await moved(stage, device)
        await asyncio.sleep(5)
        assert stage.tape.states[device] == ["online"]
        assert (list(pair.here.online), list(pair.there.online)) == ([], [THERE])
        view = stage.tape.shown[device]
        assert (view.provider, view.cloud_id) == ("there", "q/TH20-1")
        assert view.move["Dormant"] == ["cloud p/TH20-1"]
        action, _, (why, stands, *_) = stage.app.commands.test_admission(device)
        assert (action, why) == ("register", "")
        assert "moved it to cloud there" in stands
        await move(stage, device, "cloud")
        await moved(stage, device, "cloud")
        await asyncio.sleep(5)
        assert (list(pair.here.online), list(pair.there.online)) == ([HERE], [])
    calls = [*pair.here.calls, *pair.there.calls]
    assert calls.count("register TH20-1") == 2, "one at each cloud"
    assert not pair.here.contested
    assert not pair.there.contested


async def test_until_the_switch_the_child_stays_online_here() -> None:
    pair = Pair()
    pair.there.down = True
    async with pair.running() as stage:
        device = await pair.online(stage)
        await move(stage, device)
        await step(stage, device, "cloud-unreachable")
        view = stage.tape.shown[device]
        assert (view.state, view.provider, list(pair.here.online)) == ("online", "cloud", [HERE])
        assert view.move["Step"] == "logging-in"
        assert view.move["NextAttemptTimestamp"]
        row = stage.app.commands._moves.listed(0)[0]
        assert row[:5] == (device, "cloud", "there", "logging-in", "cloud-unreachable")
        await stage.app.commands.cancel_move(device, "uid 0")
        await asyncio.sleep(1)
        record = stage.records[device]
        assert record.moves.under_way is None
        assert [one.provider for one in record.moves.dormant] == ["there"]
        pair.there.down = False
        await asyncio.sleep(3600)
        assert not pair.there.online, "what was called off does not go on"
        await move(stage, device)
        await moved(stage, device)
    assert pair.there.calls.count("register TH20-1") == 1


async def test_a_refusal_leaves_the_child_here_and_says_what_to_do() -> None:
    pair = Pair()
    pair.there.script["TH20-1"] = ["refuse"]
    async with pair.running() as stage:
        device = await pair.online(stage)
        await move(stage, device)
        await step(stage, device, "cloud-refused")
        assert stage.tape.shown[device].move["Step"] == "refused"
        with pytest.raises(WrongState, match="--cancel"):
            await stage.app.commands.reregister(device, device, "uid 0")
        await asyncio.sleep(3600)
        assert pair.there.calls == ["register TH20-1"]
        assert stage.tape.shown[device].state == "online"
        await stage.app.commands.retry(device, "uid 0")
        await moved(stage, device)


async def test_a_refused_login_leaves_it_here_too() -> None:
    there = Watched(refuse=Reason("cloud-auth-failed", "No.", "Reset it, then run gatewayctl "
                                  "reregister CHILD CHILD."))  # fmt: skip
    pair = Pair(there=there)
    async with pair.running() as stage:
        device = await pair.online(stage)
        await move(stage, device)
        await step(stage, device, "cloud-auth-failed")
        remedy = stage.tape.shown[device].move["Remedy"]
        assert f"gatewayctl forget {device} --dormant there" in str(remedy)
        assert list(pair.here.online) == [HERE]


async def test_a_stale_secret_of_the_other_cloud_is_registered_again() -> None:
    pair = Pair()
    pair.there.script["TH20-1"] = ["issue-another"]
    async with pair.running() as stage:
        device = await pair.online(stage)
        await move(stage, device)
        await moved(stage, device)
    assert pair.there.calls.count("register TH20-1") == 2


async def test_a_lost_reply_of_the_other_cloud_is_never_taken_for_failed() -> None:
    pair = Pair()
    pair.there.script["TH20-1"] = ["lose"]
    async with pair.running() as stage:
        device = await pair.online(stage)
        began = asyncio.get_running_loop().time()
        await move(stage, device)
        await step(stage, device, "answer-lost")
        await moved(stage, device)
        assert asyncio.get_running_loop().time() - began >= 60
    assert pair.there.calls.count("register TH20-1") == 2


async def test_a_child_leaves_a_cloud_that_is_dead() -> None:
    pair = Pair()
    async with pair.running() as stage:
        device = await pair.online(stage)
        pair.here.cut()
        await stage.tape.wait_for(device, "offline")
        await move(stage, device)
        await moved(stage, device)


async def test_a_child_whose_secret_is_lost_moves_too() -> None:
    pair = Pair()
    async with pair.running() as stage:
        device = await pair.online(stage)
        pair.records.slots.clear()
        pair.here.drop("TH20-1")
        await stage.tape.wait_for(device, "failed", "secret-lost")
        await move(stage, device)
        await moved(stage, device)


async def test_a_child_that_is_absent_is_registered_there_and_moves_when_it_is_back() -> None:
    pair = Pair()
    async with pair.running() as stage:
        device = await pair.online(stage)
        stage.lose("TH20-1")
        await stage.tape.wait_for(device, "offline")
        await move(stage, device)
        await step(stage, device, "move-waits-for-child")
        assert stage.records[device].moves.under_way is not None
        assert stage.tape.shown[device].move["Step"] == MoveStep.LOGGING_IN
        await asyncio.sleep(3600)
        assert not pair.there.online
        stage.announce("TH20-1")
        await moved(stage, device)


async def test_a_child_that_the_first_cloud_removes_meanwhile_moves_on() -> None:
    pair = Pair()
    pair.there.down = True
    async with pair.running() as stage:
        device = await pair.online(stage)
        await move(stage, device)
        await step(stage, device, "cloud-unreachable")
        end = SessionEnd(Reason("cloud-device-removed"), removed=True)
        pair.here.online[HERE].ended.set_result(end)
        await stage.tape.wait_for(device, "offline")
        pair.there.down = False
        await moved(stage, device)


async def test_a_child_that_is_rejected_does_not_move_and_what_is_there_is_kept() -> None:
    pair = Pair()
    pair.there.down = True
    async with pair.running() as stage:
        device = await pair.online(stage)
        await move(stage, device)
        await step(stage, device, "cloud-unreachable")
        await stage.app.commands.reject(device, "", "uid 0")
        await asyncio.sleep(1)
        record = stage.records[device]
        assert (record.is_moving, len(record.moves.dormant)) == (False, 1)
        with pytest.raises(WrongState, match="rejected"):
            await move(stage, device)


async def test_forgetting_a_child_unbinds_it_everywhere_and_leaves_no_secret() -> None:
    pair = Pair()
    async with pair.running() as stage:
        device = await pair.online(stage)
        await move(stage, device)
        await moved(stage, device)
        told = stage.app.commands.consequences(device, "Forget")
        assert any("cloud cloud, where it is dormant" in one for one in told)
        stage.lose("TH20-1")
        await stage.app.commands.forget(device, "uid 0")
        await stage.tape.wait_gone(device)
    assert not pair.records.slots
    assert "forget TH20-1" in pair.here.calls
    assert "forget TH20-1" in pair.there.calls


async def test_what_is_dormant_is_forgotten_alone() -> None:
    pair = Pair()
    async with pair.running() as stage:
        device = await pair.online(stage)
        with pytest.raises(WrongState, match="it is at: none"):
            await stage.app.commands.forget_dormant(device, "cloud", "uid 0")
        await move(stage, device)
        await moved(stage, device)
        (why,) = stage.app.commands.consequences(device, "ForgetDormant cloud")
        assert "only secret" in why
        await stage.app.commands.forget_dormant(device, "cloud", "uid 0")
        assert stage.records[device].moves.dormant == ()
        assert [ref.provider for ref in pair.records.slots] == ["there"]
        await asyncio.sleep(60)
        assert stage.tape.shown[device].state == "online"


async def test_what_cannot_move_is_refused_with_a_sentence() -> None:
    pair = Pair()
    async with pair.running() as stage:
        device = await pair.online(stage)
        for to, product, error, sentence in (
            ("cloud", "p", WrongState, "at cloud cloud already"),
            ("nowhere", "p", NoSuchProvider, "but these are: cloud, there"),
        ):
            with pytest.raises(error, match=sentence):
                await move(stage, device, to, product)
        with pytest.raises(InvalidArgs, match="--product"):
            await stage.app.commands.move(device, "there", {}, "uid 0")
        pair.there.not_ready = Reason("gateway-offline", "The gateway is not online there.")
        with pytest.raises(NotAdmitted, match="The gateway is not online there"):
            await move(stage, device)
        with pytest.raises(WrongState, match="is not moving"):
            await stage.app.commands.cancel_move(device, "uid 0")
        assert stage.records[device].moves == NO_MOVES


async def test_two_children_do_not_get_one_name_at_a_cloud() -> None:
    pair = Pair()
    async with pair.running() as stage:
        first, second = await pair.online(stage), await pair.online(stage, "TH20-2")
        await move(stage, first)
        await moved(stage, first)
        record = stage.records[second]
        name = replace(HERE, product="other")
        pair.records.rows[second] = replace(record, cloud=name)
        with pytest.raises(NotAdmitted, match="Another child already has the name"):
            await move(stage, second)
        with pytest.raises(NotAdmitted, match="Another child already has the name"):
            await stage.app.admission.check_move(second, HERE)


async def test_a_child_with_a_holder_does_not_move() -> None:
    pair = Pair(here=HoldableCloud(), held=True)
    async with pair.running() as stage:
        device = stage.announce("TH20-1")
        await stage.tape.wait_for(device, "handed-over")
        with pytest.raises(WrongState, match="is handed-over, and moves only once"):
            await move(stage, device)


async def test_another_move_is_refused_while_one_is_under_way_and_the_same_goes_on_at_once() -> (
    None
):
    pair, third = Pair(), FakeCloud(name="third")
    pair.there.down = True
    stage = Stage(pair.records, pair.here, others=(pair.there, third))
    async with stage.running(), in_background(stage.app.mover.run()):
        device = await pair.online(stage)
        await move(stage, device)
        await step(stage, device, "cloud-unreachable")
        with pytest.raises(WrongState, match=f"gatewayctl move {device} --cancel"):
            await move(stage, device, "third")
        pair.there.down = False
        began = asyncio.get_running_loop().time()
        await move(stage, device)
        await moved(stage, device)
        assert asyncio.get_running_loop().time() - began < 5


async def test_a_certificate_that_expired_while_it_was_dormant_is_made_again() -> None:
    here = RenewingCloud()
    pair = Pair(here=here)
    async with pair.running() as stage:
        device = await pair.online(stage)
        await move(stage, device)
        await moved(stage, device)
        await asyncio.sleep(3 * LIFE)
        await move(stage, device, "cloud")
        await moved(stage, device, "cloud")
    assert len(here.known[HERE]) == 2


async def test_many_children_move_and_each_has_a_session_all_the_time() -> None:
    pair, count = Pair(), 60
    async with pair.running() as stage:
        devices = [await pair.online(stage, f"TH20-{n}") for n in range(count)]
        for device in devices:
            await move(stage, device)
        for device in devices:
            assert {*pair.here.online, *pair.there.online}
            await moved(stage, device)
        await asyncio.sleep(5)
        assert (len(pair.here.online), len(pair.there.online)) == (0, count)
    assert len(pair.there.calls) == 2 * count


def after_a_power_cut(old: MemoryRecords) -> MemoryRecords:
    """Return what is found on the disk, reconciled as the real start does it."""
    new = MemoryRecords()
    new.rows, new.slots = dict(old.rows), dict(old.slots)
    for found in decide(list(old.rows.values()), list(old.slots), 1):
        assert found.record is not None, found
        new.rows[found.record.device] = found.record
    return new


class Killed(asyncio.CancelledError):
    """Ends a worker as SIGKILL would: nothing of ours gets to run."""


STEPS = {
    "move-on-record": 1,
    "move-intent-on-record": 1,
    "move-secret-issued": 2,  # issued by the cloud, not yet on the disk
    "move-secret-in-slot": 1,
    "move-pointer-on-record": 1,
    "move-logged-in": 1,
    "move-switched": 1,
}
"""How many secrets the other cloud issues in all, when gatewayd dies right after a step."""


@pytest.mark.parametrize("second", ["", *STEPS])
@pytest.mark.parametrize("first", STEPS)
async def test_a_move_survives_a_crash_at_any_step_and_another_one(first: str, second: str) -> None:
    pair = Pair()
    for kill in filter(None, (first, second)):
        died = asyncio.Event()

        def checkpoint(reached: str, at: str = kill, died: asyncio.Event = died) -> None:
            if reached == at:
                died.set()
                raise Killed

        stage = Stage(pair.records, pair.here, checkpoint, others=(pair.there,))
        async with stage.running(), in_background(stage.app.mover.run()):
            device = stage.announce("TH20-1")
            await stage.tape.wait_for(device, "online")
            record = pair.records[device]
            if not record.is_moving and record.cloud == HERE:
                with_move = asyncio.create_task(move(stage, device))
                await asyncio.wait({with_move})
            for _ in range(3000):
                if died.is_set() or pair.records[device].cloud == THERE:
                    break
                await asyncio.sleep(0.1)
            pair.records.dead = True
        pair.records = after_a_power_cut(pair.records)
        pair.here.online.clear()
        pair.there.online.clear()
    async with pair.running() as stage:
        device = stage.announce("TH20-1")
        await stage.tape.wait_for(device, "online")
        await moved(stage, device)
        await asyncio.sleep(5)
        assert list(pair.there.online) == [THERE]
        assert not pair.here.online
    assert len(pair.there.issued[THERE]) <= STEPS[first] + (STEPS[second] - 1 if second else 0)
    assert len(pair.here.issued[HERE]) == 1
    record = pair.records[device]
    assert pair.records.slots[record.slot(record.stored)] == pair.there.activated[THERE]
    (dormant,) = record.moves.dormant
    assert pair.records.slots[dormant.slot(device, dormant.stored)] == pair.here.activated[HERE]


async def test_a_target_that_is_no_longer_configured_refuses_and_the_way_out_is_said() -> None:
    """Not that of a child that is there: forgetting it would cost what is in use."""
    pair = Pair()
    pair.there.script["TH20-1"] = ["fail"] * 100
    async with pair.running() as stage:
        device = await pair.online(stage)
        await move(stage, device)
        await step(stage, device, "cloud-unreachable")
    pair.here.online.clear()
    alone = Stage(pair.records, pair.here)
    async with alone.running(), in_background(alone.app.mover.run()):
        await pair.online(alone)
        await step(alone, device, "move-cloud-not-configured")
        facts = alone.tape.shown[device].move
        assert facts["Step"] == "refused"
        assert f"gatewayctl move {device} --cancel" in str(facts["Remedy"])
        assert "forget" not in str(facts["Remedy"])
        await alone.app.commands.cancel_move(device, "uid 0")
        assert not alone.records[device].moves.under_way


async def test_a_cloud_that_is_no_longer_configured_is_left() -> None:
    pair = Pair()
    pair.there.down = True
    async with pair.running() as stage:
        device = await pair.online(stage)
        await move(stage, device)
        await step(stage, device, "cloud-unreachable")
    pair.there.down = False
    alone = Stage(pair.records, pair.there)
    async with alone.running(), in_background(alone.app.mover.run()):
        alone.announce("TH20-1")
        await moved(alone, device)
        assert list(pair.there.online) == [THERE]
        await alone.app.commands.forget_dormant(device, "cloud", "uid 0")


async def test_what_is_under_way_when_gatewayd_stops_goes_on_with_the_next_run() -> None:
    """In good order: what the cloud is issuing is kept first."""
    pair = Pair()
    async with pair.running() as stage:
        device = await pair.online(stage)
        await move(stage, device)
        while "register TH20-1" not in pair.there.calls:
            await asyncio.sleep(0.01)
    assert [one.stored for one in stage.records[device].generations][1:] == [1]
    async with pair.running() as stage:
        await pair.online(stage)
        await moved(stage, device)
    assert pair.there.calls.count("register TH20-1") == 1


CHANCES = ("there", "there", "cloud", "cancel", "retry", "drop", "drop", "away", "down")


async def disturb(stage: Stage, pair: Pair, rng: random.Random, name: str) -> None:
    """Do something to a child, or to a cloud; what is refused is refused."""
    device, clouds = stage.lan.id_of(name), (pair.here, pair.there)
    with suppress(CallerError, StoreError):
        match chance := rng.choice(CHANCES):
            case "there" | "cloud":
                await move(stage, device, chance)
            case "cancel":
                await stage.app.commands.cancel_move(device, "uid 0")
            case "retry":
                await stage.app.commands.retry(device, "uid 0")
            case "drop":
                for cloud in clouds:
                    if any(one.device == name for one in cloud.online):
                        cloud.drop(name, by_cloud=False)
            case "away":
                stage.lose(name)
                await asyncio.sleep(rng.uniform(0, 1))
                stage.announce(name)
            case _:
                cloud = rng.choice(clouds)
                cloud.down = not cloud.down


@pytest.mark.parametrize("seed", range(25))
async def test_whatever_happens_at_the_same_time_a_child_ends_with_one_session(seed: int) -> None:
    """Moves, there and back, called off and resumed; sessions, clouds and children come and go."""
    rng, pair, names = random.Random(seed), Pair(), [f"TH20-{n}" for n in range(8)]
    async with pair.running() as stage:
        devices = [await pair.online(stage, name) for name in names]
        for _ in range(120):
            await asyncio.sleep(rng.uniform(0, 0.3))
            await disturb(stage, pair, rng, rng.choice(names))
        pair.here.down = pair.there.down = False
        for device in devices:
            with suppress(CallerError):
                await stage.app.commands.retry(device, "uid 0")
        await asyncio.sleep(3000)
        for device, name in zip(devices, names, strict=True):
            record, view = stage.records[device], stage.tape.shown[device]
            at = [one for c in (pair.here, pair.there) for one in c.online if one.device == name]
            assert (record.is_moving, view.state) == (False, "online"), view.history
            assert at == [record.cloud], view.history
            assert "Stalled" not in [entry.event for entry in view.history]
    for cloud in (pair.here, pair.there):
        assert not cloud.contested
        assert all(len(secrets) == 1 for secrets in cloud.issued.values()), "none registered twice"


async def test_a_secret_that_is_refused_again_and_again_is_given_up_by_a_retry() -> None:
    pair = Pair()
    pair.there.script["TH20-1"] = ["issue-another"] * 4
    async with pair.running() as stage:
        device = await pair.online(stage)
        await move(stage, device)
        await step(stage, device, "secret-repeatedly-stale")
        await stage.app.commands.retry(device, "uid 0")
        await moved(stage, device)


async def test_two_children_that_move_at_once_do_not_get_one_name() -> None:

    class Slow(Watched):
        async def check_ready(self, name: CloudName) -> Reason | None:
            await asyncio.sleep(0.5)
            return None

    pair = Pair(there=Slow())
    async with pair.running() as stage:
        first, second = await pair.online(stage), await pair.online(stage, "TH20-2")
        record = stage.records[second]
        pair.records.rows[second] = replace(record, cloud=replace(HERE, product="other"))
        ended = await asyncio.gather(
            move(stage, first), move(stage, second), return_exceptions=True
        )
        assert [type(one) for one in ended] == [type(None), NotAdmitted]


@dataclass
class Gated(Watched):
    """A cloud that answers when the gate is open, and then refuses.

    entered: whether it was asked.
    """

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    at_login: bool = False

    async def register(self, name: CloudName, keep: KeepSecret) -> Outcome:
        if not self.at_login:
            self.entered.set()
            await self.gate.wait()
            return Refused(Reason("cloud-refused", "No."))
        return await super().register(name, keep)

    async def connect(self, name: CloudName, secret: Secret) -> FakeSession:
        self.entered.set()
        await self.gate.wait()
        raise LoginRefused(Reason("cloud-auth-failed", "No."), stale=True)


@pytest.mark.parametrize("at_login", [True, False])
async def test_what_one_cloud_refuses_is_not_held_against_the_next(at_login: bool) -> None:
    """The move there was called off meanwhile; what is dormant at the third is as it was."""
    there, third = Gated(at_login=at_login), Watched(name="third")
    pair = Pair(there=there)
    stage = Stage(pair.records, pair.here, others=(there, third))
    async with stage.running(), in_background(stage.app.mover.run()):
        device = await pair.online(stage)
        for cloud in ("third", "cloud"):
            await move(stage, device, cloud)
            await moved(stage, device, cloud)
        await move(stage, device)
        await there.entered.wait()
        await stage.app.commands.cancel_move(device, "uid 0")
        await move(stage, device, "third")
        there.gate.set()
        await moved(stage, device, "third")
    assert third.calls.count("register TH20-1") == 1


@pytest.mark.parametrize("run", ["Run", "Reset it, then run"])
async def test_no_remedy_of_the_other_cloud_costs_what_is_in_use_here(run: str) -> None:
    """Where nothing of it is kept, a retry is all; where a secret is, that has to be forgotten."""
    why = Reason("refused", "No.", f"{run} gatewayctl reregister CHILD CHILD.", "needs-reset")

    class Strict(Watched):
        async def register(self, name: CloudName, keep: KeepSecret) -> Outcome:
            return Refused(why)

    for there, meant in (
        (Strict(), "gatewayctl retry {}."),
        (Watched(refuse=why), "gatewayctl forget {} --dormant there"),
    ):
        pair = Pair(there=there)
        async with pair.running() as stage:
            device = await pair.online(stage)
            await move(stage, device)
            await step(stage, device, "refused")
            remedy = str(stage.tape.shown[device].move["Remedy"])
            assert meant.format(device) in remedy
            assert "reregister" not in remedy


async def test_a_child_that_is_forgotten_while_it_registers_there_leaves_nothing() -> None:
    there = Gated()
    pair = Pair(there=there)
    async with pair.running() as stage:
        device = await pair.online(stage)
        await move(stage, device)
        await there.entered.wait()
        stage.lose("TH20-1")
        await stage.app.commands.forget(device, "uid 0")
        there.gate.set()
        await asyncio.sleep(100)
        assert not stage.records.slots
        assert "forget TH20-1" in there.calls, "it may have been issued a secret"


async def test_a_number_of_an_attempt_is_never_given_out_twice() -> None:
    """Its slot may hold what the other cloud has refused."""
    pair = Pair()
    pair.there.script["TH20-1"] = ["issue-another", "refuse"]
    async with pair.running() as stage:
        device = await pair.online(stage)
        await move(stage, device)
        await step(stage, device, "cloud-refused")
        await stage.app.commands.cancel_move(device, "uid 0")
        assert not decide(list(stage.records.all()), stage.records.slots, 1)
        await move(stage, device)
        await moved(stage, device)


async def test_another_product_is_not_silently_the_one_of_before() -> None:
    pair = Pair()
    pair.there.script["TH20-1"] = ["refuse"]
    async with pair.running() as stage:
        device = await pair.online(stage)
        await move(stage, device, product="wrong")
        await step(stage, device, "cloud-refused")
        with pytest.raises(WrongState, match=f"gatewayctl move {device} --cancel"):
            await move(stage, device)
        await stage.app.commands.cancel_move(device, "uid 0")
        await move(stage, device)
        await moved(stage, device)
        assert stage.records[device].cloud == THERE
        other = await pair.online(stage, "TH20-2")
        with pytest.raises(InvalidArgs, match="at most 256"):
            await move(stage, other, product="q" * 257)


async def test_a_login_that_was_under_way_switches_to_no_third_cloud() -> None:
    pair, third = Pair(), FakeCloud(name="third")
    stage = Stage(pair.records, pair.here, others=(pair.there, third))
    async with stage.running(), in_background(stage.app.mover.run()):
        device = await pair.online(stage)
        await move(stage, device)
        while "connect TH20-1" not in pair.there.calls:
            await asyncio.sleep(0.01)
        await stage.app.commands.cancel_move(device, "uid 0")
        await move(stage, device, "third")
        await moved(stage, device, "third")
        await asyncio.sleep(10)
        assert stage.records[device].stored == 1
        assert [len(one.online) for one in (pair.here, pair.there, third)] == [0, 0, 1]
