"""The names of slots."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.device.identity import DeviceId
from gatewayd.device.secret import SecretRef
from gatewayd.secretstore.store import entry_name, parse_entry_name, username_range

words = st.text(
    st.characters(exclude_characters="/#", exclude_categories=["C", "Z"]), min_size=1
).filter(str.isprintable)
refs = st.builds(SecretRef, words, words.map(DeviceId), st.integers(0, 10**9), words)


@given(refs)
def test_a_name_leads_back_to_its_slot(ref: SecretRef) -> None:
    assert parse_entry_name(*entry_name(ref)) == ref


@given(refs, words.map(DeviceId))
def test_a_prefix_holds_the_names_of_one_device(ref: SecretRef, device: DeviceId) -> None:
    low, high = username_range(device)
    assert (low <= entry_name(ref)[1] < high) == (ref.device == device)


@pytest.mark.parametrize(
    ("service", "username"),
    [
        ("other/cloud", "child-1/device-secret#1"),
        ("gatewayd/cloud", "child-1"),
        ("gatewayd/cloud", "child-1/device-secret#"),
        ("gatewayd/cloud", "child-1/device-secret#-1"),
        ("gatewayd/cloud", "child-1/device-secret#٣"),
        ("gatewayd/cloud", "/device-secret#1"),
        ("gatewayd/cloud", "child-1/#1"),
        ("gatewayd/cloud", "child-1/device-secret#01"),
        ("gatewayd/cloud", "child-1/device-secret#" + "1" * 5000),
        ("gatewayd/cloud", "chil\udce4-1/device-secret#1"),
        ("gatewayd/cl\x1bud", "child-1/device-secret#1"),
    ],
)
def test_other_names_are_no_slots(service: str, username: str) -> None:
    assert parse_entry_name(service, username) is None
