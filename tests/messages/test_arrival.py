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
