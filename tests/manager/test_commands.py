"""The commands of operators: what each does, and what it refuses."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from gatewayd.admission.policy.suggestion import CloudChoice
from gatewayd.cloud.provider import SessionEnd
from gatewayd.device.decision_log import DecisionKind
from gatewayd.device.lifecycle import State
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.device.recovery import MAX_STALE
from gatewayd.errors import (
    AmbiguousId,
    CallerError,
    InvalidArgs,
    NoSuchDevice,
    NoSuchProvider,
    NotAdmitted,
    StoreFull,
    WrongState,
)
from gatewayd.manager.cloud_choice import chosen_cloud
from gatewayd.registration.registrar import RegistrationSettings
from tests.support.fakes import FakeCloud, MemoryRecords
from tests.support.stage import NameRules, Stage

pytestmark = pytest.mark.jumping_clock


async def test_an_approval_is_on_record_when_the_call_returns(stage: Stage) -> None:
    device = stage.announce("stranger")
    await stage.tape.wait_for(device, "pending")
    await stage.app.commands.approve(device[:9], "cloud", "uid 1000")
    record = stage.records[device]
    assert (record.admission, record.verdict) == ("operator", "admitted")
    view = await stage.tape.wait_for(device, "online")
    assert view.admission == "operator"
    assert "uid 1000" in " ".join(step.text for step in view.history)


@pytest.mark.parametrize(
    ("name", "provider", "error"),
    [("stranger", "nowhere", NoSuchProvider), ("TH20-1", "", WrongState)],
)
async def test_an_approval_that_cannot_be(
    stage: Stage, name: str, provider: str, error: type[CallerError]
) -> None:
    device = stage.announce(name)
    await stage.tape.wait_for(device, "online" if name == "TH20-1" else "pending")
    with pytest.raises(error):
        await stage.app.commands.approve(device, provider, "uid 0")


async def test_a_cloud_name_belongs_to_one_child(stage: Stage) -> None:
    first = stage.announce("stranger")
    await stage.tape.wait_for(first, "pending")
    await stage.app.commands.approve(first, "", "uid 0")
    await stage.tape.wait_for(first, "online")
    second = stage.announce("other")
    stage.lan.known[second] = stage.lan.known[first]
    await stage.tape.wait_for(second, "pending")
    with pytest.raises(NotAdmitted, match=f"{second}"):
        await stage.app.commands.approve(second, "", "uid 0")


async def test_a_rejection_survives_a_restart() -> None:
    records, cloud = MemoryRecords(), FakeCloud()
    async with Stage(records, cloud).running() as stage:
        device = stage.announce("TH20-1")
        await stage.tape.wait_for(device, "online")
        await stage.app.commands.reject(device, "not \x1bours", "uid 0")
        await stage.tape.wait_for(device, "rejected")
        before = stage.tape.shown[device]
        assert "not ours" in before.explanation
    async with Stage(records, cloud).running() as stage:
        stage.announce("TH20-1")
        after = await stage.tape.wait_for(device, "rejected")
        assert after.admission == "operator"
        assert (after.reason, after.explanation, after.remedy) == (
            before.reason, before.explanation, before.remedy,
        )  # fmt: skip


async def test_a_removal_at_the_cloud_is_explained_as_fully_after_a_restart() -> None:
    records, cloud = MemoryRecords(), FakeCloud()
    removed = Reason("cloud-removed", "The cloud has removed it.", "Run gatewayctl approve CHILD.")
    async with Stage(records, cloud).running() as stage:
        device = stage.announce("TH20-1")
        await stage.tape.wait_for(device, "online")
        (session,) = cloud.online.values()
        session.ended.set_result(SessionEnd(removed, removed=True))
        before = await stage.tape.wait_for(device, "retired")
    async with Stage(records, cloud).running() as stage:
        after = await stage.tape.wait_for(device, "retired")
    assert (after.reason, after.explanation, after.remedy) == (
        "cloud-removed", removed.text, f"Run gatewayctl approve {device}.",
    )  # fmt: skip
    assert after.remedy == before.remedy


async def test_a_forgotten_child_begins_again_as_a_stranger(stage: Stage) -> None:
    device = stage.announce("stranger")
    await stage.tape.wait_for(device, "pending")
    await stage.app.commands.approve(device, "", "uid 0")
    await stage.tape.wait_for(device, "online")
    await stage.app.commands.forget(device, "uid 0")
    await stage.tape.wait_for(device, "pending")
    assert not stage.records.rows
    assert not stage.records.slots


async def test_reregister_wants_the_id_twice_and_a_child_that_was_registered(stage: Stage) -> None:
    device = stage.announce("stranger")
    await stage.tape.wait_for(device, "pending")
    with pytest.raises(InvalidArgs, match="twice"):
        await stage.app.commands.reregister(device, "child-", "uid 0")
    with pytest.raises(WrongState, match="pending"):
        await stage.app.commands.reregister(device, device, "uid 0")


async def test_a_name_is_kept(stage: Stage) -> None:
    device = stage.announce("TH20-1")
    await stage.tape.wait_for(device, "online")
    await stage.app.commands.rename(device, "Dock \x07door", "uid 0")
    assert stage.tape.shown[device].name == "Dock door"
    assert stage.records[device].label == "Dock door"
    with pytest.raises(InvalidArgs):
        await stage.app.commands.rename(device, "\x07", "uid 0")


async def test_a_child_is_found_by_id_by_its_beginning_or_by_cloud_id(stage: Stage) -> None:
    device = stage.announce("TH20-1")
    await stage.tape.wait_for(device, "online")
    resolve = stage.app.commands.resolve
    assert resolve(device) == resolve(device[:10]) == resolve("p/TH20-1") == device
    other = stage.announce("TH20-2")
    await stage.tape.wait_for(other, "online")
    with pytest.raises(AmbiguousId):
        resolve("child-")
    with pytest.raises(NoSuchDevice):
        resolve("unknown")


async def test_retry_is_for_those_who_wait(stage: Stage) -> None:
    device = stage.announce("TH20-1")
    await stage.tape.wait_for(device, "online")
    with pytest.raises(WrongState):
        await stage.app.commands.retry(device, "uid 0")


async def test_a_dry_run_says_what_policy_would(stage: Stage) -> None:
    device = stage.announce("stranger")
    await stage.tape.wait_for(device, "pending")
    action, rule, reasons = stage.app.commands.test_admission(device)
    assert (action, rule) == ("ask", "r")
    assert reasons == ("no-rule",)


async def test_a_name_given_while_the_cloud_is_asked_is_kept_and_so_is_the_secret(
    stage: Stage,
) -> None:
    device = stage.announce("TH20-1")
    await stage.tape.wait_for(device, "registering")
    await stage.app.commands.rename(device, "Dock", "uid 0")
    await stage.tape.wait_for(device, "online")
    record = stage.records[device]
    assert (record.label, record.stored) == ("Dock", 1)


@pytest.mark.parametrize("step", ["intent-on-record", "secret-in-slot", "logged-in"])
async def test_what_is_written_of_a_child_at_the_same_time_is_all_kept(step: str) -> None:
    """Each writer of the record changes only its own facts."""
    renamed: list[asyncio.Task[None]] = []

    def checkpoint(reached: str) -> None:
        if reached == step:
            call = stage.app.commands.rename(device, "Dock", "uid 0")
            renamed.append(asyncio.create_task(call))

    stage = Stage(MemoryRecords(), FakeCloud(), checkpoint)
    async with stage.running():
        device = stage.announce("TH20-1")
        await stage.tape.wait_for(device, "online")
        await asyncio.gather(*renamed)
        record = stage.records[device]
        assert record.label == "Dock"
        assert record.stored == record.activating == 1
        assert record.activated_at


@pytest.mark.parametrize("step", ["intent-on-record", "secret-issued", "secret-in-slot"])
async def test_a_no_while_the_secret_is_stored_is_not_undone(step: str) -> None:
    rejected: list[asyncio.Task[None]] = []

    def checkpoint(reached: str) -> None:
        if reached == step:
            call = stage.app.commands.reject(device, "", "uid 0")
            rejected.append(asyncio.create_task(call))

    records, cloud = MemoryRecords(), FakeCloud()
    stage = Stage(records, cloud, checkpoint)
    async with stage.running():
        device = stage.announce("TH20-1")
        await stage.tape.wait_for(device, "rejected")
        await asyncio.sleep(100)
        assert records[device].verdict == "rejected"
    async with Stage(records, cloud).running() as again:
        again.announce("TH20-1")
        await asyncio.sleep(100)
        assert again.tape.shown[device].state == "rejected"


async def test_a_no_while_a_rule_says_yes_is_not_undone(stage: Stage) -> None:
    device = stage.announce("TH20-1")
    await asyncio.sleep(9.999)  # the rule is about to be asked
    await stage.app.commands.reject(device, "", "uid 0")
    await asyncio.sleep(100)
    assert stage.tape.shown[device].state == "rejected"
    assert stage.records[device].verdict == "rejected"


async def test_a_yes_holds_though_the_child_left_meanwhile(stage: Stage) -> None:
    device = stage.announce("stranger")
    await stage.tape.wait_for(device, "pending")
    approval = asyncio.create_task(stage.app.commands.approve(device, "", "uid 0"))
    await asyncio.sleep(0)
    stage.lose("stranger")
    await approval
    stage.announce("stranger")
    await stage.tape.wait_for(device, "online")


async def test_what_is_on_record_is_not_judged_again(stage: Stage) -> None:
    device = stage.announce("stranger")
    await stage.tape.wait_for(device, "pending")
    await stage.app.commands.approve(device, "", "uid 0")
    await stage.tape.wait_for(device, "online")
    stage.manager.evicted(device)
    stage.announce("stranger")
    await stage.tape.wait_for(device, "online")


async def test_a_no_is_not_undone_by_a_retry_at_the_same_time(stage: Stage) -> None:
    stage.cloud.script["TH20-1"] = ["refuse"]
    device = stage.announce("TH20-1")
    await stage.tape.wait_for(device, "failed")
    commands = stage.app.commands
    await asyncio.gather(
        commands.reject(device, "", "uid 0"), commands.retry(device, "uid 0"), stage.reload()
    )
    await asyncio.sleep(100)
    assert stage.tape.shown[device].state == "rejected"
    assert stage.cloud.calls == ["register TH20-1"]


async def test_a_forgotten_child_is_not_brought_back_by_a_retry_at_the_same_time(
    stage: Stage,
) -> None:
    stage.cloud.script["stranger"] = ["refuse"]
    device = stage.announce("stranger")
    await stage.tape.wait_for(device, "pending")
    await stage.app.commands.approve(device, "", "uid 0")
    await stage.tape.wait_for(device, "failed")
    forgetting = asyncio.create_task(stage.app.commands.forget(device, "uid 0"))
    for _ in range(200):
        await asyncio.sleep(0.0001)
        stage.manager.reconsider()
    await forgetting
    await stage.tape.wait_for(device, "pending")
    assert not stage.records.rows


@pytest.mark.parametrize("before", [-0.001, 0.001, 0.003, 0.006])
async def test_reregister_while_the_login_succeeds(stage: Stage, before: float) -> None:
    """It is obeyed or refused, and the queue gets no event that it cannot handle."""

    device = stage.announce("TH20-1")
    await stage.tape.wait_for(device, "online")
    await asyncio.sleep(3600)
    stage.cloud.drop("TH20-1")
    await stage.tape.wait_for(device, "offline")
    logged_in = 15 + 0.005 + 0.1  # the wait, the secret read, the login
    await asyncio.sleep(logged_in - before)
    with contextlib.suppress(WrongState):
        await stage.app.commands.reregister(device, device, "uid 0")
    await asyncio.sleep(100)
    assert stage.tape.shown[device].state == ("online" if before < 0 else "failed")


async def test_forgetting_that_fails_leaves_all_as_it_was(stage: Stage) -> None:
    device = stage.announce("TH20-1")
    await stage.tape.wait_for(device, "online")
    stage.records.failing = StoreFull("full")
    with pytest.raises(StoreFull):
        await stage.app.commands.forget(device, "uid 0")
    assert (await stage.tape.wait_for(device, "offline")).reason
    stage.records.failing = None
    await stage.tape.wait_for(device, "online")
    assert stage.cloud.calls.count("register TH20-1") == 1


async def test_a_retry_asks_for_a_new_secret_where_all_were_stale(stage: Stage) -> None:
    stage.cloud.script["TH20-1"] = ["issue-another"] * 4
    device = stage.announce("TH20-1")
    await stage.tape.wait_for(device, "failed", "secret-repeatedly-stale")
    await stage.app.commands.retry(device, "uid 0")
    await stage.tape.wait_for(device, "online")


# Files of a cloud have changed.


QUIET = RegistrationSettings().quiet_time


@pytest.mark.parametrize(
    ("scripted", "most"),
    [(["fail"], 1.0), (["refuse"], 1.0), (["issue-another"] * (MAX_STALE + 1), QUIET + 1.0)],
)
async def test_what_failed_is_tried_again_as_soon_as_it_may(
    stage: Stage, scripted: list[str], most: float
) -> None:
    """A request that was answered with no secret needs no quiet time."""
    stage.cloud.script["TH20-1"] = list(scripted)
    device = stage.announce("TH20-1")
    child = stage.app.manager.children
    await stage.tape.wait_for(device, "admitted" if scripted == ["fail"] else "failed")
    while not (child[device].until or child[device].state is State.FAILED):
        await asyncio.sleep(0.1)
    now = asyncio.get_running_loop().time
    began = now()
    await stage.app.reread({"another"})
    await stage.app.reread({"cloud"})
    await stage.tape.wait_for(device, "online")
    assert now() - began < most


async def test_a_full_store_keeps_no_child_from_being_tried_again(stage: Stage) -> None:
    """What reads the configuration again goes on after it, so it must not raise."""
    stage.cloud.script |= {"TH20-1": ["issue-another"] * (MAX_STALE + 1), "TH20-2": ["fail"]}
    stale = stage.announce("TH20-1")
    await stage.tape.wait_for(stale, "failed", "secret-repeatedly-stale")
    waiting = stage.announce("TH20-2")
    children = stage.app.manager.children
    while not (waiting in children and children[waiting].until):
        await asyncio.sleep(0.1)
    stage.records.failing = StoreFull("full")
    await stage.app.reread({"cloud"})
    assert children[waiting].until == 0
    stage.records.failing = None
    await stage.tape.wait_for(waiting, "online")


async def test_a_child_that_is_online_stays_so(stage: Stage) -> None:
    device = stage.announce("TH20-1")
    await stage.tape.wait_for(device, "online")
    await stage.app.reread({"cloud"})
    await asyncio.sleep(1)
    assert stage.cloud.calls.count("connect TH20-1") == 1


async def test_a_child_of_another_cloud_waits_on(stage: Stage) -> None:
    stage.cloud.script["TH20-1"] = ["refuse"]
    device = stage.announce("TH20-1")
    await stage.tape.wait_for(device, "failed")
    await stage.app.reread({"another"})
    await asyncio.sleep(1)
    assert stage.app.manager.children[device].state is State.FAILED


async def test_decisions_are_listed_the_newest_first(stage: Stage) -> None:
    log, commands = stage.records.decisions, stage.app.commands
    await log.append(DecisionKind.REJECTED, "child-1", "olga", "sshd from 192.0.2.7", "a guest")
    await log.append(DecisionKind.APPROVED, "child-2", "root")
    assert await commands.list_decisions({}, 0) == [
        (2, 2, "approved", "child-2", "root", "", ""),
        (1, 1, "rejected", "child-1", "olga", "sshd from 192.0.2.7", "a guest"),
    ]
    assert [row[0] for row in await commands.list_decisions({"device": "child-1"}, 5)] == [1]


@pytest.mark.parametrize("wanted", [
    {"child": "a"}, {"device": 7}, {"since": "now"}, {"before": -1}, {"since": 1 << 63},
    {"since": True},
])  # fmt: skip
async def test_a_filter_of_decisions_that_makes_no_sense(
    stage: Stage, wanted: dict[str, object]
) -> None:
    with pytest.raises(InvalidArgs, match="Filter"):
        await stage.app.commands.list_decisions(wanted, 0)


async def test_retry_is_now_or_says_why_not() -> None:
    cloud = FakeCloud(script={"TH20-1": ["fail", "lose"]})
    async with Stage(MemoryRecords(), cloud, retry_first=3600.0).running() as stage:
        device = stage.announce("TH20-1")
        await stage.tape.wait_for(device, "admitted", "cloud-unreachable")
        await stage.app.commands.retry(device, "olga")
        await stage.tape.wait_for(device, "admitted", "answer-lost")
        with pytest.raises(WrongState, match=r"wait for \d\d s more: an earlier request"):
            await stage.app.commands.retry(device, "olga")
        await asyncio.sleep(62)
        began = asyncio.get_running_loop().time()
        await stage.app.commands.retry(device, "olga")
        await stage.tape.wait_for(device, "online")
        assert asyncio.get_running_loop().time() - began < 30


async def test_a_rule_is_suggested_for_the_only_cloud(stage: Stage) -> None:
    device = stage.announce("stranger")
    await stage.tape.wait_for(device, "pending")
    with pytest.raises(InvalidArgs, match="Name one by --provider"):
        stage.app.commands.suggest_rule(device, "admit", {})
    with pytest.raises(InvalidArgs, match="Purpose"):
        stage.app.commands.suggest_rule(device, "welcome", {})
    with pytest.raises(WrongState, match=device):
        stage.app.commands.suggest_rule(device, "ignore-vendor", {})


@pytest.mark.parametrize(("options", "products", "expected"), [
    ({}, {"a": {"p"}}, CloudChoice("a", "p")),
    ({"product": "q", "route": "r"}, {"a": None}, CloudChoice("a", "q", "r")),
    ({"provider": "b"}, {"a": {"p"}, "b": {"q"}}, CloudChoice("b", "q")),
    ({}, {"a": {"p", "q"}}, "--product: p, q"),
    ({}, {"a": None}, "Name one by --product"),
    ({}, {"a": {"p"}, "b": {"q"}}, "--provider: a, b"),
    ({"provider": "c"}, {"a": {"p"}}, "--provider: a"),
    ({"product": "z"}, {"a": {"p"}}, "--product: p"),
    ({"provider": 7}, {"a": {"p"}}, "texts"),
    ({"cloud": "a"}, {"a": {"p"}}, "texts"),
])  # fmt: skip
def test_where_a_suggested_rule_registers(
    options: dict[str, object], products: Any, expected: CloudChoice | str
) -> None:
    if isinstance(expected, CloudChoice):
        assert chosen_cloud(options, products) == expected
        return
    with pytest.raises(InvalidArgs, match=expected):
        chosen_cloud(options, products)


async def test_what_forgetting_would_do_is_said_before(stage: Stage) -> None:
    device, stranger = stage.announce("TH20-1"), stage.announce("stranger")
    await stage.tape.wait_for(device, "online")
    await stage.tape.wait_for(stranger, "pending")
    secret, again = stage.app.commands.consequences(device, "Forget")
    assert "cloud cloud" in secret
    assert "reset" in secret
    assert "rule r admits it again" in again
    assert stage.app.commands.consequences(stranger, "Forget") == ()
    assert stage.app.commands.consequences(device, "Reject") == ()
    with pytest.raises(InvalidArgs):
        stage.app.commands.consequences(device, "Approve")


async def test_rejecting_the_gateway_is_said_to_be_more_than_that() -> None:
    cloud = FakeCloud()
    cloud.gateway_name = CloudName("cloud", "gateways", "gw-1")
    async with Stage(MemoryRecords(), cloud).running() as stage:
        await stage.app.admit_gateway()
        device = stage.announce("TH20-1")
        await stage.tape.wait_for(device, "online")
        (sentence,) = stage.app.commands.consequences("gateway-cloud", "Reject")
    assert "gateway's own name at cloud cloud" in sentence
    assert "its 1 children" in sentence


async def test_hits_are_children_on_record_and_other_decisions() -> None:
    records, cloud, rules = MemoryRecords(), FakeCloud(), OneRule()
    for known in (1, 2):
        async with Stage(records, cloud, rules=rules).running() as stage:
            for number in range(known, 3):
                await stage.tape.wait_for(stage.announce(f"TH20-{number}"), "online")
            assert stage.app.commands.list_rules() == (("r", "register", "cloud", 2),)


class OneRule(NameRules):
    """The rule of a stage, listed."""

    def listed(self) -> tuple[tuple[str, str, str, int], ...]:
        return (("r", "register", "cloud", 0),)
