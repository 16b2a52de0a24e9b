"""What a proof leads to: a decision, a pin, a session, or a child that is frozen."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from gatewayd.device import lifecycle as lc
from gatewayd.device.identity import DeviceId, Evidence, Trust
from gatewayd.device.lifecycle import Event, State
from gatewayd.device.proof import Pin, PinCheck, PinIndex, Proof, check, completed
from gatewayd.device.record import Admission, CloudName, Record, Verdict
from gatewayd.device.recovery import KEY_CHANGED, KEY_OF_ANOTHER
from gatewayd.errors import StoreUnavailable, WrongState
from gatewayd.proofs import reasons
from gatewayd.proofs.keeper import FIRST_RETRY, ProofKeeper
from gatewayd.proofs.link import Place
from gatewayd.proofs.prover import Asked
from gatewayd.proofs.settings import KeyKind, ProofSettings
from gatewayd.runtime.clock import Clock
from gatewayd.runtime.tasks import cancel_and_wait
from tests.support.fakes import MemoryRecords

pytestmark = pytest.mark.jumping_clock

ME, OTHER = DeviceId("child-me"), DeviceId("child-other")
OLD, NEW = "sha256:old", "sha256:new"
HERE, THERE = "192.0.2.7", "192.0.2.9"
GENUINE = Proof("axis", HERE, 7, OLD, "accc8e000001", "CN=Axis CA", "1f")
PIN = Pin("axis", OLD, "accc8e000001", "CN=Axis CA", "1f", 7, HERE)


class FakeProver:
    """A prover whose devices prove what the test says, by address."""

    def __init__(self) -> None:
        self.settings = {"axis": ProofSettings(port=443, retry=300.0)}
        self.keys: dict[str, Proof] = {}
        self.asked: list[tuple[str, Asked]] = []

    async def prove(
        self, name: str, places: Sequence[Place], *, known: bool, asked: Asked, key: str = ""
    ) -> Proof:
        found = []
        for place in places:
            self.asked.append((place.address, asked))
            proof = self.keys.get(
                place.address, Proof(name, place.address, 7, reason=reasons.REFUSED)
            )
            found.append(
                replace(proof, address=place.address, pinned=bool(key) and proof.key == key)
            )
        best = max(found, key=lambda one: (one.pinned, bool(one.key)), default=None)
        return best or Proof(name, "", 7, reason=reasons.NO_ADDRESS)

    def reread(self) -> None:
        """Nothing is remembered."""


class Site:
    """A keeper, with a child on record that is at an address."""

    def __init__(self, pin: Pin | None = PIN, *, wall: int = 9) -> None:
        self.prover, self.records, self.pins = FakeProver(), MemoryRecords(), PinIndex()
        self.notes: dict[DeviceId, Proof] = {}
        self.posted: list[tuple[DeviceId, Event]] = []
        self.addresses = {ME: HERE}
        self.conflict = ""
        clock = Clock(asyncio.get_running_loop().time, lambda: wall, earliest=5)
        self.keeper = ProofKeeper(
            self.prover, self, self.records, self.pins, clock,  # type: ignore[arg-type]  # the fake
            post=lambda device, event: self.posted.append((device, event)),
            proof_of=lambda rule: "axis" if rule == "cameras" else "",
        )  # fmt: skip
        self.add(ME, pin)

    def add(self, device: DeviceId, pin: Pin | None) -> None:
        self.records.rows[device] = Record(
            device, frozenset(), "", Verdict.ADMITTED, Admission.RULE, "cameras", "",
            CloudName("c", "p", device), 1, 1, pin=pin,
        )  # fmt: skip
        self.pins.update(device, pin)

    def evidence(self, device: DeviceId) -> Evidence:
        views = [{"address": a, "interface": "lan0"} for a in [self.addresses.get(device, "")] if a]
        proof = self.notes.get(device)
        return Evidence(
            tuple(views), frozenset(), Trust.CLAIMED, conflict=self.conflict, proof=proof
        )

    def note(self, device: DeviceId, proof: Proof) -> None:
        self.notes[device] = proof

    def forget(self, device: DeviceId) -> None:
        self.notes.pop(device, None)

    @property
    def pin(self) -> Pin | None:
        return self.records[ME].pin

    async def settled(self, seconds: float = 3600.0) -> list[Event]:
        """Let the child come back; return what was posted of it within so many seconds."""
        posted: list[Event] = []

        async def go_on(device: DeviceId, post: lc.PostEvent) -> None:
            post(lc.ActivationStarted())

        task = asyncio.create_task(self.keeper.settle(ME, posted.append, go_on))
        await asyncio.wait([task], timeout=seconds)
        await cancel_and_wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error
        return posted

    def frozen(self) -> list[Event]:
        return [event for _, event in self.posted if isinstance(event, lc.Frozen)]


def kinds(events: Sequence[Event]) -> list[str]:
    return [type(one).__name__ for one in events]


@pytest.mark.parametrize(
    ("proof", "dated", "expected"),
    [
        (GENUINE, True, PinCheck.CONFIRMED),
        (replace(GENUINE, serial="2"), True, PinCheck.CONFIRMED),
        (replace(GENUINE, key=NEW), True, PinCheck.CHANGED),
        (replace(GENUINE, key=NEW), False, PinCheck.CHANGED),
        (replace(GENUINE, identity=""), True, PinCheck.UNPROVEN),
        (replace(GENUINE, identity=""), False, PinCheck.CONFIRMED),
        (replace(GENUINE, identity="accc8e000002"), True, PinCheck.UNPROVEN),
        (replace(GENUINE, key=""), True, PinCheck.UNPROVEN),
    ],
)
def test_what_a_proof_says_of_a_pin(proof: Proof, dated: bool, expected: PinCheck) -> None:
    assert check(PIN, proof, dated=dated) is expected


def test_a_key_gets_the_identity_that_is_proven_for_it_later() -> None:
    bare = Pin("axis", OLD, at=3)
    assert completed(bare, GENUINE) == replace(PIN, at=3, address="")
    assert completed(bare, replace(GENUINE, key=NEW)) == bare
    assert completed(PIN, replace(GENUINE, identity="x")) == PIN


async def test_a_child_that_is_back_goes_on_with_its_key() -> None:
    site = Site()
    site.prover.keys[HERE] = GENUINE
    assert kinds(await site.settled()) == ["ActivationStarted"]
    assert site.prover.asked == [(HERE, Asked.RETURNED)]
    assert site.pin == PIN


async def test_one_that_cannot_be_asked_waits_longer_each_time_and_then_goes_on() -> None:
    site = Site()

    async def answer_later() -> None:
        await asyncio.sleep(200)
        site.prover.keys[HERE] = GENUINE

    later = asyncio.create_task(answer_later())
    posted = await site.settled()
    await later
    assert kinds(posted) == ["ProofDelayed"] * 4 + ["ActivationStarted"]
    assert {one.reason.code for one in posted[:-1]} == {"proof-port-closed"}
    waits = [FIRST_RETRY * (2**n - 1) for n in range(1, 5)]
    assert [one.until for one in posted[:-1]] == waits


async def test_another_key_is_on_record_before_the_child_is_frozen() -> None:
    site = Site()
    site.prover.keys[HERE] = replace(GENUINE, key=NEW)
    (event,) = await site.settled()
    assert isinstance(event, lc.Frozen)
    assert event.reason == KEY_CHANGED
    assert site.pin == replace(PIN, refused=NEW)


async def test_of_two_questions_at_once_none_lets_a_child_go_on_that_the_other_freezes() -> None:
    """One that is watched leaves and is back, before the answer is there."""
    site = Site()
    site.prover.keys[HERE] = replace(GENUINE, key=NEW)

    async def slow(*words: Any, **facts: Any) -> Proof:
        await asyncio.sleep(1)
        return await FakeProver.prove(site.prover, *words, **facts)

    site.prover.prove = slow  # type: ignore[method-assign]  # both ask before either is answered
    run = asyncio.create_task(site.keeper.run())
    site.keeper.shown(ME, State.ONLINE, present=True)
    await asyncio.sleep(0.5)
    posted = await site.settled()
    await cancel_and_wait([run])
    assert kinds(posted) == ["Frozen"]
    assert kinds(site.frozen()) == ["Frozen"]
    assert site.pin == replace(PIN, refused=NEW)


@pytest.mark.parametrize(
    ("key", "meanwhile"),
    [(NEW, replace(PIN, address=THERE)), (OLD, replace(PIN, refused=NEW))],
    ids=["its address", "frozen"],
)
async def test_a_pin_that_another_question_changes_meanwhile_frees_no_child(
    key: str, meanwhile: Pin
) -> None:
    site = Site()
    site.prover.keys[HERE] = replace(GENUINE, key=key)

    async def proves(*words: Any, **facts: Any) -> Proof:
        site.add(ME, meanwhile)
        return await FakeProver.prove(site.prover, *words, **facts)

    site.prover.prove = proves  # type: ignore[method-assign]  # another question is faster
    assert kinds(await site.settled()) == ["Frozen"]
    assert site.pin == replace(meanwhile, refused=NEW)


async def test_a_freeze_that_the_disk_refuses_lets_no_child_go_on() -> None:
    site = Site()
    site.prover.keys[HERE] = replace(GENUINE, key=NEW)
    site.records.failing = StoreUnavailable("no disk")
    with pytest.raises(StoreUnavailable):
        await site.settled()
    assert site.pin == PIN


async def test_the_key_of_another_child_is_named() -> None:
    site = Site()
    site.add(OTHER, replace(PIN, key=NEW, identity="accc8e000002"))
    site.prover.keys[HERE] = replace(GENUINE, key=NEW, identity="accc8e000002")
    (event,) = await site.settled()
    assert event.reason == KEY_OF_ANOTHER


async def test_a_child_without_a_pin_goes_on_and_is_pinned_at_the_first_chance() -> None:
    """As those of before the rule named a proof: an upgrade takes none of them offline."""
    site = Site(None)
    assert kinds(await site.settled()) == ["ActivationStarted"]
    assert site.pin is None
    site.prover.keys[HERE] = GENUINE
    assert kinds(await site.settled()) == ["ActivationStarted"]
    assert site.pin == PIN


async def test_what_is_another_childs_is_not_pinned_later() -> None:
    site = Site(None)
    site.add(OTHER, PIN)
    site.prover.keys[HERE] = GENUINE
    assert kinds(await site.settled()) == ["ActivationStarted"]
    assert site.pin is None


async def test_a_proof_that_is_no_longer_configured_holds_no_child_back() -> None:
    site = Site()
    site.prover.settings.clear()
    assert kinds(await site.settled()) == ["ActivationStarted"]


async def test_before_the_clock_is_set_the_key_alone_counts() -> None:
    site = Site(wall=1)
    site.prover.keys[HERE] = replace(GENUINE, identity="", reason=reasons.NOT_YET_VALID)
    assert kinds(await site.settled()) == ["ActivationStarted"]


async def test_another_key_elsewhere_counts_only_where_the_old_one_is_gone() -> None:
    site = Site()
    site.addresses[ME] = THERE
    site.prover.keys = {HERE: GENUINE, THERE: replace(GENUINE, key=NEW)}
    assert kinds(await site.settled()) == ["ActivationStarted"]
    site.prover.keys[HERE] = replace(GENUINE, key="sha256:third")  # another device has its address
    del site.prover.keys[THERE]
    assert kinds(await site.settled(10)) == ["ProofDelayed"]
    site.prover.keys[THERE] = replace(GENUINE, key=NEW)
    assert kinds(await site.settled()) == ["Frozen"]


async def test_where_the_key_was_proven_last_is_on_record() -> None:
    site = Site()
    site.addresses[ME] = THERE
    site.prover.keys[THERE] = GENUINE
    await site.settled()
    assert site.pin == replace(PIN, address=THERE)


async def watched(site: Site, *moments: Any) -> None:
    """Run the keeper, and do what is to be done meanwhile."""
    run = asyncio.create_task(site.keeper.run())
    try:
        for one in moments:
            one()
            await asyncio.sleep(1)
    finally:
        await cancel_and_wait([run])


async def test_a_child_online_is_asked_where_it_is_new_and_not_again() -> None:
    site = Site()
    site.prover.keys = {HERE: GENUINE, THERE: GENUINE}

    def show() -> None:
        site.keeper.shown(ME, State.ONLINE, present=True)

    def move() -> None:
        site.addresses[ME] = THERE
        show()

    await watched(site, show, show, move, show)
    assert [address for address, _ in site.prover.asked] == [HERE, THERE]
    assert not site.frozen()


async def test_a_child_online_is_frozen_for_another_key() -> None:
    site = Site()
    site.prover.keys[HERE] = replace(GENUINE, key=NEW)
    await watched(site, lambda: site.keeper.shown(ME, State.HANDED_OVER, present=True))
    assert kinds(site.frozen()) == ["Frozen"]
    assert site.records[ME].is_frozen
    site.prover.asked.clear()
    await watched(site, lambda: site.keeper.shown(ME, State.FROZEN, present=True))
    assert not site.prover.asked


async def test_a_child_online_that_cannot_be_asked_is_asked_again_and_keeps_its_session() -> None:
    site = Site()
    run = asyncio.create_task(site.keeper.run())
    site.keeper.shown(ME, State.ONLINE, present=True)
    await asyncio.sleep(60)
    assert len(site.prover.asked) == 3
    assert not site.frozen()
    site.addresses.clear()  # it leaves
    await asyncio.sleep(600)
    assert len(site.prover.asked) <= 4
    await cancel_and_wait([run])


async def test_whoever_waits_for_a_child_learns_that_it_has_moved() -> None:
    """One that is watched, and that is back meanwhile: both questions wait."""
    site = Site()
    run = asyncio.create_task(site.keeper.run())
    site.keeper.shown(ME, State.ONLINE, present=True)
    await asyncio.sleep(50)
    back = asyncio.create_task(site.settled(62))
    await asyncio.sleep(60)
    site.addresses[ME], site.prover.keys[THERE] = THERE, GENUINE
    site.keeper.shown(ME, State.ONLINE, present=True)
    posted = await back
    await cancel_and_wait([run])
    assert kinds(posted)[-1] == "ActivationStarted"


async def test_a_stranger_that_fails_is_evaluated_again_later() -> None:
    site = Site()
    site.addresses[OTHER] = THERE
    begun = asyncio.get_running_loop().time()
    run = asyncio.create_task(site.keeper.run())
    for wait in (FIRST_RETRY, 2 * FIRST_RETRY, 4 * FIRST_RETRY, 8 * FIRST_RETRY, 240.0, 300.0):
        await site.keeper.make(OTHER, "axis")
        begun += wait
        assert site.keeper.try_later(OTHER, "axis") == begun
        await site.keeper.make(OTHER, "axis")  # it has announced something else
        assert site.keeper.try_later(OTHER, "axis") == begun
        await asyncio.sleep(wait + 1)
        begun += 1
    await cancel_and_wait([run])
    assert site.notes[OTHER].reason == reasons.REFUSED
    assert [(d, type(e)) for d, e in site.posted] == [(OTHER, lc.Changed)] * 6
    assert [asked for _, asked in site.prover.asked] == [Asked.SOON, Asked.LATER] * 6
    site.prover.keys[THERE] = replace(GENUINE, key=NEW, identity="b")
    await site.keeper.make(OTHER, "axis")
    pin = site.keeper.pin(OTHER, "axis")
    assert pin is not None
    assert (pin.key, pin.identity) == (NEW, "b")
    assert site.keeper.pin(OTHER, "") is None


async def test_an_operator_has_a_stranger_asked_now() -> None:
    site = Site()
    site.addresses[OTHER] = THERE
    assert not site.keeper.retry(OTHER)
    await site.keeper.make(OTHER, "axis")
    assert not site.keeper.retry(OTHER)
    site.keeper.try_later(OTHER, "axis")
    assert site.keeper.retry(OTHER)
    assert [(d, type(e)) for d, e in site.posted] == [(OTHER, lc.Changed)]
    await site.keeper.make(OTHER, "axis")
    assert [asked for _, asked in site.prover.asked] == [Asked.SOON, Asked.SOON]


async def test_nothing_is_asked_of_one_in_conflict_or_by_an_unknown_proof() -> None:
    site = Site()
    site.addresses[OTHER] = THERE
    await site.keeper.make(OTHER, "none")
    assert site.keeper.try_later(OTHER, "none") == 0.0
    site.conflict = "identity-conflict"
    await site.keeper.make(OTHER, "axis")
    assert not site.prover.asked


async def test_to_repin_takes_the_key_that_was_shown() -> None:
    site = Site()
    with pytest.raises(WrongState):
        await site.keeper.repin(ME)
    site.add(ME, replace(PIN, refused=NEW))
    await site.keeper.repin(ME)
    assert site.pin == Pin("axis", NEW, at=9, address=HERE)
    site.prover.keys[HERE] = replace(GENUINE, key=NEW)
    assert kinds(await site.settled()) == ["ActivationStarted"]
    assert site.pin == replace(PIN, key=NEW, at=9)


async def test_an_operator_who_decides_meanwhile_is_obeyed() -> None:
    site = Site()
    site.prover.keys[HERE] = replace(GENUINE, key=NEW)
    newer = replace(PIN, key=NEW)

    async def proves(*words: Any, **facts: Any) -> Proof:
        site.add(ME, newer)
        return await FakeProver.prove(site.prover, *words, **facts)

    site.prover.prove = proves  # type: ignore[method-assign]  # an operator is faster
    assert kinds(await site.settled()) == ["ActivationStarted"]
    assert site.pin == newer


def test_settings_say_what_they_prove() -> None:
    assert not ProofSettings(port=22, kind=KeyKind.SSH).proves_identity
    assert not ProofSettings(port=443).proves_identity
