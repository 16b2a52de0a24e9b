"""Cuts the power of a recorded workload at many moments, and checks what is left each time."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from script.soaking.powercut.disk import Disk
from script.soaking.powercut.laws import Promise, broken, promises
from script.soaking.powercut.trace import MARKS, Operation


@dataclass(frozen=True, slots=True)
class Cut:
    """A moment.  after: operations done.  files: what may be left.  made: what was promised."""

    after: int
    files: Mapping[str, bytes]
    made: dict[str, Promise]


def cuts(trace: Sequence[Operation], number: int, seed: int) -> Iterator[Cut]:
    """Yield so many cuts, spread evenly over the operations.  The same seed makes the same."""
    rng = random.Random(seed)
    done = [one for one in trace if one.name != MARKS]
    chosen = sorted(index * len(done) // number for index in range(number))
    disk, marks, at = Disk(), b"", 0
    for one in [*trace, None]:
        while chosen and chosen[0] == at:
            yield Cut(at, disk.cut(rng), promises(marks.splitlines()))
            chosen.pop(0)
        if one is None:
            return
        if one.name == MARKS:
            marks += one.data
            continue
        disk.do(one)
        at += 1


async def judge(cut: Cut, directory: Path) -> list[str]:
    """Put what a cut has left into an empty directory, and return which promises are broken."""
    _lay_out(cut.files, directory)
    try:
        return [f"after {cut.after}: {text}" for text in await broken(directory, cut.made)]
    finally:
        shutil.rmtree(directory)


def _lay_out(files: Mapping[str, bytes], directory: Path) -> None:
    directory.mkdir(mode=0o700)
    for name, content in files.items():
        (directory / name).write_bytes(content)
        (directory / name).chmod(0o600)


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield an empty directory for a while: in memory where there is room, as a sync costs."""
    memory = "/dev/shm"  # noqa: S108  # a private directory is made there
    where = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="gatewayd-powercut-", dir=where) as directory:
        yield Path(directory)
