"""A vendor's SDK in a process of its own: for Python from .venv-vendor, for Node.js from
.node-vendor."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

TOP = Path(__file__).parents[2]
VENDOR = TOP / ".venv-vendor" / "bin" / "python"
NODE_MODULES = TOP / ".node-vendor" / "node_modules"
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
async def vendor(
    peer: str, facts: object, environ: Mapping[str, str] = os.environ
) -> AsyncIterator[Sdk]:
    """Run a peer, a file beside this one, which reads the facts first.

    environ: the environment variables of the process.
    """
    runtime, library = ("node", NODE_MODULES) if peer.endswith(".js") else (VENDOR, VENDOR)
    assert library.exists(), "The vendors' SDKs are missing; `script/setup test` installs them."
    process = await asyncio.create_subprocess_exec(
        runtime,
        Path(__file__).parent / peer,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**environ, "NODE_PATH": str(NODE_MODULES)},
    )
    try:
        one = Sdk(process)
        one.write(facts)
        yield one
    finally:
        process.kill()
        await process.communicate()
