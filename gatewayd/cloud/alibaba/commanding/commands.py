"""The commands of Alibaba Cloud to devices, and the answers that it expects.  Pure.

A service is invoked asynchronously, on the topic of the service, or synchronously, by RRPC: with
the client option `ext=1` that topic stands behind the identifier of the RRPC, without it the
request comes on the general topic of RRPCs.  An RRPC of a user has bytes in any form, and the cloud
knows no negative answer to it.

Sources: "Device properties, events, and services" (document_detail/89301), InvokeThingService
(69584: a synchronous call is given up after 8 seconds, an asynchronous one never), "What is RRPC?"
(90567), "Call custom topics" (90570) and "Topics" of the IoT Platform documentation; the topics of
synchronous services are in the vendor's C and Python SDKs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from gatewayd.cloud import command_json
from gatewayd.cloud.alibaba import alink
from gatewayd.cloud.alibaba.alink import DONE, MAX_MESSAGE, SubName
from gatewayd.cloud.alibaba.settings import DEVICE_NAME, PRODUCT_KEY
from gatewayd.cloud.command_router import UNREADABLE, UNWRITABLE, NoCommand
from gatewayd.cloud.publisher import MappedMessage
from gatewayd.device.command import ChildCommand, CommandAnswer, CommandKind, CommandOutcome

SYNCHRONOUS, ASYNCHRONOUS = 8.0, 20.0
"""Seconds that the cloud waits for the answer to an RRPC, and that gatewayd gives a child for any
other: the cloud itself has no limit there."""
MALFORMED = 100_000
CODES: Mapping[CommandOutcome, int] = {
    CommandOutcome.DONE: DONE,
    CommandOutcome.FAILED: 100_001,
    CommandOutcome.NOT_ALLOWED: 100_002,
    CommandOutcome.NO_LISTENER: 100_003,
    CommandOutcome.NO_ANSWER: 100_004,
    CommandOutcome.TOO_MANY: 100_005,
}
"""Codes of answers; 100000 to 110000 are for devices to define ("Common codes on devices")."""

_DEVICE = r"(?P<product>[^/]{1,64})/(?P<device>[^/]{1,64})"
_RRPC = r"(?P<rrpc>[A-Za-z0-9_-]{1,64})"
_SERVICE = re.compile(
    rf"(?:/ext/rrpc/{_RRPC})?/sys/{_DEVICE}/(?P<rest>thing/service/(?P<name>.{{1,128}}))"
)
_REQUEST = re.compile(rf"/sys/{_DEVICE}/(?P<rest>rrpc/request/{_RRPC})")
_CUSTOM = re.compile(rf"(?:/ext/rrpc/{_RRPC})?/{_DEVICE}/(?P<rest>user/.{{1,128}})")
_PATTERNS = (_SERVICE, _REQUEST, _CUSTOM)
_LEGIBLE = re.compile(r"[!-~]{1,64}")
_REPLY_TO = re.compile(r"(?P<way>ext/rrpc/[^/]+/)?(?P<rest>.+)")
_ANSWER = re.compile(r"thing/service/.+_reply|rrpc/response/.+|ext/rrpc/.+")
_TREES = ("sys", "ext")
"""What stands in the place of a product in topics of the cloud's own."""
_REPLY, _METHOD = "_reply", "thing.service."
_PROPERTIES: Mapping[str, CommandKind] = {
    "property/set": CommandKind.SET,
    "property/get": CommandKind.GET,
}


def is_answer(topic: str) -> bool:
    """Whether only answers to commands have the remainder of a topic."""
    return _ANSWER.fullmatch(topic) is not None


def identifier_in(payload: bytes) -> str:
    """Return the id of an answer; "" where it has none."""
    return _id(command_json.load(payload, MAX_MESSAGE) or {})


def is_success(command: ChildCommand, payload: bytes) -> bool:
    """Whether an answer in the cloud's form says that the device could do it."""
    if command.kind is CommandKind.REQUEST:  # bytes in any form
        return True
    return (command_json.load(payload, MAX_MESSAGE) or {}).get("code", DONE) == DONE


class _Topic(NamedTuple):
    """A topic of commands.  rest: what follows the device.  service: its name; "" for another."""

    rest: str
    service: str
    rrpc: str

    @property
    def way(self) -> str:
        """What stands before the rest in the remainder of a topic."""
        return "" if self.rest.startswith("rrpc/") or not self.rrpc else f"ext/rrpc/{self.rrpc}/"


class AlibabaCommands:
    """The commands over one connection.  Implements CommandForm.

    own: the device whose they are; None where a gateway gets those of its children, too.
    """

    has_copies = False

    def __init__(self, own: SubName | None = None) -> None:
        self._own = own

    def read(self, topic: str, payload: bytes) -> tuple[SubName, ChildCommand] | None:
        """Return a command, and its device; None for another topic.  Raises NoCommand."""
        matches = (pattern.fullmatch(topic) for pattern in _PATTERNS)
        found = next((match for match in matches if match), None)
        if found is None or not topic.isprintable():
            return None
        device, members = SubName(found["product"], found["device"]), found.groupdict()
        if self._own not in (None, device) or not _is_device(device):
            return None
        one = _Topic(found["rest"], members.get("name") or "", members.get("rrpc") or "")
        if "/" in one.service and one.service not in _PROPERTIES:
            return None
        if one.service.endswith(_REPLY):
            return None
        if len(payload) > MAX_MESSAGE:
            raise NoCommand(device, "too large")
        return device, self._command(device, one, payload)

    def write(
        self, child: SubName, command: ChildCommand, answer: CommandAnswer
    ) -> MappedMessage | None:
        """Return the answer to a command; None to a message, and for a negative one to an RRPC."""
        if not command.reply_topic:
            return None
        payload = answer.raw
        if command.kind is CommandKind.REQUEST:
            if payload is None and answer.outcome is CommandOutcome.DONE:
                payload = command_json.dump(dict(answer.result), MAX_MESSAGE)
            if payload is None or len(payload) > MAX_MESSAGE:
                return None
        elif payload is None or len(payload) > MAX_MESSAGE:
            number = _id(command_json.load(command.payload, MAX_MESSAGE) or {})
            payload = _reply(number, answer) if payload is None else None
            payload = payload or _reply(number, UNWRITABLE) or b"{}"
        return MappedMessage(_topic(child, command.reply_topic), payload)

    def _command(self, device: SubName, one: _Topic, payload: bytes) -> ChildCommand:
        topic = one.way + one.rest
        if one.service:
            return self._service(device, one, f"{topic}{'' if one.way else _REPLY}", payload)
        if not one.rrpc:
            name = one.rest.removeprefix("user/")
            return ChildCommand("", CommandKind.MESSAGE, name, {}, topic, payload, "", 0.0)
        reply = topic.replace("rrpc/request/", "rrpc/response/", 1) if not one.way else topic
        if not one.way and (service := _service_in(payload)):
            return self._service(device, one._replace(service=service), reply, payload)
        return ChildCommand(
            one.rrpc, CommandKind.REQUEST, "", {}, topic, payload, reply, SYNCHRONOUS
        )

    def _service(self, device: SubName, one: _Topic, reply: str, payload: bytes) -> ChildCommand:
        """Read a service, or properties that are to be set or read."""
        kind = _PROPERTIES.get(one.service, CommandKind.SERVICE)
        sent = command_json.load(payload, MAX_MESSAGE) or {}
        number, arguments = _id(sent), _arguments(sent.get("params"), kind)
        command = ChildCommand(
            one.rrpc or number,
            kind,
            one.service if kind is CommandKind.SERVICE else "",
            arguments or {},
            one.way + one.rest,
            payload,
            reply,
            SYNCHRONOUS if one.rrpc else ASYNCHRONOUS,
        )
        if not number:
            raise NoCommand(device, "no id")
        if arguments is None:
            refusal = _envelope(number, MALFORMED, {}, UNREADABLE) or b"{}"
            raise NoCommand(device, "malformed", MappedMessage(_topic(device, reply), refusal))
        return command


def _id(sent: dict[str, object]) -> str:
    """Return the id of a command; "" where it has none that can be shown."""
    number = alink.id_of(sent)
    return number if _LEGIBLE.fullmatch(number) else ""


def _service_in(payload: bytes) -> str:
    """Return the service that is invoked by an RRPC on the general topic; "" for any other RRPC."""
    sent = command_json.load(payload, MAX_MESSAGE) or {}
    method = command_json.name_in(sent, "method") or ""
    if not method.startswith(_METHOD) or not _id(sent):
        return ""
    return method.removeprefix(_METHOD).replace("property.", "property/", 1)


def _is_device(device: SubName) -> bool:
    return (
        device.product not in _TREES
        and PRODUCT_KEY.fullmatch(device.product) is not None
        and DEVICE_NAME.fullmatch(device.device) is not None
    )


def _arguments(params: object, kind: CommandKind) -> Mapping[str, object] | None:
    """Return the arguments of a command; names as keys where properties are to be read."""
    if kind is CommandKind.GET:
        names = params if isinstance(params, list) else None
        if names is None or not all(isinstance(one, str) for one in names):
            return None
        return dict.fromkeys(names) if command_json.are_names(names) else None
    if params is None and kind is CommandKind.SERVICE:
        return {}
    if not isinstance(params, dict) or not command_json.are_names(params):
        return None
    return params


def _topic(device: SubName, remainder: str) -> str:
    """Return the whole topic of which a remainder was given."""
    parts = _REPLY_TO.fullmatch(remainder)
    assert parts is not None, "it was made here"
    tree = "" if parts["rest"].startswith("user/") else "/sys"
    way = f"/{parts['way']}".rstrip("/") if parts["way"] else ""
    return f"{way}{tree}/{device.product}/{device.device}/{parts['rest']}"


def _reply(number: str, answer: CommandAnswer) -> bytes | None:
    return _envelope(number, CODES[answer.outcome], answer.result, answer.text)


def _envelope(number: str, code: int, data: Mapping[str, object], text: str) -> bytes | None:
    body: dict[str, object] = {"id": number, "code": code, "data": dict(data)}
    if text:
        body["message"] = text
    return command_json.dump(body, MAX_MESSAGE)
