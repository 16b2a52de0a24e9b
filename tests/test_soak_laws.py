"""The laws by which script/soak judges: each breach is seen, and nothing else is taken for one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from script.soaking.laws import CloudFacts, LossDetector, StoredFacts, stranded

ONE = StoredFacts(attempt=1, stored=1, stale=0, activated=False, secrets={1: "aa"})
ACTIVE = replace(ONE, activated=True)
INTENT = StoredFacts(attempt=1, stored=0, stale=0, activated=False, secrets={})


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (INTENT, INTENT),
        (INTENT, replace(INTENT, attempt=2)),
        (INTENT, ONE),
        (ONE, ACTIVE),
        (ONE, replace(ONE, attempt=2, stored=0, stale=1)),
        (ONE, StoredFacts(3, 3, 1, activated=True, secrets={3: "cc"})),
        (INTENT, replace(INTENT, secrets={1: "aa"})),
    ],
)
def test_a_life_that_goes_on_loses_nothing(before: StoredFacts, after: StoredFacts) -> None:
    detector = LossDetector()
    assert not detector.compare({"a": before})
    assert not detector.compare({"a": after})


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (ONE, None),
        (ONE, replace(ONE, secrets={})),
        (ONE, replace(ONE, secrets={1: "bb"})),
        (ONE, replace(INTENT, attempt=2)),
        (ONE, replace(ONE, attempt=0)),
        (ACTIVE, ONE),
        (ACTIVE, StoredFacts(2, 2, 1, activated=True, secrets={2: "bb"})),
        (INTENT, replace(ONE, secrets={})),
    ],
)
def test_each_loss_is_seen(before: StoredFacts, after: StoredFacts | None) -> None:
    detector = LossDetector()
    assert not detector.compare({"a": before})
    assert detector.compare({} if after is None else {"a": after})


@pytest.mark.parametrize(
    ("held", "counted", "is_stranded"),
    [
        (ACTIVE, CloudFacts(("zz", "aa"), activated=True, online=True), False),
        (ACTIVE, CloudFacts(("aa", "zz"), activated=True, online=False), True),
        (ONE, CloudFacts(("aa", "zz"), activated=False, online=False), False),
        (INTENT, CloudFacts(("aa",), activated=True, online=False), True),
        (None, CloudFacts((), activated=False, online=False), False),
        (None, CloudFacts(("aa",), activated=False, online=False), True),
    ],
)
def test_stranded(held: StoredFacts | None, counted: CloudFacts, *, is_stranded: bool) -> None:
    disk = {} if held is None else {"a": held}
    assert stranded(disk, {"a": counted}) == (["a"] if is_stranded else [])
