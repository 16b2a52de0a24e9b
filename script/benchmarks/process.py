"""What a running process has used: processor time and memory."""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

_SCHEDULED = 2  # CPUCLOCK_SCHED of the kernel's posix-timers.h: what clock_getcpuclockid(3) makes
_KIB_IN_MB = 1e6 / 1024
_MESSAGE = 4096  # bytes


def cpu(pid: int) -> float:
    """Return the seconds of processor time that a process has used: utime and stime, finer.

    All its threads count, also those that have ended.  Raises OSError.
    """
    return time.clock_gettime((~pid << 3) | _SCHEDULED)


@dataclass(frozen=True, slots=True)
class Memory:
    """Megabytes.  pss: with each shared page divided by how many share it."""

    pss: float
    rss: float


def memory(pid: int) -> Memory:
    """Return what a process holds in memory (proc_pid_smaps(5)).  Raises OSError."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kib = {key: int(rest.split()[0]) for key, _, rest in (line.partition(":") for line in lines)}
    return Memory(kib["Pss"] / _KIB_IN_MB, kib["Rss"] / _KIB_IN_MB)


class Readiness:
    """The socket that systemd would listen on, for READY=1 (sd_notify(3)).

    environment: for the process that is to be listened to.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
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
        """Take every message: who is not heard waits."""
        if b"READY=1" in self._socket.recv(_MESSAGE).splitlines():
            self._said.set()
