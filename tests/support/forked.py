"""Processes of gatewayd, its simulator and gatewayctl that are forked instead of started.

A site of a test is two processes at least, and each imports for half a second what the one before
it has imported.  So one process for each worker has imported it once: tests/support/fork_server.py.
What else a start is, as reading the configuration, is done by each.  tests/system starts the
daemon as systemd does.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from gatewayd.simulator.site import Running, start_python

MODULES = (
    "gatewayd", "gatewayd.simulator", "tests.support.kill_points", "tests.support.run_gatewayctl",
)  # fmt: skip
"""What is forked: other modules replace parts of gatewayd before they import the rest."""
SEQUENCE = socket.AF_UNIX, socket.SOCK_SEQPACKET
NAMESPACES = ("net", "mnt")
INSIDE = ("ip", "netns", "exec")
"""With a name, the prefix of a command that runs in a network of its own."""
SERVER = b"tests.support.fork_server"
"""Its module, in its command."""
READ_AT_START = ("LD_", "PYTHON")
"""How the variables begin that count only when a process starts."""
TOP = Path(__file__).parents[2]


class ForkedProcess:
    """A process that the server has forked.  Made in a running loop.

    reports: from where its exit status comes.  handle: of pidfd_open(2).
    """

    def __init__(self, reports: socket.socket, pid: int, handle: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._reports, self._handle = reports, handle
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(reports, self._end)

    def _end(self) -> None:
        self._loop.remove_reader(self._reports)
        with self._reports:
            self.returncode = int(self._reports.recv(16))
        os.close(self._handle)
        self._ended.set()

    async def wait(self) -> int:
        """Return its exit status, once it has ended; -N if a signal has ended it."""
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Raises ProcessLookupError if it has ended."""
        if self.returncode is not None:
            raise ProcessLookupError(self.pid)
        signal.pidfd_send_signal(self._handle, number)

    def terminate(self) -> None:
        """Send it SIGTERM.  Raises ProcessLookupError if it has ended."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send it SIGKILL.  Raises ProcessLookupError if it has ended."""
        self.send_signal(signal.SIGKILL)


class Forker:
    """Has the server fork, which is started when it is first needed: a context manager."""

    def __init__(self) -> None:
        self._control: socket.socket | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._where: list[tuple[int, int]] = []
        self._read_at_start = _read_at_start()

    async def start(
        self, prefix: Sequence[str], module: str, arguments: Sequence[str], output: int | None
    ) -> Running:
        """Run a module as a process of its own, as gatewayd.simulator.site.start_python does.

        The prefix may be that of a network that `ip netns` has made.  It is started in the usual
        way where it has another one, or what is read from the environment at a start only, as
        where modules are; and where this thread is not at home, as in another network.
        """
        away = self._server is not None and _where() != self._where
        *inside, network = prefix or (*INSIDE, "")
        other = tuple(inside) != INSIDE or module not in MODULES
        if other or away or _read_at_start() != self._read_at_start:
            return await start_python(prefix, module, arguments, output)
        ours, theirs = socket.socketpair(*SEQUENCE)
        nothing = os.open(os.devnull, os.O_RDONLY)
        with theirs:
            request = {
                "module": module, "arguments": [*map(str, arguments)],
                "environment": dict(os.environ), "directory": str(Path.cwd()), "umask": _umask(),
                "network": network,
            }  # fmt: skip
            out, err = (output, output) if output is not None else (1, 2)
            streams = [nothing, out, err, theirs.fileno()]
            socket.send_fds(self._open(), [json.dumps(request).encode()], streams)
        os.close(nothing)
        ours.setblocking(False)
        await readable(ours)
        pid, handles, _, _ = socket.recv_fds(ours, 16, 1)
        if not pid:
            raise RuntimeError(f"the server for {module} has ended")
        return ForkedProcess(ours, int(pid), *handles)

    def _open(self) -> socket.socket:
        if self._control is None:
            self._control, theirs = socket.socketpair(*SEQUENCE)
            self._where = _where()
            command = [sys.executable, "-m", SERVER.decode(), str(theirs.fileno())]
            with theirs:
                self._server = subprocess.Popen(command, cwd=TOP, pass_fds=[theirs.fileno()])
        return self._control

    def processes(self) -> tuple[set[str], set[str]]:
        """Return the process ids of the server, and of what it has forked and still runs."""
        if self._server is None:
            return set(), set()
        pid = self._server.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return {str(pid)}, set(children.split())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._control is not None and self._server is not None:
            self._control.close()
            self._server.wait(timeout=60)


def started() -> list[int]:
    """Return what the main thread of this process has started, but for the server."""
    found = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(one) for one in found if SERVER not in Path(f"/proc/{one}/cmdline").read_bytes()]


def _read_at_start() -> dict[str, str]:
    """Return what the loader and Python read from the environment when a process starts."""
    return {name: text for name, text in os.environ.items() if name.startswith(READ_AT_START)}


def _where() -> list[tuple[int, int]]:
    """Return the namespaces of this thread."""
    found = [Path(f"/proc/thread-self/ns/{one}").stat() for one in NAMESPACES]
    return [(one.st_dev, one.st_ino) for one in found]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


async def readable(one: int | socket.socket) -> None:
    """Return when a descriptor can be read."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(one, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(one)
