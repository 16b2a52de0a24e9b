"""How commands reach children at a broker, and how their answers are known; gatewayd's own.

At gatewayd's own broker a command goes to `c/CHILD/down/…`, in the form of its cloud.  A child
answers in that form where its cloud's documents say, or in the neutral form on the response topic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gatewayd.commands.door import AnswerFate, CommandAnswers, DoorCommand, answer_topic
from gatewayd.device.command import CommandAnswer
from gatewayd.messages.doors.packets import MAX_CORRELATION, PublishPacket
from gatewayd.messages.doors.translation import ChildMessage, Translated


@dataclass(frozen=True, slots=True)
class EncodedCommand:
    """What a command becomes at a broker.

    response_topic, correlation: MQTT 5 only; "" and b"" for none.
    acknowledged: how the command ends when the broker has it; None where the child answers.
    """

    topic: str
    payload: bytes
    response_topic: str = ""
    correlation: bytes = b""
    acknowledged: CommandAnswer | None = None


class CommandWay(Protocol):
    """The commands at one broker.

    filters: the topics of answers to subscribe to, beside those of messages.
    """

    filters: Sequence[str]

    def priority(self, command: DoorCommand) -> int:
        """Return how surely a command is meant for this broker: 0 for not at all."""

    def encode(self, command: DoorCommand) -> EncodedCommand | CommandAnswer:
        """Return what is published, and expect its answer; or how the command ends without.

        Called where `priority` is not 0.
        """

    def receive(self, message: PublishPacket, translated: Translated) -> AnswerFate:
        """Use a message if it is an answer, and nothing else.  Never blocks."""

    def end(self, command: DoorCommand) -> None:
        """Expect no answer to a command any more."""


NAMED, SPOKEN, OWN, POSSIBLE = 4, 3, 2, 1
"""Priorities: the configuration names the child; it spoke there last; gatewayd's own broker, where
any child may listen; and any broker whose table has a topic for it."""


class NoCommands:
    """The commands of a door that passes none."""

    filters: Sequence[str] = ()

    def priority(self, command: DoorCommand) -> int:  # noqa: ARG002  # the port's argument
        """Return 0."""
        return 0

    def encode(self, command: DoorCommand) -> EncodedCommand | CommandAnswer:
        """Never called."""
        raise NotImplementedError(command)

    def receive(self, message: PublishPacket, translated: Translated) -> AnswerFate:  # noqa: ARG002  # the port's arguments
        """Return that it is none."""
        return AnswerFate.NONE

    def end(self, command: DoorCommand) -> None:
        """Do nothing."""


class OwnCommands:
    """The commands at gatewayd's own broker.  Implements CommandWay."""

    filters: Sequence[str] = ()  # answers are below `c/CHILD/up/`, too

    def __init__(self, answers: CommandAnswers) -> None:
        self._answers = answers

    def priority(self, command: DoorCommand) -> int:  # noqa: ARG002  # the port's argument
        """Return OWN: any child may listen there, and the broker says whether it does."""
        return OWN

    def encode(self, command: DoorCommand) -> EncodedCommand:
        """Return what is published: the payload as the cloud sent it."""
        child, sent = command.child, command.command
        topic, payload = f"c/{child}/down/{sent.topic}", sent.payload
        if not command.is_answered:
            return EncodedCommand(topic, payload)
        correlation = sent.identifier.encode("utf-8", "replace")
        return EncodedCommand(
            topic,
            payload,
            f"c/{child}/up/{answer_topic(sent.identifier)}",
            correlation if len(correlation) <= MAX_CORRELATION else b"",
        )

    def receive(self, message: PublishPacket, translated: Translated) -> AnswerFate:
        """Use a message of a child if it is an answer."""
        if not isinstance(translated, ChildMessage):
            return AnswerFate.NONE
        child, topic, payload = translated
        return self._answers.receive(child, topic, payload, message.correlation)

    def end(self, command: DoorCommand) -> None:
        """Do nothing: what is awaited is known behind the door."""
