"""What a process asked of the disk, as recorder.c has written it down."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("recorder.c")
MARKS = "marks"
"""A file that is none: what is written to it are marks between the operations."""
_HEAD = struct.Struct("=cBQI")


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that was done.

    what: "c" create, "w" write, "t" truncate, "a" allocate, "s" sync, "u" unlink, "r" rename.
    name: of the file; "" is the directory.  offset: of a write; the size, for t and a.
    data: what was written; the new name, for r.
    """

    what: str
    name: str
    offset: int
    data: bytes


def build(directory: Path) -> Path:
    """Compile the recorder; return the library.  Raises OSError, CalledProcessError."""
    library = directory / "recorder.so"
    command = ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library), str(SOURCE)]
    subprocess.run(command, check=True)
    return library


def record(library: Path, directory: Path, module: str) -> list[Operation]:
    """Run a Python module on a directory; return what it did there.

    Raises CalledProcessError where it fails.
    """
    trace = directory.with_name(f"{directory.name}.trace")
    environ = {
        "LD_PRELOAD": str(library),
        "POWERCUT_DIRECTORY": str(directory),
        "POWERCUT_TRACE": str(trace),
    }
    command = [sys.executable, "-m", module, str(directory)]
    subprocess.run(command, check=True, env=os.environ | environ)
    return list(_parsed(trace.read_bytes()))


def _parsed(trace: bytes) -> Iterator[Operation]:
    at = 0
    while at < len(trace):
        what, name, offset, size = _HEAD.unpack_from(trace, at)
        at += _HEAD.size
        text, data = trace[at : at + name].decode(), trace[at + name : at + name + size]
        at += name + size
        if not text.endswith("-shm"):  # memory that has a name: gone with the power
            yield Operation(what.decode(), text, offset, data)
