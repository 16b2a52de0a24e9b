"""Whose a child is: by the shard's token, the fence, and what was read last."""

from __future__ import annotations

import pytest

from gatewayd.admission.placed_records import PlacedRecords
from gatewayd.device.reason import NONE, Reason
from gatewayd.device.record import CloudName
from gatewayd.message_stage import RecordedStanding
from gatewayd.site.fence import FENCE, Fence
from gatewayd.site.ownership import LEASE_ENDED, SiteOwnership, owned_by
from gatewayd.site.snapshot import ShardOwner, SiteReading
from tests.device.test_lifecycle import FROZEN, a_record
from tests.support.fakes import MemoryRecords

NAME = CloudName("c", "p", "d")


class Clock:
    """Seconds that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fence(clock: Clock) -> Fence:
    made = Fence(clock)
    made.renewed(clock.now)
    return made


@pytest.fixture
def ours(fence: Fence) -> SiteOwnership:
    return SiteOwnership("a", lambda _: 7, fence)


def reading(owner: str = "", members: tuple[str, ...] = ("a", "b")) -> SiteReading:
    owners = {7: ShardOwner(owner, 5, 1)} if owner else {}
    return SiteReading(1, owners=owners, members=dict.fromkeys(members, b""), layout="1")


def code(ours: SiteOwnership) -> str:
    return ours.elsewhere(NAME).code


def test_a_child_is_ours_while_its_shard_and_the_fence_are(
    ours: SiteOwnership, clock: Clock
) -> None:
    assert code(ours) == "site-unreachable"
    ours.read(reading("b"))
    assert ours.elsewhere(NAME) == owned_by("b")
    ours.read(reading("a"))
    assert code(ours) == "shard-changes-hands"  # it is being merged
    ours.gained(7, 9)
    assert ours.elsewhere(NAME) == NONE
    clock.now += FENCE
    assert code(ours) == "site-lease-ended"


def test_what_is_given_up_in_good_order_is_not_kept(ours: SiteOwnership) -> None:
    ours.read(reading("a"))
    ours.gained(7, 9)
    ours.leaves(7)
    assert code(ours) == "shard-changes-hands"
    assert ours.token_of(NAME) == 9
    ours.lost(7)
    assert code(ours) == "shard-changes-hands"


def test_what_was_ours_when_the_lease_ended_is_kept_until_another_has_it(
    ours: SiteOwnership, clock: Clock, fence: Fence
) -> None:
    ours.read(reading("a"))
    ours.gained(7, 9)
    clock.now += FENCE
    ours.leaves(7)
    ours.lost(7)
    ours.read(None)
    assert code(ours) == "site-lease-ended"
    ours.read(reading())
    fence.renewed(clock.now)
    assert code(ours) == "site-lease-ended"
    ours.read(reading("b"))
    assert ours.elsewhere(NAME) == owned_by("b")
    ours.read(reading())
    assert code(ours) == "shard-changes-hands"


@pytest.mark.parametrize(("why", "facts", "speaks"), [
    (NONE, {}, True),
    (LEASE_ENDED, {}, True),
    (Reason("owned-by-another"), {}, False),
    (Reason("site-unreachable"), {}, False),
    (Reason("site-lease-ended"), {"pin": FROZEN}, False),
])  # fmt: skip
def test_a_child_goes_on_speaking_while_no_other_gateway_has_it(
    why: Reason, facts: dict[str, object], speaks: bool
) -> None:
    """What it says waits in the outbox: it has no session."""

    class Everywhere:
        def elsewhere(self, name: CloudName) -> Reason:
            return why

    records, record = MemoryRecords(), a_record(**facts)
    records.rows[record.device] = record
    placed = PlacedRecords(records, Everywhere())
    assert RecordedStanding(placed).admitted(record.device) is speaks
    assert not RecordedStanding(placed).gone(record.device)
    assert placed[record.device].is_in_force is (not why.code and not facts)


def test_a_site_without_a_gateway_says_that_it_is_to_be_founded(ours: SiteOwnership) -> None:
    ours.read(reading(members=()))
    assert code(ours) == "site-not-founded"
    assert "gatewayctl site found." in ours.elsewhere(NAME).remedy
    ours.read(reading(members=("b",)))
    assert code(ours) == "site-not-joined"
