"""The page that holds the key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gatewayd.secretstore.keypage import KeyPage


def flags_of_new_page(before: set[str]) -> set[str]:
    """VmFlags of the mapping that appeared, see proc_pid_smaps(5)."""
    text = Path("/proc/self/smaps").read_text()
    return set(re.findall(r"VmFlags: (.*)", text)) - before


def test_the_key_is_held_and_wiped() -> None:
    page = KeyPage(b"0123456789abcdef")
    assert page.key.tobytes() == b"0123456789abcdef"
    page.wipe()
    page.wipe()
    with pytest.raises(ValueError, match="released"):
        page.key.tobytes()


def test_the_page_is_not_in_a_core_dump() -> None:
    before = flags_of_new_page(set())
    page = KeyPage(b"x" * 32)
    try:
        assert any("dd" in flags.split() for flags in flags_of_new_page(before))
    finally:
        page.wipe()
