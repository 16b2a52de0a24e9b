"""Break the line of each row of docs/procedures/ in a copy of the tree, and see its test fail.

python -m tools.broken_lines [--jobs N] [ROW...]

Without a row, all of them: some six minutes on two cores.  Prints a line for each row, and a sum.
Exit status 1 if a test did not fail, 2 if one fails though nothing is broken.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tools.procedures import ROOT, ProcedureRow, all_rows

PATIENCE = 180.0
"""Seconds for one row: a test that hangs where its line is broken has shown nothing."""
COPIED = ("gatewayd", "tests", "tools", "script", "docs/examples", "docs/procedures",
          "pyproject.toml")  # fmt: skip
"""What tests need of the tree."""
_LEFT_OUT = shutil.ignore_patterns("__pycache__", ".*", "build", "*.egg-info")
_FAILED = re.compile(r"^\d+ failed\b", re.MULTILINE)
_TESTS_FAILED = 1
"""The exit status of pytest where tests failed, and it had no other trouble."""


class Verdict(StrEnum):
    """What became of the test of a row."""

    SEEN = "seen"  # it failed, as it must
    NOT_SEEN = "NOT SEEN"  # it passed
    BROKEN = "NOT RUN"  # it was not run, or failed outside of the test: another line is needed
    HANGS = "HANGS"
    NONE = "not done"  # for a reason of the vendor's


FINDINGS = frozenset({Verdict.NOT_SEEN, Verdict.BROKEN, Verdict.HANGS})


@dataclass(frozen=True, slots=True)
class Trial:
    """A row that was tried.  seconds: how long it took.  output: what pytest printed."""

    row: ProcedureRow
    verdict: Verdict
    seconds: float
    output: str = ""

    def __str__(self) -> str:
        what = self.row.none or self.row.test
        return f"{self.verdict:<9} {self.seconds:5.1f} s  {self.row.name:<34} {what}"


@contextlib.contextmanager
def scratch(top: Path = ROOT, copied: Sequence[str] = COPIED) -> Iterator[Path]:
    """Yield a copy of the tree, which is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="gatewayd-broken-") as name:
        copy = Path(name)
        for one in copied:
            source, target = top / one, copy / one
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=_LEFT_OUT)
            elif source.exists():
                shutil.copy2(source, target)
        yield copy


def run_tests(
    copy: Path, tests: Iterable[str], seconds: float = PATIENCE
) -> tuple[int | None, str]:
    """Run tests in a copy; return pytest's exit status, None if it was ended, and its output."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    process = subprocess.Popen(  # noqa: S603  # ours
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--tb=line",
         "--no-header", *tests],
        cwd=copy, env={**environ, "PYTHONPYCACHEPREFIX": str(copy / ".compiled")}, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=seconds)
    except BaseException as error:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            return None, output
        raise
    return process.returncode, output


def try_row(row: ProcedureRow, copy: Path, number: int) -> Trial:
    """Break a line in a copy, run its test, and mend the line.

    number: another one for each row, for which the broken module has a time of its own: compiled
    modules are known by time and size.
    """
    begin = time.monotonic()
    if row.none:
        return Trial(row, Verdict.NONE, 0.0)
    module = copy / row.module
    whole, times = module.read_text(), module.stat()
    module.write_text(row.break_line(whole))
    os.utime(module, (number, number))
    try:
        status, output = run_tests(copy, [row.test])
    finally:
        module.write_text(whole)
        os.utime(module, ns=(times.st_atime_ns, times.st_mtime_ns))
    return Trial(row, verdict_of(status, output), time.monotonic() - begin, output)


def verdict_of(status: int | None, output: str) -> Verdict:
    """Return what pytest's exit status, None where it was ended, and its output mean."""
    if status is None:
        return Verdict.HANGS
    if status == 0:
        return Verdict.NOT_SEEN
    return Verdict.SEEN if status == _TESTS_FAILED and _FAILED.search(output) else Verdict.BROKEN


def try_rows(rows: Sequence[ProcedureRow], jobs: int) -> Iterator[Trial]:
    """Try rows, so many at a time, each in a copy that no other uses; yield them in their order."""
    with contextlib.ExitStack() as stack:
        copies: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for _ in range(min(jobs, len(rows))):
            copies.put(stack.enter_context(scratch()))

        def one(item: tuple[int, ProcedureRow]) -> Trial:
            copy = copies.get()
            try:
                return try_row(item[1], copy, item[0])
            finally:
                copies.put(copy)

        pool = stack.enter_context(ThreadPoolExecutor(jobs))
        yield from pool.map(one, enumerate(rows, start=1))


def check_whole(rows: Iterable[ProcedureRow]) -> str:
    """Run all the tests where nothing is broken; return what pytest printed if one fails."""
    tests = sorted({row.test for row in rows if row.test})
    with scratch() as copy:
        status, output = run_tests(copy, tests, PATIENCE * 5)
    return output if status else ""


def run(arguments: Sequence[str]) -> int:
    """Parse the arguments, try the rows, print; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.broken_lines", description=__doc__)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N")
    parser.add_argument("--show", action="store_true", help="show what pytest printed")
    parser.add_argument("rows", nargs="*", metavar="ROW")
    options = parser.parse_args(arguments)
    rows = [row for row in all_rows() if row.name in options.rows or not options.rows]
    if unknown := set(options.rows) - {row.name for row in rows}:
        parser.error(f"there is no row {', '.join(sorted(unknown))}")
    if failed := check_whole(rows):
        print(f"A test fails though nothing is broken.\n{failed}")
        return 2
    trials = []
    for trial in try_rows(rows, options.jobs):
        print(trial, flush=True)
        if options.show or trial.verdict in FINDINGS:
            print(trial.output, flush=True)
        trials.append(trial)
    print(summary(trials))
    return 1 if any(trial.verdict in FINDINGS for trial in trials) else 0


def summary(trials: Sequence[Trial]) -> str:
    """Return the sum of trials, in one line."""
    seen, none = (sum(t.verdict is one for t in trials) for one in (Verdict.SEEN, Verdict.NONE))
    findings = [trial.row.name for trial in trials if trial.verdict in FINDINGS]
    text = f"{len(trials)} rows: {seen} broken lines seen by their tests, {none} not done."
    return f"{text}  Findings: {', '.join(findings) or 'none'}."


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
