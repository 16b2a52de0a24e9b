"""What is known of commands that have ended: counts, the newest of each child, and the log."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from gatewayd.device.command import ChildCommand, CommandOutcome
from gatewayd.device.identity import DeviceId
from gatewayd.device.views import CommandStatistics, EndedCommand
from gatewayd.runtime.clock import Clock
from gatewayd.runtime.text import one_line

log = logging.getLogger(__name__)

LAST, CHILDREN = 8, 1000
"""Commands of one child that are shown, and the children of which some are."""
QUIET, LOGGED = 60.0, 60
"""Seconds in which a child's refusals of one kind have one line in the log, and commands that end
in another way so many of each."""
_SHOWN = 64
"""Characters of an identifier or a name that are shown."""

_REFUSED = (CommandOutcome.NOT_ALLOWED, CommandOutcome.TOO_MANY, CommandOutcome.NO_LISTENER)
"""What costs a cloud nothing to bring about, as often as it likes."""


class _Lines(NamedTuple):
    """Lines of one kind in the log.  since: seconds of a steady clock."""

    since: float
    written: int


class CommandJournal:
    """The record of commands, bounded, in memory only."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ended: Counter[str] = Counter()
        self._last: OrderedDict[DeviceId, deque[EndedCommand]] = OrderedDict()
        self._logged: OrderedDict[tuple[DeviceId, CommandOutcome], _Lines] = OrderedDict()
        self._unlogged: Counter[tuple[DeviceId, CommandOutcome]] = Counter()
        self.received = self.sent = self.repeated = self.late = self.unanswered = 0
        self._shown: Mapping[DeviceId, Sequence[EndedCommand]] | None = {}

    def ended(
        self, child: DeviceId, command: ChildCommand, outcome: CommandOutcome, seconds: float
    ) -> None:
        """Note how a command has ended.  seconds: since it was received."""
        entry = EndedCommand(
            self._clock.wall(),
            _shown(command.identifier),
            command.kind.value,
            _name_of(command),
            outcome.value,
            round(seconds * 1000),
        )
        self._ended[outcome.value] += 1
        own = self._last.setdefault(child, deque(maxlen=LAST))
        own.append(entry)
        self._shown = None
        self._last.move_to_end(child)
        if len(self._last) > CHILDREN:
            self._last.popitem(last=False)
        if self._may_log(child, outcome):
            self._log(child, entry, self._unlogged.pop((child, outcome), 0))

    def forget(self, child: DeviceId) -> None:
        """Forget a child that is gone."""
        self._last.pop(child, None)
        self._shown = None

    def statistics(self, waiting: int) -> CommandStatistics:
        """Return the statistics of now."""
        if self._shown is None:
            self._shown = {child: tuple(entries) for child, entries in self._last.items()}
        return CommandStatistics(
            self.received,
            self.sent,
            waiting,
            dict(self._ended),
            self.repeated,
            self.late,
            self.unanswered,
            self._shown,
        )

    def _may_log(self, child: DeviceId, outcome: CommandOutcome) -> bool:
        """Whether a command has a line of its own; those without one are counted in the next."""
        now, which = self._clock.now(), (child, outcome)
        lines = self._logged.get(which)
        if lines is None or now - lines.since >= QUIET:
            lines = _Lines(now, 0)
        if lines.written >= (1 if outcome in _REFUSED else LOGGED):
            self._unlogged[which] += 1
            return False
        self._logged[which] = lines._replace(written=lines.written + 1)
        self._logged.move_to_end(which)
        if len(self._logged) > CHILDREN:
            oldest, _ = self._logged.popitem(last=False)
            self._unlogged.pop(oldest, None)
        return True

    def _log(self, child: DeviceId, entry: EndedCommand, more: int) -> None:
        log.info(
            "Command %s to device %s, %s, ended %s after %d ms%s.",
            entry.identifier or "without an identifier",
            child,
            f"{entry.kind} {entry.name}".rstrip(),
            entry.outcome,
            entry.milliseconds,
            f", as did {more} since the last line of this kind" if more else "",
            extra={"device": child},
        )


def _name_of(command: ChildCommand) -> str:
    """Return the name of a command or, where it has none, those of its properties."""
    named = (name[:_SHOWN] for name in islice(command.arguments, LAST))
    return _shown(command.name or " ".join(named))


def _shown(text: str) -> str:
    return one_line(text[: 4 * _SHOWN], _SHOWN)  # a cloud may send a long one, as often as it likes
