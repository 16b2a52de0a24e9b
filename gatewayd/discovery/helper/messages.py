"""The messages between gatewayd and its discovery helper: a line of JSON each.  Pure.

The helper reads what strangers send, and may be theirs after a fault in a parser.  So whatever it
sends is decoded strictly, bounded and sanitised again; it proves no more than a packet does.  The
helper believes gatewayd.

    gatewayd to helper   start, level, rules, known, rescan, verify, record, birth, door
    helper to gatewayd   sighting, loss, answer, health, refused, event, ask

Both are of one version, as they come in one package; `start` holds its number.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any, TypeAlias

from gatewayd.device.identity import KERNEL, WEIGHTS, Claim, claim
from gatewayd.device.secret import Secret
from gatewayd.discovery import sanitize
from gatewayd.discovery.births.port import Birth, BirthRequest, DoorLink
from gatewayd.discovery.diagnosis.recorder import (
    FIELD,
    KIND,
    MAX_DATA,
    MAX_FIELDS,
    MAX_TEXT,
    RecordedEvent,
)
from gatewayd.discovery.diagnosis.refusals import Refusal
from gatewayd.discovery.discoverer import (
    LONGEST,
    MAX_ATTRIBUTE,
    MAX_ATTRIBUTES,
    SHORTEST,
    Interest,
    Loss,
    LossReason,
    Sighting,
)
from gatewayd.discovery.name_rules import NameRule
from gatewayd.runtime.text import one_line, shared

VERSION = 1
MAX_TO_GATEWAYD = 64 << 10
"""Bytes of the longest line from the helper."""
MAX_TO_HELPER = 8 << 20
"""Bytes of the longest line to the helper: 1,000 rules with long lists of globs."""

MAX_KEY = 512
MAX_CLAIMS = 16
MAX_ADDRESSES = 8
MAX_COUNTERS = 384
"""Counters of all discoverers: names of the longest kind still fit one line."""
MAX_FAULT = 300
MAX_NAMES = 4
"""Names in one request."""
MAX_REFUSALS = 32
"""Refusals in one message."""

_INTERFACE = re.compile(r"[!-.0-~]{0,15}")  # IFNAMSIZ, without "/"
_COUNTER = re.compile(r"[a-z0-9_:-]{1,128}")
_CAUSE = re.compile(r"[a-z][a-z0-9-]{0,31}")
_KINDS = frozenset({*WEIGHTS, "name"})
_MAX_NUMBER = 1 << 53
_MAX_PORT = 65_535


class MalformedMessage(ValueError):
    """A message is not what it may be; the text says what, without quoting it."""


@dataclass(frozen=True, slots=True)
class DiscovererSpec:
    """A discoverer that the helper is to run.

    name: of its table.  kind: of the plug-in.  settings: its table, without "kind".
    secret: what it asks with; None for most.
    """

    name: str
    kind: str
    settings: Mapping[str, Any]
    secret: Secret | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """The first message to the helper: what to run."""

    discoverers: tuple[DiscovererSpec, ...]


@dataclass(frozen=True, slots=True)
class LogLevel:
    """From which level on to log from now on: "debug", "info", "warning" or "error"."""

    level: str


@dataclass(frozen=True, slots=True)
class Rules:
    """What is of interest from now on."""

    rules: tuple[NameRule, ...]


@dataclass(frozen=True, slots=True)
class KnownAddresses:
    """Where devices on record are from now on."""

    addresses: frozenset[str]


@dataclass(frozen=True, slots=True)
class Rescan:
    """One discoverer is to ask for all devices."""

    name: str


@dataclass(frozen=True, slots=True)
class Verify:
    """One device is to be asked.  number: returned with the answer."""

    number: int
    sighting: Sighting


@dataclass(frozen=True, slots=True)
class RecordingRequest:
    """What comes is to be recorded for so many seconds, and bytes; 0 seconds end that."""

    seconds: int
    most: int


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a Verify.  sighting: None if there was none.  asked: False for a fault."""

    number: int
    sighting: Sighting | None
    asked: bool = True


@dataclass(frozen=True, slots=True)
class HelperHealth:
    """The counters of all discoverers, and why some do not run, by name."""

    counters: Mapping[str, int] = field(default_factory=dict)
    faults: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RefusalReport:
    """What discoverers have refused; at most MAX_REFUSALS of them."""

    refusals: tuple[Refusal, ...]


ToHelper: TypeAlias = (
    Start
    | LogLevel
    | Rules
    | KnownAddresses
    | Rescan
    | Verify
    | RecordingRequest
    | Birth
    | DoorLink
)
ToGatewayd: TypeAlias = (
    Sighting | Loss | Answer | HelperHealth | RefusalReport | RecordedEvent | BirthRequest
)


def encode_to_helper(message: ToHelper) -> bytes:
    """Return a message as a line."""
    return _line(**_to_helper(message))


def _to_helper(message: ToHelper) -> dict[str, object]:
    made: dict[str, object]
    match message:
        case Start(discoverers):
            specs = list(map(_spec, discoverers))
            made = {"type": "start", "version": VERSION, "discoverers": specs}
        case LogLevel(level):
            made = {"type": "level", "level": level}
        case Rules(rules):
            tables = [[one.globs, one.whole, one.interest.value] for one in rules]
            made = {"type": "rules", "rules": tables}
        case KnownAddresses(addresses):
            made = {"type": "known", "addresses": sorted(addresses)}
        case Rescan(name):
            made = {"type": "rescan", "name": name}
        case Verify(number, sighting):
            made = {"type": "verify", "number": number, "sighting": _plain(sighting)}
        case RecordingRequest(seconds, most):
            made = {"type": "record", "seconds": seconds, "most": most}
        case Birth():
            payload = base64.b64encode(message.payload).decode("ascii")
            made = {"type": "birth", **_fields_of(message), "payload": payload}
        case DoorLink():
            made = {"type": "door", **_fields_of(message)}
    return made


def _spec(one: DiscovererSpec) -> dict[str, object]:
    secret = one.secret and base64.b64encode(one.secret.reveal()).decode("ascii")
    return {
        "name": one.name, "kind": one.kind, "settings": dict(one.settings), "secret": secret or "",
    }  # fmt: skip


def _fields_of(message: Birth | DoorLink | BirthRequest) -> dict[str, object]:
    return {one: getattr(message, one) for one in message.__slots__}


def decode_to_helper(line: bytes, kinds: Mapping[str, str], now: float) -> ToHelper:
    """Return the message of a line.  Raises MalformedMessage.

    kinds: of the discoverers that were started, by name.  now: seconds of the event loop's clock.
    """
    raw = _Table(_parsed(line))
    match raw.text("type"):
        case "start" if raw.number("version") == VERSION:
            return Start(tuple(map(_read_spec, map(_Table, raw.list("discoverers")))))
        case "level":
            return LogLevel(raw.text("level"))
        case "rules":
            return Rules(tuple(map(_rule, raw.list("rules"))))
        case "known":
            return KnownAddresses(frozenset(map(str, raw.list("addresses"))))
    return _request(raw, kinds, now)


def _read_spec(raw: _Table) -> DiscovererSpec:
    secret = Secret(base64.b64decode(raw.text("secret"))) if raw.text("secret") else None
    return DiscovererSpec(raw.text("name"), raw.text("kind"), raw.table("settings"), secret)


def _request(raw: _Table, kinds: Mapping[str, str], now: float) -> ToHelper:
    match raw.text("type"):
        case "rescan":
            return Rescan(raw.text("name"))
        case "verify":
            found = _sighting(_Table(raw.table("sighting")), kinds, now)
            return Verify(raw.number("number"), found)
        case "record":
            return RecordingRequest(raw.number("seconds"), raw.number("most"))
        case "birth":
            return Birth(
                raw.text("source"),
                raw.text("door"),
                raw.text("topic"),
                base64.b64decode(raw.text("payload")),
                raw.flag("retained"),
                raw.seconds("at"),
            )
        case "door":
            return DoorLink(raw.text("source"), raw.text("door"), raw.flag("is_open"))
    raise MalformedMessage("its type or version is unknown")


def encode_to_gatewayd(message: ToGatewayd) -> bytes:
    """Return a message as a line."""
    made: dict[str, object]
    match message:
        case Sighting():
            made = {"type": "sighting", **_plain(message)}
        case Loss(source, key, at, reason):
            made = {"type": "loss", "source": source, "key": key, "at": at, "reason": reason.value}
        case Answer(number, sighting, asked):
            found = _plain(sighting) if sighting else None
            made = {"type": "answer", "number": number, "sighting": found, "asked": asked}
        case HelperHealth(counters, faults):
            made = {"type": "health", "counters": dict(counters), "faults": dict(faults)}
        case RefusalReport(refusals):
            made = {"type": "refused", "refusals": [astuple(one) for one in refusals]}
        case RecordedEvent(kind, at, data):
            made = {"type": "event", "kind": kind, "at": at, "data": _without_bytes(data)}
        case BirthRequest():
            made = {"type": "ask", **_fields_of(message)}
    return _line(**made)


def decode_to_gatewayd(line: bytes, kinds: Mapping[str, str], now: float) -> ToGatewayd:
    """Return the message of a line, within all bounds.  Raises MalformedMessage.

    kinds: of the discoverers that the helper runs, by name.
    now: seconds of the event loop's clock, which the helper shares.
    """
    if len(line) > MAX_TO_GATEWAYD:
        raise MalformedMessage("it is too long")
    raw = _Table(_parsed(line))
    match raw.text("type"):
        case "sighting":
            return _sighting(raw, kinds, now)
        case "loss":
            source = raw.text("source")
            _check_source(source, kinds)
            return Loss(source, _key(raw), _moment(raw, now), _reason(raw))
        case "answer":
            found = raw.optional_table("sighting")
            sighting = None if found is None else _sighting(_Table(found), kinds, now)
            return Answer(raw.number("number"), sighting, raw.flag("asked"))
        case "health":
            return HelperHealth(_counters(raw, kinds), _faults(raw, kinds))
    return _note(raw, kinds, now)


def _note(raw: _Table, kinds: Mapping[str, str], now: float) -> ToGatewayd:
    match raw.text("type"):
        case "refused":
            return RefusalReport(_refusals(raw.list("refusals"), kinds, now))
        case "event":
            return _event(raw, now)
        case "ask":
            return _birth_request(raw, kinds)
    raise MalformedMessage("its type is unknown")


class _Table:
    """A JSON object, of which each value must have the type that is asked for."""

    def __init__(self, raw: object) -> None:
        if not isinstance(raw, dict):
            raise MalformedMessage("it is no object")
        self._raw = raw

    def text(self, key: str) -> str:
        value = self._raw.get(key)
        if not isinstance(value, str):
            raise MalformedMessage(f"{key} is no text")
        return value

    def number(self, key: str) -> int:
        value = self._raw.get(key)
        if type(value) is not int or not 0 <= value < _MAX_NUMBER:  # a bool is an int
            raise MalformedMessage(f"{key} is no number")
        return value

    def seconds(self, key: str) -> float:
        value = self._raw.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise MalformedMessage(f"{key} is no moment")
        if not abs(value) <= _MAX_NUMBER:  # nor NaN, or an integer that no float can hold
            raise MalformedMessage(f"{key} is no moment")
        return float(value)

    def flag(self, key: str) -> bool:
        value = self._raw.get(key)
        if not isinstance(value, bool):
            raise MalformedMessage(f"{key} is neither true nor false")
        return value

    def list(self, key: str) -> list[Any]:
        value = self._raw.get(key)
        if not isinstance(value, list):
            raise MalformedMessage(f"{key} is no list")
        return value

    def table(self, key: str) -> dict[str, Any]:
        value = self._raw.get(key)
        if not isinstance(value, dict):
            raise MalformedMessage(f"{key} is no object")
        return value

    def optional_table(self, key: str) -> dict[str, Any] | None:
        return None if self._raw.get(key) is None else self.table(key)

    def optional_number(self, key: str) -> int | None:
        return None if self._raw.get(key) is None else self.number(key)


def _line(**fields: object) -> bytes:
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode(errors="replace") + b"\n"


def _parsed(line: bytes) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise MalformedMessage("it is no JSON") from error


def _plain(sighting: Sighting) -> dict[str, object]:
    """Return a sighting without what gatewayd alone knows: the kernel's claims, and trust."""
    claims = sorted(one for one in sighting.claims if one.namespace != KERNEL)
    return {
        "source": sighting.source,
        "key": sighting.key,
        "at": sighting.at,
        "valid_for": sighting.valid_for,
        "interface": sighting.interface,
        "addresses": list(sighting.addresses),
        "port": sighting.port,
        "claims": [[one.kind, one.namespace, one.value] for one in claims],
        "attributes": dict(sighting.attributes),
        "label": sighting.label,
        "behind": sighting.is_behind,
    }


def _sighting(raw: _Table, kinds: Mapping[str, str], now: float) -> Sighting:
    source, interface = shared(raw.text("source")), shared(raw.text("interface"))
    kind = _check_source(source, kinds)
    if not _INTERFACE.fullmatch(interface):
        raise MalformedMessage("interface is no name of one")
    port = raw.optional_number("port")
    if port is not None and not 0 < port <= _MAX_PORT:
        raise MalformedMessage("port is out of range")
    return Sighting(
        source=source,
        key=_key(raw),
        at=_moment(raw, now),
        valid_for=min(max(raw.seconds("valid_for"), SHORTEST), LONGEST),
        interface=interface,
        addresses=_addresses(raw.list("addresses"), interface),
        port=port,
        claims=_claims(raw.list("claims")),
        attributes=_attributes(raw.table("attributes"), kind),
        label=sanitize.label(raw.text("label")),
        is_behind=raw.flag("behind"),
    )


def _check_source(source: str, kinds: Mapping[str, str]) -> str:
    """Return the kind of a source's discoverer."""
    name, _, interface = source.partition("/")
    if name not in kinds or not _INTERFACE.fullmatch(interface):
        raise MalformedMessage("source is none of the discoverers")
    return kinds[name]


def _key(raw: _Table) -> str:
    key = raw.text("key")
    if not 0 < len(key) <= MAX_KEY or not sanitize.is_clean(key):
        raise MalformedMessage("key is too long, or not printable")
    return key


def _moment(raw: _Table, now: float) -> float:
    """Return a moment of the last day, not later than now."""
    return min(max(raw.seconds("at"), now - LONGEST), now)


def _addresses(raw: Sequence[object], interface: str) -> tuple[str, ...]:
    try:
        made = tuple(ipaddress.ip_address(str(one)) for one in raw[:MAX_ADDRESSES])
    except ValueError as error:
        raise MalformedMessage("addresses holds what is none") from error
    for one in made:
        scope = getattr(one, "scope_id", None)
        if scope is not None and (scope != interface or not one.is_link_local):
            raise MalformedMessage("addresses holds one of another interface")
    return tuple(map(str, made))


def _claims(raw: Sequence[object]) -> frozenset[Claim]:
    if len(raw) > MAX_CLAIMS:
        raise MalformedMessage("claims are too many")
    return frozenset(map(_claim, raw))


def _claim(raw: object) -> Claim:
    """Return a claim that is what normalising it would make, and not one of the kernel."""
    match raw:
        case [str() as kind, str() as namespace, str() as value]:
            made = claim(shared(kind), shared(namespace), value) if kind in _KINDS else None
            clean = sanitize.attribute(namespace or "-", value)
            if made is not None and made.value == value and clean and namespace != KERNEL:
                return made
    raise MalformedMessage("claims holds what is none")


def _attributes(raw: Mapping[str, object], kind: str) -> dict[str, str]:
    if len(raw) > MAX_ATTRIBUTES:
        raise MalformedMessage("attributes are too many")
    made: dict[str, str] = {}
    for key, value in raw.items():
        pair = sanitize.attribute(key, value) if isinstance(value, str) else None
        if pair is None or pair[0] != key:
            raise MalformedMessage("attributes holds what cannot be matched")
        made[pair[0]] = pair[1]
    if made.get("source") != kind:
        raise MalformedMessage("attributes names another source")
    return made


def _reason(raw: _Table) -> LossReason:
    try:
        return LossReason(raw.text("reason"))
    except ValueError as error:
        raise MalformedMessage("reason is unknown") from error


def _counters(raw: _Table, kinds: Mapping[str, str]) -> dict[str, int]:
    table = raw.table("counters")
    if len(table) > MAX_COUNTERS:
        raise MalformedMessage("counters are too many")
    counted = _Table(table)
    for name in table:
        if not _COUNTER.fullmatch(name) or name.partition(":")[0] not in kinds:
            raise MalformedMessage("counters holds what is none")
    return {name: counted.number(name) for name in table}


def _faults(raw: _Table, kinds: Mapping[str, str]) -> dict[str, str]:
    table = raw.table("faults")
    if not table.keys() <= kinds.keys():
        raise MalformedMessage("faults names no discoverer")
    texts = _Table(table)
    return {name: one_line(texts.text(name)[: 4 * MAX_FAULT], MAX_FAULT) for name in table}


def _rule(raw: object) -> NameRule:
    match raw:
        case [list() as globs, bool() as whole, str() as interest]:
            made = tuple((str(key), tuple(map(str, texts))) for key, texts in globs)
            return NameRule(made, whole, Interest(interest))
    raise MalformedMessage("rules holds what is none")


def _refusals(raw: Sequence[object], kinds: Mapping[str, str], now: float) -> tuple[Refusal, ...]:
    if len(raw) > MAX_REFUSALS:
        raise MalformedMessage("refusals are too many")
    return tuple(_refusal(one, kinds, now) for one in raw)


def _refusal(raw: object, kinds: Mapping[str, str], now: float) -> Refusal:
    match raw:
        case [at, str() as by, str() as interface, str() as sender, str() as name, str() as cause,
              times]:  # fmt: skip
            numbers = _Table({"at": at, "times": times})
            fits = by in kinds and _INTERFACE.fullmatch(interface) and _CAUSE.fullmatch(cause)
            if fits and len(name) <= MAX_ATTRIBUTE and sanitize.is_clean(name):
                seen = _addresses([sender], interface)[0] if sender else ""
                number = numbers.number("times")
                return Refusal(_moment(numbers, now), by, interface, seen, name, cause, number)
    raise MalformedMessage("refusals holds what is none")


def _birth_request(raw: _Table, kinds: Mapping[str, str]) -> BirthRequest:
    """Return a request; whether it is granted, by its names too, is decided where it is done."""
    source, names = raw.text("source"), raw.list("names")
    texts = (raw.text("door"), raw.text("dialect"), *names)
    if source not in kinds or len(names) > MAX_NAMES:
        raise MalformedMessage("ask is of none of the discoverers, or has too many names")
    if not all(isinstance(one, str) and len(one) <= MAX_ATTRIBUTE for one in texts):
        raise MalformedMessage("ask holds a name that is too long, or none")
    return BirthRequest(source, raw.text("door"), raw.text("dialect"), tuple(names))


def _without_bytes(data: Mapping[str, str | int | bytes]) -> dict[str, str | int]:
    return {
        key: base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else value
        for key, value in data.items()
    }


def _event(raw: _Table, now: float) -> RecordedEvent:
    kind, table = raw.text("kind"), raw.table("data")
    if not KIND.fullmatch(kind) or len(table) > MAX_FIELDS:
        raise MalformedMessage("event has no kind, or too many fields")
    data = {key: _field(key, table) for key in table}
    return RecordedEvent(kind, _moment(raw, now), data)


def _field(key: str, table: Mapping[str, object]) -> str | int | bytes:
    """Return one field of an event."""
    value = table[key]
    if not FIELD.fullmatch(key):
        raise MalformedMessage("event has a field without a name")
    if not isinstance(value, str):
        return _Table(table).number(key)
    if key == "data":
        try:
            made = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError) as error:
            raise MalformedMessage("event holds what is no base64") from error
        if len(made) > MAX_DATA:
            raise MalformedMessage("event holds too many bytes")
        return made
    if len(value) > MAX_TEXT or not sanitize.is_clean(value):
        raise MalformedMessage("event holds a text that is too long, or does not print")
    return value
