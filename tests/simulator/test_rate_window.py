"""The rate limit that all simulated clouds count with."""

from __future__ import annotations

from gatewayd.simulator.rate_window import RateWindow


def test_a_window_slides() -> None:
    window = RateWindow()
    admitted = [window.admits(now, limit=2, seconds=1.0) for now in (0.0, 0.5, 0.9, 1.0, 1.4, 1.5)]
    assert admitted == [True, True, False, True, False, True]


def test_an_event_counts_its_amount() -> None:
    window = RateWindow()
    amounts = [(0.0, 60), (0.1, 50), (0.2, 40), (1.0, 60)]
    assert [window.admits(now, 100, 1.0, amount) for now, amount in amounts] == [
        True, False, True, True,
    ]  # fmt: skip


def test_no_limit_admits_everything_and_remembers_nothing() -> None:
    window = RateWindow()
    assert all(window.admits(0.0, 0, 1.0) for _ in range(1_000))
    assert window == RateWindow()
