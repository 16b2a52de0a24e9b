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
from gatewayd.cloud.sub_devices.result_codes import Cooldown, ResultKind, ResultMeaning
from gatewayd.device.reason import Reason

REASON = Reason("some-code", "Some text.")

FOLLOWS: dict[ResultKind, tuple[type, type[LoginError], float]] = {
    ResultKind.DONE: (Refused, LoginFailed, 0),
    ResultKind.TRANSIENT: (Failed, LoginFailed, 0),
    ResultKind.PERMANENT: (Refused, LoginFailed, 0),
    ResultKind.OPERATOR: (Refused, LoginFailed, 0),
    ResultKind.REMOVED: (Refused, LoginRemoved, 0),
    ResultKind.REREGISTER: (Refused, LoginRefused, 0),
    ResultKind.TOPOLOGY: (Refused, LoginFailed, 0),
    ResultKind.EXISTS: (Refused, LoginFailed, 0),
    ResultKind.DISABLED: (Failed, LoginFailed, 0),
    ResultKind.CONFLICT: (Refused, LoginFailed, 300),
    ResultKind.UNKNOWN: (Failed, LoginFailed, 600),
}


@pytest.mark.parametrize("kind", ResultKind)
def test_what_follows(kind: ResultKind) -> None:
    meaning = ResultMeaning(kind, REASON)
    outcome, error, pause = FOLLOWS[kind]
    assert meaning.outcome == outcome(REASON)
    assert type(meaning.login_error) is error
    assert meaning.login_error.reason == REASON
    assert meaning.pause == pause


def test_a_code_may_want_its_own_pause() -> None:
    now = 0.0
    cooldown = Cooldown[str](lambda: now)
    cooldown.start("a", ResultMeaning(ResultKind.TRANSIENT, REASON, wait=60.0))
    cooldown.start("b", ResultMeaning(ResultKind.TRANSIENT, REASON))
    cooldown.start("c", ResultMeaning(ResultKind.UNKNOWN, REASON))
    assert [cooldown.reason(name) for name in "abc"] == [REASON, None, REASON]
    now = 60.0
    assert [cooldown.reason(name) for name in "abc"] == [None, None, REASON]
    cooldown.end("c")
    assert cooldown.reason("c") is None
