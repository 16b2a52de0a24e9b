"""A program of others at the far end of a cable."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import DEVNULL, Process
from pathlib import Path
from typing import Self

from tests.support.cable import Cable


class CablePeer:
    """The program.  It is killed at the end."""

    def __init__(self, cable: Cable) -> None:
        self._cable = cable
        self._process: Process | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self, *command: str, cwd: Path | None = None) -> None:
        """Start it; end it before, if it runs."""
        await self.stop()
        self._process = await asyncio.create_subprocess_exec(
            *self._cable.prefix, *command, cwd=cwd, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL
        )

    async def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            self._process = None
