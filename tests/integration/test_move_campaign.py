"""script/soak moves, shortened: killed while children move there and back, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from script.soaking.moves import MoveCampaign, MoveTally, is_in_order, owners, report


@pytest.mark.integration
async def test_a_short_campaign(tmp_path: Path) -> None:
    tally = await MoveCampaign(tmp_path, children=4, kills=2, seed=20261130, pause=0.5).run()
    assert not tally.wrong
    assert (tally.kills, tally.moves) == (2, 8)
    assert tally.arrived == tally.said > 0


@pytest.mark.parametrize(
    ("first", "second", "changes"),
    [
        ([], [], 0),
        ([0, 1, 2], [], 0),
        ([0, 1, 2], [3, 4], 1),
        ([0, 1, 5], [2, 3, 4], 2),
        ([0, 1, 2], [1, 2, 3], 1),  # sent again after the switch
        ([0, 2, 4], [1, 3, 5], 5),  # two sessions that publish
    ],
)
def test_two_sessions_that_publish_are_noticed(
    first: list[int], second: list[int], changes: int
) -> None:
    assert owners(first, second) == changes


def test_order_is_judged_by_what_comes_first() -> None:
    assert is_in_order([0, 1, 0, 1, 2])
    assert not is_in_order([0, 2, 1])


def test_a_broken_law_is_reported() -> None:
    lines = report(MoveTally(kills=3, wrong=["child x spoke over two clouds by turns"]), 2.0)
    assert lines[-2:] == ["       1 laws broken", "child x spoke over two clouds by turns"]
