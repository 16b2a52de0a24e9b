"""The time of messages: true also where the clock was wrong at first."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatewayd.messages.outbox import arrival
from gatewayd.messages.outbox.arrival import ArrivalClock, clock_is_right


@pytest.mark.parametrize(("in_step", "serves", "right"), [
    (True, True, True), (True, False, True),
    (False, True, False), (None, True, False),
    (False, False, True), (None, False, True),
])  # fmt: skip
def test_a_clock_is_believed_unless_a_time_service_is_about_to_set_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    in_step: bool | None,
    serves: bool,
    right: bool,
) -> None:
    service = tmp_path / "timesync"
    if serves:
        service.mkdir()
    monkeypatch.setattr(arrival, "synchronised", lambda _: in_step)
    assert clock_is_right([tmp_path / "chrony", service]) is right


def test_what_arrived_before_the_clock_was_set_gets_its_true_time() -> None:
    wall, up, right = 1_000_000_000, 10.0, False
    clock = ArrivalClock(lambda: wall, lambda: up, lambda: right)
    clock.begin(7, {6: 500})
    early = clock.now()
    assert early == (7, 10_000)
    assert clock.time_of(*early) == 0, "not known yet"
    assert clock.time_of(6, 20) == 520, "an earlier boot is known"
    assert clock.time_of(5, 20) == 0
    wall, up, right = 1_800_000_000_000_000, 70.0, True
    assert clock.set_right() == (7, 1_800_000_000_000 - 70_000)
    assert clock.time_of(*early) == 1_800_000_000_000 - 60_000
    assert clock.time_of(*clock.now()) == 1_800_000_000_000


@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("wall", [1_800_000_000, 1_800_000_100, 1_790_000_000])
@pytest.mark.parametrize("up", [70.0, 130.0, 169.9, 170.1])
def test_what_has_waited_too_long_is_seen_by_both_clocks(right: bool, wall: int, up: float) -> None:
    """It is older than a limit exactly where its age is, also where a clock was set back."""
    now, since = 1_800_000_000, 70.0
    clock = ArrivalClock(lambda: now * 1_000_000, lambda: since, lambda: right)
    clock.begin(7, {6: 500})
    early = clock.now()
    if right:
        clock.set_right()
    live = clock.now()
    now, since = wall, up
    for boot, at in (early, live, (6, 20), (5, 20)):
        for limit in (0.0, 60_000.0, 100_000.0):
            assert clock.is_older(boot, at, limit) is (clock.age(boot, at) > limit)
