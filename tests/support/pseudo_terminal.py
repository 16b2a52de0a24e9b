"""A program on a terminal, at which a test types as a person does."""

from __future__ import annotations

import codecs
import contextlib
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

PATIENCE = 60.0
"""Seconds to wait for what a program is to show."""


class PseudoTerminal:
    """A running program.  shown: all that it has shown; keystrokes: how often a key was pressed."""

    def __init__(self, process: subprocess.Popen[bytes], terminal: int) -> None:
        self._process, self._terminal = process, terminal
        self.shown, self._seen = "", 0
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.keystrokes = 0

    def type(self, text: str) -> None:
        """Type a line."""
        line = text.encode() + b"\n"
        self.keystrokes += len(text) + 1
        os.write(self._terminal, line)

    def wait_for(self, text: str) -> None:
        """Return once it has shown this, after what was waited for before."""
        end = time.monotonic() + PATIENCE
        while (at := self.shown.find(text, self._seen)) < 0:
            assert time.monotonic() < end, f"{text!r} does not come after: {self.shown}"
            assert self._read(end), f"{text!r} did not come: {self.shown}"
        self._seen = at + len(text)

    def interrupt(self) -> None:
        """Press Ctrl-C where the program has a child of its own that shows what is shown.

        One that has just ended by itself is not interrupted, as its exit status shows.
        """
        for child in self._children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGINT)

    def runs(self) -> bool:
        return self._process.poll() is None

    def is_served(self) -> bool:
        """Whether a child of the program has a socket, as for a bus, and waits."""
        return any(
            _sleeps(child) and any(file.startswith("socket:") for file in _open_files(child))
            for child in self._children()
        )

    def _children(self) -> list[int]:
        pid = self._process.pid
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
        return []

    def end(self) -> int:
        """Read to its end; return its exit status."""
        while self._read(time.monotonic() + PATIENCE):
            pass
        return self._process.wait(PATIENCE)

    def _read(self, end: float) -> bool:
        """Read more, until then; return whether there was more."""
        if not select.select([self._terminal], [], [], max(0.0, end - time.monotonic()))[0]:
            return False
        try:
            more = os.read(self._terminal, 4096)
        except OSError:  # EIO: no process has it open any more
            return False
        self.shown += self._decoder.decode(more)
        return bool(more)


def _open_files(pid: int) -> Iterator[str]:
    """Yield what a process has open, as the kernel names it; nothing of one that has ended."""
    with contextlib.suppress(FileNotFoundError):
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                yield str(file.readlink())


def _sleeps(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("S")
    return False


@contextlib.contextmanager
def on_terminal(
    command: Sequence[str], environ: Mapping[str, str] | None = None
) -> Iterator[PseudoTerminal]:
    """Run a program on a terminal of its own, and kill it at the end if it still runs."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ, start_new_session=True
    )
    os.close(theirs)
    try:
        yield PseudoTerminal(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
