"""What is measured: gatewayd as it is here, and perhaps as it was in another revision."""

from __future__ import annotations

import asyncio
import compileall
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatewayd.simulator.site import run

TOP = Path(__file__).parents[2]
STORE_TOOL = Path(__file__).parent / "store_tool.py"


@dataclass(frozen=True, slots=True)
class Subject:
    """A source tree of gatewayd.  Python finds what is in its working directory first.

    name: of its column.
    """

    name: str
    directory: Path

    @property
    def prefix(self) -> Sequence[str]:
        """The prefix of a command that is to use this tree."""
        return ("env", f"--chdir={self.directory}")

    async def store(self, verb: str, *arguments: object) -> Any:  # noqa: ANN401  # JSON
        """Have this tree's code fill or read a store: see store_tool.py.  Raises RuntimeError."""
        code = f"import runpy; runpy.run_path({str(STORE_TOOL)!r}, run_name='__main__')"
        words = (verb, *map(str, arguments))
        return json.loads(await run(*self.prefix, sys.executable, "-c", code, *words))


HERE = Subject("gatewayd", TOP)


@asynccontextmanager
async def subjects(revision: str) -> AsyncIterator[Sequence[Subject]]:
    """Yield this tree and, where one is named, that of a revision, both compiled.

    Only the daemon of the other one is run: it has to accept the configuration that the simulator
    writes here.  Raises RuntimeError for an unknown revision.
    """
    if not revision:
        await _compile(HERE)
        yield (HERE,)
        return
    with tempfile.TemporaryDirectory(prefix="gatewayd-revision-") as directory:
        other = Subject(revision, Path(directory) / "tree")
        git = ("git", "-C", str(TOP), "worktree")
        await run(*git, "add", "--detach", "--quiet", str(other.directory), revision)
        try:
            for one in (HERE, other):
                await _compile(one)
            yield (HERE, other)
        finally:
            await run(*git, "remove", "--force", str(other.directory))


async def _compile(one: Subject) -> None:
    """Compile its code: what the first start would do is no cost of a start."""
    await asyncio.to_thread(compileall.compile_dir, one.directory / "gatewayd", quiet=2)
