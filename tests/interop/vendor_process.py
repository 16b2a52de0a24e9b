"""A vendor's SDK in a process of its own, run by the interpreter of .venv-vendor."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

VENDOR = Path(__file__).parents[2] / ".venv-vendor" / "bin" / "python"
PATIENCE = 60.0


class Sdk:
    """A process of the vendor's SDK, which takes requests as JSON lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def answer(self, verb: str, **request: Any) -> dict[str, Any]:
        """Have it do something, and return its answer: "ok", or "error"."""
        self.write({"do": verb, **request})
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            line = await self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line or '{"error": "the SDK has ended"}')
        return answer

    async def do(self, verb: str, **request: Any) -> Any:
        """Have it do something, and return what comes of it."""
        answer = await self.answer(verb, **request)
        assert "error" not in answer, answer
        return answer["ok"]

    def write(self, body: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(body).encode() + b"\n")


@contextlib.asynccontextmanager
async def vendor(peer: str, facts: object) -> AsyncIterator[Sdk]:
    """Run a peer, a file beside this one, which reads the facts first."""
    assert VENDOR.exists(), "The vendors' SDKs are missing; `script/setup test` installs them."
    process = await asyncio.create_subprocess_exec(
        VENDOR,
        Path(__file__).with_name(peer),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        one = Sdk(process)
        one.write(facts)
        yield one
    finally:
        process.kill()
        await process.communicate()
