"""Present, suspect, absent, and too restless to be reported."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.device.identity import DeviceId
from gatewayd.device.reason import NONE
from gatewayd.discovery.discoverer import Sighting
from gatewayd.discovery.presence import (
    CHALLENGED,
    LEFT,
    SILENT,
    Damper,
    FlapRules,
    News,
    Phase,
    Presence,
    Spot,
)

DEVICE = DeviceId("child-1")
PLACE = ("mdns", "x")
RULES = FlapRules()
SIGHTING = Sighting(*PLACE, 0, 60, "", (), None, frozenset(), {}, "")


def a_spot() -> Spot:
    return Spot(DEVICE, PLACE, SIGHTING, until=60)


def coming_and_going(presence: Presence, moments: Iterable[float]) -> list[News]:
    """Let a device come, go, come ... at these moments."""
    told = []
    for moment in moments:
        if presence.spots:
            presence.spots.clear()
        else:
            presence.spots[PLACE] = a_spot()
        told.append(presence.news(moment, RULES))
    return told


def test_a_goodbye_makes_suspect_and_a_sighting_clears_it() -> None:
    spot = a_spot()
    assert spot.doubt(LEFT)
    assert not spot.doubt(SILENT)
    assert (spot.phase, spot.cause) == (Phase.SUSPECT, LEFT)
    assert spot.hear(SIGHTING, 120)
    assert (spot.phase, spot.cause, spot.until) == (Phase.PRESENT, NONE, 120)
    assert not spot.hear(SIGHTING, 180)


def test_a_challenge_wants_an_answer() -> None:
    spot = a_spot()
    assert spot.challenge()
    assert not spot.challenge()
    assert not spot.hear(SIGHTING, 120)
    assert (spot.phase, spot.cause) == (Phase.SUSPECT, CHALLENGED)
    spot.answer()
    assert (spot.phase, spot.verified) == (Phase.PRESENT, True)


def test_only_misses_in_a_row_count() -> None:
    spot = a_spot()
    spot.doubt(LEFT)
    assert [spot.miss(), spot.miss()] == [1, 2]
    spot.hear(SIGHTING, 120)
    spot.doubt(LEFT)
    assert spot.miss() == 1


def test_a_device_is_as_present_as_its_best_spot() -> None:
    assert Presence(DEVICE).phase is Phase.ABSENT
    presence = Presence(DEVICE)
    one, two = a_spot(), a_spot()
    presence.spots = {("mdns", "1"): one, ("mdns", "2"): two}
    one.doubt(LEFT)
    assert presence.phase is Phase.PRESENT
    two.doubt(LEFT)
    assert presence.phase.value == "suspect"


def test_coming_and_going_is_told_once_each() -> None:
    presence = Presence(DEVICE)
    assert presence.news(0, RULES) is News.NOTHING
    assert coming_and_going(presence, [1]) == [News.SEEN]
    assert presence.news(2, RULES) is News.NOTHING
    assert coming_and_going(presence, [3]) == [News.LOST]


def test_a_flapping_device_is_reported_once_more_and_then_when_it_has_calmed_down() -> None:
    presence = Presence(DEVICE)
    told = coming_and_going(presence, range(0, 200, 20))
    assert told == [
        News.SEEN, News.LOST, News.SEEN, News.LOST, News.FLAPPING, *[News.NOTHING] * 5,
    ]  # fmt: skip
    assert presence.flapping
    assert presence.reported is False
    end = presence.damper.release_at(RULES)
    assert presence.news(end - 10, RULES) is News.NOTHING
    assert presence.news(end, RULES) is News.STEADY
    assert not presence.flapping


def test_what_changed_meanwhile_is_told_at_the_release() -> None:
    presence = Presence(DEVICE)
    coming_and_going(presence, range(0, 100, 20))
    assert presence.news(presence.damper.release_at(RULES), RULES) is News.SEEN


def test_one_restart_an_hour_is_no_flapping() -> None:
    presence = Presence(DEVICE)
    moments = [m for hour in range(100) for m in (hour * 3600.0, hour * 3600.0 + 60)]
    assert set(coming_and_going(presence, moments)) == {News.SEEN, News.LOST}


def test_the_penalty_halves_in_its_half_life() -> None:
    damper = Damper()
    damper.strike(0, RULES)
    damper.strike(900, RULES)
    assert damper.sum == pytest.approx(1500)


@given(st.lists(st.floats(0, 3600), max_size=60), st.floats(1, 1000), st.floats(1001, 9000))
def test_a_device_is_always_released_in_the_end(
    waits: list[float], release: float, suppress: float
) -> None:
    rules = FlapRules(1000, 900, suppress, release)
    damper, now = Damper(), 0.0
    for wait in waits:
        now += wait
        damper.strike(now, rules)
        damper.settle(now, rules)
        assert damper.sum <= rules.ceiling
    damper.settle(max(now, damper.release_at(rules)), rules)
    assert not damper.suppressed
