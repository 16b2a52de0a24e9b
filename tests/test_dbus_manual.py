"""The manual page of the D-Bus API says what the interfaces' own files say."""

from __future__ import annotations

import re

import pytest

from gatewayd.dbus.interfaces import SERVED, load
from gatewayd.dbus.names import OBJECT_MANAGER
from tools.dbus_manual import PAGE, comment, escaped, page

OURS = [name for name in SERVED if name != OBJECT_MANAGER]


def test_the_page_is_made_from_the_files() -> None:
    assert PAGE.read_text() == page(), (
        "run python -m tools.dbus_manual > packaging/man/org.gatewayd1.5"
    )


@pytest.mark.parametrize("name", OURS)
def test_every_member_is_described_in_its_section(name: str) -> None:
    _, _, after = PAGE.read_text().partition(f".SH INTERFACE {name}\n")
    section = after.partition("\n.SH ")[0]
    described = re.findall(
        r"^\\fB(\w+)\\fR.*\n\.?\S", section, re.MULTILINE
    )  # and something follows
    info = load(name).info
    members = [m.name for kind in (info.methods, info.signals, info.properties) for m in kind]
    assert described == members


def test_a_comment_is_taken_apart() -> None:
    assert comment("\n    Name:\n    @a: x\n      y\n\n    Text.\n") == (
        "Name",
        "@a: x\ny\n\nText.",
    )


def test_nothing_is_read_as_a_request_to_troff() -> None:
    assert escaped(".SH a-b\\n") == "\\&.SH a\\-b\\en"
