"""Status messages to systemd, and its watchdog."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping

from gatewayd.runtime.tasks import cancel_and_wait
from gatewayd.runtime.text import one_line
from systemd import daemon

log = logging.getLogger(__name__)

Ping = Callable[[], Awaitable[object]]

MAX_STATUS = 300  # characters


class Notifier:
    """A sender of messages of sd_notify(3).

    send: sends one message; the default does nothing where there is no systemd.
    now: CLOCK_MONOTONIC in seconds.
    """

    def __init__(
        self,
        send: Callable[[str], object] = daemon.notify,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._unchecked_send, self._now = send, now

    def _send(self, message: str) -> None:
        """Send a message; a failure must not harm the daemon."""
        try:
            self._unchecked_send(message)
        except OSError as error:
            log.warning("Failed to notify systemd: %s.", error.strerror, extra={"once": "notify"})

    def ready(self, status: str) -> None:
        """Report that the daemon has started, or has reloaded."""
        self._send(f"READY=1\nSTATUS={one_line(status, MAX_STATUS)}")

    def status(self, status: str) -> None:
        """Set the line that `systemctl status` shows."""
        self._send(f"STATUS={one_line(status, MAX_STATUS)}")

    def reloading(self) -> None:
        """Report that the configuration is being read; `ready` ends that."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={int(self._now() * 1e6)}")

    def stopping(self, status: str) -> None:
        """Report that the daemon is stopping."""
        self._send(f"STOPPING=1\nSTATUS={one_line(status, MAX_STATUS)}")

    def more_time(self, seconds: float) -> None:
        """Ask for so many seconds more, from now, to start, reload or stop."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def watchdog(self) -> None:
        """Report that the daemon is alive."""
        self._send("WATCHDOG=1")


def watchdog_interval(environ: Mapping[str, str], pid: int) -> float | None:
    """Return the interval of the watchdog in seconds; None where there is none.

    A third of what systemd allows, so that one late answer is no restart
    (sd_watchdog_enabled(3): WATCHDOG_USEC, and WATCHDOG_PID if it is set).
    """
    usec = environ.get("WATCHDOG_USEC", "")
    if not usec.isdecimal() or int(usec) == 0:
        return None
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    return int(usec) / 1e6 / 3


async def feed_watchdog(notifier: Notifier, interval: float, pings: Mapping[str, Ping]) -> None:
    """Feed the watchdog every `interval` seconds, if all parts answer within that time.  For ever.

    pings: name of a part to a call that returns when it has answered, or raises.
    """
    while True:
        late = await unresponsive(pings, interval)
        if late:
            log.error("No answer from %s: the watchdog is not fed.", ", ".join(late))
        else:
            notifier.watchdog()
        await asyncio.sleep(interval)


async def unresponsive(pings: Mapping[str, Ping], patience: float) -> list[str]:
    """Return the names of the parts that did not answer within `patience` seconds."""
    tasks = {name: asyncio.ensure_future(_answer(ping)) for name, ping in pings.items()}
    try:
        if tasks:
            await asyncio.wait(tasks.values(), timeout=patience)
        return [n for n, t in tasks.items() if not t.done() or t.exception() is not None]
    finally:
        await cancel_and_wait(tasks.values())


async def _answer(ping: Ping) -> None:
    await ping()
