"""The table of codes: complete, and what it says can be shown."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.cloud.alibaba import topics
from gatewayd.cloud.alibaba.result_codes import CODES, EXCEPTIONS, reason
from gatewayd.cloud.sub_devices.result_codes import ResultKind, ResultMeaning

DOCUMENTED = {
    200, 400, 401, 427, 428, 429, 460, 500, 520, 521, 522, 527, 5005, 5244, 6100, 6203, 6204,
    6250, 6280, 6287, 6288, 6289, 6292, 6356, 6357, 6400, 6401, 6402, 6450, 6600, 6619, 6760,
}  # fmt: skip

KINDS: list[tuple[int, str, ResultKind]] = [
    (200, topics.TOPO_GET, ResultKind.DONE),
    (429, topics.TOPO_ADD, ResultKind.TRANSIENT),
    (500, topics.SUB_REGISTER, ResultKind.TRANSIENT),
    (460, topics.LOGIN, ResultKind.PERMANENT),
    (6203, topics.LOGIN, ResultKind.PERMANENT),
    (6402, topics.TOPO_ADD, ResultKind.PERMANENT),
    (6100, topics.SUB_REGISTER, ResultKind.OPERATOR),
    (6288, topics.SUB_REGISTER, ResultKind.OPERATOR),
    (6289, topics.SUB_REGISTER, ResultKind.OPERATOR),
    (6619, topics.SUB_REGISTER, ResultKind.OPERATOR),
    (6400, topics.TOPO_ADD, ResultKind.OPERATOR),
    (428, topics.BATCH_LOGIN, ResultKind.OPERATOR),
    (521, topics.LOGIN, ResultKind.REMOVED),
    (522, topics.LOGIN, ResultKind.DISABLED),
    (6204, topics.TOPO_ADD, ResultKind.DISABLED),
    (401, topics.TOPO_ADD, ResultKind.REREGISTER),
    (401, topics.SUB_REGISTER, ResultKind.PERMANENT),
    (6287, topics.LOGIN, ResultKind.REREGISTER),
    (6287, topics.PRODUCT_REGISTER, ResultKind.OPERATOR),
    (6600, topics.PRODUCT_REGISTER, ResultKind.OPERATOR),
    (6401, topics.LOGIN, ResultKind.TOPOLOGY),
    (6401, topics.ERROR, ResultKind.TOPOLOGY),
    (6401, topics.TOPO_DELETE, ResultKind.DONE),
    (6100, topics.TOPO_DELETE, ResultKind.DONE),
    (520, topics.LOGOUT, ResultKind.DONE),
    (520, topics.BATCH_LOGOUT, ResultKind.DONE),
    (520, topics.ERROR, ResultKind.TRANSIENT),
    (427, topics.LOGIN, ResultKind.CONFLICT),
    (527, topics.ERROR, ResultKind.CONFLICT),
    (100_000, topics.LOGIN, ResultKind.UNKNOWN),
    (-1, topics.LOGIN, ResultKind.UNKNOWN),
]


def test_each_code_that_is_documented_has_its_row() -> None:
    assert set(CODES) == DOCUMENTED


@pytest.mark.parametrize(("code", "method", "kind"), KINDS)
def test_what_a_code_asks_for(code: int, method: str, kind: ResultKind) -> None:
    assert reason(code, method).kind is kind


def test_an_exception_says_other_than_the_rule() -> None:
    for (code, method), meaning in EXCEPTIONS.items():
        assert method in topics.METHODS
        assert meaning != CODES[code]


@pytest.mark.parametrize(
    "meaning",
    [*CODES.values(), *EXCEPTIONS.values(), reason(7, topics.LOGIN)],
    ids=lambda meaning: str(meaning.reason.code),
)
def test_each_can_be_shown(meaning: ResultMeaning) -> None:
    told = meaning.reason
    if meaning.kind is ResultKind.DONE:
        assert not told.code
        return
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", told.code)
    assert re.fullmatch(r"[A-Z].*\.", told.text)
    if meaning.kind in {
        ResultKind.OPERATOR,
        ResultKind.REMOVED,
        ResultKind.REREGISTER,
        ResultKind.DISABLED,
        ResultKind.CONFLICT,
    }:
        assert re.fullmatch(r"[A-Z].*\.", told.remedy)


def test_one_reason_code_has_one_kind_of_remedy() -> None:
    """Programs go by the code: where it is the same, so is what follows, but for whose secret."""
    kinds: dict[str, set[ResultKind]] = {}
    for meaning in CODES.values():
        kinds.setdefault(meaning.reason.code, set()).add(meaning.kind)
    assert all(len(found) == 1 for found in kinds.values())


@given(st.integers(-(2**32), 2**32), st.sampled_from([*topics.METHODS, topics.ERROR]))
def test_any_code_has_a_meaning(code: int, method: str) -> None:
    told = reason(code, method)
    assert (told.kind is ResultKind.UNKNOWN) == (code not in DOCUMENTED)
    if told.kind is ResultKind.UNKNOWN:
        assert str(code) in told.reason.text
