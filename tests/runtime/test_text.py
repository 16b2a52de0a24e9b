"""Text of others, as it is shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.runtime.text import (
    LONGEST_SHARED,
    SHARED,
    escaped,
    one_line,
    shared,
    without_unprintable,
)

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


def decoded(text: str) -> str:
    """Return a text that is no other's object."""
    return text.encode().decode()


def test_what_is_shared_is_one_object_and_what_is_kept_for_that_is_bounded() -> None:
    first = shared(decoded("txt.model"))
    assert shared(decoded("txt.model")) is first == "txt.model"
    for number in range(SHARED):
        shared(decoded(f"hostile {number}"))
    assert shared(again := decoded("txt.model")) is again
    lengthy = "x" * (LONGEST_SHARED + 1)
    assert shared(decoded(lengthy)) is not shared(lengthy)
