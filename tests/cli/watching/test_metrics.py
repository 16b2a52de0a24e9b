"""`gatewayctl metrics`: what the daemon has written, unless that is old."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gatewayd.cli.main import main
from gatewayd.cli.watching.metrics import COMMANDS
from gatewayd.monitoring.exposition import exposition
from gatewayd.monitoring.figures import GatewayFigures
from gatewayd.monitoring.metrics import Measured
from tests.support.gatewayctl import validate

FIGURES = GatewayFigures(
    now=1, started=1, version="1", state="running", store="", children={("a", "online"): 2}
)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "gatewayd.prom"
    path.write_bytes(exposition(FIGURES, Measured()))
    return path


def test_it_prints_what_is_written(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics", "--file", str(written)], {}) == 0
    assert capsys.readouterr().out == written.read_text()


def test_a_terminal_obeys_nothing_of_it(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written.write_bytes(b"# \x1b[2J\xff\n")
    assert main(["metrics", "--file", str(written)], {}) == 0
    assert capsys.readouterr().out == "# \\x1b[2J\ufffd\n"


def test_programs_get_an_object_for_each_sample(
    written: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["metrics", "--file", str(written), "--json"], {}) == 0
    printed = capsys.readouterr().out
    validate(printed, COMMANDS[0].fields, 0)
    assert {
        "Metric": "gatewayd_children", "Type": "gauge", "Value": 2.0,
        "Labels": {"cloud": "a", "state": "online"},
    } in map(json.loads, printed.splitlines())  # fmt: skip


def test_old_metrics_are_none(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.utime(written, (0, 0))
    assert main(["metrics", "--file", str(written)], {}) == 1
    assert "seconds old" in capsys.readouterr().err
    written.unlink()
    assert main(["metrics", "--file", str(written)], {}) == 1
    assert "enabled = true" in capsys.readouterr().err
    written.mkdir()
    assert main(["metrics", "--file", str(written)], {}) == 1
    assert "cannot be read" in capsys.readouterr().err
