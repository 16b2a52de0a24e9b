"""Who may change something."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gatewayd.errors import AccessDenied, CallerError
from gatewayd.status.authorization import ACTIONS, Authorizer, decide
from gatewayd.status.requests import CHANGES


def test_every_change_has_its_action() -> None:
    assert set(ACTIONS) == set(CHANGES)


@pytest.mark.parametrize("uid", [0, 990])
def test_root_and_the_daemons_own_user_may(uid: int) -> None:
    assert decide("Forget", uid, 990) == f"uid {uid}"


@pytest.mark.parametrize("uid", [1000, 65534, None])
def test_nobody_else_may(uid: int | None) -> None:
    with pytest.raises(AccessDenied, match=r"org\.gatewayd1\.forget-device"):
        decide("Forget", uid, 990)


def test_what_is_not_in_the_table_nobody_may() -> None:
    with pytest.raises(AccessDenied):
        decide("Explode", 0, 0)


@pytest.mark.parametrize(("uid", "expected"), [(0, "uid 0"), (1, "AccessDenied")])
def test_the_answer_comes_when_the_bus_has_answered(uid: int, expected: str) -> None:
    waiting: list[Callable[[int | None], None]] = []
    told: list[str] = []

    def refused(error: CallerError) -> None:
        told.append(type(error).__name__)

    authorizer = Authorizer(lambda _, done: waiting.append(done), own=0)
    authorizer.check("Retry", ":1.7", told.append, refused)
    assert not told
    waiting[0](uid)
    assert told == [expected]
