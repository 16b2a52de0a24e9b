"""Status messages to systemd, and its watchdog.  Neither waits for systemd.

Systemd's socket takes some ten messages that are not read yet.  The eleventh would stop the event
loop, so it is not sent: what it says waits, one message for all, until it can be sent.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from textwrap import shorten

from gatewayd.runtime.datagrams import DatagramSocket
from gatewayd.runtime.tasks import cancel_and_wait
from gatewayd.runtime.text import one_line

log = logging.getLogger(__name__)

Ping = Callable[[], Awaitable[object]]

MAX_STATUS = 300  # characters


def status_line(text: str) -> str:
    """Return a status for systemd: one line, which ends with … where words had to be left out."""
    return shorten(one_line(text, len(text)), MAX_STATUS, placeholder=" …")


OBSOLETE: Mapping[str, frozenset[str]] = {
    "READY": frozenset({"RELOADING", "MONOTONIC_USEC"}),
    "RELOADING": frozenset({"READY"}),
    "STOPPING": frozenset({"READY", "RELOADING", "MONOTONIC_USEC"}),
}
"""What a message makes obsolete of those that wait."""

SendMessage = Callable[[bytes], object]
"""Sends one message without waiting.  Raises OSError, as BlockingIOError where it had to wait."""


def notify_socket(environ: Mapping[str, str]) -> DatagramSocket:
    """Return the socket of systemd, sd_notify(3); one that drops all where there is none.

    environ: of the process.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    return DatagramSocket(address if address.startswith(("/", "@")) else "")


def merged(waiting: Mapping[str, str], message: Mapping[str, str]) -> dict[str, str]:
    """Return one message that says what two would say, one after the other."""
    obsolete = {name for key in message for name in OBSOLETE.get(key, ())}
    return {key: text for key, text in waiting.items() if key not in obsolete} | dict(message)


class Notifier:
    """A sender of messages of sd_notify(3).

    A message that cannot be sent waits for `flush`, and what is newer replaces it.  The watchdog's
    alone does not: sent late, it would say that the daemon is alive when that is not known.
    send: sends one message.  now: CLOCK_MONOTONIC in seconds.
    """

    def __init__(
        self, send: SendMessage = lambda _: None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._try_to_send, self._now = send, now
        self._waiting: dict[str, str] = {}
        self._stuck = False

    def flush(self) -> None:
        """Send what waits, if anything does and it can be sent."""
        if not self._waiting:
            return
        try:
            lines = (f"{key}={text}" for key, text in self._waiting.items())
            self._try_to_send("\n".join(lines).encode())
        except OSError as error:
            self._waiting.pop("WATCHDOG", None)
            if not self._stuck:
                cause = "it does not read" if isinstance(error, BlockingIOError) else error.strerror
                log.warning(
                    "Failed to notify systemd: %s. It is tried again; devices are not affected.",
                    cause,
                )
            self._stuck = True
        else:
            self._waiting.clear()
            if self._stuck:
                log.warning("Systemd is notified again.")
            self._stuck = False

    def _send(self, **message: str) -> None:
        self._waiting = merged(self._waiting, message)
        self.flush()

    def ready(self, status: str) -> None:
        """Report that the daemon has started, or has reloaded."""
        self._send(READY="1", STATUS=status_line(status))

    def status(self, status: str) -> None:
        """Set the line that `systemctl status` shows."""
        self._send(STATUS=status_line(status))

    def reloading(self) -> None:
        """Report that the configuration is being read; `ready` ends that."""
        self._send(RELOADING="1", MONOTONIC_USEC=str(int(self._now() * 1e6)))

    def stopping(self, status: str) -> None:
        """Report that the daemon is stopping."""
        self._send(STOPPING="1", STATUS=status_line(status))

    def more_time(self, seconds: float) -> None:
        """Ask for so many seconds more, from now, to start, reload or stop."""
        self._send(EXTEND_TIMEOUT_USEC=str(int(seconds * 1e6)))

    def watchdog(self) -> None:
        """Report that the daemon is alive."""
        self._send(WATCHDOG="1")


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
