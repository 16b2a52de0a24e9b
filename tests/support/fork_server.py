"""python3 -m tests.support.fork_server FD: forks processes that run gatewayd or what is of it.

It has imported both, which takes longer than all else that such a process does in most tests.  What
it is asked, and what it reports, is in tests/support/forked.py.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import selectors
import socket
import sys
from dataclasses import dataclass
from importlib import import_module

from tests.support import own_network
from tests.support.spare_helper import SpareHelper

MODULES = (
    "gatewayd.cli.main",
    "gatewayd.cli.messages",
    "gatewayd.daemon",
    "gatewayd.cloud.alibaba.provider",
    "gatewayd.cloud.huawei.provider",
    "gatewayd.cloud.mqtt_broker.provider",
    "gatewayd.discovery.helper.server",
    "gatewayd.discovery.helper.specs",
    "gatewayd.discovery.mdns.zeroconf_backend",
    "gatewayd.simulator.plant",
)
"""What is imported before the first fork: all that they import, but the modules that run."""
WITH_HELPER = ("gatewayd", "tests.support.kill_points")
"""Of what is run, that which is gatewayd, and starts a helper."""
MAX_REQUEST = 1 << 17
"""Bytes of a request; the environment is most of it."""
STREAMS = 3
"""Descriptors 0 to 2 of a process come with its request, and then one for the reports of it."""


@dataclass(frozen=True, slots=True)
class Request:
    """A process to be: what it runs, and where.

    network: by the name of `ip netns`; "" for ours.  streams: for its descriptors 0 to 2.
    """

    module: str
    arguments: list[str]
    environment: dict[str, str]
    directory: str
    umask: int
    network: str
    streams: list[int]

    def take_over(self) -> None:
        """Make this process the one that is asked for, and run the module as __main__."""
        for number, stream in enumerate(self.streams):
            os.dup2(stream, number)
            os.close(stream)
        os.environ.clear()
        os.environ.update(self.environment)
        os.chdir(self.directory)
        os.umask(self.umask)
        if self.network:
            own_network.join(self.network)
        sys.argv = [self.module, *self.arguments]
        gc.enable()
        if self.module in WITH_HELPER:
            SpareHelper.fork()
        runpy.run_module(self.module, run_name="__main__", alter_sys=True)


def serve(control: socket.socket) -> Request | None:
    """Fork for each request.  Return None once the other end is closed, or, in a process that was
    forked, its request.
    """
    running: dict[int, tuple[int, socket.socket]] = {}  # by the descriptor of the process
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not control:
                    selector.unregister(key.fd)
                    _report_end(key.fd, *running.pop(key.fd))
                    continue
                data, streams, _, _ = socket.recv_fds(control, MAX_REQUEST, STREAMS + 1)
                if not data:
                    return None
                reports = socket.socket(fileno=streams.pop())
                if not (process := os.fork()):
                    for descriptor, (_, other) in running.items():
                        os.close(descriptor)
                        other.close()
                    reports.close()
                    return Request(**json.loads(data), streams=streams)
                for stream in streams:
                    os.close(stream)
                handle = os.pidfd_open(process)
                running[handle] = process, reports
                selector.register(handle, selectors.EVENT_READ)
                socket.send_fds(reports, [str(process).encode()], [handle])


def _report_end(handle: int, process: int, reports: socket.socket) -> None:
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    os.close(handle)
    with reports:
        try:
            reports.send(str(status).encode())
        except OSError:  # the test that asked is over
            return


def main() -> None:
    """Import what is to be there, and serve."""
    gc.disable()
    for module in MODULES:
        import_module(module)
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as control:
        request = serve(control)
    if request is not None:
        request.take_over()


if __name__ == "__main__":
    main()
