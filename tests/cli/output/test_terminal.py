"""What is printed fits the terminal, and is plain elsewhere."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.cli.output import terminal as module
from gatewayd.cli.output.terminal import (
    RESET,
    STATE_COLOURS,
    Progress,
    Terminal,
    columns_of,
    cut,
    fitted,
    sign_of_life,
)
from gatewayd.device.lifecycle import State


class Screen(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


ROWS = [("child-1", "online", "Küche 厨房传感器"), ("child-2", "failed", "Ga\x1b[31mrage " * 9)]


def test_elsewhere_nothing_is_cut_or_coloured() -> None:
    terminal = Terminal.of(io.StringIO(), {"TERM": "xterm"})
    lines = list(terminal.columns(("ID", "STATE", "NAME"), ROWS))
    assert "\x1b" not in "".join(lines)
    assert lines[2].endswith(r"Ga\x1b[31mrage")
    assert lines[1].index("Küche") == lines[0].index("NAME")


@pytest.mark.parametrize("environ", [{"TERM": "xterm", "NO_COLOR": "1"}, {"TERM": "dumb"}, {}])
def test_colours_can_be_switched_off(environ: dict[str, str]) -> None:
    assert not Terminal.of(Screen(), environ).coloured


@pytest.mark.parametrize("width", [20, 40, 79])
def test_a_table_fits_the_terminal(width: int) -> None:
    plain = list(Terminal(width).columns(("ID", "STATE", "NAME"), ROWS))
    assert all(columns_of(line) <= width or width < 30 for line in plain)
    coloured = list(Terminal(width, coloured=True).columns(("ID", "STATE", "NAME"), ROWS))
    assert any("\x1b[32monline" in line for line in coloured)
    bare = [line.replace(RESET, "") for line in coloured]
    for colour in {*STATE_COLOURS.values(), module.BOLD}:
        bare = [line.replace(colour, "") for line in bare]
    assert [line.rstrip() for line in bare] == plain


def test_every_state_has_a_colour() -> None:
    assert {one.shown for one in State if one is not State.FORGOTTEN} <= STATE_COLOURS.keys()


@pytest.mark.parametrize(("text", "columns"), [
    ("abc", 3), ("厨房", 4), ("u\u0308", 1), ("", 0),
])  # fmt: skip
def test_columns_of_wide_and_combining_characters(text: str, columns: int) -> None:
    assert columns_of(text) == columns


@given(st.text(max_size=30), st.integers(2, 40))
def test_what_is_cut_fits(text: str, width: int) -> None:
    shown = cut(text, width)
    assert columns_of(shown) <= width
    assert shown == text or shown.endswith("\N{HORIZONTAL ELLIPSIS}")


@given(st.lists(st.integers(1, 60), min_size=1, max_size=7), st.integers(0, 200))
def test_no_column_grows_or_vanishes(widths: list[int], most: int) -> None:
    made = list(fitted(widths, most))
    assert all(0 < new <= old for new, old in zip(made, widths, strict=True))
    if not most:
        assert made == widths


def test_a_sign_of_life_comes_late_and_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen()
    with sign_of_life("Waiting", screen):
        end = time.monotonic() + 60
        while "Waiting" not in screen.getvalue():
            assert time.monotonic() < end
            time.sleep(0.01)
    assert screen.getvalue().endswith("\r\x1b[K")


@pytest.mark.parametrize("width", range(1, 200, 7))
@pytest.mark.parametrize("what", ["Importing", "一" * 9])
def test_a_bar_fits_any_terminal_and_grows(what: str, width: int) -> None:
    progress, fills = Progress(), []
    assert columns_of(progress.line(what, 7.0, width)) < max(width, 2)
    for done in (0, 1, 500, 999, 1000, 1001):
        progress.at(done, 1000)
        line = progress.line(what, 7.0, width)
        assert columns_of(line) < max(width, 2)
        fills.append(line.count("#"))
    assert fills == sorted(fills)
    if width > 60:
        assert line.endswith("#] 100 %")
        assert columns_of(line) == width - 1


def test_a_bar_is_drawn_where_the_work_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen()
    with sign_of_life("Importing", screen) as progress:
        progress.at(1, 2)
        end = time.monotonic() + 60
        while "50 %" not in screen.getvalue():
            assert time.monotonic() < end
            time.sleep(0.01)
    assert "#" in screen.getvalue()


def test_none_is_drawn_where_it_is_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen()
    before = threading.active_count()
    with sign_of_life("Importing", screen, wanted=False):
        assert threading.active_count() == before
    assert screen.getvalue() == ""


@pytest.mark.parametrize("make", [io.StringIO, Screen])
def test_what_is_fast_or_elsewhere_gives_none(
    make: Callable[[], io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stream = make()
    with sign_of_life("Waiting", stream):
        pass
    assert stream.getvalue() == ""
