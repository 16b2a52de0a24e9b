"""The page that holds the key."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from gatewayd.secretstore.vault.memory import KeyPage


def flags(address: int) -> list[str]:
    """Return the VmFlags of the mapping at an address, see proc_pid_smaps(5)."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, *rest = line.split()
        if not name.endswith(":"):
            low, high = (int(text, 16) for text in name.split("-"))
            inside = low <= address < high
        elif inside and name == "VmFlags:":
            return rest
    return []


def test_the_key_is_held_and_wiped() -> None:
    page = KeyPage(b"0123456789abcdef")
    assert page.key.tobytes() == b"0123456789abcdef"
    page.wipe()
    page.wipe()
    with pytest.raises(ValueError, match="released"):
        page.key.tobytes()


def test_the_page_is_not_in_a_core_dump() -> None:
    page = KeyPage(b"x" * 32)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page.key))
    assert "dd" in flags(address)
    page.wipe()
