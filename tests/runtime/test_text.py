"""Text of others, as it is shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.runtime.text import escaped, one_line, without_unprintable

HOSTILE = "a\x1b[2J\u202eb\n c\ud800"


def test_what_does_not_print_is_escaped() -> None:
    assert escaped(HOSTILE) == r"a\x1b[2J\u202eb\n c\ud800"
    assert escaped("Zähler 1") == "Zähler 1"


@pytest.mark.parametrize(
    ("text", "line"),
    [(HOSTILE, "a [2J b c"), ("  a\r\n\tb ", "a b"), ("\x00", ""), ("abcdefghij kl", "abcdefghij")],
)
def test_a_text_becomes_one_bounded_line(text: str, line: str) -> None:
    assert one_line(text, 11) == line


def test_what_does_not_print_is_left_out() -> None:
    assert without_unprintable(HOSTILE) == "a[2Jb c"


@given(st.text(st.characters()))
def test_whatever_comes_prints(text: str) -> None:
    for shown in (escaped(text), one_line(text, 20), without_unprintable(text)):
        assert shown.isprintable()
    assert len(one_line(text, 20)) <= 20
