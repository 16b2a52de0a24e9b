"""Cuts the power of a recorded workload at many moments, and checks what is left each time."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from script.soaking.powercut.disk import Disk
from script.soaking.powercut.laws import Promise, broken, promises
from script.soaking.powercut.trace import MARKS, Operation

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Cut(Generic[Made]):
    """A moment.  after: operations done.  files: what may be left.  made: what was promised."""

    after: int
    files: Mapping[str, bytes]
    made: Made


def cuts(trace: Sequence[Operation], number: int, seed: int) -> Iterator[Cut[dict[str, Promise]]]:
    """Yield cuts of a workload that registers children, as `cuts_of` does."""
    return cuts_of(trace, number, seed, lambda marks: promises(marks.splitlines()))


def cuts_of(
    trace: Sequence[Operation], number: int, seed: int, sum_up: Callable[[bytes], Made]
) -> Iterator[Cut[Made]]:
    """Yield so many cuts, spread evenly over the operations.  The same seed makes the same.

    sum_up: returns what was promised, from the marks of the workload.
    """
    rng = random.Random(seed)
    done = [one for one in trace if one.name != MARKS]
    chosen = sorted(index * len(done) // number for index in range(number))
    disk, marks, at = Disk(), b"", 0
    for one in [*trace, None]:
        while chosen and chosen[0] == at:
            yield Cut(at, disk.cut(rng), sum_up(marks))
            chosen.pop(0)
        if one is None:
            return
        if one.name == MARKS:
            marks += one.data
            continue
        disk.do(one)
        at += 1


async def judge(cut: Cut[dict[str, Promise]], directory: Path) -> list[str]:
    """Put what a cut has left into an empty directory, and return which promises are broken."""
    lay_out(cut.files, directory)
    try:
        return [f"after {cut.after}: {text}" for text in await broken(directory, cut.made)]
    finally:
        shutil.rmtree(directory)


def lay_out(files: Mapping[str, bytes], directory: Path) -> None:
    """Put files into a new directory."""
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
