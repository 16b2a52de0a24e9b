"""A value of the cloud becomes what the device reads, as its own values become the cloud's."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.messages.door_settings import Unit, ValueSettings
from gatewayd.messages.doors.site.values import Scalar, converted, reverted

NUMBERS = [unit for unit in Unit if unit not in (Unit.ON_OFF, Unit.TRUE_FALSE)]


@given(
    st.one_of(st.none(), st.sampled_from(NUMBERS)),
    st.integers(-1000, 1000),
    st.sampled_from([1.0, -2.5, 0.1, 254 / 100]),
    st.integers(-50, 50),
)
def test_there_and_back(unit: Unit | None, value: int, scale: float, offset: float) -> None:
    settings = ValueSettings("x", unit, scale, offset)
    back = converted(reverted(value, settings), settings)
    assert isinstance(back, int | float)
    assert math.isclose(back, value, rel_tol=1e-6, abs_tol=1e-6)


@pytest.mark.parametrize(
    ("value", "settings", "expected"),
    [
        (20, ValueSettings("x", Unit.FAHRENHEIT), 68),
        (1500.0, ValueSettings("x", Unit.KILOWATT), 1.5),
        (50, ValueSettings("x", scale=100 / 254), 127),
        (True, ValueSettings("x", Unit.ON_OFF), "ON"),
        (0, ValueSettings("x", Unit.ON_OFF), "OFF"),
        ("off", ValueSettings("x", Unit.TRUE_FALSE), False),
        (1, ValueSettings("x", Unit.TRUE_FALSE), True),
        (2, ValueSettings("x", Unit.ON_OFF), None),
        (None, ValueSettings("x", Unit.ON_OFF), None),
        ("warm", ValueSettings("x"), "warm"),
        ("warm", ValueSettings("x", scale=2.0), None),
        (True, ValueSettings("x", scale=2.0), None),
        ([1], ValueSettings("x"), None),
        (1.0, ValueSettings("x", scale=1e-12), 10**12),
        (1e300, ValueSettings("x", scale=1e-12), None),
    ],
)
def test_values_of_a_cloud(value: object, settings: ValueSettings, expected: Scalar | None) -> None:
    made = reverted(value, settings)
    assert (made, type(made)) == (expected, type(expected))
