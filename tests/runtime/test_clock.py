"""The clocks of a process, and whether the wall clock can be trusted."""

from __future__ import annotations

import asyncio
import ctypes
import math
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from gatewayd.runtime.clock import (
    BUILT,
    LOOK,
    RECHECK,
    SHORTEST,
    SYSTEM_CLOCK,
    Clock,
    synchronised,
)


def test_a_moment_of_the_steady_clock_has_a_time_of_day() -> None:
    clock = Clock(lambda: 100.0, lambda: 1_700_000_000_500_000)
    assert clock.timestamp() == pytest.approx(1_700_000_000.5)
    assert clock.to_wall(102.5) == 1_700_000_003_000_000
    assert clock.to_wall(99.0) == 1_699_999_999_500_000


def test_the_clock_of_the_system_is_in_microseconds() -> None:
    assert SYSTEM_CLOCK.timestamp() == pytest.approx(time.time(), abs=5)
    assert 0 <= SYSTEM_CLOCK.jitter() < 1


@pytest.mark.parametrize(("moment", "wait"), [
    (1_700_000_060.0, 60.0), (1_700_000_000.0, SHORTEST), (0.0, SHORTEST),
    (1_800_000_000.0, RECHECK), (math.inf, RECHECK),
])  # fmt: skip
def test_the_time_is_read_again_when_something_is_due_and_now_and_then(
    moment: float, wait: float
) -> None:
    at, unset = 1_700_000_000_000_000, 1_800_000_000_000_000
    assert Clock(lambda: 0.0, lambda: at).until_look(moment) == wait
    assert Clock(lambda: 0.0, lambda: at, earliest=unset).until_look(moment) == LOOK


def test_a_clock_from_before_this_release_is_not_set() -> None:
    shown = [0]
    clock = Clock(lambda: 0.0, lambda: shown[0], earliest=BUILT)
    assert not clock.is_set()
    assert "1970-01-01" in clock.fault()
    assert clock.stamp() == BUILT
    shown[0] = -(1 << 62)
    assert "1970-01-01" in clock.fault()
    shown[0] = BUILT
    assert (clock.is_set(), clock.fault(), clock.stamp()) == (True, "", BUILT)
    assert SYSTEM_CLOCK.is_set()


def test_the_day_of_the_release_is_that_of_the_package() -> None:
    changelog = Path(__file__).parents[2] / "packaging/debian/changelog"
    signed = next(line for line in changelog.read_text().splitlines() if line.startswith(" -- "))
    released = parsedate_to_datetime(signed.partition(">")[2].strip())
    assert datetime.fromtimestamp(BUILT / 1e6, UTC).date() == released.date()


@pytest.mark.jumping_clock
async def test_waiting_for_a_clock_ends_when_it_is_set() -> None:
    now = asyncio.get_running_loop().time
    clock = Clock(now, lambda: BUILT if now() > 100 else 7, earliest=BUILT)
    await clock.wait_until_set()
    assert 100 < now() <= 100 + LOOK


class Libc:
    """A libc whose adjtimex(2) answers so."""

    def __init__(self, answer: int) -> None:
        self._answer = answer

    def adjtimex(self, timex: ctypes.Array[ctypes.c_char]) -> int:
        assert timex.raw[:4] == bytes(4)  # modes: nothing is to be changed
        return self._answer


@pytest.mark.parametrize(
    ("answer", "marked", "known"),
    [(0, False, True), (1, False, True), (5, True, False), (-1, True, True), (-1, False, None)],
)
def test_the_kernel_is_believed_before_the_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: int, marked: bool, known: bool | None
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Libc(answer))
    if marked:
        (tmp_path / "synchronized").touch()
    assert synchronised(tmp_path / "synchronized") is known


def test_the_kernel_of_here_has_an_answer(tmp_path: Path) -> None:
    assert synchronised(tmp_path / "none") in (True, False)
