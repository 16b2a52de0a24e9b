"""The linters are tests, so that what is green here is green everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent
UNREMEMBERED = ("--cache-dir", os.devnull) if "CI" in os.environ else ()
"""What mypy would remember for a next run takes some seconds, and in CI there is none."""


@pytest.mark.parametrize(
    "command",
    [
        ("ruff", "check", "."),
        ("ruff", "format", "--check", "."),
        ("mypy", *UNREMEMBERED),
        ("codespell_lib", ".", "--toml", "pyproject.toml"),
    ],
    ids=" ".join,
)
def test_lint(command: tuple[str, ...]) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", *command], cwd=TOP, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
