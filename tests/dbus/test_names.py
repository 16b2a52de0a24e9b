"""Object paths, as sd_bus_path_encode(3) makes them."""

from __future__ import annotations

import pytest

from gatewayd.dbus.names import device_path, encode


@pytest.mark.parametrize(("label", "escaped"), [
    ("", "_"), ("cam-03", "cam_2d03"), ("03", "_303"), ("a_b", "a_5fb"), ("\u00fc", "_c3_bc"),
])  # fmt: skip
def test_escaping(label: str, escaped: str) -> None:
    assert encode(label) == escaped


def test_device_path() -> None:
    assert device_path("child-1f") == "/org/gatewayd1/device/child_2d1f"
