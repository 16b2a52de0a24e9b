"""The file of metrics: replaced while the daemon runs, and gone with it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from gatewayd.monitoring.figures import GatewayFigures
from gatewayd.monitoring.metrics_file import NAME, MetricsFile
from gatewayd.monitoring.steps import StepCounts
from gatewayd.runtime.tasks import cancel_and_wait
from tests.support.fakes import MemoryRecords


class Gateway:
    """What the file is made of; its version is the number of files."""

    def __init__(self, directory: Path | None, every: float = 60.0) -> None:
        self.files = 0
        self.metrics = MetricsFile(
            directory, every, self.figures, StepCounts(MemoryRecords(), float)
        )

    def figures(self) -> GatewayFigures:
        self.files += 1
        return GatewayFigures(now=1, started=1, version=str(self.files), state="", store="")


async def until_written(path: Path) -> str:
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(path.exists):
            await asyncio.sleep(0.01)
    return await asyncio.to_thread(path.read_text)


async def test_the_file_is_there_while_the_daemon_runs(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    with gateway.metrics.commits["messages"].timed():
        pass
    task = asyncio.create_task(gateway.metrics.run())
    text = await until_written(tmp_path / NAME)
    assert 'gatewayd_build_info{version="1"} 1.0' in text.splitlines()
    assert 'gatewayd_commit_seconds_count{file="messages"} 1.0' in text.splitlines()
    await cancel_and_wait([task])
    assert not await asyncio.to_thread(lambda: list(tmp_path.iterdir()))


async def test_where_it_cannot_be_written_that_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = Gateway(tmp_path / "later", every=0.0)
    task = asyncio.create_task(gateway.metrics.run())
    async with asyncio.timeout(60):
        while gateway.files < 3:
            await asyncio.sleep(0.01)
    await asyncio.to_thread((tmp_path / "later").mkdir)
    await until_written(tmp_path / "later" / NAME)
    await cancel_and_wait([task])
    warnings = [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert [one.getMessage().partition(":")[0] for one in warnings] == ["No metrics are written"]


async def test_without_a_directory_there_is_no_file(caplog: pytest.LogCaptureFixture) -> None:
    await Gateway(None).metrics.run()
    assert "GATEWAYD_METRICS names no directory" in caplog.text
