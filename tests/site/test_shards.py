"""Which gateway is to have each shard: bounded, sticky, and the same wherever it is computed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from gatewayd.device.record import CloudName
from gatewayd.site.shards import MAX_GATEWAYS, SHARDS, parts, placement, shard_of

NAMES = st.sampled_from([f"gateway-{letter}" for letter in "abcdefg"])
LIVE = st.frozensets(NAMES, min_size=1)
CURRENT = st.dictionaries(st.integers(0, SHARDS - 1), NAMES)


def settled(live: frozenset[str]) -> Mapping[int, str]:
    """Return what gateways that came one after another have in the end."""
    current: Mapping[int, str] = {}
    for number in range(len(live)):
        current = placement(current, sorted(live)[: number + 1])
    return current


def moved(before: Mapping[int, str], after: Mapping[int, str]) -> set[int]:
    return {shard for shard in after if before.get(shard) != after[shard]}


@given(CURRENT, LIVE)
def test_each_shard_has_a_live_gateway_and_each_gateway_its_part(
    current: Mapping[int, str], live: frozenset[str]
) -> None:
    after = placement(current, live)
    assert set(after) == set(range(SHARDS))
    assert set(after.values()) <= live
    assert Counter(after.values()) == parts(live)
    assert max(parts(live).values()) == math.ceil(SHARDS / len(live))


@given(CURRENT, LIVE, st.randoms())
def test_the_order_in_which_things_were_read_does_not_count(
    current: Mapping[int, str], live: frozenset[str], chance: Random
) -> None:
    shuffled = list(current.items())
    chance.shuffle(shuffled)
    assert placement(current, sorted(live)) == placement(dict(shuffled), sorted(live)[::-1])


@given(CURRENT, LIVE)
def test_what_is_placed_stays(current: Mapping[int, str], live: frozenset[str]) -> None:
    after = placement(current, live)
    assert placement(after, live) == after


@given(CURRENT, LIVE, st.sets(st.integers(0, SHARDS - 1)), st.sets(st.integers(0, SHARDS - 1)))
def test_while_some_moves_are_done_the_rest_stay_the_same(
    current: Mapping[int, str], live: frozenset[str], given_up: set[int], claimed: set[int]
) -> None:
    after = placement(current, live)
    halfway = dict(current)
    for shard in moved(current, after) & given_up:
        halfway.pop(shard, None)
        if shard in claimed:
            halfway[shard] = after[shard]
    assert placement(halfway, live) == after


@given(st.frozensets(NAMES, min_size=2), st.data())
def test_a_death_moves_the_shards_of_the_dead_alone(
    live: frozenset[str], data: st.DataObject
) -> None:
    dead = data.draw(st.sampled_from(sorted(live)))
    before = settled(live)
    after = placement({s: g for s, g in before.items() if g != dead}, live - {dead})
    assert moved(before, after) == {shard for shard in before if before[shard] == dead}


@given(LIVE, NAMES)
def test_a_return_moves_at_most_one_part_and_to_the_returned_alone(
    live: frozenset[str], back: str
) -> None:
    before = settled(live - {back} or frozenset({"gateway-z"}))
    after = placement(before, {*before.values(), back})
    moves = moved(before, after)
    assert {after[shard] for shard in moves} == {back}
    assert len(moves) == parts({*before.values(), back})[back]


OWED = st.dictionaries(NAMES, st.frozensets(st.integers(0, SHARDS - 1)), max_size=4)


@given(CURRENT, LIVE, OWED)
def test_what_is_owed_moves_no_more_than_moves_in_any_case(
    current: Mapping[int, str], live: frozenset[str], owed: Mapping[str, frozenset[int]]
) -> None:
    without, placed = placement(current, live), placement(current, live, owed)
    assert Counter(placed.values()) == Counter(without.values())
    assert len(moved(current, placed)) == len(moved(current, without))
    assert placement(placed, live, owed) == placed


@given(CURRENT, LIVE, OWED, st.sets(st.integers(0, SHARDS - 1)), st.booleans())
def test_while_some_owed_shards_have_moved_the_rest_stay_the_same(
    current: Mapping[int, str], live: frozenset[str], owed: Mapping[str, frozenset[int]],
    given_up: set[int], claims: bool,
) -> None:  # fmt: skip
    placed = placement(current, live, owed)
    halfway = dict(current)
    for shard in moved(current, placed) & given_up:
        halfway.pop(shard, None)
        if claims:
            halfway[shard] = placed[shard]
    assert placement(halfway, live, owed) == placed


def test_one_that_is_back_gets_what_it_owes_first() -> None:
    before = {shard: "ab"[shard % 2] for shard in range(SHARDS)}
    owed = frozenset(range(8))
    placed = placement(before, {"a", "b", "c"}, {"c": owed})
    assert all(placed[shard] == "c" for shard in owed)
    assert placement(before, {"a", "b"}, {"c": owed}) == before


def test_one_that_gives_up_all_has_nothing_and_without_a_gateway_nothing_is_placed() -> None:
    before = settled(frozenset({"gateway-a", "gateway-b"}))
    assert set(placement(before, ["gateway-b"]).values()) == {"gateway-b"}
    assert not placement(before, [])


def test_after_one_of_three_has_died_none_has_far_more_than_half_of_the_children() -> None:
    names = [CloudName("cloud", "p", f"TH20-{number}") for number in range(300)]
    before = settled(frozenset({"gateway-a", "gateway-b", "gateway-c"}))
    after = placement(before, ["gateway-a", "gateway-c"])
    counts = Counter(after[shard_of(name)] for name in names)
    assert max(counts.values()) <= 180, counts


def test_shards_stay_what_they_are_for_ever() -> None:
    # Another version on one of the gateways must not have other shares than the rest.
    names = [CloudName("", "a1XyProd", f"TH20-{number}") for number in range(12)]
    assert [shard_of(name) for name in names] == [53, 28, 22, 60, 48, 48, 13, 3, 43, 17, 6, 16]
    assert shard_of(CloudName("other", "a1XyProd", "TH20-0", "x")) == 53
    assert placement({}, ["a", "b", "c"])[7] == "b"


def test_what_moves_as_one_is_in_one_shard() -> None:
    names = [CloudName("", "a1XyProd", f"TH20-{number}") for number in range(50)]
    assert len({shard_of(name, "a1XyGate\0gw") for name in names}) == 1
    assert len({shard_of(name) for name in names}) > 10


def test_in_the_largest_site_a_death_leaves_the_others_what_they_have() -> None:
    for count in range(2, MAX_GATEWAYS + 1):
        before = parts([f"gateway-{number:02}" for number in range(count)])
        after = parts([f"gateway-{number:02}" for number in range(count - 1)])
        assert min(after.values()) >= max(before.values())
