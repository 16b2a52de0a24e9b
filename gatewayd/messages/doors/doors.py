"""All doors of a gateway: its own broker, and those that the site has."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gatewayd.commands.door import CommandAnswers, DoorCommand
from gatewayd.device.command import REFUSALS, CommandAnswer, CommandOutcome
from gatewayd.device.identity import DeviceId
from gatewayd.messages.door_settings import OWN_DOOR, DoorSettings
from gatewayd.messages.doors.access import DoorAccess, ReadSecret, SiteBrokerAccess
from gatewayd.messages.doors.children import ChildDirectory
from gatewayd.messages.doors.commands import OwnCommands
from gatewayd.messages.doors.door import Door, DoorStatus, Retry
from gatewayd.messages.doors.site.commands import Identities, SiteCommands
from gatewayd.messages.doors.site.topics import SiteTopics
from gatewayd.messages.doors.subscriptions import SubscriptionFile
from gatewayd.messages.doors.translation import OwnTopics, status_topic
from gatewayd.messages.intake import MessageIntake
from gatewayd.runtime.clock import Clock

_OWN_RETRY = Retry(0.1, 1.0)
"""It is on this machine; and what it has acknowledged while gatewayd is away, it may lose."""


@dataclass(frozen=True, slots=True)
class ChildCloudStatus:
    """What a child is shown of its way to the cloud, at gatewayd's own broker.

    is_online: whether it has a session.  since: of that, milliseconds since the epoch; 0 where the
    clock was not right.  waiting, dropped: its messages that wait, and those that were dropped.
    """

    is_online: bool
    since: int
    waiting: int
    dropped: int

    def encode(self) -> bytes:
        """Return it as JSON, as gatewayd-broker(8) describes it."""
        content = {
            "cloud": "up" if self.is_online else "down",
            "since": self.since,
            "waiting": self.waiting,
            "dropped": self.dropped,
        }
        return json.dumps(content, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class DoorParts:
    """What all doors share.

    intake: where messages of children go.  children: those that may speak.
    host: the name of this machine, for client identifiers that must differ between gateways.
    directory: for what doors keep, beside the outbox.
    stranger: called for who speaks at gatewayd's own broker and is not admitted; it has logged in.
    answers: where answers to commands go from there; None where children get no commands.
    identities: by what a child is identified.  entrances: the door at which its newest message came
    in.
    """

    intake: MessageIntake
    children: ChildDirectory
    clock: Clock
    read_secret: ReadSecret
    host: str
    directory: Path
    stranger: Callable[[DeviceId], None] = lambda _: None
    answers: CommandAnswers | None = None
    identities: Identities = lambda _: {}
    entrances: Mapping[DeviceId, str] = field(default_factory=dict)

    def own(self, access: DoorAccess) -> Door:
        """Make the door that is gatewayd's own broker."""
        return Door(
            OWN_DOOR,
            access,
            OwnTopics(self.children, self.stranger),
            self.intake,
            self.clock,
            _OWN_RETRY,
            commands=OwnCommands(self.answers) if self.answers is not None else None,
        )

    def of_site(self, name: str, settings: DoorSettings) -> Door:
        """Make the door to a broker that the site has."""
        access = SiteBrokerAccess(settings, f"gatewayd-{self.host}-{name}", self.read_secret)
        topics = SiteTopics(settings, self.children)
        retry = Retry(settings.retry_first, settings.retry_last)
        record = SubscriptionFile(self.directory / f"door-{name}.json")
        commands = SiteCommands(
            settings, self.identities, lambda child: self.entrances.get(child) == name
        )
        return Door(
            name, access, topics, self.intake, self.clock, retry, record=record, commands=commands
        )


NO_LISTENER = CommandAnswer(CommandOutcome.NO_LISTENER, REFUSALS[CommandOutcome.NO_LISTENER])


class Doors:
    """The doors that are configured.  Implements CommandDoors.

    sites: the table [messages.doors].  own: the way to gatewayd's own broker; None without one.
    """

    def __init__(
        self, parts: DoorParts, sites: Mapping[str, DoorSettings], own: DoorAccess | None
    ) -> None:
        self._own = parts.own(own) if own is not None else None
        of_sites = [
            parts.of_site(name, settings)
            for name, settings in sites.items()
            if settings.carries_messages
        ]
        self._doors = of_sites if self._own is None else [self._own, *of_sites]
        self._on_way: dict[DoorCommand, list[Door]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the doors, as the outbox has them."""
        return tuple(door.name for door in self._doors)

    def services(self) -> Iterable[Callable[[], Coroutine[Any, Any, None]]]:
        """Return what has to run, until cancelled."""
        return tuple(door.run for door in self._doors)

    def states(self) -> Mapping[str, tuple[str, str, Mapping[str, int]]]:
        """Return state and explanation of each door, as `DoorView` has them, by its name.

        And what it has not handed on, by the word of an `Unread`.
        """
        return {door.name: _state(door.status()) for door in self._doors}

    def show(self, child: DeviceId, status: ChildCloudStatus | None) -> None:
        """Show a child its status; None removes it, for a child that is forgotten.

        Never blocks; what has changed before it has left is sent once.
        """
        if self._own is not None:
            payload = status.encode() if status is not None else b""
            self._own.show(status_topic(child), payload)

    # Commands.

    def send(self, command: DoorCommand) -> None:
        """Pass a command on by the door that is surest to lead to its child, or by the next."""
        ranked = [(door.commands.priority(command), door) for door in self._doors]
        fitting = sorted((one for one in ranked if one[0]), key=lambda one: -one[0])
        self._on_way[command] = [door for _, door in fitting]
        self._offer(command)

    def _offer(self, command: DoorCommand) -> None:
        """Try the doors that are left: each of them says at once that nothing listens there."""
        left = self._on_way.get(command)
        while left:
            door = left.pop(0)
            if door.send(command, lambda: self._offer(command)):
                return
        if left is not None:  # else it has ended meanwhile
            command.concluded(NO_LISTENER)

    def end(self, command: DoorCommand) -> None:
        """Expect no answer to a command any more, and do not send it if it has not left."""
        self._on_way.pop(command, None)
        for door in self._doors:
            door.end(command)


def _state(status: DoorStatus) -> tuple[str, str, Mapping[str, int]]:
    explanation = str(status.reason) if status.reason.code else ""
    return status.state, explanation, status.dropped
