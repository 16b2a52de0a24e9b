"""Delivery: what is delayed goes back to its place, and children take turns."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from gatewayd.cloud.provider import (
    MessageAccepted,
    MessageDelayed,
    MessageRefused,
    Publication,
)
from gatewayd.device.identity import DeviceId
from gatewayd.device.message import Acceptance, AfterOutage, Message
from gatewayd.device.reason import Reason
from gatewayd.messages import backlog, delivery
from gatewayd.messages.intake import IncomingMessage
from gatewayd.messages.settings import ChildMessageSettings, CloudBudget, MessageSettings
from gatewayd.testing.waiting import until
from tests.support.relays import (
    ALICE,
    BOB,
    FakeCloud,
    FakeMessageSession,
    SharingSession,
    running_relay,
)

LATER, NO = MessageDelayed(Reason("later")), MessageRefused(Reason("no"))


def numbered(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(start, start + count)]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "RETRY_FIRST", 0.01)


async def test_at_most_a_window_is_under_way_and_in_order(tmp_path: Path) -> None:
    settings = MessageSettings(commit_delay=0, child=ChildMessageSettings(window=3))
    async with running_relay(tmp_path, settings) as running:
        running.cloud.open.clear()
        running.connect()
        for payload in numbered(10):
            running.say(payload)
        await running.all_settled()
        await until(lambda: running.cloud.under_way == 3)
        assert running.cloud.payloads(ALICE) == numbered(3)
        running.cloud.open.set()
        await running.accepted(10)
        assert running.cloud.accepted[ALICE] == numbered(10)
        assert running.cloud.most_under_way == 3


async def test_what_is_delayed_is_sent_again_before_later_ones(tmp_path: Path) -> None:
    cloud = FakeCloud()
    cloud.answers[b"2"] += [LATER, LATER]
    settings = MessageSettings(commit_delay=0, child=ChildMessageSettings(window=4))
    async with running_relay(tmp_path, settings, cloud) as running:
        for payload in numbered(8):
            running.say(payload)
        await running.all_settled()
        running.connect()
        await running.accepted(8)
        await running.empty()
        repeats = Counter(one.payload for one in cloud.received[ALICE])
        assert [p for p, n in repeats.items() if n > 1] == [b"2"], "the cloud has the others"
        assert repeats[b"2"] == 3
        held = [one.payload for one in cloud.received[ALICE]]
        first = held.index(b"2")
        again = held.index(b"2", first + 1)
        assert len(held[first:again]) <= 4, "no more was sent than was in flight"


async def test_a_channel_is_held_until_nothing_is_under_way(tmp_path: Path) -> None:
    """The first is delayed while the second waits for its answer: no third one leaves."""
    cloud = FakeCloud()
    answers: dict[bytes, asyncio.Future[Publication]] = {}

    class ByHand(FakeMessageSession):
        async def publish(self, message: Message) -> Publication:
            cloud.received[ALICE].append(message)
            answers[message.payload] = asyncio.get_running_loop().create_future()
            return await answers[message.payload]

    settings = MessageSettings(commit_delay=0, child=ChildMessageSettings(window=2))
    async with running_relay(tmp_path, settings, cloud) as running:
        running.connect(kind=ByHand)
        for payload in numbered(4):
            running.say(payload)
        await until(lambda: len(answers) == 2)
        answers.pop(b"0").set_result(LATER)
        await asyncio.sleep(0.05)
        assert not answers.keys() - {b"1"}, "none is sent while one is under way"
        answers.pop(b"1").set_result(LATER)
        await until(lambda: len(answers) == 2)
        assert list(answers) == [b"0", b"1"]
        for payload in numbered(4):
            await until(lambda payload=payload: payload in answers)  # type: ignore[misc]  # bound here
            answers[payload].set_result(MessageAccepted())
        await running.empty()


async def test_a_new_session_waits_for_what_is_under_way_on_the_old_one(tmp_path: Path) -> None:
    settings = MessageSettings(commit_delay=0, child=ChildMessageSettings(window=2))
    async with running_relay(tmp_path, settings) as running:
        old, new = running.cloud, FakeCloud()
        old.open.clear()
        first = running.connect()
        for payload in numbered(5):
            running.say(payload)
        await until(lambda: old.under_way == 2)
        running.cloud = new
        running.connect()
        await asyncio.sleep(0.05)
        assert not new.received[ALICE], "nothing overtakes what is under way"
        first.ended.set()
        await running.accepted(5)
        assert new.accepted[ALICE] == numbered(5)
        assert not any(one.late for one in new.received[ALICE]), "there was no outage"


async def test_a_session_that_does_not_end_what_is_under_way_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "GIVE_UP", 0.05)
    async with running_relay(tmp_path) as running:
        old, new = running.cloud, FakeCloud()
        old.open.clear()
        running.connect()
        running.say("0")
        await until(lambda: old.under_way == 1)
        running.cloud = new
        running.connect()
        await running.accepted(1)
        assert not old.under_way


async def test_what_waited_is_late_and_live_ones_leave_first(tmp_path: Path) -> None:
    settings = MessageSettings(commit_delay=0, child=ChildMessageSettings(window=1))
    async with running_relay(tmp_path, settings) as running:
        for payload in numbered(5):
            running.say(payload)
        await running.all_settled()
        running.cloud.open.clear()
        running.connect()
        await until(lambda: running.cloud.under_way == 1)
        for payload in numbered(3, 10):
            running.say(payload)
        await running.all_settled()
        running.cloud.open.set()
        await running.accepted(8)
        assert running.cloud.accepted[ALICE] == [b"0", *numbered(3, 10), *numbered(4, 1)]
        late = {one.payload: one.late for one in running.cloud.received[ALICE]}
        assert [p for p in late if late[p]] == numbered(5)


async def test_in_order_all_leaves_as_it_came(tmp_path: Path) -> None:
    child = ChildMessageSettings(window=1, after_outage=AfterOutage.IN_ORDER)
    async with running_relay(tmp_path, MessageSettings(commit_delay=0, child=child)) as running:
        for payload in numbered(5):
            running.say(payload)
        await running.all_settled()
        running.connect()
        for payload in numbered(5, 5):
            running.say(payload)
        await running.accepted(10)
        assert running.cloud.accepted[ALICE] == numbered(10)


async def test_a_refused_message_is_dropped_and_its_reason_is_shown(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as running:
        running.cloud.answers[b"1"].append(NO)
        running.connect()
        for payload in numbered(3):
            running.say(payload)
        await running.accepted(2)
        await running.empty()
        shown = running.relay.statistics()
        assert shown.total.dropped == {"refused": 1}
        assert shown.refusals[ALICE].code == "no"
        assert shown.children[ALICE].sent == 2


async def test_a_fault_of_a_provider_costs_one_message_and_stops_no_other(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as running:
        running.cloud.answers[b"0"] += [RuntimeError("a fault")] * 9
        running.connect()
        running.connect(BOB)
        running.say("0")
        running.say("1")
        running.say("2", BOB)
        await running.accepted(1)
        await running.accepted(1, BOB)
        await running.empty()
        assert running.dropped == {"refused": 1}


async def test_several_messages_that_meet_a_fault_are_given_up_each(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    faulty = numbered(3, start=1)
    async with running_relay(tmp_path) as running:
        for payload in faulty:
            running.cloud.answers[payload] += [RuntimeError("a fault")] * 99
        running.connect()
        for payload in numbered(5):
            running.say(payload)
        await running.all_settled()
        await running.empty()
        assert running.dropped == {"refused": 3}
        repeats = Counter(one.payload for one in running.cloud.received[ALICE])
        assert [repeats[payload] for payload in faulty] == [delivery.MAX_FAULTS] * 3
    logged = [one for one in caplog.records if one.levelname == "ERROR"]
    assert len(logged) == 1, "they are all the same"


async def test_a_session_that_ends_as_a_message_is_handed_to_it_loses_none(tmp_path: Path) -> None:
    """The message becomes durable, is handed over, and the session ends, in one turn."""
    async with running_relay(tmp_path) as running:
        running.connect()
        message = IncomingMessage("site", ALICE, "properties", b"0")
        running.relay.offer(message, lambda _: running.disconnect())
        await until(lambda: not running.relay.delivery.serves(ALICE))
        running.connect()
        await running.accepted(1)
        await running.empty()


async def test_a_session_without_messages_lets_them_wait(tmp_path: Path) -> None:
    class Plain:
        async def wait_closed(self) -> None: ...
        async def close(self) -> None: ...

    async with running_relay(tmp_path) as running:
        running.relay.delivery.session_opened(ALICE, Plain())  # type: ignore[arg-type]  # no messages
        running.say("0")
        await running.all_settled()
        assert running.relay.statistics().total.waiting == 1
        running.relay.delivery.session_closed(ALICE)
        running.connect()
        await running.accepted(1)


async def test_what_the_cloud_cannot_take_is_dropped(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as running:
        running.cloud.max_payload = 100
        running.say(bytes(101))
        running.say(bytes(100))
        await running.all_settled()
        running.connect()
        await running.accepted(1)
        await running.empty()
        running.say(bytes(102))  # now that the bound is known, it is not even stored
        await running.all_settled()
        assert running.dropped == {"too-large": 2}
        assert running.settled[-1] == (bytes(102), "too-large")


async def test_children_take_turns_on_a_connection_that_they_share(tmp_path: Path) -> None:
    async with running_relay(tmp_path) as running:
        children = [DeviceId(f"child-{number:012x}") for number in range(100)]
        running.cloud.admitted = {ALICE, *children}
        for number in range(500):
            running.say(f"old {number}")
        await running.all_settled()
        running.cloud.open.clear()
        running.connect(kind=SharingSession)
        for child in children:
            running.connect(child, SharingSession)
            for number in range(3):
                running.say(f"new {number}", child)
        await running.all_settled()
        await until(lambda: running.cloud.under_way == delivery.SHARED_WINDOW)
        running.cloud.open.set()
        for child in children:
            await running.accepted(3, child)
        await running.accepted(500)
        assert running.cloud.most_under_way == delivery.SHARED_WINDOW
        of_others = [n for n, (child, _) in enumerate(running.cloud.order) if child != ALICE]
        assert max(of_others) < 500, "the others wait for their turn, not for all of one's"


async def test_what_a_cloud_may_cost_a_day_is_kept_and_goes_on_the_next_day(
    tmp_path: Path,
) -> None:
    now = [20_000 * 86_400 * 1_000_000]
    settings = MessageSettings(
        commit_delay=0, clouds={"cloud": CloudBudget(messages_per_day=3), "free": CloudBudget()}
    )
    cloud = FakeCloud()
    cloud.names[BOB] = "free"
    async with running_relay(tmp_path, settings, cloud, wall=lambda: now[0]) as running:
        running.connect()
        running.connect(BOB)
        for payload in numbered(5):
            running.say(payload)
            running.say(payload, BOB)
        await running.accepted(3)
        await running.accepted(5, BOB)
        await running.all_settled()
        assert running.relay.statistics().children[ALICE].waiting == 2
    # a restart does not spend more
    async with running_relay(tmp_path, settings, cloud, wall=lambda: now[0]) as running:
        running.connect()
        running.say("5")
        await running.all_settled()
        assert len(cloud.accepted[ALICE]) == 3
        now[0] += 86_400 * 1_000_000
        running.relay.delivery.wake_all()
        await running.accepted(6)
        assert sorted(cloud.accepted[ALICE]) == numbered(6)


async def test_only_what_has_left_counts_against_what_a_cloud_may_cost(tmp_path: Path) -> None:
    """Two attempts stay in the gateway, and one leaves in vain: then three more may be sent."""
    cloud = FakeCloud()
    cloud.answers[b"0"] += [replace(LATER, left=False)] * 2 + [LATER]
    settings = MessageSettings(
        commit_delay=0,
        clouds={"cloud": CloudBudget(messages_per_day=4)},
        child=ChildMessageSettings(window=1),
    )
    async with running_relay(tmp_path, settings, cloud) as running:
        running.connect()
        for payload in numbered(5):
            running.say(payload)
        await running.accepted(3)
        await until(lambda: running.relay.statistics().total.waiting == 2)
        await asyncio.sleep(0.05)
        assert cloud.accepted[ALICE] == numbered(3)
    # a restart knows what was given back
    async with running_relay(tmp_path, settings, cloud) as running:
        running.connect()
        await asyncio.sleep(0.05)
        assert cloud.accepted[ALICE] == numbered(3)


async def test_what_is_given_back_is_for_those_that_wait_for_the_next_day(tmp_path: Path) -> None:
    """Both of the day are under way when the third has to wait; they come back, and leave again."""
    cloud = FakeCloud()
    cloud.answers[b"0"] += [replace(LATER, left=False)]
    cloud.answers[b"1"] += [replace(LATER, left=False)]
    cloud.open.clear()
    settings = MessageSettings(commit_delay=0, clouds={"cloud": CloudBudget(messages_per_day=2)})
    async with running_relay(tmp_path, settings, cloud) as running:
        running.connect()
        for payload in numbered(3):
            running.say(payload)
        await running.all_settled()
        await until(lambda: cloud.under_way == 2)
        cloud.open.set()
        await running.accepted(2)
        assert cloud.accepted[ALICE] == numbered(2)


async def test_only_the_reply_of_the_cloud_counts_where_that_is_set(tmp_path: Path) -> None:
    child = ChildMessageSettings(accepted=Acceptance.REPLY)
    async with running_relay(tmp_path, MessageSettings(commit_delay=0, child=child)) as running:
        running.connect()
        running.say("0")
        await running.accepted(1)
        assert running.cloud.received[ALICE][0].confirmed


@pytest.mark.parametrize("stuck", ["held", "spent"])
async def test_children_that_cannot_send_keep_the_memory_from_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stuck: str
) -> None:
    for module in (backlog, delivery):
        monkeypatch.setattr(module, "IN_MEMORY", 50_000)
        monkeypatch.setattr(module, "AT_MOST", 100_000)
    children = [DeviceId(f"child-{number:012x}") for number in range(10)]
    clouds = {"slow": CloudBudget(messages_per_day=1)} if stuck == "spent" else {}
    settings = MessageSettings(commit_delay=0, clouds=clouds)
    slow, quick = FakeCloud(), FakeCloud()
    slow.admitted = {*children, ALICE}
    slow.names = dict.fromkeys(children, "slow") | {ALICE: "quick"}
    if stuck == "held":
        slow.open.clear()
    async with running_relay(tmp_path, settings, slow) as running:
        for child in (*children, ALICE):
            for number in range(8):
                running.say(b"%d" % number + bytes(5000), child)
        await running.all_settled()
        for child in children:
            running.connect(child)
        await until(lambda: slow.received)
        running.cloud = quick
        running.connect()
        most = 0
        while len(quick.accepted[ALICE]) < 8:
            most = max(most, running.relay.statistics().in_memory)
            await asyncio.sleep(0.001)
        assert most <= 110_000
        if stuck == "held":
            slow.open.set()
            for child in children:
                await until(lambda child=child: len(slow.accepted[child]) == 8)  # type: ignore[misc]  # bound here
            await running.empty()


async def test_memory_that_a_session_frees_at_its_end_is_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (backlog, delivery):
        monkeypatch.setattr(module, "IN_MEMORY", 10_000)
        monkeypatch.setattr(module, "AT_MOST", 10_000)
    async with running_relay(tmp_path) as running:
        running.say(bytes(12_000))
        running.say(bytes(12_000), BOB)
        await running.all_settled()
        running.cloud.open.clear()
        running.connect()
        await until(lambda: running.cloud.under_way)
        running.connect(BOB)
        await asyncio.sleep(0.05)
        assert not running.cloud.received[BOB], "there is no room for it"
        running.disconnect()
        running.cloud.open.set()
        await running.accepted(1, BOB)
