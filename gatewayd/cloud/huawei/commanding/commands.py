"""The platform's commands to devices, and the answers that it expects.  Pure.

A gateway gets those of its children, which a member names.  The platform waits 20 seconds for each
answer; a message has none, and waits at the platform for a device that is offline.

Sources: "Delivering a Command to a Device" (api-iothub/iot_06_v5_3014 and 0038), "Setting Device
Properties" (iot_06_v5_3011 and 0035), "Querying Device Properties" (iot_06_v5_3012), "Delivering a
Message to a Device" (iot_06_v5_3017), topics (iot_06_v5_3004).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

from gatewayd.cloud import command_json
from gatewayd.cloud.command_router import UNREADABLE, UNWRITABLE, NoCommand
from gatewayd.cloud.huawei.settings import DEVICE_ID
from gatewayd.cloud.publisher import MappedMessage
from gatewayd.device.command import ChildCommand, CommandAnswer, CommandKind, CommandOutcome

SECONDS = 20.0
"""Seconds that the platform waits for the answer to a command, and to properties set or read."""
MAX_COMMAND, MAX_ANSWER = 256 * 1024, 256 * 1024
"""Bytes of what the platform sends, and of what it is answered, at most."""

COMMANDS, SET, GET, MESSAGES = "commands", "properties/set", "properties/get", "messages/down"
_KINDS: Mapping[str, CommandKind] = {
    COMMANDS: CommandKind.SERVICE,
    SET: CommandKind.SET,
    GET: CommandKind.GET,
}
_REQUEST = re.compile(r"(commands|properties/set|properties/get)/request_id=([A-Za-z0-9_-]{1,64})")
_ANSWER = re.compile(r"sys/(commands|properties/set|properties/get)/response/.+")
_SEPARATOR = ":"
"""Stands between service and name, as in what devices say."""
_DONE, _FAILED = 0, 1
"""Codes of an answer; the platform distinguishes no others."""


def topics(own: str) -> tuple[str, ...]:
    """Return what a device subscribes to.  own: its device ID."""
    root = _root(own)
    return (*(f"{root}{use}/#" for use in _KINDS), root + MESSAGES)


def is_answer(topic: str) -> bool:
    """Whether only answers to commands have the remainder of a topic."""
    return _ANSWER.fullmatch(topic) is not None


def identifier_in(_: bytes) -> str:
    """Return "": the topic of an answer has its identifier."""
    return ""


def is_success(_: ChildCommand, payload: bytes) -> bool:
    """Whether an answer in the platform's form says that the device could do it."""
    return (command_json.load(payload, MAX_ANSWER) or {}).get("result_code", _DONE) == _DONE


class HuaweiCommands:
    """The commands over the connection of one device.  Implements CommandForm; children have IDs.

    A message in no envelope has no identifier, and may come by a subscription of the platform, too.

    own: the ID of the device that is logged in.
    service_of: returns the service of a device's values that do not name theirs; "" for none.
    """

    has_copies = True

    def __init__(self, own: str, service_of: Callable[[str], str]) -> None:
        self.own, self._service_of = own, service_of

    def read(self, topic: str, payload: bytes) -> tuple[str, ChildCommand] | None:
        """Return a command, and the ID of its device; None for another topic.

        Raises NoCommand.
        """
        root = _root(self.own)
        if not topic.startswith(root):
            return None
        use = topic.removeprefix(root)
        if use == MESSAGES:
            return self._message(payload)
        if (found := _REQUEST.fullmatch(use)) is None:
            if use.partition("/request_id=")[0] in _KINDS:
                raise NoCommand(self.own, "no request ID")
            return None
        return self._request(found[1], found[2], payload)

    def write(
        self, child: str, command: ChildCommand, answer: CommandAnswer
    ) -> MappedMessage | None:
        """Return the answer to a command; None to a message."""
        if not command.reply_topic:
            return None
        payload = answer.raw
        if payload is None:
            payload = self._answer(child, command, answer)
        if payload is None or len(payload) > MAX_ANSWER:
            payload = self._answer(child, command, UNWRITABLE) or b"{}"
        return MappedMessage(f"$oc/devices/{self.own}/{command.reply_topic}", payload)

    def _request(self, use: str, number: str, payload: bytes) -> tuple[str, ChildCommand]:
        child, name, arguments = self.own, "", None
        if (sent := command_json.load(payload, MAX_COMMAND)) is not None:
            named = self._child(sent)
            child, legible = named or self.own, named is not None
            read = _properties if _KINDS[use] is CommandKind.SET else _call
            name, arguments = read(sent, self._service_of(child)) if legible else ("", None)
        topic, reply = (f"sys/{use}{part}/request_id={number}" for part in ("", "/response"))
        command = ChildCommand(
            number, _KINDS[use], name, arguments or {}, topic, payload, reply, SECONDS
        )
        if arguments is None:
            refusal = CommandAnswer(CommandOutcome.FAILED, UNREADABLE)
            raise NoCommand(self.own, "malformed", self.write(self.own, command, refusal))
        return child, command

    def _message(self, payload: bytes) -> tuple[str, ChildCommand]:
        """Read a message, which may be any bytes: then it is for the device itself."""
        if len(payload) > MAX_COMMAND:
            raise NoCommand(self.own, "too large")
        sent = command_json.load(payload, MAX_COMMAND) or {}
        name, number = command_json.name_in(sent, "name"), command_json.name_in(sent, "id")
        command = ChildCommand(
            number or "", CommandKind.MESSAGE, name or "", {}, f"sys/{MESSAGES}", payload, "", 0.0
        )
        return self._child(sent) or self.own, command

    def _child(self, sent: Mapping[str, object]) -> str | None:
        """Return whose a command is; None where that cannot be read."""
        named = sent.get("object_device_id")
        if named is None or named == "":
            return self.own
        return named if isinstance(named, str) and not DEVICE_ID.fault(named) else None

    def _answer(self, child: str, command: ChildCommand, answer: CommandAnswer) -> bytes | None:
        done = answer.outcome is CommandOutcome.DONE
        body: dict[str, object] = {"result_code": _DONE if done else _FAILED}
        match command.kind:
            case CommandKind.SERVICE:
                paras = dict(answer.result) if done else {**answer.result, "error": answer.text}
                body |= {"response_name": command.name.rpartition(_SEPARATOR)[2], "paras": paras}
            case CommandKind.GET if done:
                body = {"services": self._services(child, command.name, answer.result)}
            case CommandKind.GET:
                body |= {"result_desc": answer.text, "services": []}
            case _:
                body["result_desc"] = answer.text or "success"
        return command_json.dump(body, MAX_ANSWER)

    def _services(
        self, child: str, asked: str, values: Mapping[str, object]
    ) -> list[dict[str, object]]:
        """Return properties by service: the one that a name has, or that was asked for."""
        services: dict[str, dict[str, object]] = {}
        for name, value in values.items():
            owner, _, member = name.rpartition(_SEPARATOR)
            owner = owner or asked or self._service_of(child)
            services.setdefault(owner, {})[member] = value
        return [{"service_id": owner, "properties": one} for owner, one in services.items()]


def _root(own: str) -> str:
    return f"$oc/devices/{own}/sys/"


_Read: TypeAlias = tuple[str, Mapping[str, object] | None]
"""Name and arguments of a command; None where they cannot be read."""


def _call(sent: Mapping[str, object], own_service: str) -> _Read:
    """Read a command, which may name a service alone, or nothing."""
    service, name = (command_json.name_in(sent, key) for key in ("service_id", "command_name"))
    arguments = {} if sent.get("paras") is None else sent["paras"]
    if service is None or name is None:
        return "", None
    if not isinstance(arguments, dict) or not command_json.are_names(arguments):
        return "", None
    return (_joined(service, name, own_service) if name else service), arguments


def _properties(sent: Mapping[str, object], own_service: str) -> _Read:
    """Read values that are to be set."""
    values: dict[str, object] = {}
    services = sent.get("services")
    for one in services if isinstance(services, list) else ():
        properties = one.get("properties") if isinstance(one, dict) else None
        service = command_json.name_in(one, "service_id") if isinstance(one, dict) else None
        if service is None or not isinstance(properties, dict):
            return "", None
        if not command_json.are_names(properties):
            return "", None
        values |= {_joined(service, name, own_service): one for name, one in properties.items()}
    return "", values if 0 < len(values) <= command_json.MAX_MEMBERS else None


def _joined(service: str, name: str, own_service: str) -> str:
    """Return how a child calls a member of a service: without it, where it is the usual one."""
    return name if service in ("", own_service) else f"{service}{_SEPARATOR}{name}"
