"""The table of codes: complete, and what it says can be shown."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.cloud.alibaba import topics
from gatewayd.cloud.alibaba.result_codes import CODES, EXCEPTIONS, reason
from gatewayd.cloud.sub_devices.result_codes import Coded, Kind

DOCUMENTED = {
    200, 400, 401, 427, 428, 429, 460, 500, 520, 521, 522, 527, 5005, 5244, 6100, 6203, 6204,
    6250, 6280, 6287, 6288, 6289, 6292, 6356, 6357, 6400, 6401, 6402, 6450, 6600, 6619, 6760,
}  # fmt: skip

KINDS: list[tuple[int, str, Kind]] = [
    (200, topics.TOPO_GET, Kind.DONE),
    (429, topics.TOPO_ADD, Kind.TRANSIENT),
    (500, topics.SUB_REGISTER, Kind.TRANSIENT),
    (460, topics.LOGIN, Kind.PERMANENT),
    (6203, topics.LOGIN, Kind.PERMANENT),
    (6402, topics.TOPO_ADD, Kind.PERMANENT),
    (6100, topics.SUB_REGISTER, Kind.OPERATOR),
    (6288, topics.SUB_REGISTER, Kind.OPERATOR),
    (6289, topics.SUB_REGISTER, Kind.OPERATOR),
    (6619, topics.SUB_REGISTER, Kind.OPERATOR),
    (6400, topics.TOPO_ADD, Kind.OPERATOR),
    (428, topics.BATCH_LOGIN, Kind.OPERATOR),
    (521, topics.LOGIN, Kind.REMOVED),
    (522, topics.LOGIN, Kind.DISABLED),
    (6204, topics.TOPO_ADD, Kind.DISABLED),
    (401, topics.TOPO_ADD, Kind.REREGISTER),
    (401, topics.SUB_REGISTER, Kind.PERMANENT),
    (6287, topics.LOGIN, Kind.REREGISTER),
    (6287, topics.PRODUCT_REGISTER, Kind.OPERATOR),
    (6600, topics.PRODUCT_REGISTER, Kind.OPERATOR),
    (6401, topics.LOGIN, Kind.TOPOLOGY),
    (6401, topics.ERROR, Kind.TOPOLOGY),
    (6401, topics.TOPO_DELETE, Kind.DONE),
    (6100, topics.TOPO_DELETE, Kind.DONE),
    (520, topics.LOGOUT, Kind.DONE),
    (520, topics.BATCH_LOGOUT, Kind.DONE),
    (520, topics.ERROR, Kind.TRANSIENT),
    (427, topics.LOGIN, Kind.CONFLICT),
    (527, topics.ERROR, Kind.CONFLICT),
    (100_000, topics.LOGIN, Kind.UNKNOWN),
    (-1, topics.LOGIN, Kind.UNKNOWN),
]


def test_each_code_that_is_documented_has_its_row() -> None:
    assert set(CODES) == DOCUMENTED


@pytest.mark.parametrize(("code", "method", "kind"), KINDS)
def test_what_a_code_asks_for(code: int, method: str, kind: Kind) -> None:
    assert reason(code, method).kind is kind


def test_an_exception_says_other_than_the_rule() -> None:
    for (code, method), coded in EXCEPTIONS.items():
        assert method in topics.METHODS
        assert coded != CODES[code]


@pytest.mark.parametrize(
    "coded",
    [*CODES.values(), *EXCEPTIONS.values(), reason(7, topics.LOGIN)],
    ids=lambda coded: str(coded.reason.code),
)
def test_each_can_be_shown(coded: Coded) -> None:
    told = coded.reason
    if coded.kind is Kind.DONE:
        assert not told.code
        return
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", told.code)
    assert re.fullmatch(r"[A-Z].*\.", told.text)
    if coded.kind in {Kind.OPERATOR, Kind.REMOVED, Kind.REREGISTER, Kind.DISABLED, Kind.CONFLICT}:
        assert re.fullmatch(r"[A-Z].*\.", told.remedy)


def test_one_reason_code_has_one_kind_of_remedy() -> None:
    """Programs go by the code: where it is the same, so is what follows, but for whose secret."""
    kinds: dict[str, set[Kind]] = {}
    for coded in CODES.values():
        kinds.setdefault(coded.reason.code, set()).add(coded.kind)
    assert all(len(found) == 1 for found in kinds.values())


@given(st.integers(-(2**32), 2**32), st.sampled_from([*topics.METHODS, topics.ERROR]))
def test_any_code_has_a_meaning(code: int, method: str) -> None:
    told = reason(code, method)
    assert (told.kind is Kind.UNKNOWN) == (code not in DOCUMENTED)
    if told.kind is Kind.UNKNOWN:
        assert str(code) in told.reason.text
