"""What a running process, and those that it has started, have used: processor time and memory."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

_SCHEDULED = 2  # CPUCLOCK_SCHED of the kernel's posix-timers.h: what clock_getcpuclockid(3) makes
_KIB_IN_MB = 1e6 / 1024
_TICKS = os.sysconf("SC_CLK_TCK")
_MESSAGE = 4096  # bytes


def cpu(pid: int) -> float:
    """Return the seconds of processor time that a process has used: utime and stime, finer.

    All its threads count, also those that have ended.  Raises OSError.
    """
    return time.clock_gettime((~pid << 3) | _SCHEDULED)


def wakes(pid: int) -> int:
    """Return how often the threads of a process have woken up (proc_pid_status(5)).

    Raises OSError.
    """
    texts = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status")]
    lines = [line for text in texts for line in text.splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt"))


def family(pid: int) -> Iterator[int]:
    """Yield a process, and all that descend from it (proc_pid_task(5)).  Raises OSError."""
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from family(int(child))


def family_cpu(pid: int) -> float:
    """Return the seconds of processor time of a process and all that it has started.

    Those that have ended count, too.  Raises OSError.
    """
    return sum(cpu(one) + _cpu_of_the_ended(one) for one in family(pid))


def _cpu_of_the_ended(pid: int) -> float:
    """Return what the children took that a process has waited for: cutime and cstime."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / _TICKS


@dataclass(frozen=True, slots=True)
class Memory:
    """Megabytes.  pss: with each shared page divided by how many share it."""

    pss: float
    rss: float


def family_memory(pid: int) -> Memory:
    """Return what a process and all that descend from it hold.  Raises OSError."""
    held = [memory(one) for one in family(pid)]
    return Memory(sum(one.pss for one in held), sum(one.rss for one in held))


def memory(pid: int) -> Memory:
    """Return what a process holds in memory (proc_pid_smaps(5)).  Raises OSError."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kib = {key: int(rest.split()[0]) for key, _, rest in (line.partition(":") for line in lines)}
    return Memory(kib["Pss"] / _KIB_IN_MB, kib["Rss"] / _KIB_IN_MB)


class Readiness:
    """The socket that systemd would listen on, for READY=1 (sd_notify(3)).

    environment: for the process that is to be listened to.
    fed: how often it has fed the watchdog.  longest_wait: seconds between two of these, the most.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fed_at = 0.0
        self.fed, self.longest_wait = 0, 0.0
        self._said = asyncio.Event()
        self.environment = {"NOTIFY_SOCKET": str(path)}

    def __enter__(self) -> Self:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(self._path))
        asyncio.get_running_loop().add_reader(self._socket, self._read)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    async def wait(self, seconds: float) -> None:
        """Return when a process says that it is ready.  Raises TimeoutError."""
        self._said.clear()
        async with asyncio.timeout(seconds):
            await self._said.wait()

    def _read(self) -> None:
        """Take every message: a sender waits while the socket is full."""
        lines = self._socket.recv(_MESSAGE).splitlines()
        if b"READY=1" in lines:
            self._said.set()
        if b"WATCHDOG=1" in lines:
            before, self._fed_at = self._fed_at, time.monotonic()
            self.fed, wait = self.fed + 1, self._fed_at - before if before else 0.0
            self.longest_wait = max(self.longest_wait, wait)
