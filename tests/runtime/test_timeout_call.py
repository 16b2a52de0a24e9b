"""Blocking calls with a timeout."""

from __future__ import annotations

import threading

import pytest

from gatewayd.runtime.timeout_call import CallTimeout, TimeoutCall, call_with_timeout


def _fail() -> int:
    raise OSError("no such device")


def test_a_call_returns_its_result_or_raises_its_error() -> None:
    assert call_with_timeout(lambda: 3, 20.0) == 3
    with pytest.raises(OSError, match="no such device"):
        call_with_timeout(_fail, 20.0)


def test_a_late_result_can_be_asked_for_again() -> None:
    go_on = threading.Event()
    call = TimeoutCall(lambda: go_on.wait(20.0))
    with pytest.raises(CallTimeout):
        call.result(0.01)
    assert call.running
    go_on.set()
    assert call.result(20.0) is True
    assert not call.running
