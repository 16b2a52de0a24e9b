"""Tables become settings by their declarations; an invalid value is reported, never repeated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.settings.build import SettingsBuilder
from gatewayd.settings.declare import REQUIRED, setting
from gatewayd.settings.files import Document, Problems, lines


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Inner:
    depth: int = setting(1, "how deep", low=1, high=9)

    def warnings(self) -> Iterator[str]:
        if self.depth == 8:
            yield "depth 8 may be too deep"


@dataclass(frozen=True)
class Outer:
    name: str = setting(REQUIRED, "a name")
    count: int = setting(4, "how many", low=1, high=10)
    wait: float = setting(1.5, "how long", unit="s", low=0.5, high=60)
    on: bool = setting(False, "whether")
    file: Path | None = setting(None, "where")
    names: tuple[str, ...] = setting((), "which", choices=("a", "b"))
    sizes: tuple[int, ...] = setting((), "sizes", low=1)
    level: str = setting("low", "how much", choices=("low", "high"))
    colour: Colour = setting(Colour.RED, "of what colour")
    inner: Inner = setting(Inner(), "more")
    table: Mapping[str, Inner] = setting({}, "many")
    rows: tuple[Inner, ...] = setting((), "rows")
    either: Mapping[str, str | tuple[str, ...]] = setting({}, "one or more")

    def problems(self) -> Iterator[str]:
        if self.count == 7:
            yield "count must not be 7"

    def warnings(self) -> Iterator[str]:
        if self.count == 9:
            yield "count 9 may be too many"


def build(text: str) -> tuple[Any, list[str]]:
    path, problems = Path("/etc/x.toml"), Problems()
    document = Document(path, tomli.loads(text), dict(lines(text)))
    made = SettingsBuilder(document, problems).build(Outer, document.table.get("x", {}), ("x",))
    return made, [str(problem) for problem in problems.found]


def test_every_kind_is_built() -> None:
    made, problems = build("""
        [x]
        name = "n"
        count = 10
        wait = 2
        on = true
        file = "/a/b"
        names = ["a", "b"]
        sizes = [1, 2]
        level = "high"
        colour = "blue"
        inner = { depth = 2 }
        rows = [{ depth = 3 }, {}]
        either = { a = "x", b = ["y", "z"] }
        [x.table.one]
        depth = 4
    """)
    assert not problems
    assert made == Outer(
        "n", 10, 2.0, True, Path("/a/b"), ("a", "b"), (1, 2), "high", Colour.BLUE,
        Inner(2), {"one": Inner(4)}, (Inner(3), Inner(1)), {"a": "x", "b": ("y", "z")},
    )  # fmt: skip
    assert isinstance(made.wait, float)


def test_defaults_are_used_for_what_is_not_set() -> None:
    assert build("[x]\nname = 'n'") == (Outer("n"), [])


def test_what_may_be_wrong_is_a_warning_and_the_settings_are_used() -> None:
    made, problems = build("[x]\nname = 'n'\ncount = 9\ninner = { depth = 8 }\n")
    assert made == Outer("n", count=9, inner=Inner(8))
    assert problems == [
        "/etc/x.toml:4: warning: [x.inner]: depth 8 may be too deep",
        "/etc/x.toml:1: warning: [x]: count 9 may be too many",
    ]


@pytest.mark.parametrize(
    ("line", "problem_text"),
    [
        ("cuont = 1", "unknown key 'cuont' in [x]: did you mean 'count'?"),
        ("zzz = 1", "unknown key 'zzz' in [x]: known are colour, count"),
        ("count = 'CANARY'", "x.count must be a whole number, without quotes"),
        ("count = 1.0", "x.count must be a whole number"),
        ("count = true", "x.count must be a whole number"),
        ("count = 0", "x.count must be at least 1"),
        ("count = 11", "x.count must be at most 10"),
        ("count = 7", "[x]: count must not be 7"),
        ("wait = 0.1", "x.wait must be at least 0.5 s"),
        ("wait = nan", "x.wait must be a finite number"),
        ("wait = inf", "x.wait must be a finite number"),
        (f"wait = {10**400}", "x.wait must be a number of 64 bits"),
        (f"count = {-(10**400)}", "x.count must be a number of 64 bits"),
        ("on = 1", "x.on must be true or false"),
        ("on = 2026-01-01", "x.on must be true or false"),
        ("file = 'CANARY'", "x.file must be an absolute path"),
        ("names = 'a'", "x.names must be an array, as ["),
        ("names = [1]", "x.names[1] must be a text"),
        ("names = ['c']", "x.names must be one of a, b"),
        ("sizes = [1, 0]", "x.sizes must be at least 1"),
        ("level = 'CANARY'", "x.level must be one of low, high"),
        ("level = 'hgih'", "did you mean 'high'?"),
        ("colour = 'CANARY'", "x.colour must be one of red, blue"),
        ("colour = 1", "x.colour must be one of red, blue"),
        ("inner = 1", "x.inner must be a table, as {"),
        ("inner = { depth = 10 }", "x.inner.depth must be at most 9"),
        ("inner = { deep = 1 }", "unknown key 'deep' in [x.inner]: did you mean 'depth'?"),
        ("table = 1", "x.table must be a table, as {"),
        ("table = { one = { depth = 0 } }", "x.table.one.depth must be at least 1"),
        ('table = { "\\u001b" = {} }', r"x.table.\x1b is not a name"),
        ("rows = [{}, { depth = 0 }]", "x.rows[2].depth must be at least 1"),
        ("rows = { depth = 1 }", "x.rows must be an array of tables: write [[x.rows]]"),
        ("either = { a = 1 }", "x.either.a must be a text"),
        ("either = { a = [1] }", "x.either.a[1] must be a text"),
        ("product_secret = 'CANARY'", "'product_secret' looks like a secret"),
        ("password = 'CANARY'", "'password' looks like a secret"),
        ("key = 'CANARY'", "'key' looks like a secret"),
        ("inner = { secret = 'CANARY' }", "'secret' looks like a secret"),
    ],
)  # fmt: skip
def test_a_problem_is_reported_where_it_stands(line: str, problem_text: str) -> None:
    made, problems = build(f"[x]\nname = 'n'\n{line}\n")
    assert made is None
    (problem,) = problems
    assert problem_text in problem
    assert problem.startswith(("/etc/x.toml:3: ", "/etc/x.toml:1: [x]: "))
    assert "CANARY" not in problem


def test_a_hostile_key_is_escaped() -> None:
    made, (problem,) = build('[x]\nname = "n"\n"\\u001b[2J" = 1')
    assert made is None
    assert r"unknown key '\x1b[2J' in [x]" in problem


@pytest.mark.parametrize("text", ["a\\u001b[2J", "a\\nb", "a\\u202eb", "x" * 5000])
def test_a_text_is_printable_and_short(text: str) -> None:
    made, (problem,) = build(f'[x]\nname = "{text}"')
    assert made is None
    assert problem == "/etc/x.toml:2: x.name must be a text of at most 4096 printable characters"


def test_a_missing_setting_is_reported_at_the_table() -> None:
    assert build("\n[x]\n") == (None, ["/etc/x.toml:2: x lacks 'name': add it"])


def test_all_problems_are_reported_at_once() -> None:
    _, problems = build("[x]\ncount = 0\nwait = 0\nzzz = 1\ninner = { depth = 0 }\n")
    assert len(problems) == 5


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*Outer.__dataclass_fields__, "zzz"]), VALUES, max_size=5))
def test_any_table_is_built_or_has_a_problem(table: dict[str, Any]) -> None:
    problems = Problems()
    made = SettingsBuilder(Document(Path("/x"), {}, {}), problems).build(Outer, table, ())
    assert (made is None) == bool(problems.found)
    assert all(str(problem).isprintable() for problem in problems.found)
