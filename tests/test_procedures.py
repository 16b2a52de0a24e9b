"""The tables of the vendors' procedures: each line is there, and its test sees it broken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tools import broken_lines, procedures
from tools.broken_lines import Verdict
from tools.procedures import FOLDER, NAMES, ROOT, ProcedureRow, all_rows, named_tests

ROWS = [row for row in all_rows() if not row.none]
TRIED = ("alibaba.password", "huawei.device-id")
"""Rows whose lines are broken here, of pure code; python -m tools.broken_lines breaks all."""


@pytest.mark.parametrize("name", NAMES)
def test_the_page_is_made_from_the_table(name: str) -> None:
    made = procedures.page(procedures.load(name))
    assert (FOLDER / f"{name}.md").read_text() == made, "run python -m tools.procedures"


def test_the_line_of_each_row_is_there_once_and_can_be_broken() -> None:
    wrong = []
    for row in ROWS:
        try:
            row.break_line((ROOT / row.module).read_text())
        except (ValueError, SyntaxError) as error:
            wrong.append(f"{row.name}: {error}")
    assert not wrong, "correct docs/procedures/*.toml, then run python -m tools.procedures"


def test_the_test_of_each_row_is_there_once() -> None:
    wrong = [f"{row.name}: {row.test}" for row in ROWS if named_tests(row.test) != 1]
    assert not wrong, "correct docs/procedures/*.toml, then run python -m tools.procedures"


def test_what_is_not_done_has_a_reason() -> None:
    none = [row for row in all_rows() if row.none]
    assert all("page" in row.none and row.page for row in none)
    assert len(none) < len(ROWS) / 10


def test_tests_are_found_where_they_are() -> None:
    here = "tests/test_procedures.py"
    assert named_tests(f"{here}::test_tests_are_found_where_they_are") == 1
    assert named_tests(f"{here}::test_of_nothing") == named_tests("tests/none.py::test_x") == 0
    contract = "tests/cloud/alibaba/test_provider.py::TestAlibaba"
    assert named_tests(f"{contract}::test_the_secret_opens_a_session") == 1
    assert named_tests(f"{contract}::test_of_nothing") == named_tests(f"{contract}x::test_x") == 0


SOURCE = "def double(n: int) -> int:\n    return 2 * n\n"
ROW = ProcedureRow(
    "vendor", "double", "A section", "Two of each.", ("page",), "So it does.",
    "product.py", "2 * n", "3 * n", "test_product.py::test_two",
)  # fmt: skip
TESTS = """\
from product import double

def test_two():
    assert double(2) == 4

def test_weak():
    assert double(0) == 0
"""


@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        (ROW, Verdict.SEEN),
        (replace(ROW, test="test_product.py::test_weak"), Verdict.NOT_SEEN),
        (replace(ROW, none="The page has no such thing."), Verdict.NONE),
    ],
)
def test_a_broken_line_is_seen_or_not(tmp_path: Path, row: ProcedureRow, verdict: Verdict) -> None:
    (tmp_path / "product.py").write_text(SOURCE)
    (tmp_path / "test_product.py").write_text(TESTS)
    trial = broken_lines.try_row(row, tmp_path, 1)
    assert trial.verdict is verdict, trial.output
    assert (tmp_path / "product.py").read_text() == SOURCE


@pytest.mark.parametrize(
    ("line", "broken"), [("4 * n", "n"), ("n", "m"), ("2 * n", "2  *  n"), ("2 * n", "2 *")]
)
def test_a_line_that_cannot_be_broken_so(line: str, broken: str) -> None:
    with pytest.raises((ValueError, SyntaxError)):
        replace(ROW, line=line, broken=broken).break_line(SOURCE)


@pytest.mark.parametrize(
    ("status", "output", "verdict"),
    [
        (None, "", Verdict.HANGS),
        (0, "1 passed in 0.1s", Verdict.NOT_SEEN),
        (1, "E   no\n1 failed in 0.1s\nan error at the exit", Verdict.SEEN),
        (1, "2 passed, 1 error in 0.1s", Verdict.BROKEN),
        (2, "1 error in 0.1s", Verdict.BROKEN),
        (4, "no tests ran in 0.1s", Verdict.BROKEN),
    ],
)
def test_only_a_test_that_has_failed_has_seen_it(
    status: int | None, output: str, verdict: Verdict
) -> None:
    assert broken_lines.verdict_of(status, output) is verdict


def test_some_lines_are_broken() -> None:
    rows = [row for row in ROWS if row.name in TRIED]
    trials = list(broken_lines.try_rows(rows, jobs=1))
    assert [trial.verdict for trial in trials] == [Verdict.SEEN, Verdict.SEEN], trials
    assert "2 broken lines seen by their tests, 0 not done" in broken_lines.summary(trials)


def test_a_row_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        broken_lines.run(["alibaba.nothing"])
    assert "there is no row alibaba.nothing" in capsys.readouterr().err
