"""Who goes first when there is no room for all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.discovery.queues import Ladder


def test_an_empty_ladder_has_no_lowest_key() -> None:
    with pytest.raises(LookupError):
        Ladder[str]().lowest()


@given(st.lists(st.tuples(st.integers(0, 9), st.one_of(st.none(), st.integers(0, 3)))))
def test_the_oldest_of_the_lowest_rank_is_lowest(steps: list[tuple[int, int | None]]) -> None:
    ladder = Ladder[int]()
    model: dict[int, int] = {}
    for key, rank in steps:
        model.pop(key, None)
        if rank is None:
            ladder.discard(key)
        else:
            ladder.put(key, rank)
            model[key] = rank
        assert len(ladder) == len(model)
        assert (key in ladder) == (rank is not None)
        if model:
            assert ladder.lowest() == min(model, key=lambda k: model[k])
