"""The ports between the relay of commands and the doors: a command out, and an answer in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeAlias

from gatewayd.device.command import ChildCommand, CommandAnswer
from gatewayd.device.identity import DeviceId

ANSWER = "answer"
"""What follows `c/CHILD/up/` in the topic of an answer in the neutral form: `answer/ID`, or this
alone where the identifier is no level of a topic."""
MAX_TOPIC = 512
"""Characters of the remainder of a topic to which a command is passed."""
MAX_IDENTIFIER = 128
"""Characters of an identifier that is passed to a child."""

Concluded: TypeAlias = Callable[[CommandAnswer | None], None]
"""Called when a broker has the command (None), and when it has ended; what comes after the end is
ignored."""


@dataclass(frozen=True, slots=True, eq=False)
class DoorCommand:
    """A command on its way to its child.

    deadline: seconds, as of the event loop's clock: it must not reach the child later.
    is_answered: whether an answer of the child is awaited.
    """

    child: DeviceId
    command: ChildCommand
    deadline: float
    is_answered: bool
    concluded: Concluded


class CommandDoors(Protocol):
    """What passes commands to children."""

    def send(self, command: DoorCommand) -> None:
        """Pass a command on.  Never blocks.

        Where no door leads to the child, none is connected, or nothing listens there, it is
        concluded as NO_LISTENER at once.  What was sent once is not sent again.
        """

    def end(self, command: DoorCommand) -> None:
        """Expect no answer to a command any more, and do not send it if it has not left."""


class AnswerFate(StrEnum):
    """What became of a message of a child that may be an answer."""

    ANSWERED = "answered"  # it is, of a command that waits for it
    LATE = "late-answer"  # it is, and no command waits for it
    NONE = "no-answer"  # it is a message like others


class CommandAnswers(Protocol):
    """What receives the answers of children at gatewayd's own broker."""

    def receive(
        self, child: DeviceId, topic: str, payload: bytes, correlation: bytes
    ) -> AnswerFate:
        """Use a message of a child if it is an answer.  Never blocks.

        topic: what follows `c/CHILD/up/`.  correlation: b"" for none.
        """


def is_passable(topic: str) -> bool:
    """Whether a broker accepts the remainder of a topic (MQTT 5.0, 4.7)."""
    return (
        bool(topic) and len(topic) <= MAX_TOPIC and topic.isprintable() and not set(topic) & {*"+#"}
    )


def is_answer_topic(topic: str) -> bool:
    """Whether the remainder of a topic is that of an answer in the neutral form."""
    return topic == ANSWER or topic.startswith(f"{ANSWER}/")


def answer_topic(identifier: str) -> str:
    """Return the remainder of the topic of an answer in the neutral form."""
    fits = is_passable(identifier) and len(identifier) <= MAX_IDENTIFIER and "/" not in identifier
    return f"{ANSWER}/{identifier}" if fits else ANSWER
