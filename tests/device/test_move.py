"""A move to another cloud: its steps, then the laws that hold whatever happens between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gatewayd.device.identity import DeviceId
from gatewayd.device.move import NO_MOVES, Generation, Move, Moves, MoveStep
from gatewayd.device.reason import Reason
from gatewayd.device.record import Admission, CloudName, Record, Verdict
from gatewayd.device.secret import SecretRef
from gatewayd.storage.reconcile import FindingKind, decide

HERE, THERE = CloudName("here", "p", "TH20-1"), CloudName("there", "q", "TH20-1", "direct")
WHY = Reason("cloud-refused", "It refused.", "Ask it.", "waiting")


def a_child() -> Record:
    return Record(
        device=DeviceId("child-1"), claims=frozenset(), label="", verdict=Verdict.ADMITTED,
        admission=Admission.RULE, rule="r", reason="admitted-by-rule", cloud=HERE, verdict_at=1,
        first_seen=1, attempt=2, attempted_at=3, stored=2, registered_at=4, activating=2,
        activated_at=5,
    )  # fmt: skip


def registered_there(record: Record, now: int) -> Record:
    target = record.at_target()
    assert target is not None
    return record.with_target(target.with_intent(now).with_secret(target.attempt + 1, now))


def step_of(record: Record) -> MoveStep | None:
    move = record.moves.under_way
    return None if move is None else move.step


def test_a_child_moves_and_what_it_had_is_kept() -> None:
    child = a_child()
    asked = child.with_move(THERE, 10)
    assert (step_of(asked), asked.cloud, asked.stored) == (MoveStep.REGISTERING, HERE, 2)
    ready = registered_there(asked, 11)
    assert (step_of(ready), ready.cloud, ready.stored) == (MoveStep.LOGGING_IN, HERE, 2)
    moved = ready.switched(12)
    assert (step_of(moved), moved.cloud, moved.stored, moved.attempt) == (None, THERE, 1, 1)
    assert (moved.activated_at, moved.moves.moved_at) == (12, 12)
    assert moved.cloud is not None
    assert moved.cloud.route == "direct"
    assert moved.moves.dormant == (child.generation(left_at=12),)
    assert moved.reason == child.reason, "why it was admitted is as it was"


def test_moving_back_uses_what_is_dormant() -> None:
    moved = registered_there(a_child().with_move(THERE, 10), 11).switched(12)
    back = moved.with_move(CloudName("here", "another", "name"), 20)
    assert step_of(back) is MoveStep.LOGGING_IN, "nothing is to be registered"
    assert back.moves.dormant == ()
    home = back.switched(21)
    assert home.cloud == HERE
    assert replace(home, moves=NO_MOVES) == a_child()
    assert [one.provider for one in home.moves.dormant] == ["there"]


def test_a_refused_move_leaves_the_child_where_it_is_and_can_be_tried_again() -> None:
    asked = a_child().with_move(THERE, 10)
    refused = asked.with_move_refused(WHY)
    assert (step_of(refused), refused.is_moving, refused.at_target()) == ("refused", False, None)
    assert replace(refused, moves=NO_MOVES) == a_child()
    assert refused.with_move_resumed() == asked
    assert a_child().with_move_resumed() == a_child()


def test_a_move_that_is_called_off_leaves_nothing_unless_the_other_cloud_may_know_it() -> None:
    asked = a_child().with_move(THERE, 10)
    assert asked.without_move() == a_child()
    ready = registered_there(asked, 11).without_move()
    assert [(one.provider, one.stored) for one in ready.moves.dormant] == [("there", 1)]
    target = asked.at_target()
    assert target is not None
    on_its_way = asked.with_target(target.with_intent(11)).without_move()
    assert [one.provider for one in on_its_way.moves.dormant] == ["there"]
    assert a_child().without_move() == a_child()


def test_another_target_takes_the_place_of_the_one_before() -> None:
    ready = registered_there(a_child().with_move(THERE, 10), 11)
    other = ready.with_move(CloudName("third", "r", "x"), 12)
    assert other.moves.under_way == Move(Generation("third", "r", "x", ""), 12)
    assert [one.provider for one in other.moves.dormant] == ["there"]
    assert [name.provider for name in other.names] == ["here", "there", "third"]


@pytest.mark.parametrize(
    "record",
    [
        a_child(),
        a_child().with_move(THERE, 10),
        a_child().with_move(THERE, 10).with_move_refused(WHY),
        registered_there(a_child().with_move(THERE, 10), 11).switched(12),
    ],
)
def test_moves_are_read_as_they_were_written(record: Record) -> None:
    assert Moves.parse(record.moves.text()) == record.moves


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        "no JSON",
        '{"asked_at":0,"dormant":[["a","b","c",7]],"moved_at":0,"refused":[],"to":null}',
        '{"asked_at":0,"dormant":[["a","b","c","d","x"]],"moved_at":0,"refused":[],"to":null}',
    ],
)
def test_what_is_damaged_is_not_believed(text: str) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Moves.parse(text)


def test_a_secret_that_was_stored_at_the_other_cloud_is_found_after_a_crash() -> None:
    asked = a_child().with_move(THERE, 10)
    target = asked.at_target()
    assert target is not None
    asked = asked.with_target(target.with_intent(11))
    there = SecretRef("there", asked.device, 1)
    (found,) = decide([asked], [asked.slot(2), there], 12)
    assert (found.kind, found.ref) == (FindingKind.COMPLETED, None)
    assert found.record is not None
    assert step_of(found.record) is MoveStep.LOGGING_IN
    assert (found.record.cloud, found.record.stored) == (HERE, 2)
    assert decide([found.record], [asked.slot(2), there], 12) == []


def test_a_dormant_secret_that_is_gone_costs_the_one_in_use_nothing() -> None:
    moved = registered_there(a_child().with_move(THERE, 10), 11).switched(12)
    (found,) = decide([moved], [moved.slot(1)], 13)
    assert (found.kind, found.record) == (FindingKind.LOST_ELSEWHERE, None)
    assert "here" in found.text


class MoveMachine(RuleBasedStateMachine):
    """A child, two clouds that issue a secret until they have seen a first login, and crashes.

    issued: the newest secret of each cloud.  active: the one of its first login.
    sessions: where the child is logged in.  publishing: over which of them it speaks.
    """

    def __init__(self) -> None:
        super().__init__()
        self.record, self.vault = a_child(), {SecretRef("here", DeviceId("child-1"), 2): 1}
        self.issued: dict[str, int] = {"here": 1}
        self.active: dict[str, int] = {"here": 1}
        self.requests: dict[str, int] = {"here": 1, "there": 0}
        self.sessions, self.publishing = {"here"}, "here"
        self.in_hand: tuple[SecretRef, int] | None = None

    @property
    def at(self) -> str:
        assert self.record.cloud is not None
        return self.record.cloud.provider

    @property
    def names(self) -> Mapping[str, CloudName]:
        return {"here": HERE, "there": THERE}

    @precondition(lambda self: self.record.moves.under_way is None)
    @rule()
    def an_operator_moves_it(self) -> None:
        other = "there" if self.at == "here" else "here"
        self.record = self.record.with_move(self.names[other], 10)

    @precondition(lambda self: self.record.moves.under_way is not None)
    @rule()
    def an_operator_calls_it_off(self) -> None:
        self.record = self.record.without_move()

    @rule()
    def an_operator_retries(self) -> None:
        self.record = self.record.with_move_resumed()

    @precondition(lambda self: step_of(self.record) == "registering")
    @rule(answers=st.booleans())
    def it_is_registered(self, answers: bool) -> None:
        """Intent, request; a lost answer means a secret that is never seen."""
        target = self.record.at_target()
        assert target is not None
        assert target.cloud is not None
        provider = target.cloud.provider
        target = target.with_intent(11)
        self.record = self.record.with_target(target)
        assert provider not in self.active, "an activated child is registered again"
        self.requests[provider] += 1
        self.issued[provider] = self.issued.get(provider, 0) + 1
        if answers:
            self.in_hand = target.slot(target.attempt), self.issued[provider]

    @precondition(lambda self: self.in_hand)
    @rule()
    def the_secret_is_put(self) -> None:
        """Also where the move was called off meanwhile."""
        assert self.in_hand is not None
        ref, secret = self.in_hand
        assert ref not in self.vault, "a slot is overwritten"
        self.vault[ref], self.in_hand = secret, None
        target = self.record.at_target()
        if target is not None and target.slot(target.attempt) == ref:
            self.record = self.record.with_target(target.with_secret(ref.attempt, 12))

    @precondition(lambda self: step_of(self.record) == "logging-in")
    @rule()
    def it_logs_in_there(self) -> None:
        target = self.record.at_target()
        assert target is not None
        assert target.cloud is not None
        provider, secret = target.cloud.provider, self.vault[target.slot(target.stored)]
        if secret != self.active.get(provider, self.issued[provider]):
            self.record = self.record.with_target(target.without_stale_secret())
            return
        self.active[provider] = secret
        self.sessions.add(provider)

    @precondition(lambda self: step_of(self.record) == "logging-in" and len(self.sessions) == 2)
    @rule()
    def it_is_switched(self) -> None:
        self.record = self.record.switched(13)
        self.publishing = self.at

    @precondition(lambda self: len(self.sessions) == 2 and self.record.moves.under_way is None)
    @rule()
    def it_is_logged_out_there(self) -> None:
        self.sessions = {self.at}

    @precondition(lambda self: step_of(self.record) in ("registering", "logging-in"))
    @rule()
    def the_other_cloud_refuses(self) -> None:
        self.record = self.record.with_move_refused(WHY)

    @rule()
    def crash(self) -> None:
        self.in_hand, self.sessions = None, set()
        for found in decide([self.record], list(self.vault), 14):
            assert found.kind in (FindingKind.COMPLETED, FindingKind.OUTDATED), found
            self.record = found.record or self.record
            if found.ref is not None:
                del self.vault[found.ref]
        assert decide([self.record], list(self.vault), 14) == []
        self.sessions, self.publishing = {self.at}, self.at

    @invariant()
    def the_child_is_online_where_it_belongs(self) -> None:
        assert self.at in self.sessions
        assert self.publishing == self.at
        assert self.vault[self.record.slot(self.record.stored)] == self.active[self.at]

    @invariant()
    def no_secret_by_which_a_cloud_knows_it_is_lost(self) -> None:
        for provider, secret in self.active.items():
            assert secret in [kept for ref, kept in self.vault.items() if ref.provider == provider]
            assert any(one.provider == provider for one in self.record.generations)

    @invariant()
    def there_is_one_generation_at_each_cloud(self) -> None:
        providers = [one.provider for one in self.record.generations]
        assert len(providers) == len(set(providers))

    @invariant()
    def what_is_on_the_disk_says_all(self) -> None:
        assert Moves.parse(self.record.moves.text()) == self.record.moves


TestMoves = MoveMachine.TestCase
TestMoves.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
