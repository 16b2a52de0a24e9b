"""The story of a child, then the laws that hold in every story."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gatewayd.device import lifecycle as lc
from gatewayd.device.identity import DeviceId
from gatewayd.device.lifecycle import TRANSITIONS, WORK, Event, State, Work, advance
from gatewayd.device.proof import Pin
from gatewayd.device.reason import NONE, Reason
from gatewayd.device.record import Admission, CloudName, Record, Verdict
from gatewayd.device.recovery import SECRET_LOST, on_refused_login, restore

S = State
PINNED = Pin("axis", "sha256:aa")
ELSEWHERE = Reason("share-of-another")
FROZEN = replace(PINNED, refused="sha256:bb")


def a_record(**facts: Any) -> Record:
    base = Record(
        device=DeviceId("child-1"), claims=frozenset(), label="", verdict=Verdict.ADMITTED,
        admission=Admission.RULE, rule="r", reason="", cloud=CloudName("c", "p", "d"),
        verdict_at=1, first_seen=1,
    )  # fmt: skip
    return replace(base, **facts)


def test_a_child_comes_online() -> None:
    story = [
        (lc.Seen(), S.DISCOVERED, Work.EVALUATE),
        (lc.Admitted(), S.ADMITTED, Work.REGISTER),
        (lc.RegistrationStarted(), S.REGISTERING, Work.REGISTER),
        (lc.SecretIssued(), S.SECURING, Work.REGISTER),
        (lc.SecretStored(), S.ACTIVATING, Work.CONNECT),
        (lc.SessionOpened(), S.ONLINE, Work.CONNECT),
    ]
    state = S.FORGOTTEN
    for event, expected, work in story:
        state = advance(state, event, present=True)
        assert (state, WORK.get(state)) == (expected, work)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", lc.SPONTANEOUS)
@pytest.mark.parametrize("present", [True, False])
def test_spontaneous_events_are_legal_everywhere(
    state: State, event: type[Event], present: bool
) -> None:
    advance(state, event(), present=present)


@pytest.mark.parametrize("state", [one for one in State if one is not S.FORGOTTEN])
@pytest.mark.parametrize("event", [lc.Rejected, lc.Forgotten, lc.Retired])
def test_a_verdict_is_obeyed_in_every_state(state: State, event: type[Event]) -> None:
    assert advance(state, event(), present=True) is TRANSITIONS[state][event]


@pytest.mark.parametrize("state", State)
def test_a_child_of_another_gateway_has_no_work_here(state: State) -> None:
    """What an operator or the cloud has ended stays ended, wherever the child belongs."""
    after = advance(state, lc.OwnedElsewhere(), present=True)
    kept = state in (S.FORGOTTEN, S.REJECTED, S.RETIRED)
    assert after is (state if kept else S.ELSEWHERE)
    assert after not in WORK


def test_every_state_can_be_reached_and_left() -> None:
    targets = {t for row in TRANSITIONS.values() for t in row.values()}
    assert targets == set(State)
    assert all(any(t is not s for t in row.values()) for s, row in TRANSITIONS.items())


def test_every_event_is_accepted_somewhere() -> None:
    assert {event for row in TRANSITIONS.values() for event in row} == set(lc.EVENTS)


def test_an_event_that_a_state_does_not_accept_is_a_bug() -> None:
    with pytest.raises(lc.IllegalTransition, match="SecretStored in state pending"):
        advance(S.PENDING, lc.SecretStored(), present=True)


@pytest.mark.parametrize("state", [S.REGISTERED, S.ACTIVATING, S.ONLINE, S.OFFLINE])
def test_a_child_that_left_is_absent(state: State) -> None:
    assert advance(state, lc.Lost(), present=False) is S.ABSENT


@pytest.mark.parametrize("state", [S.DISCOVERED, S.ELSEWHERE])
def test_a_child_that_left_is_forgotten_unless_it_is_on_record(state: State) -> None:
    assert advance(state, lc.Lost(), present=False) is S.FORGOTTEN
    assert advance(state, lc.Lost(), present=False, on_record=True) is state


def test_a_child_that_left_while_it_was_judged_to_be_elsewhere_stays_if_it_is_on_record() -> None:
    event = lc.OwnedElsewhere()
    assert advance(S.DISCOVERED, event, present=False) is S.FORGOTTEN
    assert advance(S.DISCOVERED, event, present=False, on_record=True) is S.ELSEWHERE


def test_a_secret_stored_after_the_child_left_waits_for_its_return() -> None:
    assert advance(S.SECURING, lc.SecretStored(), present=False) is S.ABSENT


def test_absent_is_shown_as_offline() -> None:
    assert S.ABSENT.shown == "offline"
    assert lc.substate(S.ABSENT, NONE) == "absent"
    assert lc.substate(S.FAILED, SECRET_LOST) == "needs-reset"


@pytest.mark.parametrize(
    ("facts", "has_secret", "expected"),
    [
        ({}, False, S.ADMITTED),
        ({"attempt": 1}, False, S.ADMITTED),
        ({"attempt": 1, "stored": 1}, True, S.ABSENT),
        ({"attempt": 1, "stored": 1}, False, S.ADMITTED),
        ({"attempt": 1, "stored": 1, "activating": 1, "activated_at": 9}, True, S.ABSENT),
        ({"attempt": 1, "stored": 1, "activating": 1, "activated_at": 9}, False, S.FAILED),
        ({"verdict": Verdict.REJECTED}, True, S.REJECTED),
        ({"verdict": Verdict.RETIRED}, True, S.RETIRED),
        ({"attempt": 1, "stored": 1, "pin": PINNED}, True, S.ABSENT),
        ({"attempt": 1, "stored": 1, "pin": FROZEN}, True, S.FROZEN),
        ({"pin": FROZEN}, False, S.FROZEN),
        ({"pin": FROZEN, "verdict": Verdict.REJECTED}, True, S.REJECTED),
        ({"attempt": 1, "stored": 1, "elsewhere": ELSEWHERE}, True, S.ELSEWHERE),
        ({"elsewhere": ELSEWHERE}, False, S.ELSEWHERE),
        ({"elsewhere": ELSEWHERE, "pin": FROZEN}, True, S.ELSEWHERE),
        ({"elsewhere": ELSEWHERE, "verdict": Verdict.REJECTED}, True, S.REJECTED),
    ],
)
def test_restore(facts: dict[str, Any], has_secret: bool, expected: State) -> None:
    assert restore(a_record(**facts), has_secret=has_secret)[0] is expected


@pytest.mark.parametrize(
    ("facts", "has_secret", "expected"),
    [
        ({"attempt": 1, "stored": 1, "activating": 1}, True, S.ABSENT),
        ({"attempt": 1, "stored": 1, "activating": 1, "activated_at": 9}, True, S.HANDED_OVER),
        ({"attempt": 1, "stored": 1, "activating": 1, "activated_at": 9}, False, S.FAILED),
        ({"verdict": Verdict.REJECTED, "stored": 1, "activated_at": 9}, True, S.REJECTED),
        ({"stored": 1, "activated_at": 9, "pin": FROZEN}, True, S.FROZEN),
    ],
)
def test_a_child_with_a_holder_is_restored_as_such_once_it_was_activated(
    facts: dict[str, Any], has_secret: bool, expected: State
) -> None:
    assert restore(a_record(**facts), has_secret=has_secret, held=True)[0] is expected


def test_a_login_refused_before_the_first_success_means_a_stale_secret() -> None:
    why = Reason("cloud-auth-failed")
    assert isinstance(on_refused_login(a_record(), why), lc.SecretStale)
    assert isinstance(on_refused_login(a_record(stale=3), why), lc.RegistrationRefused)
    assert isinstance(on_refused_login(a_record(activated_at=1), why), lc.SessionDelayed)


class LifecycleMachine(RuleBasedStateMachine):
    """A child with its record, its secrets and its cloud, and crashes at any moment.

    The cloud knows its newest secret, and the one it was first logged into with.  Work is a
    queue of small steps, as registration/ and sessions/ take them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.state, self.present = S.FORGOTTEN, False
        self.record: Record | None = None
        self.vault: dict[int, int] = {}
        self.newest = self.activated_with = self.serial = 0
        self.in_hand = self.unused = 0
        self.requested: set[int] = set()
        self.session = self.for_holder = False
        self.step = ""

    def take(self, event: Event) -> None:
        before = WORK.get(self.state)
        if isinstance(event, lc.Seen):
            self.present = True
        if isinstance(event, lc.Lost):
            self.present = False
        on_record = not self.present and self.record is not None
        self.state = advance(self.state, event, present=self.present, on_record=on_record)
        after = WORK.get(self.state)
        if after is not before:
            self.step, self.in_hand, self.session = (after or ""), 0, False
        if self.state is S.FORGOTTEN:
            self.record, self.vault, self.unused, self.requested = None, {}, 0, set()
        if self.state is S.ABSENT and self.for_holder and self.facts.activated_at:
            self.take(lc.HandedOver())  # as the manager does

    def save(self, **facts: Any) -> Record:
        self.record = replace(self.record or a_record(), **facts)
        return self.record

    @property
    def facts(self) -> Record:
        assert self.record is not None
        return self.record

    @rule()
    def seen(self) -> None:
        self.take(lc.Seen())

    @rule()
    def lost(self) -> None:
        self.take(lc.Lost())

    @precondition(lambda self: self.state is not S.FORGOTTEN and not self.is_elsewhere)
    @rule(free=st.booleans())
    def approved(self, free: bool) -> None:
        """Where a turn is free, the intent of a new child is on record with its admission."""
        before = self.record
        self.save(verdict=Verdict.ADMITTED, pin=PINNED)
        if free and not self.facts.attempt:
            self.save(attempt=1)
            self.unused = 1
        self.take(lc.Admitted())
        assert before is None or before.attempt <= self.facts.attempt

    @precondition(lambda self: self.state is not S.FORGOTTEN)
    @rule()
    def rejected(self) -> None:
        self.save(verdict=Verdict.REJECTED)
        self.take(lc.Rejected())

    @precondition(lambda self: self.record and self.facts.is_in_force)
    @rule()
    def shows_another_key(self) -> None:
        """On record before it takes effect."""
        self.save(pin=FROZEN)
        self.take(lc.Frozen())

    @precondition(lambda self: not self.activated_with)
    @rule()
    def forgotten(self) -> None:
        self.take(lc.Forgotten())

    @property
    def is_elsewhere(self) -> bool:
        return self.record is not None and bool(self.record.elsewhere.code)

    @precondition(lambda self: self.record)
    @rule()
    def another_gateway_has_it(self) -> None:
        """What the cloud has issued and was not written is lost, as in a crash."""
        self.save(elsewhere=ELSEWHERE)
        self.in_hand = self.unused = 0
        self.take(lc.OwnedElsewhere(ELSEWHERE))

    @precondition(lambda self: self.is_elsewhere and self.facts.verdict is Verdict.ADMITTED)
    @rule(logs_in=st.booleans())
    def the_other_gateway_goes_on(self, logs_in: bool) -> None:
        """It registers the child, and what it has done is in the record at the next merge."""
        if not self.activated_with:
            self.serial += 1
            self.newest = self.serial
            attempt = self.facts.attempt + 1
            self.vault[attempt] = self.newest
            self.save(attempt=attempt, stored=attempt, activating=attempt, stale=0)
        if logs_in:
            self.activated_with = self.activated_with or self.newest
            self.save(activated_at=self.facts.activated_at or 7)

    @precondition(lambda self: self.is_elsewhere)
    @rule()
    def it_is_ours_again(self) -> None:
        self.save(elsewhere=NONE)
        self.go_on()
        if self.present:
            self.take(lc.Seen())

    def go_on(self) -> None:
        """Go on from the record."""
        has_secret = self.facts.stored in self.vault
        self.state, _ = restore(self.facts, has_secret=has_secret, held=self.for_holder)
        self.step = WORK.get(self.state, "")

    @rule()
    def held(self) -> None:
        self.take(lc.Held())

    @precondition(lambda self: self.step)
    @rule()
    def work(self) -> None:
        match self.step:
            case Work.EVALUATE:
                self.take(lc.Held())
            case Work.REGISTER:
                self.begin_registration()
            case "asked":
                self.cloud_issues()
            case "put":
                self.vault[self.facts.attempt] = self.in_hand
                self.step = "point"
            case "point":
                self.save(stored=self.facts.attempt, activating=self.facts.attempt)
                self.take(lc.SecretStored())
            case Work.ACTIVATE:
                self.activate()
            case Work.CONNECT:
                self.log_in()
            case Work.HOLD:
                self.hold()

    def activate(self) -> None:
        if self.for_holder and self.facts.activated_at:
            self.take(lc.HandedOver())
            return
        self.save(activating=self.facts.stored)
        self.take(lc.ActivationStarted())

    def hold(self) -> None:
        if not self.for_holder:
            self.take(lc.TakenBack())
        elif self.facts.stored not in self.vault:
            self.take(lc.SecretLost(SECRET_LOST))

    def begin_registration(self) -> None:
        attempts = (self.facts.stored, self.facts.attempt)
        if usable := [a for a in attempts if a in self.vault]:
            self.save(stored=usable[0])
            self.take(lc.SecretStored())
        elif self.facts.activated_at:
            self.take(lc.SecretLost(SECRET_LOST))
        else:
            if self.unused != self.facts.attempt or not self.unused:
                self.save(attempt=self.facts.attempt + 1)
            self.unused = 0
            assert self.facts.attempt not in self.requested, "one intent, one request"
            self.requested.add(self.facts.attempt)
            self.take(lc.RegistrationStarted())
            self.step = "asked"

    def cloud_issues(self) -> None:
        assert not self.activated_with, "the cloud would refuse: this child was activated"
        self.serial += 1
        self.newest = self.in_hand = self.serial
        self.step = "put"
        self.take(lc.SecretIssued())

    def log_in(self) -> None:
        secret = self.vault[self.facts.stored]
        assert self.facts.activating == self.facts.stored
        if secret == (self.activated_with or self.newest):
            self.activated_with, self.session, self.step = secret, True, ""
            self.save(activated_at=self.facts.activated_at or 7)
            self.take(lc.HandedOver() if self.for_holder else lc.SessionOpened())
        else:
            event = on_refused_login(self.facts, Reason("cloud-auth-failed"))
            if isinstance(event, lc.SecretStale):
                self.record = self.facts.without_stale_secret()
            self.take(event)

    @precondition(lambda self: self.step == "asked")
    @rule()
    def reply_is_lost(self) -> None:
        if not self.activated_with:
            self.serial += 1
            self.newest = self.serial
        self.take(lc.RegistrationUnknown())
        self.step = Work.REGISTER

    @precondition(lambda self: self.state in (S.REGISTERED, S.ACTIVATING))
    @rule()
    def a_late_request_arrives(self) -> None:
        if not self.activated_with:
            self.serial += 1
            self.newest = self.serial

    @precondition(lambda self: self.step == Work.CONNECT and self.facts.activating)
    @rule()
    def login_reply_is_lost(self) -> None:
        secret = self.vault[self.facts.stored]
        if not self.activated_with and secret == self.newest:
            self.activated_with = secret

    @rule(for_holder=st.booleans())
    def the_rule_says_who_has_the_session(self, for_holder: bool) -> None:
        """As at a reload: what is not activated yet finds out by its login."""
        self.for_holder = for_holder
        if self.record and self.record.activated_at and for_holder and not self.is_elsewhere:
            self.take(lc.HandedOver())

    @precondition(lambda self: self.state is S.ONLINE)
    @rule()
    def session_drops(self) -> None:
        self.session, self.step = False, Work.CONNECT
        self.take(lc.SessionClosed())

    @rule()
    def all_goes_well(self) -> None:
        """Bring the child online, so that short runs too reach deep states."""
        self.take(lc.Seen())
        if self.is_elsewhere:
            self.it_is_ours_again()
        if self.record is None or self.state in (S.DISCOVERED, S.PENDING):
            self.approved(free=True)
        for _ in range(10):
            if self.step:
                self.work()

    @rule()
    def crash(self) -> None:
        self.present = self.session = False
        self.in_hand, self.unused, self.step = 0, 0, ""
        if self.record is None:
            self.state, self.vault = S.FORGOTTEN, {}
            return
        if self.record.attempt in self.vault and not self.record.stored:
            self.save(stored=self.record.attempt)
        self.go_on()

    @invariant()
    def registered_means_durable(self) -> None:
        if self.state in (
            S.REGISTERED, S.ACTIVATING, S.ONLINE, S.OFFLINE, S.HANDED_OVER, S.ABSENT,
        ):  # fmt: skip
            assert self.facts.stored in self.vault

    @invariant()
    def an_activated_child_is_never_stranded(self) -> None:
        if self.activated_with and self.record:
            assert self.activated_with in self.vault.values()
            assert self.vault.get(self.facts.stored) == self.activated_with

    @invariant()
    def handed_over_means_committed_and_no_session_of_ours(self) -> None:
        if self.state is S.HANDED_OVER:
            assert self.facts.activated_at
            assert not self.session

    @invariant()
    def online_means_in_session_and_present(self) -> None:
        if self.state is S.ONLINE:
            assert self.session
            assert self.present

    @invariant()
    def a_frozen_child_has_no_session_and_stays_so(self) -> None:
        if self.record and self.facts.verdict is Verdict.ADMITTED and not self.is_elsewhere:
            assert self.facts.is_frozen == (self.state is S.FROZEN)
            assert not (self.facts.is_frozen and self.session)

    @invariant()
    def nothing_works_for_a_child_of_another_gateway(self) -> None:
        if self.is_elsewhere:
            assert not self.session
            assert self.state not in WORK
            ended = self.facts.verdict is not Verdict.ADMITTED
            assert ended or self.state is S.ELSEWHERE

    @invariant()
    def nothing_is_registered_that_was_not_admitted(self) -> None:
        if self.step in (Work.REGISTER, "asked", "put", "point"):
            assert self.facts.verdict is Verdict.ADMITTED


TestLifecycle = LifecycleMachine.TestCase
TestLifecycle.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
