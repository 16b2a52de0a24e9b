"""A process that becomes the discovery helper of a gatewayd that was forked.

It is forked before gatewayd runs, while there is one thread, and is its child, as is one that
gatewayd starts.  It waits until it is asked for, and ends with gatewayd if it never is.  A helper
that is started after it is a new process of Python.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import socket
import sys
from collections.abc import Mapping
from typing import NoReturn

from gatewayd.discovery.helper import connect
from tests.support.forked import SEQUENCE, readable

MAX_REQUEST = 1 << 17
"""Bytes of the environment that is asked for."""


class SpareHelper:
    """The helper to be, and then the child process: what gatewayd uses of it."""

    def __init__(self, pid: int, control: socket.socket) -> None:
        self._pid, self._control = pid, control
        self._status: int | None = None
        self._start = connect.start_child

    @classmethod
    def fork(cls) -> None:
        """Fork it, and have the gatewayd of this process use it, once."""
        ours, theirs = socket.socketpair(*SEQUENCE)
        if not (pid := os.fork()):
            ours.close()
            _become_helper(theirs)
        theirs.close()
        connect.start_child = cls(pid, ours).start

    async def start(self, connected: int, environ: Mapping[str, str]) -> connect.HelperProcess:
        """Do as gatewayd.discovery.helper.connect.start_child."""
        connect.start_child = self._start
        with self._control:
            socket.send_fds(self._control, [json.dumps(dict(environ)).encode()], [connected])
        return self

    async def wait(self) -> int:
        """Return its exit status, once it has ended."""
        if self._status is None:
            handle = os.pidfd_open(self._pid)
            try:
                await readable(handle)
            finally:
                os.close(handle)
            self._status = _reap(self._pid)
        return self._status

    def kill(self) -> None:
        """Send SIGKILL."""
        if self._status is None:
            os.kill(self._pid, signal.SIGKILL)


def _become_helper(control: socket.socket) -> NoReturn:
    """Wait for the request, and run the helper."""
    data, descriptors, _, _ = socket.recv_fds(control, MAX_REQUEST, 1)
    if not data:  # gatewayd has ended
        os._exit(0)
    os.setsid()
    os.dup2(descriptors[0], 0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    control.detach()
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(json.loads(data))
    sys.argv = [connect.MODULE]
    runpy.run_module(connect.MODULE, run_name="__main__", alter_sys=True)
    sys.exit("the helper has not ended by itself")


def _reap(pid: int) -> int:
    """Return the exit status of a child that has ended."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
