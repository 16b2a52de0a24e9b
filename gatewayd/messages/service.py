"""Messages for operators: how they are, and the tap.  The port `MessageCommands`."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from gatewayd.device.identity import DeviceId
from gatewayd.device.views import (
    CommandStatistics,
    DoorView,
    MessageCounts,
    MessageStatistics,
    MessagesView,
)
from gatewayd.errors import NotSupported
from gatewayd.messages.condition import ConditionReporter
from gatewayd.messages.tap import MessageTap

log = logging.getLogger(__name__)

AWAY = 30.0
"""Seconds after which a door that is not connected degrades the gateway."""

DoorStates = Mapping[str, tuple[str, str, Mapping[str, int]]]
"""State and explanation of each door, as of `DoorView`, by its name; and what it has not handed on,
by the word for why."""


class MessageService:
    """What an operator sees and can do of messages.

    statistics: returns the statistics of now.  doors: returns the states of the doors.
    entrances: the door at which the newest message came in, by child.
    resolve: returns the id meant.  Raises NoSuchDevice, AmbiguousId.
    now: seconds, as of the event loop.  commands: returns the statistics of commands.
    """

    def __init__(  # noqa: PLR0913  # one by keyword
        self,
        statistics: Callable[[], MessageStatistics],
        doors: Callable[[], DoorStates],
        entrances: Mapping[DeviceId, str],
        tap: MessageTap,
        resolve: Callable[[str], DeviceId],
        now: Callable[[], float],
        *,
        commands: Callable[[], CommandStatistics] = CommandStatistics,
    ) -> None:
        self._commands = commands
        self._statistics, self._doors, self._entrances = statistics, doors, entrances
        self._tap, self._resolve, self._now = tap, resolve, now
        self._reporter = ConditionReporter()
        self._away: dict[str, float] = {}  # since when, by the name of the door
        self._door_faults: tuple[str, ...] = ()

    def resolve(self, device: str) -> DeviceId:
        return self._resolve(device)

    async def follow(self, device: str, caller: str) -> int:
        if self._reporter.now.state == "disabled":
            raise NotSupported("Messages are not enabled: set `enabled` under [messages]")
        child = self._resolve(device)
        source = self._tap.follow(child)
        log.info("The messages of device %s are followed by %s.", child, caller)
        return source

    def view(self) -> MessagesView:
        """Return what D-Bus shows, and log what has changed."""
        statistics, doors = self._statistics(), self._doors()
        self._reporter.update(statistics, self._now())
        self._door_faults = tuple(self._faults_of(doors))
        view = messages_view(statistics, self._reporter, doors, self._entrances)
        return replace(view, commands=self._commands())

    def total(self) -> MessageCounts:
        """Return what waits of all messages, and what became of others."""
        return self._statistics().total

    def statistics(self) -> MessageStatistics:
        """Return the statistics of now."""
        return self._statistics()

    def faults(self) -> tuple[str, ...]:
        """Return what is wrong with the gateway as a whole at the last view, a sentence each."""
        condition = self._reporter.now
        own = (condition.reason.text.rstrip("."),) if condition.of_all else ()
        return *own, *self._door_faults

    def _faults_of(self, doors: DoorStates) -> Iterator[str]:
        """Yield what is wrong with doors that have not been connected for a while."""
        now = self._now()
        away = {name: why for name, (state, why, _) in doors.items() if state == "connecting"}
        self._away = {name: self._away.get(name, now) for name in away}
        for name, why in away.items():
            if now - self._away[name] >= AWAY:
                yield f"door {name}: {why.rstrip('.')}"


def messages_view(
    statistics: MessageStatistics,
    reporter: ConditionReporter,
    doors: DoorStates,
    entrances: Mapping[DeviceId, str],
) -> MessagesView:
    """Join what is known.  Pure."""
    names = sorted({*doors, *statistics.doors})
    return MessagesView(
        state=reporter.now.state,
        reason=reporter.now.reason,
        total=statistics.total,
        doors=tuple(
            _door(name, doors, statistics.doors.get(name, MessageCounts())) for name in names
        ),
        children=statistics.children,
        refusals=statistics.refusals,
        entrances=dict(entrances),
    )


def _door(name: str, doors: DoorStates, counts: MessageCounts) -> DoorView:
    """Return the view of a door.  counts: of what it has handed on."""
    state, explanation, not_handed_on = doors.get(name, ("", "", {}))
    dropped = Counter(counts.dropped) + Counter(not_handed_on)
    return DoorView(name, state, explanation, replace(counts, dropped=dict(dropped)))
