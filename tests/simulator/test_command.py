"""The command gatewayd-simulator: a wrong order is one line, and no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def refused(*words: str) -> str:
    """What the command says that fails."""
    command = [sys.executable, "-m", "gatewayd.simulator", *words]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 1
    return ran.stderr


@pytest.mark.parametrize(("words", "said"), [
    (("--faults", "nonsense"), "Unknown fault"),
    (("--interface", "192.0.2.77"), "cannot be started: "),
    (("--address", "192.0.2.77"), "cannot be started: "),
])  # fmt: skip
def test_what_cannot_be_simulated_is_said(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    (line,) = refused(*words, str(tmp_path / "new")).splitlines()
    assert said in line
    assert (tmp_path / "new").is_dir()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (line,) = refused(str(tmp_path / "file" / "plant")).splitlines()
    assert f"{tmp_path}/file/plant: Not a directory" in line


def test_nothing_is_asked_of_a_simulator_that_does_not_run(tmp_path: Path) -> None:
    (line,) = refused("--ask", '{"do": "truth"}', str(tmp_path)).splitlines()
    assert f"no simulator runs with {tmp_path}" in line
