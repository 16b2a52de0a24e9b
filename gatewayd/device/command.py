"""A command that a cloud sends to a child, and its answer, as every stage sees them.  Pure.

The child's session receives it, `commands/` decides and waits, and a door passes it to the child.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

JsonObject = Mapping[str, object]


class CommandKind(StrEnum):
    """What a cloud wants of a child: the word that a rule allows it by."""

    SERVICE = "service"  # a call by name, with arguments and an answer
    SET = "set"  # properties to be set
    GET = "get"  # properties to be read
    REQUEST = "request"  # bytes in any form, answered by bytes in any form
    MESSAGE = "message"  # bytes in any form, without an answer


@dataclass(frozen=True, slots=True)
class ChildCommand:
    """One command, as a session received it.

    identifier: the cloud's own; the same on the way to the child and back, and in the log.
    name: of the service or command; "" where the cloud names none.
    arguments: of a service, by name; of "set", values by property; of "get", names of properties
    as keys; empty for bytes in any form.
    topic: the remainder of the topic as the cloud's documents name it: what follows
    `c/CHILD/down/` at gatewayd's own broker.
    payload: as the cloud sent it.
    reply_topic: the remainder of the topic of an answer in the cloud's own form, which follows
    `c/CHILD/up/` at gatewayd's own broker; "" where the cloud waits for none.
    seconds: how long the cloud waits for the answer, from now; 0 where it waits for none.
    """

    identifier: str
    kind: CommandKind
    name: str
    arguments: JsonObject
    topic: str
    payload: bytes
    reply_topic: str
    seconds: float


class CommandOutcome(StrEnum):
    """How a command ended."""

    DONE = "done"  # the child says so
    FAILED = "failed"  # the child says that it could not
    NOT_ALLOWED = "not-allowed"  # by the rule of the child
    NO_LISTENER = "no-listener"  # the child is not there, or does not listen
    NO_ANSWER = "no-answer"  # in the time that the cloud waits
    TOO_MANY = "too-many"  # commands wait for an answer already


@dataclass(frozen=True, slots=True)
class CommandAnswer:
    """The answer to a command.

    text: a sentence for people at the cloud; "" for none.
    result: what the child returns, in the neutral form: values by name.
    raw: the payload in the cloud's own form, which passes unchanged; None where gatewayd makes it.
    """

    outcome: CommandOutcome
    text: str = ""
    result: JsonObject = field(default_factory=dict)
    raw: bytes | None = None


REFUSALS: Mapping[CommandOutcome, str] = {
    CommandOutcome.NOT_ALLOWED: "gatewayd: the rule of this child does not allow this command",
    CommandOutcome.NO_LISTENER: "gatewayd: the child is not there, or does not listen for commands",
    CommandOutcome.NO_ANSWER: "gatewayd: the child did not answer",
    CommandOutcome.TOO_MANY: "gatewayd: too many commands wait for an answer",
}
"""What the cloud is given to show, where gatewayd answers in the place of the child."""
