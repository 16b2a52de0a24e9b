"""Commands at a broker that the site has, by the table in the configuration.

The first entry that fits a command says to which topic it goes, in which form, and where the device
answers.  Nothing is passed on that has no entry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gatewayd.commands.door import AnswerFate, DoorCommand
from gatewayd.device.command import CommandAnswer, CommandOutcome
from gatewayd.device.identity import DeviceId
from gatewayd.messages.door_settings import CommandSettings, DoorSettings
from gatewayd.messages.doors.commands import NAMED, POSSIBLE, SPOKEN, EncodedCommand
from gatewayd.messages.doors.packets import PublishPacket
from gatewayd.messages.doors.site.command_payloads import (
    CommandPayload,
    DeviceAnswer,
    Inexpressible,
    fitting_name,
)
from gatewayd.messages.doors.site.topic_pattern import (
    KEY,
    ChildKey,
    TopicPattern,
    without_overlap,
)
from gatewayd.messages.doors.translation import Translated, Unread

Identities = Callable[[DeviceId], Mapping[ChildKey, str]]
"""Returns by what an admitted child is identified."""

_DONE = CommandAnswer(CommandOutcome.DONE)
_CONFUSED = CommandAnswer(
    CommandOutcome.FAILED, "gatewayd: another device has to answer this identifier first"
)


@dataclass(frozen=True, slots=True, eq=False)
class _Expected:
    """An answer that a device owes."""

    command: DoorCommand
    topic: str
    answer: DeviceAnswer

    def is_confused_with(self, other: _Expected) -> bool:
        """Whether an answer on this topic could be to either, of different children."""
        same = self.command.command.identifier == other.command.command.identifier
        return same and self.command.child != other.command.child


class SiteCommands:
    """The commands at one broker.  Implements CommandWay.

    settings: of the door.  identities: of a child.  spoke: whether its newest message came here.
    """

    def __init__(
        self, settings: DoorSettings, identities: Identities, spoke: Callable[[DeviceId], bool]
    ) -> None:
        self._identities, self._spoke = identities, spoke
        self._names = {child: name for name, child in reversed(list(settings.children.items()))}
        self._entries = [_Entry(one) for one in settings.commands]
        answers = [entry.answer for entry in self._entries if entry.answer is not None]
        self._answers = tuple(answers)
        self.filters: Sequence[str] = without_overlap(one.filter for one in answers)
        self._expected: dict[str, list[_Expected]] = {}  # by topic
        self._expected_of: dict[DoorCommand, _Expected] = {}

    def priority(self, command: DoorCommand) -> int:
        """Return how surely a command is meant for this broker."""
        found = self._find(command)
        if found is None:
            return 0
        _, _, is_named = found
        if is_named:
            return NAMED
        return SPOKEN if self._spoke(command.child) else POSSIBLE

    def encode(self, command: DoorCommand) -> EncodedCommand | CommandAnswer:
        """Return what is published, and expect the answer of the device."""
        found = self._find(command)
        assert found is not None, "it has a priority"
        entry, texts, _ = found
        try:
            payload, sent = entry.payload.make(command.command)
        except Inexpressible as error:
            return CommandAnswer(CommandOutcome.FAILED, f"gatewayd: {error}")
        topic = entry.topic.fill(texts)
        if entry.answer is None or not command.is_answered:
            return EncodedCommand(topic, payload, acknowledged=_DONE)
        answer = DeviceAnswer(entry.settings, command.command, sent)
        expected = _Expected(command, entry.answer.fill(texts), answer)
        if any(one.is_confused_with(expected) for one in self._expected.get(expected.topic, ())):
            return _CONFUSED
        self._expected.setdefault(expected.topic, []).append(expected)
        self._expected_of[command] = expected
        return EncodedCommand(topic, payload)

    def receive(self, message: PublishPacket, translated: Translated) -> AnswerFate:
        """Use a message if it is an answer; it may be a message of its child, too."""
        answered = self._conclude(message)
        if translated is not Unread.TOPIC:
            return AnswerFate.NONE
        if answered:
            return AnswerFate.ANSWERED
        of_answers = any(one.match(message.topic) is not None for one in self._answers)
        return AnswerFate.LATE if of_answers else AnswerFate.NONE

    def end(self, command: DoorCommand) -> None:
        """Expect no answer to a command any more."""
        if (expected := self._expected_of.pop(command, None)) is None:
            return
        own = self._expected[expected.topic]
        own.remove(expected)
        if not own:
            del self._expected[expected.topic]

    def _conclude(self, message: PublishPacket) -> bool:
        """Conclude the commands that a message answers; return whether it does.

        The oldest alone, unless the message shows what several have set.
        """
        waiting = self._expected.get(message.topic)
        if not waiting or message.retained or message.too_large:
            return False
        answered = False
        for one in tuple(waiting):
            answer = one.answer.read(message.payload)
            if answer is not None:
                answered = True
                one.command.concluded(answer)
                if not one.answer.confirms:
                    break
        return answered

    def _find(self, command: DoorCommand) -> tuple[_Entry, Mapping[str, str], bool] | None:
        """Return the entry for a command, what placeholders stand for, and whether it is named."""
        own = self._identities(command.child)
        texts: dict[str, str] = {str(key): text for key, text in own.items()}
        name = next((self._names[one] for one in own.values() if one in self._names), "")
        if name:  # a publisher's name stands for the child, whatever the placeholder
            texts = dict.fromkeys(map(str, ChildKey), name)
        for entry in self._entries:
            filled = {**texts, **entry.key_of(command)}
            if entry.fits(command, own) and entry.topic.fill(filled):
                return entry, filled, bool(name or entry.settings.child)
        return None


class _Entry:
    """One entry of the table, parsed."""

    def __init__(self, settings: CommandSettings) -> None:
        self.settings, self.payload = settings, CommandPayload(settings)
        self.topic = TopicPattern(settings.topic)
        self.answer = TopicPattern(settings.answer) if settings.answer else None
        self._paths = {name: one.path for name, one in settings.all_values().items()}

    def fits(self, command: DoorCommand, own: Mapping[ChildKey, str]) -> bool:
        """Whether a command, of a child with these identities, goes here."""
        sent, wanted = command.command, self.settings.child
        if sent.kind is not self.settings.kind or not own:
            return False
        if wanted and wanted not in (own.get(ChildKey.ID), own.get(ChildKey.NAME)):
            return False
        if not fitting_name(self.settings, sent):
            return False
        # one with an argument that is not listed is for another entry, or for none
        return not self._paths or set(sent.arguments) <= set(self._paths)

    def key_of(self, command: DoorCommand) -> Mapping[str, str]:
        """Return what {key} stands for, where the command has one property."""
        names = list(command.command.arguments)
        return {KEY: self._paths[names[0]]} if len(names) == 1 and names[0] in self._paths else {}
