"""What follows from what a code asks for."""

from __future__ import annotations

import pytest

from gatewayd.cloud.provider import (
    Failed,
    LoginError,
    LoginFailed,
    LoginRefused,
    LoginRemoved,
    Refused,
)
from gatewayd.cloud.sub_devices.requests import Pauses
from gatewayd.cloud.sub_devices.result_codes import Coded, Kind
from gatewayd.device.reason import Reason

REASON = Reason("some-code", "Some text.")

FOLLOWS: dict[Kind, tuple[type, type[LoginError], float]] = {
    Kind.DONE: (Refused, LoginFailed, 0),
    Kind.TRANSIENT: (Failed, LoginFailed, 0),
    Kind.PERMANENT: (Refused, LoginFailed, 0),
    Kind.OPERATOR: (Refused, LoginFailed, 0),
    Kind.REMOVED: (Refused, LoginRemoved, 0),
    Kind.REREGISTER: (Refused, LoginRefused, 0),
    Kind.TOPOLOGY: (Refused, LoginFailed, 0),
    Kind.EXISTS: (Refused, LoginFailed, 0),
    Kind.DISABLED: (Failed, LoginFailed, 0),
    Kind.CONFLICT: (Refused, LoginFailed, 300),
    Kind.UNKNOWN: (Failed, LoginFailed, 600),
}


@pytest.mark.parametrize("kind", Kind)
def test_what_follows(kind: Kind) -> None:
    coded = Coded(kind, REASON)
    outcome, error, pause = FOLLOWS[kind]
    assert coded.outcome == outcome(REASON)
    assert type(coded.login_error) is error
    assert coded.login_error.reason == REASON
    assert coded.pause == pause


def test_a_code_may_want_its_own_pause() -> None:
    now = 0.0
    pauses = Pauses[str](lambda: now)
    pauses.note("a", Coded(Kind.TRANSIENT, REASON, wait=60.0))
    pauses.note("b", Coded(Kind.TRANSIENT, REASON))
    pauses.note("c", Coded(Kind.UNKNOWN, REASON))
    assert [pauses.reason(name) for name in "abc"] == [REASON, None, REASON]
    now = 60.0
    assert [pauses.reason(name) for name in "abc"] == [None, None, REASON]
    pauses.end("c")
    assert pauses.reason("c") is None
