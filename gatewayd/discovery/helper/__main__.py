"""The command of the discovery helper: it serves one connection of gatewayd, and ends.

The connection is its standard input.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import socket
import sys
from collections.abc import Mapping
from functools import partial

from gatewayd.discovery.helper.messages import MAX_TO_HELPER, MalformedMessage
from gatewayd.discovery.helper.server import HelperServer
from gatewayd.discovery.helper.specs import make_discoverer
from gatewayd.plugins import DISCOVERERS, Plugins
from gatewayd.runtime import journal
from gatewayd.runtime.systemd import Notifier, notify_socket, watchdog_interval
from gatewayd.runtime.tasks import cancel_and_wait

log = logging.getLogger(__name__)

TEND_EVERY = 2.0
"""Seconds between two signs of life to systemd, at most."""


def main() -> int:
    """Serve until gatewayd closes the connection; return the exit status."""
    journal.setup("info", journal.handler())
    try:
        return asyncio.run(_serve(socket.socket(fileno=os.dup(sys.stdin.fileno()))))
    except (MalformedMessage, ValueError) as error:
        log.error("The discovery helper ends: %s.", error)  # noqa: TRY400  # expected
    except OSError as error:
        log.error("The discovery helper ends: %s.", error.strerror)  # noqa: TRY400  # expected
    return 1


async def _tend(environ: Mapping[str, str]) -> None:
    """Show systemd that the event loop runs, and log what the journal has not read yet."""
    notifier, every = Notifier(notify_socket(environ).send), TEND_EVERY
    if interval := watchdog_interval(environ, os.getpid()):
        every = min(interval, TEND_EVERY)
    while True:
        notifier.watchdog()
        journal.flush()
        await asyncio.sleep(every)


async def _serve(connected: socket.socket) -> int:
    loop = asyncio.get_running_loop()
    load = partial(Plugins.installed().load, DISCOVERERS)
    make = partial(make_discoverer, load=load)
    server = HelperServer(make, loop.time, random.random, journal.set_level)
    reader, writer = await asyncio.open_connection(sock=connected, limit=MAX_TO_HELPER)
    serving = asyncio.create_task(server.serve(reader, writer), name="serve")
    loop.add_signal_handler(signal.SIGTERM, serving.cancel)
    tending = asyncio.create_task(_tend(os.environ), name="tend")
    try:
        await serving
    except asyncio.CancelledError:
        if not serving.cancelled():
            raise
    finally:
        await cancel_and_wait({tending})
        writer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
