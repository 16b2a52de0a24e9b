"""The table of codes: complete, and what it says can be shown."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.cloud.alibaba import alink
from gatewayd.cloud.alibaba.result_codes import CODES, EXCEPTIONS, reason
from gatewayd.cloud.sub_devices.result_codes import ResultKind, ResultMeaning

DOCUMENTED = {
    200, 400, 401, 427, 428, 429, 460, 500, 520, 521, 522, 527, 5005, 5244, 6100, 6203, 6204,
    6250, 6280, 6287, 6288, 6289, 6292, 6356, 6357, 6400, 6401, 6402, 6450, 6600, 6619, 6760,
}  # fmt: skip

KINDS: list[tuple[int, str, ResultKind]] = [
    (200, alink.TOPO_GET, ResultKind.DONE),
    (429, alink.TOPO_ADD, ResultKind.TRANSIENT),
    (500, alink.SUB_REGISTER, ResultKind.TRANSIENT),
    (460, alink.LOGIN, ResultKind.PERMANENT),
    (6203, alink.LOGIN, ResultKind.PERMANENT),
    (6402, alink.TOPO_ADD, ResultKind.PERMANENT),
    (6100, alink.SUB_REGISTER, ResultKind.OPERATOR),
    (6288, alink.SUB_REGISTER, ResultKind.OPERATOR),
    (6289, alink.SUB_REGISTER, ResultKind.OPERATOR),
    (6619, alink.SUB_REGISTER, ResultKind.OPERATOR),
    (6400, alink.TOPO_ADD, ResultKind.OPERATOR),
    (428, alink.BATCH_LOGIN, ResultKind.OPERATOR),
    (521, alink.LOGIN, ResultKind.REMOVED),
    (522, alink.LOGIN, ResultKind.DISABLED),
    (6204, alink.TOPO_ADD, ResultKind.DISABLED),
    (401, alink.TOPO_ADD, ResultKind.REREGISTER),
    (401, alink.SUB_REGISTER, ResultKind.PERMANENT),
    (6287, alink.LOGIN, ResultKind.REREGISTER),
    (6287, alink.PRODUCT_REGISTER, ResultKind.OPERATOR),
    (6600, alink.PRODUCT_REGISTER, ResultKind.OPERATOR),
    (6401, alink.LOGIN, ResultKind.TOPOLOGY),
    (6401, alink.ERROR, ResultKind.TOPOLOGY),
    (6401, alink.TOPO_DELETE, ResultKind.DONE),
    (6100, alink.TOPO_DELETE, ResultKind.DONE),
    (520, alink.LOGOUT, ResultKind.DONE),
    (520, alink.BATCH_LOGOUT, ResultKind.DONE),
    (520, alink.ERROR, ResultKind.TRANSIENT),
    (427, alink.LOGIN, ResultKind.CONFLICT),
    (527, alink.ERROR, ResultKind.CONFLICT),
    (100_000, alink.LOGIN, ResultKind.UNKNOWN),
    (-1, alink.LOGIN, ResultKind.UNKNOWN),
]


def test_each_code_that_is_documented_has_its_row() -> None:
    assert set(CODES) == DOCUMENTED


@pytest.mark.parametrize(("code", "method", "kind"), KINDS)
def test_what_a_code_asks_for(code: int, method: str, kind: ResultKind) -> None:
    assert reason(code, method).kind is kind


def test_an_exception_says_other_than_the_rule() -> None:
    for (code, method), meaning in EXCEPTIONS.items():
        assert method in alink.METHODS
        assert meaning != CODES[code]


@pytest.mark.parametrize(
    "meaning",
    [*CODES.values(), *EXCEPTIONS.values(), reason(7, alink.LOGIN)],
    ids=lambda meaning: str(meaning.reason.code),
)
def test_each_can_be_shown(meaning: ResultMeaning) -> None:
    found = meaning.reason
    if meaning.kind is ResultKind.DONE:
        assert not found.code
        return
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", found.code)
    assert re.fullmatch(r"[A-Z].*\.", found.text)
    if meaning.kind in {
        ResultKind.OPERATOR,
        ResultKind.REMOVED,
        ResultKind.REREGISTER,
        ResultKind.DISABLED,
        ResultKind.CONFLICT,
    }:
        assert re.fullmatch(r"[A-Z].*\.", found.remedy)


def test_one_reason_code_has_one_kind_of_remedy() -> None:
    """Programs go by the code: where it is the same, so is what follows, but for whose secret."""
    kinds: dict[str, set[ResultKind]] = {}
    for meaning in CODES.values():
        kinds.setdefault(meaning.reason.code, set()).add(meaning.kind)
    assert all(len(found) == 1 for found in kinds.values())


@given(st.integers(-(2**32), 2**32), st.sampled_from([*alink.METHODS, alink.ERROR]))
def test_any_code_has_a_meaning(code: int, method: str) -> None:
    found = reason(code, method)
    assert (found.kind is ResultKind.UNKNOWN) == (code not in DOCUMENTED)
    if found.kind is ResultKind.UNKNOWN:
        assert str(code) in found.reason.text
