"""The join window: a limited time in which rules that allow it register what they would ask about.

It is closed at the start, ends by itself, and is never stored.  policy/engine.py judges what it
covers; this module knows when it is open, who opened it, and how many children it has admitted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gatewayd.admission.policy.engine import WindowScope
from gatewayd.errors import InvalidArgs
from gatewayd.runtime.clock import Clock

log = logging.getLogger(__name__)

MAX_SECONDS = 900
"""How long it may be open; Matter's commissioning window has the same limit."""

_WORDS = ("interface", "protocol", "rule")
_NUMBER = "max-devices"
_MAX_WORD = 128  # characters
_MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class WindowOptions:
    """What a join window is opened for.

    max_devices: how many it may admit before it closes; 0 for no limit of its own.
    """

    scope: WindowScope
    max_devices: int = 0


def parse_options(options: Mapping[str, object]) -> WindowOptions:
    """Parse the options of PermitJoin: interface, protocol, rule, max-devices.

    Raises InvalidArgs, also for an unknown option.
    """
    for key, value in options.items():
        if key in _WORDS and not (isinstance(value, str) and 0 < len(value) <= _MAX_WORD):
            raise InvalidArgs(f"Option '{key}' must be a string of 1 to {_MAX_WORD} characters")
        if key == _NUMBER and not (type(value) is int and value > 0):
            raise InvalidArgs(f"Option '{key}' must be a number from 1")
        if key not in (*_WORDS, _NUMBER):
            raise InvalidArgs(f"Unknown option: known are {', '.join(_WORDS)}, {_NUMBER}")
    words = {key: str(value) for key, value in options.items() if key in _WORDS}
    number = options.get(_NUMBER, 0)
    return WindowOptions(WindowScope(**words), number if isinstance(number, int) else 0)


@dataclass(slots=True)
class _Opening:
    """An open window.

    closes: seconds of the event loop's clock.  closes_at: the same, microseconds since the epoch.
    """

    options: WindowOptions
    by: str
    closes: float
    closes_at: int
    timer: asyncio.TimerHandle
    admitted: int = 0


class JoinWindow:
    """A window that opens on request and closes by itself.

    clock: `now` is the clock of the event loop on which this is used.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._opening: _Opening | None = None
        self._changed: Callable[[], None] = lambda: None

    def listen(self, changed: Callable[[], None]) -> None:
        """Have `changed` called whenever the window opens or closes."""
        self._changed = changed

    @property
    def current(self) -> WindowScope | None:
        """What it covers now; None while it is closed."""
        one = self._now_open()
        return one.options.scope if one else None

    @property
    def until(self) -> int:
        """When it will close, microseconds since the epoch; 0 while it is closed."""
        one = self._now_open()
        return one.closes_at if one else 0

    @property
    def opener(self) -> str:
        """Who opened it, as "uid 0"; "" while it is closed."""
        one = self._now_open()
        return one.by if one else ""

    def permit(self, seconds: int, options: WindowOptions, by: str) -> None:
        """Open it for so many seconds, in place of what was open before; 0 closes it.

        Raises InvalidArgs.
        """
        if not 0 <= seconds <= MAX_SECONDS:
            raise InvalidArgs(f"The join window can be open for at most {MAX_SECONDS} s")
        if seconds == 0:
            self._close(f"by {by}")
            return
        if self._opening is not None:
            self._opening.timer.cancel()
        closes = self._clock.now() + seconds
        timer = asyncio.get_running_loop().call_at(closes, self._close, "when its time was over")
        closes_at = self._clock.wall() + seconds * _MICRO
        self._opening = _Opening(options, by, closes, closes_at, timer)
        entry = {"message_id": "join-window-opened"}
        log.info("The join window was opened for %d s by %s.", seconds, by, extra=entry)
        self._changed()

    def count(self) -> None:
        """Count one child that it has admitted; close it at its limit.

        Call it as soon as the child is judged: a later failure gives nothing back.
        """
        if (one := self._opening) is None:
            return
        one.admitted += 1
        if one.admitted == one.options.max_devices:
            self._close("at its limit of devices")

    def _now_open(self) -> _Opening | None:
        """Return the opening, unless its time is over and its timer late."""
        one = self._opening
        return one if one is not None and self._clock.now() < one.closes else None

    def _close(self, why: str) -> None:
        if (one := self._opening) is None:
            return
        one.timer.cancel()
        self._opening = None
        sentence = "The join window was closed %s; it has admitted %d devices."
        log.info(sentence, why, one.admitted, extra={"message_id": "join-window-closed"})
        self._changed()
