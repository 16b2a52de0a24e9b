"""The command of the discovery helper: it serves one connection of gatewayd, and ends.

The connection is its standard input, or the first to the socket that systemd passes
(sd_listen_fds(3)).
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
from gatewayd.runtime.systemd import Notifier, feed_watchdog, watchdog_interval
from gatewayd.runtime.tasks import cancel_and_wait

log = logging.getLogger(__name__)

_LISTENING = 3
"""The first descriptor that systemd passes (SD_LISTEN_FDS_START)."""


def main() -> int:
    """Serve until gatewayd closes the connection; return the exit status."""
    journal.setup("info", journal.handler())
    try:
        return asyncio.run(_serve(connection(os.environ)))
    except (MalformedMessage, ValueError) as error:
        log.error("The discovery helper ends: %s.", error)  # noqa: TRY400  # expected
    except OSError as error:
        log.error("The discovery helper ends: %s.", error.strerror)  # noqa: TRY400  # expected
    return 1


def connection(environ: Mapping[str, str]) -> socket.socket:
    """Return the connection to serve.  Raises OSError if there is none."""
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return socket.socket(fileno=os.dup(sys.stdin.fileno()))
    with socket.socket(fileno=_LISTENING) as listening:
        listening.setblocking(True)
        return listening.accept()[0]


async def _serve(connected: socket.socket) -> int:
    loop = asyncio.get_running_loop()
    load = partial(Plugins.installed().load, DISCOVERERS)
    make = partial(make_discoverer, load=load)
    server = HelperServer(make, loop.time, random.random, journal.set_level)
    reader, writer = await asyncio.open_connection(sock=connected, limit=MAX_TO_HELPER)
    serving = asyncio.create_task(server.serve(reader, writer), name="serve")
    loop.add_signal_handler(signal.SIGTERM, serving.cancel)
    interval = watchdog_interval(os.environ, os.getpid())
    feeding = [asyncio.create_task(feed_watchdog(Notifier(), interval, {}))] if interval else []
    try:
        await serving
    except asyncio.CancelledError:
        if not serving.cancelled():
            raise
    finally:
        await cancel_and_wait(feeding)
        writer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
