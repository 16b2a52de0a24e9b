"""Present, suspect, absent, and flapping."""

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
    FlapDamper,
    FlapRules,
    Observation,
    Presence,
    PresenceChange,
    PresenceState,
)

DEVICE = DeviceId("child-1")
ORIGIN = ("mdns", "x")
RULES = FlapRules()
SIGHTING = Sighting(*ORIGIN, 0, 60, "", (), None, frozenset(), {}, "")


def an_observation() -> Observation:
    return Observation(DEVICE, ORIGIN, SIGHTING, until=60)


def coming_and_going(presence: Presence, moments: Iterable[float]) -> list[PresenceChange]:
    """Let a device come, go, come ... at these moments."""
    changes = []
    for moment in moments:
        if presence.observations:
            presence.observations.clear()
        else:
            presence.observations[ORIGIN] = an_observation()
        changes.append(presence.update(moment, RULES))
    return changes


def test_a_goodbye_makes_suspect_and_a_sighting_clears_it() -> None:
    observation = an_observation()
    assert observation.suspect(LEFT)
    assert not observation.suspect(SILENT)
    assert (observation.state, observation.cause) == (PresenceState.SUSPECT, LEFT)
    assert observation.refresh(SIGHTING, 120)
    assert (observation.state, observation.cause, observation.until) == (
        PresenceState.PRESENT,
        NONE,
        120,
    )
    assert not observation.refresh(SIGHTING, 180)


def test_a_challenge_wants_an_answer() -> None:
    observation = an_observation()
    assert observation.challenge()
    assert not observation.challenge()
    assert not observation.refresh(SIGHTING, 120)
    assert (observation.state, observation.cause) == (PresenceState.SUSPECT, CHALLENGED)
    observation.confirm(NONE)
    assert (observation.state, observation.verified) == (PresenceState.PRESENT, True)


def test_only_misses_in_a_row_count() -> None:
    observation = an_observation()
    observation.suspect(LEFT)
    assert [observation.miss(), observation.miss()] == [1, 2]
    observation.refresh(SIGHTING, 120)
    observation.suspect(LEFT)
    assert observation.miss() == 1


def test_a_device_is_as_present_as_its_best_observation() -> None:
    assert Presence(DEVICE).state is PresenceState.ABSENT
    presence = Presence(DEVICE)
    one, two = an_observation(), an_observation()
    presence.observations = {("mdns", "1"): one, ("mdns", "2"): two}
    one.suspect(LEFT)
    assert presence.state is PresenceState.PRESENT
    two.suspect(LEFT)
    assert presence.state.value == "suspect"


def test_each_change_is_reported_once() -> None:
    presence = Presence(DEVICE)
    assert presence.update(0, RULES) is PresenceChange.NOTHING
    assert coming_and_going(presence, [1]) == [PresenceChange.SEEN]
    assert presence.update(2, RULES) is PresenceChange.NOTHING
    assert coming_and_going(presence, [3]) == [PresenceChange.LOST]


def test_a_flapping_device_is_reported_once_more_and_then_when_it_is_stable() -> None:
    presence = Presence(DEVICE)
    changes = coming_and_going(presence, range(0, 200, 20))
    first = [PresenceChange.SEEN, PresenceChange.LOST] * 2
    assert changes == [*first, PresenceChange.FLAPPING, *[PresenceChange.NOTHING] * 5]
    assert presence.flapping
    assert presence.reported is False
    end = presence.damper.release_at(RULES)
    assert presence.update(end - 10, RULES) is PresenceChange.NOTHING
    assert presence.update(end, RULES) is PresenceChange.STABLE
    assert not presence.flapping


def test_what_changed_meanwhile_is_reported_at_the_release() -> None:
    presence = Presence(DEVICE)
    coming_and_going(presence, range(0, 100, 20))
    assert presence.update(presence.damper.release_at(RULES), RULES) is PresenceChange.SEEN


def test_one_restart_an_hour_is_no_flapping() -> None:
    presence = Presence(DEVICE)
    moments = [m for hour in range(100) for m in (hour * 3600.0, hour * 3600.0 + 60)]
    assert set(coming_and_going(presence, moments)) == {PresenceChange.SEEN, PresenceChange.LOST}


def test_the_penalty_halves_in_its_half_life() -> None:
    damper = FlapDamper()
    damper.strike(0, RULES)
    damper.strike(900, RULES)
    assert damper.sum == pytest.approx(1500)


@given(st.lists(st.floats(0, 3600), max_size=60), st.floats(1, 1000), st.floats(1001, 9000))
def test_a_device_is_always_released_in_the_end(
    waits: list[float], release: float, suppress: float
) -> None:
    rules = FlapRules(1000, 900, suppress, release)
    damper, now = FlapDamper(), 0.0
    for wait in waits:
        now += wait
        damper.strike(now, rules)
        damper.settle(now, rules)
        assert damper.sum <= rules.ceiling
    damper.settle(max(now, damper.release_at(rules)), rules)
    assert not damper.suppressed
