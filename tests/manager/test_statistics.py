"""How the children of each cloud do, counted as they are shown."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.device.reason import NONE
from gatewayd.manager.statistics import MAX_REASONS, OUT, DeviceStatistics, phase_of
from tests.dbus.support import view
from tests.support.fakes import RecordingReporter

STATES = (
    "discovered", "pending", "rejected", "admitted", "registering", "securing", "registered",
    "activating", "online", "offline", "failed", "retired",
)  # fmt: skip


def child(state: str, **more: Any) -> dict[str, Any]:
    """A child of the cloud; "late" is tried again later."""
    late = more.pop("late", "")
    shown: dict[str, Any] = {"provider": "ali", "state": state, "substate": "", "reason": ""}
    if late:
        shown |= {"reason": late, "explanation": f"It is {late}.", "next_attempt": 9}
    return shown | more


def standing(*children: dict[str, Any]) -> tuple[int, int, str, str]:
    statistics = DeviceStatistics(RecordingReporter())
    for number, shown in enumerate(children):
        statistics.show(view(f"child-{number}", **shown))
    counted = statistics.of("ali")
    return counted.devices, counted.queued, counted.state, counted.reason.code


@pytest.mark.parametrize(("children", "expected"), [
    ([], (0, 0, "idle", "")),
    ([child("pending"), child("rejected"), child("retired")], (0, 0, "idle", "")),
    ([child("offline", substate="absent", reason="goodbye")], (1, 0, "idle", "")),
    ([child("online"), child("admitted", reason="approved")], (2, 1, "ready", "")),
    ([child("registering"), child("securing"), child("activating")], (3, 2, "connecting", "")),
    ([child("online"), child("offline", late="lost")], (2, 0, "degraded", "lost")),
    ([child("admitted", late="down"), child("offline", late="down")], (2, 1, "failed", "down")),
    ([child("failed", reason="no-product")], (1, 0, "failed", "no-product")),
    ([child("failed", reason="mine"), child("online")], (2, 0, "ready", "")),
    ([child("online"), child("admitted", late="throttled")], (2, 1, "throttled", "throttled")),
    ([child("admitted", late="throttled"), child("admitted", late="down")] * 2
     + [child("online"), child("admitted", late="down")], (6, 5, "degraded", "down")),
    ([child("online", provider="other"), child("online", provider="")], (0, 0, "idle", "")),
    ([child("rejected", secret_state="stored")], (0, 0, "idle", "")),
])  # fmt: skip
def test_a_cloud_does_as_its_children_do(
    children: list[dict[str, Any]], expected: tuple[int, int, str, str]
) -> None:
    assert standing(*children) == expected


def test_a_reason_comes_with_its_sentences() -> None:
    statistics = DeviceStatistics(RecordingReporter())
    statistics.show(view("a", **child("admitted", late="down", remedy="Wait.")))
    reason = statistics.of("ali").reason
    assert (reason.code, reason.text, reason.remedy) == ("down", "It is down.", "Wait.")
    statistics.show(view("a", **child("online")))
    assert statistics.of("ali").reason is NONE


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["", *STATES]), st.booleans())))
def test_counts_are_what_counting_all_would_give(steps: list[tuple[int, str, bool]]) -> None:
    statistics, shown = DeviceStatistics(RecordingReporter()), {}
    for number, state, stored in steps:
        if state:
            secret = "stored" if stored else "none"
            one = view(f"child-{number}", **child(state, secret_state=secret))
            shown[one.id] = one
            statistics.show(one)
        else:
            device = view(f"child-{number}").id
            shown.pop(device, None)
            statistics.remove(device)
    assert statistics.of("ali").devices == sum(phase_of(one) is not OUT for one in shown.values())
    assert statistics.secrets == sum(one.secret_state == "stored" for one in shown.values())
    assert all(n > 0 for counts in statistics._counts.values() for n in counts.values())
    assert set(statistics._shared) == {
        key for counts in statistics._counts.values() for key in counts
    }


def test_it_passes_on_what_it_is_told() -> None:
    tape = RecordingReporter()
    statistics = DeviceStatistics(tape)
    one = view("child-1", **child("online"))
    statistics.show(one)
    assert tape.shown == {one.id: one}
    statistics.remove(one.id)
    assert tape.shown == {}


def test_the_reasons_that_are_remembered_are_bounded() -> None:
    statistics = DeviceStatistics(RecordingReporter())
    for number in range(MAX_REASONS + 5):
        statistics.show(view(f"child-{number}", **child("admitted", late=f"reason-{number}")))
    assert len(statistics._reasons) == MAX_REASONS
