"""When to try again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gatewayd.runtime.backoff import delay


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_delay_doubles_up_to_its_limit(failures: int, jitter: float) -> None:
    wait = delay(failures, 15.0, 600.0, jitter)
    assert 12.0 <= wait <= 720.0
    assert delay(failures + 1, 15.0, 600.0, jitter) >= wait
