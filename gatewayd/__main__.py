"""The command gatewayd: reads its arguments, and runs the daemon."""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

from gatewayd import __version__
from gatewayd.config import Installation, check, examine
from gatewayd.daemon import REJECTED, Daemon, warn
from gatewayd.dbus.glib import trim_heap
from gatewayd.errors import ConfigError, GatewayError, PluginError
from gatewayd.plugins import Plugins
from gatewayd.registration.registrar import ignore_step
from gatewayd.runtime import journal
from gatewayd.runtime.systemd import Notifier, notify_socket
from gatewayd.secretstore.vault.memory import protect_memory
from gatewayd.settings.daemon_user import acting_as_daemon
from gatewayd.settings.files import STANDARD, ConfigPaths

GC_THRESHOLDS = (10_000, 20, 20)
"""For gc.set_threshold: a child online keeps some hundred objects for as long as it lives, so
that Python's own thresholds would have all of them looked at again and again in a rush.  Until the
start is over nothing is collected: what is made then, as the children on record, stays."""

TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8
"""Options of mallopt(3)."""
LARGE_BUFFER = 128 << 10
"""Bytes from which on a buffer is mapped by itself, and given back to the kernel when it is freed.
GNU's library begins with this, and raises it, up to 32 MiB, with what it sees freed."""

EX_CONFIG = 78
"""sysexits.h: the configuration is wrong.  systemd does not restart after it."""


def main() -> int:
    """Run gatewayd; return the exit status."""
    return run(sys.argv[1:])


def run(arguments: list[str], checkpoint: Callable[[str], None] = ignore_step) -> int:
    """Run gatewayd with these arguments; return the exit status.

    checkpoint: called with the name of each durable step.
    """
    options = _parser().parse_args(arguments)
    paths = ConfigPaths.of(options.config)
    if options.check_config:
        return _check(paths)
    journal.setup("info", journal.handler())
    _share_one_heap()
    protect_memory()
    gc.disable()
    try:
        installed = examine(paths, Plugins.installed(), as_daemon=True).accepted(warn)
        journal.set_level(installed.config.log.level)
        return asyncio.run(_serve(installed, paths, checkpoint))
    except (ConfigError, PluginError) as error:
        _complain(error)
        return EX_CONFIG
    except GatewayError as error:
        _complain(error)
        return 1


def _complain(error: GatewayError) -> None:
    """Log an error, a record for each of its lines, without a traceback."""
    entry = REJECTED if isinstance(error, ConfigError) else {}
    for line in str(error).splitlines():
        logging.getLogger(__name__).error("%s", line, extra=entry)


async def _serve(
    installed: Installation, paths: ConfigPaths, checkpoint: Callable[[str], None]
) -> int:
    notifier = Notifier(notify_socket(os.environ).send)
    return await Daemon(installed, paths, os.environ, notifier, checkpoint, _settle_memory).run()


def _share_one_heap() -> None:
    """Have all threads use one heap, and have what is freed go back; before there are threads.

    Else each thread has a heap of its own, and a gateway holds the memory of the largest answer
    that lists all children, for the rest of its life.  Other libraries have no such options.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(ARENA_MAX, 1)
        library.mallopt(MMAP_THRESHOLD, LARGE_BUFFER)
        library.mallopt(TRIM_THRESHOLD, LARGE_BUFFER)


def _settle_memory() -> None:
    """Set the garbage collector for the time after the start; what is there by then stays.

    What the start has freed goes back to the kernel.
    """
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    gc.enable()
    trim_heap()


def _check(paths: ConfigPaths) -> int:
    with acting_as_daemon() as as_daemon:
        problems = check(paths, Plugins.installed(), as_daemon=as_daemon)
    for problem in problems:
        print(problem)
    if any(problem.fatal for problem in problems):
        return EX_CONFIG
    counted = f"{len(problems)} warning{'s' if len(problems) > 1 else ''}"
    print(f"The configuration is valid{f', with {counted}' if problems else ''}.")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gatewayd",
        description="Discovers child devices, registers each at a cloud, keeps what it issues.",
    )
    parser.add_argument(
        "--config",
        type=Path,
        default=STANDARD,
        help="main configuration file (default: %(default)s)",
    )
    parser.add_argument(
        "--check-config", action="store_true", help="check the configuration, and exit"
    )
    parser.add_argument("--version", action="version", version=f"gatewayd {__version__}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
