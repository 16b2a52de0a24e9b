"""The control socket of a running plant: what it does, and what it answers to a mistake."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gatewayd.simulator.control import ControlSocket, ask
from gatewayd.simulator.pki import make_ca
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


async def said(path: Path, line: str, *options: str) -> tuple[int, str, str]:
    """Run gatewayd-simulator --ask; return its exit status, output and errors."""
    words = ("--ask", line, *options, str(path.parent))
    command = (sys.executable, "-m", "gatewayd.simulator", *words)
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


async def test_a_file_is_added_to_a_request(tmp_path: Path) -> None:
    pem = tmp_path / "device-ca.pem"
    layout = PlantLayout(tmp_path, children=1, cloud="huawei")
    now = datetime.now(UTC)
    async with ControlSocket(Plant(layout), tmp_path / "control"):
        upload = '{"do": "upload", "instance": "east"}'
        status, _, error = await said(tmp_path / "control", upload, "--pem", str(pem))
        assert (status, str(pem) in error) == (1, True)
        pem.write_text(make_ca("devices", now, now + timedelta(days=1)).pem)
        status, code, error = await said(tmp_path / "control", upload, "--pem", str(pem))
    assert status == 0, error
    assert json.loads(code)


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
