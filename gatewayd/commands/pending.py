"""The commands that wait for an answer, and those that have ended of late.  Pure.

Both are in memory only: after a restart the cloud runs into its own limit, and nothing is carried
out that it has given up.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gatewayd.cloud.provider import SupportsAnswers
from gatewayd.commands.answers import size_of
from gatewayd.commands.door import ANSWER, DoorCommand, is_answer_topic
from gatewayd.device.command import ChildCommand, CommandAnswer, CommandKind
from gatewayd.device.identity import DeviceId

MOST_OF_CHILD, MOST, MOST_BYTES = 16, 1000, 4 * 1024 * 1024
"""Commands that wait for an answer: of one child, and in all; and the bytes of their payloads,
which are a dozen times as many once they are read."""
MESSAGES_OF_CHILD = 64
"""Messages of one child that no broker has yet: a cloud sends those that it has kept together."""
REMEMBERED_OF_CHILD, REMEMBERED = 256, 10_000
"""Commands that have ended and are known again, should the cloud send them once more."""
LACKING, LACKING_BYTES = 64, 64 * 1024
"""Answers that a cloud may lack, as there was no session, or it went; and the bytes of one."""


@dataclass(slots=True, eq=False)
class PendingCommand:
    """A command that waits.  begun: seconds of a steady clock."""

    sent: DoorCommand
    begun: float

    @property
    def command(self) -> ChildCommand:
        return self.sent.command

    @property
    def key(self) -> Hashable:
        """What it is known by; one without an identifier is like no other."""
        return key_of(self.command) if self.command.identifier else id(self)


class PendingCommands:
    """The commands that wait, by their child."""

    def __init__(self) -> None:
        self._of: dict[DeviceId, dict[Hashable, PendingCommand]] = {}
        self.count = self._bytes = 0

    def has_room(self, child: DeviceId, command: ChildCommand) -> bool:
        """Whether this command of a child may wait, too."""
        own = self._of.get(child, {}).values()
        messages = sum(one.command.kind is CommandKind.MESSAGE for one in own)
        if command.kind is CommandKind.MESSAGE:
            of_child = messages < MESSAGES_OF_CHILD
        else:
            of_child = len(own) - messages < MOST_OF_CHILD
        in_bytes = self._bytes + len(command.payload) <= MOST_BYTES
        return of_child and in_bytes and self.count < MOST

    def waits(self, child: DeviceId, command: ChildCommand) -> bool:
        """Whether this very command waits already."""
        return key_of(command) in self._of.get(child, {})

    def add(self, pending: PendingCommand) -> None:
        """Let a command wait; there is room for it."""
        own = self._of.setdefault(pending.sent.child, {})
        own[pending.key] = pending
        self.count += 1
        self._bytes += len(pending.command.payload)

    def end(self, pending: PendingCommand) -> bool:
        """Let a command wait no more; return whether it did."""
        child = pending.sent.child
        own = self._of.get(child, {})
        if own.get(pending.key) is not pending:
            return False
        del own[pending.key]
        self.count -= 1
        self._bytes -= len(pending.command.payload)
        if not own:
            del self._of[child]
        return True

    def of(self, child: DeviceId) -> Iterable[PendingCommand]:
        """Return those of a child that wait now."""
        return list(self._of.get(child, {}).values())

    def all(self) -> Iterable[PendingCommand]:
        """Return all that wait now."""
        return [one for own in self._of.values() for one in own.values()]

    def answered(
        self,
        child: DeviceId,
        topic: str,
        payload: bytes,
        correlation: bytes,
        form: SupportsAnswers | None,
    ) -> PendingCommand | None:
        """Return the command that a message of a child answers; None for none.

        topic: what follows `c/CHILD/up/`.  form: of answers at the child's cloud.
        """
        own = self._of.get(child)
        if own is None:
            return None
        if is_answer_topic(topic):
            meant = _text(correlation) or topic.removeprefix(ANSWER).removeprefix("/")
            named = (one for one in own.values() if meant and one.command.identifier == meant)
            return next(named, None)
        fitting = [one for one in own.values() if one.command.reply_topic == topic]
        # the identifier is in the topic, or in the payload: else a late answer to one command
        # would pass for that to the next
        for one in fitting:
            if _names(topic, one.command.identifier):
                return one
        meant = form.identifier_in(payload) if fitting and form is not None else ""
        return next((one for one in fitting if meant and one.command.identifier == meant), None)


def _names(topic: str, identifier: str) -> bool:
    """Whether a level of a topic is an identifier, as in `request_id=ID`."""
    levels = (level.rpartition("=")[2] for level in topic.split("/"))
    return bool(identifier) and identifier in levels


def _text(correlation: bytes) -> str:
    return correlation.decode("utf-8", "replace")


def key_of(command: ChildCommand) -> Hashable:
    """Return what makes a command the same as another, which the cloud has sent once more."""
    return command.identifier, command.topic


class LackingAnswer(NamedTuple):
    """An answer that the cloud may lack.

    until: when it gives the command up, seconds of a steady clock.
    """

    command: ChildCommand
    answer: CommandAnswer
    until: float


class EndedCommands:
    """The commands that have ended of late, and the answers that a cloud may lack."""

    def __init__(self) -> None:
        self._of: OrderedDict[DeviceId, dict[Hashable, None]] = OrderedDict()
        self._lacking: dict[tuple[DeviceId, Hashable], LackingAnswer] = {}
        self._count = 0

    def knows(self, child: DeviceId, command: ChildCommand) -> bool:
        """Whether this very command has ended already; one without an identifier never has."""
        return bool(command.identifier) and key_of(command) in self._of.get(child, {})

    def remember(self, child: DeviceId, command: ChildCommand) -> None:
        """Remember a command."""
        own = self._of.setdefault(child, {})
        self._of.move_to_end(child)
        self._count += key_of(command) not in own
        own[key_of(command)] = None
        if len(own) > REMEMBERED_OF_CHILD:
            self._forget_oldest(child)
        elif self._count > REMEMBERED:
            self._forget_oldest(next(iter(self._of)))

    def keep(
        self, child: DeviceId, command: ChildCommand, answer: CommandAnswer, until: float
    ) -> None:
        """Keep an answer that the cloud may lack, unless it is too large.

        until: as in `LackingAnswer`.
        """
        if size_of(answer) <= LACKING_BYTES:
            self._lacking[child, key_of(command)] = LackingAnswer(command, answer, until)
            if len(self._lacking) > LACKING:
                del self._lacking[next(iter(self._lacking))]

    def take(self, child: DeviceId, command: ChildCommand) -> CommandAnswer | None:
        """Return the answer that the cloud may lack, and keep it no more; None where it has it."""
        lacking = self._lacking.pop((child, key_of(command)), None)
        return lacking.answer if lacking is not None else None

    def take_awaited(self, child: DeviceId, now: float) -> Sequence[LackingAnswer]:
        """Return what the cloud of a child may lack and waits for now, and keep it no more."""
        awaited = {
            key: one for key, one in self._lacking.items() if key[0] == child and one.until > now
        }
        for key in awaited:
            del self._lacking[key]
        return tuple(awaited.values())

    def forget(self, child: DeviceId) -> None:
        """Forget a child: what its next cloud sends is not what this one has sent."""
        self._count -= len(self._of.pop(child, {}))
        for key in [one for one in self._lacking if one[0] == child]:
            del self._lacking[key]

    def _forget_oldest(self, child: DeviceId) -> None:
        own = self._of[child]
        del own[next(iter(own))]
        self._count -= 1
        if not own:
            del self._of[child]
