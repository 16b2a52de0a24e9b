"""The join window: for a while, rules that say so register what they would ask about.

It is closed at the start, ends by itself, and is never written down.  What it covers is judged in
policy/judge.py; here is only when it is open, who opened it, and how many it has let in.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gatewayd.admission.policy.engine import Window
from gatewayd.errors import InvalidArgs
from gatewayd.runtime.clock import Clocks

log = logging.getLogger(__name__)

MAX_SECONDS = 900
"""How long it may be open; Matter's commissioning window has the same limit."""

_WORDS = ("interface", "protocol", "rule")
_NUMBER = "max-devices"
_MAX_WORD = 128  # characters
_MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class Scope:
    """What a join window is opened for.

    devices: how many it may let in before it closes; 0 for no limit of its own.
    """

    window: Window
    devices: int = 0


def scope(options: Mapping[str, object]) -> Scope:
    """Read the options of PermitJoin: interface, protocol, rule, max-devices.

    Raises InvalidArgs, also for an option that is not known.
    """
    for key, value in options.items():
        if key in _WORDS and not (isinstance(value, str) and 0 < len(value) <= _MAX_WORD):
            raise InvalidArgs(f"The option {key} takes a string of 1 to {_MAX_WORD} characters")
        if key == _NUMBER and not (type(value) is int and value > 0):
            raise InvalidArgs(f"The option {key} takes a number from 1")
        if key not in (*_WORDS, _NUMBER):
            raise InvalidArgs(f"An option is one of {', '.join(_WORDS)} and {_NUMBER}")
    words = {key: str(value) for key, value in options.items() if key in _WORDS}
    number = options.get(_NUMBER, 0)
    return Scope(Window(**words), number if isinstance(number, int) else 0)


@dataclass(slots=True)
class _Opening:
    """An open window.  until: seconds of the event loop's clock.  shown: the same as µs."""

    scope: Scope
    by: str
    until: float
    shown: int
    timer: asyncio.TimerHandle
    admitted: int = 0


class JoinWindow:
    """Opens and closes.  Used on the event loop, whose clock is `clocks.now`."""

    def __init__(self, clocks: Clocks) -> None:
        self._clocks = clocks
        self._opening: _Opening | None = None
        self._changed: Callable[[], None] = lambda: None

    def listen(self, changed: Callable[[], None]) -> None:
        """Tell somebody when it opens and when it closes, from now on."""
        self._changed = changed

    @property
    def current(self) -> Window | None:
        """What it covers now; None while it is closed."""
        one = self._now_open()
        return one.scope.window if one else None

    @property
    def until(self) -> int:
        """When it will close, microseconds since the epoch; 0 while it is closed."""
        one = self._now_open()
        return one.shown if one else 0

    @property
    def opener(self) -> str:
        """Who opened it, as "uid 0"; "" while it is closed."""
        one = self._now_open()
        return one.by if one else ""

    def permit(self, seconds: int, scope: Scope, by: str) -> None:
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
        until = self._clocks.now() + seconds
        timer = asyncio.get_running_loop().call_at(until, self._close, "as its time is over")
        shown = self._clocks.wall() + seconds * _MICRO
        self._opening = _Opening(scope, by, until, shown, timer)
        entry = {"message_id": "join-window-opened"}
        log.info("The join window is open for %d s, by %s.", seconds, by, extra=entry)
        self._changed()

    def count(self) -> None:
        """Count one child that it has let in; the last one that it may closes it.

        To be called as soon as the child is judged: what fails later is not given back.
        """
        if (one := self._opening) is None:
            return
        one.admitted += 1
        if one.admitted == one.scope.devices:
            self._close("as it may let in no more")

    def _now_open(self) -> _Opening | None:
        """Return the opening, but for one whose timer is late."""
        one = self._opening
        return one if one is not None and self._clocks.now() < one.until else None

    def _close(self, why: str) -> None:
        if (one := self._opening) is None:
            return
        one.timer.cancel()
        self._opening = None
        told = "The join window was closed %s; it has let in %d children."
        log.info(told, why, one.admitted, extra={"message_id": "join-window-closed"})
        self._changed()
