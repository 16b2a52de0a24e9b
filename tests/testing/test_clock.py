"""The clock that jumps, and the marker that has a test run by it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from gatewayd.testing import clock

HOUR = 3600


@pytest_asyncio.fixture
async def ticks() -> AsyncIterator[list[float]]:
    """The moments, an hour apart, at which a task of the fixture ran."""
    moments: list[float] = []

    async def tick() -> None:
        while True:
            await asyncio.sleep(HOUR)
            moments.append(asyncio.get_running_loop().time())

    task = asyncio.create_task(tick())
    yield moments
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.jumping_clock
async def test_an_hour_passes_at_once() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, clock.JumpingLoop)
    start = loop.time()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(HOUR):
            await asyncio.Event().wait()
    assert loop.time() - start == pytest.approx(HOUR)


@pytest.mark.jumping_clock
@pytest.mark.parametrize("hours", [1, 3])
async def test_fixtures_share_the_clock(ticks: list[float], hours: int) -> None:
    await asyncio.sleep((hours + 0.5) * HOUR)
    assert ticks == pytest.approx([n * HOUR for n in range(1, hours + 1)])


async def test_other_tests_have_a_real_clock() -> None:
    assert not isinstance(asyncio.get_running_loop(), clock.JumpingLoop)
    began = time.perf_counter()
    await asyncio.sleep(0.05)
    assert time.perf_counter() - began > 0.04


def test_a_wait_without_end_is_an_error() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="never happen"):
        clock.run(main())


WATCHED = "from tests.conftest import *"

BAD = """
import asyncio, pytest
from gatewayd.runtime.private_files import write_private
pytestmark = pytest.mark.jumping_clock

async def test_leaves_a_task():
    global left
    left = asyncio.ensure_future(asyncio.sleep(3600))

async def test_blocks_the_loop(tmp_path):
    write_private(tmp_path / "file", b"")

async def test_waits_without_end():
    await asyncio.Event().wait()

async def test_leaves_nothing():
    await asyncio.sleep(3600)
"""


def test_marked_tests_are_watched_like_all_others(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(WATCHED)
    (tmp_path / "test_bad.py").write_text(BAD)
    root = Path(__file__).parents[2]
    pytest_ = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    ended = subprocess.run(
        [*pytest_, "--basetemp", tmp_path / "pytest", "-c", "pyproject.toml", tmp_path],
        cwd=root, capture_output=True, text=True, timeout=240, check=False,
        env={**os.environ, "COLUMNS": "300"},
    )  # fmt: skip
    lines = ended.stdout.splitlines()
    bad = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    assert any("test_leaves_a_task" in line and "tasks left" in line for line in bad), lines
    assert any("test_blocks_the_loop" in line and "BlockingError" in line for line in bad), lines
    assert any("test_waits_without_end" in line and "RuntimeError" in line for line in bad), lines
    assert not any("test_leaves_nothing" in line for line in bad), lines
