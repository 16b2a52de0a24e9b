"""The files of notices: what a path unit sees, and what the operator's unit can read."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gatewayd.monitoring.figures import GatewayFigures
from gatewayd.monitoring.notices import NEW, NOTES, STANDING, NoticeWriter
from gatewayd.monitoring.settings import NoticeSettings
from gatewayd.runtime.tasks import cancel_and_wait

SEALED = GatewayFigures(
    now=1, started=1, version="", state="", store="sealed", explanation="No key."
)
WELL = replace(SEALED, store="unsealed")


class Gateway:
    """A gateway with directories for notices, whose clock passes a second at each look."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.figures = directory, SEALED
        self.looks = 0
        for name in (NEW, STANDING):
            (directory / name).mkdir()

    def look(self) -> GatewayFigures:
        self.looks += 1
        return self.figures

    def files(self) -> set[str]:
        """The names of all notices."""
        return {
            str(path.relative_to(self.directory))
            for name in (NEW, STANDING)
            for path in (self.directory / name).iterdir()
        }

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        settings = NoticeSettings(hold=0.001)
        writer = NoticeWriter(self.directory, settings, self.look, lambda: float(self.looks))
        task = asyncio.create_task(writer.run())
        try:
            yield
        finally:
            await cancel_and_wait([task])

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not await asyncio.to_thread(holds):
                await asyncio.sleep(0.01)

    async def looked(self, times: int = 5) -> None:
        """Return when it has looked some times more."""
        before = self.looks
        await self.until(lambda: self.looks >= before + times)


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return Gateway(tmp_path)


async def test_a_flag_is_made_once_also_after_a_restart(gateway: Gateway) -> None:
    flag, text = gateway.directory / NEW / "store", gateway.directory / STANDING / "store"
    async with gateway.running():
        await gateway.until(flag.exists)
        assert await asyncio.to_thread(text.read_text) == "The secret store is sealed: No key.\n"
        flag.unlink()  # as gatewayd-notices.service does
        await gateway.looked()
    async with gateway.running():
        await gateway.looked()
        assert gateway.files() == {"standing/store"}
        gateway.figures = WELL
        await gateway.until(lambda: not text.exists())
        gateway.figures = SEALED
        await gateway.until(flag.exists)


async def test_what_is_over_before_it_was_noticed_leaves_no_flag(gateway: Gateway) -> None:
    async with gateway.running():
        await gateway.until((gateway.directory / NEW / "store").exists)
        gateway.figures = WELL
        await gateway.until(lambda: not gateway.files())


async def test_a_directory_that_comes_later_gets_the_notice(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    (gateway.directory / NEW).rmdir()
    async with gateway.running():
        await gateway.looked()
        (gateway.directory / NEW).mkdir()
        await gateway.until((gateway.directory / NEW / "store").exists)
    assert caplog.text.count("No notice is given") == 1


@pytest.mark.parametrize("notes", [b"", b"{", b"[1]", b'[["boredom", ""]]', b"\xff", b"[" * 70_000])
async def test_notes_that_cannot_be_read_are_none(gateway: Gateway, notes: bytes) -> None:
    (gateway.directory / NOTES).write_bytes(notes)
    async with gateway.running():
        await gateway.until((gateway.directory / NEW / "store").exists)
