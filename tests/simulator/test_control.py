"""The control socket of a running plant: what it does, and what it answers to a mistake."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gatewayd.simulator.control import ControlSocket, ask
from gatewayd.simulator.plant import Plant, PlantLayout

WAIT = 60


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Path]:
    """The control socket of a plant whose cloud and LAN are not started."""
    path = tmp_path / "control"
    async with ControlSocket(Plant(PlantLayout(tmp_path, children=1)), path):
        yield path


async def test_a_request_that_is_not_known_is_answered_with_those_that_are(control: Path) -> None:
    with pytest.raises(RuntimeError, match=r"'fault' is no request.*\bfaults\b.*\breports\b"):
        await ask(control, do="fault", plan="down")
    with pytest.raises(RuntimeError, match=r"no request.*\bfaults\b"):
        await ask(control, plan="down")


async def test_what_a_request_needs_is_named(control: Path) -> None:
    with pytest.raises(RuntimeError, match=r"needs 'plan'"):
        await ask(control, do="faults")


@pytest.mark.parametrize("verb", ["leave", "ledger", "reports"])
async def test_a_child_that_is_not_there_is_named(control: Path, verb: str) -> None:
    with pytest.raises(RuntimeError, match="no child 'nonsuch'"):
        await ask(control, do=verb, child="nonsuch")


async def said(path: Path, line: str) -> tuple[int, str, str]:
    """Run gatewayd-simulator --ask; return its exit status, output and errors."""
    command = (sys.executable, "-m", "gatewayd.simulator", "--ask", line, str(path.parent))
    ended = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=WAIT, check=False
    )
    return ended.returncode, ended.stdout, ended.stderr


async def test_a_shell_asks_a_plant_that_runs(control: Path) -> None:
    status, out, _ = await said(control, '{"do": "reports", "child": "TH20-97C657"}')
    assert (status, json.loads(out)) == (0, [])
    status, out, error = await said(control, '{"do": "report"}')
    assert (status, out) == (1, "")
    assert "needs 'child'" in error


@pytest.mark.parametrize("line", ["reports", "[]", '{"plan": 1', '{"path": 1}'])
async def test_what_is_no_request_is_refused(control: Path, line: str) -> None:
    status, out, error = await said(control, line)
    assert (status, out) == (1, "")
    assert error.startswith("gatewayd-simulator: ")
    assert "Traceback" not in error


async def test_a_plant_that_does_not_run_is_named(tmp_path: Path) -> None:
    status, _, error = await said(tmp_path / "control", '{"do": "truth"}')
    assert status == 1
    assert str(tmp_path) in error
    assert "Traceback" not in error
