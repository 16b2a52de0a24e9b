"""What a child says to its broker, and what it receives: topics and payloads.  Pure.

A message passes unchanged, but for the neutral form: there, the time is added that gatewayd knows,
since a reader at the broker sees what has waited arrive all at once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping

from gatewayd.cloud import command_json
from gatewayd.cloud.command_router import UNREADABLE, UNWRITABLE, NoCommand
from gatewayd.cloud.mqtt_broker.templates import BrokerIdentity
from gatewayd.cloud.publisher import MappedMessage
from gatewayd.device import reading
from gatewayd.device.command import ChildCommand, CommandAnswer, CommandKind, CommandOutcome
from gatewayd.device.message import EVENTS, PROPERTIES, Message
from gatewayd.device.reading import UnfitMessage
from gatewayd.device.reason import Reason

SECONDS = 20.0
"""Seconds in which a command is to be answered; no broker waits, but its user does."""
MAX_COMMAND, MAX_ANSWER = 256 * 1024, 256 * 1024
"""Bytes of a command, and of its answer, at most."""
MAX_PACKET = MAX_COMMAND + 1024
"""Bytes of a packet that the broker may send to a child: a command with its topic."""
ANSWER = "answer/"
"""Begins the topic of an answer, before the identifier of its command."""
_ID = r"[A-Za-z0-9_-]{1,64}"
_COMMAND = re.compile(rf"(set|get|call/([A-Za-z0-9_.-]{{1,64}}))/({_ID})")
_KINDS: Mapping[str, CommandKind] = {
    "set": CommandKind.SET, "get": CommandKind.GET, "call": CommandKind.SERVICE
}  # fmt: skip
_TOPIC = re.compile(r"[A-Za-z0-9._~:@!$&'()*,;=-]+(/[A-Za-z0-9._~:@!$&'()*,;=-]+)*")
MAX_LEVELS = 8
MAX_TOPIC = 256
"""Bytes of a topic below that of the child, at most."""

NO_TOPIC = Reason(
    "message-topic-unknown",
    "The topic of the message can be none at this broker.",
    "Use properties, events/NAME, or up to eight levels of letters, digits and punctuation.",
)


def own_filters(identity: BrokerIdentity) -> tuple[str, str]:
    """Return what a child subscribes to: what is said to it, and what shows that it can speak.

    The second matches no message, as none has so many levels; only a client whose role has `up`
    may subscribe to it.
    """
    return f"{identity.down}#", identity.up + "/".join("-" * (MAX_LEVELS + 1))


def mapped(message: Message, identity: BrokerIdentity) -> MappedMessage:
    """Return what is published for a message.  Raises UnfitMessage."""
    deep = message.topic.count("/") >= MAX_LEVELS
    if deep or len(message.topic) > MAX_TOPIC or not _TOPIC.fullmatch(message.topic):
        raise UnfitMessage(NO_TOPIC)
    payload = message.payload
    if message.topic == PROPERTIES or message.topic.startswith(EVENTS):
        payload = _timed(payload, message.at)
    return MappedMessage(identity.up + message.topic, payload)


def _timed(payload: bytes, at: int) -> bytes:
    """Return a payload in the neutral form, with its time if that is known."""
    said = reading.read(payload)
    if said.time or not at:
        return payload
    return json.dumps({**said.values, reading.TIME: at}, ensure_ascii=False).encode()


def is_answer(topic: str) -> bool:
    """Whether only answers to commands have the remainder of a topic."""
    return topic.startswith(ANSWER)


def identifier_in(_: bytes) -> str:
    """Return "": the topic of an answer has its identifier."""
    return ""


def is_success(_: ChildCommand, payload: bytes) -> bool:
    """Whether an answer says that the child could do it."""
    return (command_json.load(payload, MAX_ANSWER) or {}).get("ok", True) is True


class TopicCommands:
    """The commands of one child.  Implements CommandForm; its own user name is the child.

    Below `down`, "set/ID" has values by property, "get/ID" a list of names, or {}, for all, and
    "call/NAME/ID" the arguments of a service: JSON, whose answer is {"ok": true, "result": {…}} or
    {"ok": false, "error": "…"} at "answer/ID" below `up`.  Anything else is a message.

    is_retained: whether what is read now is retained at the broker, so that it comes at each login:
    then it is no command, as a child that is to restart would do so again and again.
    """

    has_copies = False

    def __init__(
        self, identity: BrokerIdentity, is_retained: Callable[[], bool] = lambda: False
    ) -> None:
        self._own, self._is_retained = identity, is_retained

    def read(self, topic: str, payload: bytes) -> tuple[str, ChildCommand] | None:
        """Return a command, and whose it is; None for another topic.  Raises NoCommand."""
        own = self._own
        use = topic.removeprefix(own.down)
        if use == topic or not use:
            return None
        if len(payload) > MAX_COMMAND:
            raise NoCommand(own.user, "too large")
        if (found := _COMMAND.fullmatch(use)) is None:
            return own.user, ChildCommand("", CommandKind.MESSAGE, "", {}, use, payload, "", 0.0)
        if self._is_retained():
            raise NoCommand(own.user, "retained")
        word, name, number = found[1].partition("/")[0], found[2] or "", found[3]
        kind = _KINDS[word]
        arguments = _names(payload) if kind is CommandKind.GET else _arguments(payload)
        command = ChildCommand(
            number, kind, name, arguments or {}, use, payload, ANSWER + number, SECONDS
        )
        if arguments is None:
            refusal = CommandAnswer(CommandOutcome.FAILED, UNREADABLE)
            raise NoCommand(own.user, "malformed", self.write(own.user, command, refusal))
        return own.user, command

    def write(self, _: str, command: ChildCommand, answer: CommandAnswer) -> MappedMessage | None:
        """Return the answer to a command; None to a message."""
        if not command.reply_topic:
            return None
        payload = answer.raw if answer.raw is not None else _answer(answer)
        if payload is None or len(payload) > MAX_ANSWER:
            payload = _answer(UNWRITABLE) or b'{"ok":false}'
        return MappedMessage(self._own.up + command.reply_topic, payload)


def _arguments(payload: bytes) -> Mapping[str, object] | None:
    if not payload:
        return {}
    found = command_json.load(payload, MAX_COMMAND)
    return found if found is not None and command_json.are_names(found) else None


def _names(payload: bytes) -> Mapping[str, object] | None:
    """Return the names that are to be read, as keys; none for all."""
    if payload in (b"", b"{}"):
        return {}
    wrapped = command_json.load(b'{"names":' + payload + b"}", MAX_COMMAND) or {}
    names = wrapped.get("names")
    if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
        return None
    return dict.fromkeys(names) if command_json.are_names(names) else None


def _answer(answer: CommandAnswer) -> bytes | None:
    if answer.outcome is CommandOutcome.DONE:
        return command_json.dump({"ok": True, "result": answer.result}, MAX_ANSWER)
    return command_json.dump(
        {"ok": False, "error": answer.text, "result": answer.result}, MAX_ANSWER
    )
