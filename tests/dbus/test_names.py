"""Object paths, as sd_bus_path_encode(3) makes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.dbus.names import ROOT, device_of, device_path, encode


@pytest.mark.parametrize(("label", "escaped"), [
    ("", "_"), ("cam-03", "cam_2d03"), ("03", "_303"), ("a_b", "a_5fb"), ("\u00fc", "_c3_bc"),
])  # fmt: skip
def test_escaping(label: str, escaped: str) -> None:
    assert encode(label) == escaped


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_each_byte_is_kept_or_escaped_by_itself(label: str) -> None:
    def escape(position: int, byte: int) -> str:
        char = chr(byte)
        plain = char.isascii() and (char.isalpha() or (char.isdigit() and position > 0))
        return char if plain else f"_{byte:02x}"

    bytewise = "".join(escape(i, byte) for i, byte in enumerate(label.encode())) or "_"
    assert encode(label) == bytewise


def test_device_path() -> None:
    assert device_path("child-1f") == "/org/gatewayd1/device/child_2d1f"


@pytest.mark.parametrize("device", ["child-1f", "gateway-huawei", "gateway-9_ü", "9"])
def test_the_child_at_a_path_is_found_again(device: str) -> None:
    assert device_of(device_path(device)) == device


@pytest.mark.parametrize("path", [ROOT, f"{ROOT}/device", "/", ""])
def test_at_any_other_path_there_is_no_child(path: str) -> None:
    assert device_of(path) == ""
