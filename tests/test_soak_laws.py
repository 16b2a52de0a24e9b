"""The laws by which script/soak judges: each breach is seen, and nothing else is taken for one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from script.soaking.laws import Counted, Held, Witness, stranded

ONE = Held(attempt=1, stored=1, stale=0, activated=False, secrets={1: "aa"})
ACTIVE = replace(ONE, activated=True)
INTENT = Held(attempt=1, stored=0, stale=0, activated=False, secrets={})


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (INTENT, INTENT),
        (INTENT, replace(INTENT, attempt=2)),
        (INTENT, ONE),
        (ONE, ACTIVE),
        (ONE, replace(ONE, attempt=2, stored=0, stale=1)),
        (ONE, Held(3, 3, 1, activated=True, secrets={3: "cc"})),
        (INTENT, replace(INTENT, secrets={1: "aa"})),
    ],
)
def test_a_life_that_goes_on_loses_nothing(before: Held, after: Held) -> None:
    witness = Witness()
    assert not witness.look({"a": before})
    assert not witness.look({"a": after})


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (ONE, None),
        (ONE, replace(ONE, secrets={})),
        (ONE, replace(ONE, secrets={1: "bb"})),
        (ONE, replace(INTENT, attempt=2)),
        (ONE, replace(ONE, attempt=0)),
        (ACTIVE, ONE),
        (ACTIVE, Held(2, 2, 1, activated=True, secrets={2: "bb"})),
        (INTENT, replace(ONE, secrets={})),
    ],
)
def test_each_loss_is_seen(before: Held, after: Held | None) -> None:
    witness = Witness()
    assert not witness.look({"a": before})
    assert witness.look({} if after is None else {"a": after})


@pytest.mark.parametrize(
    ("held", "counted", "is_stranded"),
    [
        (ACTIVE, Counted(("zz", "aa"), activated=True, online=True), False),
        (ACTIVE, Counted(("aa", "zz"), activated=True, online=False), True),
        (ONE, Counted(("aa", "zz"), activated=False, online=False), False),
        (INTENT, Counted(("aa",), activated=True, online=False), True),
        (None, Counted((), activated=False, online=False), False),
        (None, Counted(("aa",), activated=False, online=False), True),
    ],
)
def test_stranded(held: Held | None, counted: Counted, *, is_stranded: bool) -> None:
    disk = {} if held is None else {"a": held}
    assert stranded(disk, {"a": counted}) == (["a"] if is_stranded else [])
