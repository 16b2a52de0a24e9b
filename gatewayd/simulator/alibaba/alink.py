"""Alink, the format of the Alibaba cloud's requests and replies.  Pure.

Sources: the vendor's pages on sub-devices (see topics.py), and its table of codes
(help.aliyun.com/document_detail/120329).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias, TypeGuard

from gatewayd.simulator.alibaba.devices import Name

DeviceEntry: TypeAlias = Mapping[str, str]
"""One device of a request, with the required fields."""

MAX_ID = 4_294_967_295
VERSION = "1.0"
FIRST_PUSH = 1_000_000_000
"""The id of the cloud's first push: a client that counts its own from 1 does not take it for one of
them, as the vendor's SDK for Node.js would."""
_MAX_TEXT = 256
_DEVICE_NAME = re.compile(r"[A-Za-z0-9\-_@.:]{4,32}")
_ID = re.compile(r"(?P<number>[0-9]{1,10})(?:\|exp-topic\|/[!-~]{1,128})?")


class AlinkCode(IntEnum):
    """Codes of replies, as the vendor's pages list them."""

    SUCCESS = 200
    BAD_SIGNATURE_OF_TOPOLOGY = 401
    CONNECTED_ELSEWHERE = 427
    TOO_MANY_ONLINE = 428
    TOO_FAST = 429
    BAD_PARAMETER = 460
    SERVER_ERROR = 500
    NO_SESSION = 520
    DEVICE_DELETED = 521
    DEVICE_DISABLED = 522
    PRODUCT_LOOKUP_FAILED = 5005
    EVENT_NOT_FOUND = 5160
    DEVICE_NOT_FOUND = 6100
    TOO_MANY_PROPERTIES = 6106
    REGISTRANT_DISABLED = 6204
    PRODUCT_NOT_FOUND = 6250
    BAD_DEVICE_NAME = 6280
    BAD_SIGNATURE_OF_LOGIN = 6287
    REGISTRATION_OFF = 6288
    ALREADY_ACTIVATED = 6289
    SIGN_METHOD_UNSUPPORTED = 6292
    METHOD_MISSING = 6300
    TOO_MANY_EVENTS = 6356
    TOO_MANY_REPORTING = 6357
    TOO_MANY_CHILDREN = 6400
    NO_TOPOLOGY = 6401
    SAME_DEVICE = 6402
    SIGNATURE_FAILED = 6600
    BOUND_TO_ANOTHER_GATEWAY = 6619


class UnreadableAlink(Exception):
    """A payload that cannot be answered: no JSON, or no id."""


class AlinkFailure(Exception):
    """A failure, which is the reply to a request.  data: the devices at fault, for JSON."""

    def __init__(self, code: int, data: object = None) -> None:
        super().__init__(message(code))
        self.code, self.data = code, {} if data is None else data


@dataclass(frozen=True, slots=True)
class AlinkRequest:
    """A parsed request.

    answered: whether the sender wants a reply (`sys.ack` is not 0).
    method, version: as sent; "" and "1.0" where they are left out, as some SDKs of the vendor do.
    """

    id: str
    params: object
    answered: bool = True
    method: object = ""
    version: object = "1.0"

    def check(self, method: str) -> None:
        """Check the envelope against the topic.  Raises AlinkFailure: it contradicts the page."""
        if self.version != VERSION or self.method not in ("", method):
            raise AlinkFailure(AlinkCode.BAD_PARAMETER)


@dataclass(frozen=True, slots=True)
class GatewayRequest:
    """A gateway's request, for those that decide on it.

    spoiled: returns the code that a fault plans for one of its devices, or None.
    """

    gateway: Name
    params: object
    spoiled: Callable[[Name], int | None]


def read(payload: bytes) -> AlinkRequest:
    """Read a request.  Raises UnreadableAlink.

    `id` is text or a number from 0 to 4294967295, behind which the vendor's SDK for Node.js puts
    the topic of the reply; `version` and `method` may be left out.
    """
    try:
        body = json.loads(payload)
    except (ValueError, RecursionError):
        raise UnreadableAlink from None
    if not isinstance(body, dict) or (request_id := _id(body.get("id"))) is None:
        raise UnreadableAlink
    system = body.get("sys")
    ack = system.get("ack") if isinstance(system, dict) else None
    return AlinkRequest(
        request_id,
        body.get("params"),
        answered=ack != 0,
        method=body.get("method", ""),
        version=body.get("version", VERSION),
    )


def reply(call_id: str, method: str, code: int, data: object) -> dict[str, object]:
    """Build the answer to a request; one about sessions names neither method nor version."""
    body: dict[str, object] = {"id": call_id, "code": code, "message": message(code), "data": data}
    return body if method.startswith("combine.") else body | {"method": method, "version": "1.0"}


def push(push_id: str, method: str, params: object) -> dict[str, object]:
    """Build a request of the cloud to a gateway."""
    return {"id": push_id, "version": "1.0", "params": params, "method": method}


def message(code: int) -> str:
    """Return the text that goes with a code."""
    try:
        return AlinkCode(code).name.lower().replace("_", " ")
    except ValueError:
        return "error"


def entries(params: object, fields: Sequence[str], limit: int) -> list[DeviceEntry]:
    """Read a list of devices, each with these fields as text, none of them twice.

    limit: of devices.  Raises AlinkFailure.
    """
    if not isinstance(params, list) or not 1 <= len(params) <= limit:
        raise AlinkFailure(AlinkCode.BAD_PARAMETER)
    found = [entry(one, fields) for one in params]
    if len({name(one) for one in found}) < len(found):
        raise AlinkFailure(AlinkCode.BAD_PARAMETER)
    return found


def entry(params: object, fields: Sequence[str]) -> DeviceEntry:
    """Read one device.  Raises AlinkFailure.

    A timestamp may be a number: the vendor's SDK for Node.js sends it so.
    """
    if not isinstance(params, dict):
        raise AlinkFailure(AlinkCode.BAD_PARAMETER)
    wanted = {"productKey", "deviceName", *fields}
    given = {key: _plain(key, value) for key, value in params.items() if key in wanted}
    found = {key: value for key, value in given.items() if _text(value)}
    if found.keys() < wanted:
        raise AlinkFailure(AlinkCode.BAD_PARAMETER)
    return found


def name(device: DeviceEntry) -> Name:
    """Return the device of an entry."""
    return device["productKey"], device["deviceName"]


def named(device: Name) -> dict[str, str]:
    """Return the fields that name a device."""
    return {"productKey": device[0], "deviceName": device[1]}


def mentioned(params: object) -> tuple[str, ...]:
    """Return the names of the devices in a request, as far as it can be read."""
    if isinstance(params, dict):
        inner = params.get("proxieds", params.get("deviceList"))
        params = [params] if inner is None else inner
    found = params if isinstance(params, list) else []
    names = [one.get("deviceName") for one in found if isinstance(one, dict)]
    return tuple(one for one in names if isinstance(one, str))


def well_named(device: str) -> bool:
    """Whether a device may have this name: 4 to 32 letters, digits and `-_@.:`."""
    return _DEVICE_NAME.fullmatch(device) is not None


def _plain(key: str, value: object) -> object:
    numeric = key == "timestamp" and isinstance(value, int) and not isinstance(value, bool)
    return str(value) if numeric else value


def _text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and 1 <= len(value) <= _MAX_TEXT


def _id(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not (found := _ID.fullmatch(value)):
        return None
    return value if int(found["number"]) <= MAX_ID else None
