"""The reader of recordings, gatewayd-recording(5).  It believes nothing, and is bounded.

It shares nothing with what writes them, so that a mistake of one is seen by the other.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

VERSION = 1
MAX_LINE = 65_536
"""Bytes."""
MAX_LINES = 1_000_000
MAX_SECONDS = 3700.0
"""Of the last event; a recording lasts an hour at most."""
MAX_MEMBERS = 16
MAX_TEXT = 1024
MAX_DATA = 16_384
_INTERFACE = re.compile(r"[!-.0-~]{1,15}")  # netdevice(7), without "/"
_KIND = re.compile(r"[a-z][a-z-]{0,31}")
_MAX_PORT = 65_535


class MalformedRecording(Exception):
    """A file is no recording; the text has the line, and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class RecordedLine:
    """One line.  at: seconds since the beginning.  members: texts and numbers, by name."""

    at: float
    kind: str
    members: dict[str, str | int]

    def text(self, name: str) -> str:
        """Return a text.  Raises MalformedRecording."""
        value = self.members.get(name)
        if not isinstance(value, str):
            raise MalformedRecording(f"{name} is no text")
        return value

    def number(self, name: str, most: int) -> int:
        """Return a number from 0 to the most.  Raises MalformedRecording."""
        value = self.members.get(name)
        if isinstance(value, str) or value is None or not 0 <= value <= most:
            raise MalformedRecording(f"{name} is no number from 0 to {most}")
        return value

    @property
    def interface(self) -> str:
        """The name of an interface.  Raises MalformedRecording."""
        name = self.text("interface")
        if not _INTERFACE.fullmatch(name) or name in (".", ".."):
            raise MalformedRecording("interface is no name of one")
        return name


@dataclass(frozen=True, slots=True)
class RecordedDatagram:
    """A datagram.

    sender: an IP address without scope.  data: b"" for one that was left out, or was sent to the
    gateway alone, which had asked for it.
    to, to_port: whom it is for; "" for multicast DNS.
    """

    sender: str
    port: int
    data: bytes
    to: str = ""
    to_port: int = 0

    @classmethod
    def of(cls, line: RecordedLine) -> RecordedDatagram:
        """Return the datagram of a line.  Raises MalformedRecording."""
        try:
            data = base64.b64decode(line.text("data"), validate=True)
            sender = str(ipaddress.ip_address(line.text("sender").partition("%")[0]))
        except (binascii.Error, ValueError) as error:
            raise MalformedRecording("data is no Base64, or sender no address") from error
        if len(data) > MAX_DATA:
            raise MalformedRecording(f"data has more than {MAX_DATA} bytes")
        port = line.number("port", _MAX_PORT)
        if "source" not in line.members:
            return cls(sender, port, data)
        if "to" not in line.members:
            return cls(sender, port, b"")
        return cls(sender, port, data, _for_all(line.text("to")), line.number("to_port", _MAX_PORT))


def _for_all(text: str) -> str:
    """Return a group, or the broadcast address.  Raises MalformedRecording for any other."""
    if text == "broadcast":
        return "255.255.255.255"
    try:
        group = ipaddress.ip_address(text)
    except ValueError:
        group = ipaddress.IPv4Address(0)
    if not group.is_multicast:
        raise MalformedRecording("to is no group, nor broadcast")
    return str(group)


def read_recording(file: BinaryIO) -> Iterator[RecordedLine]:
    """Yield the lines after the first, as they are read.  Raises MalformedRecording, OSError."""
    at = 0.0
    for number in range(1, MAX_LINES + 1):
        raw = file.readline(MAX_LINE + 1)
        if not raw:
            if number == 1:
                raise MalformedRecording("It is empty")
            return
        try:
            line = parse_line(raw)
            if line.at < at:
                raise MalformedRecording("at is earlier than in the line before")  # noqa: TRY301  # its line is added
            if number == 1:
                _check_first(line)
        except MalformedRecording as error:
            raise MalformedRecording(f"Line {number}: {error}") from error
        at = line.at
        if number > 1:
            yield line
    raise MalformedRecording(f"It has more than {MAX_LINES} lines")


def parse_line(raw: bytes) -> RecordedLine:
    """Return one line.  Raises MalformedRecording."""
    if len(raw) > MAX_LINE:
        raise MalformedRecording(f"it has more than {MAX_LINE} bytes")
    try:
        found: Any = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise MalformedRecording("it is no JSON") from error
    if not isinstance(found, dict) or len(found) > MAX_MEMBERS + 2:
        raise MalformedRecording("it is no object, or has too many members")
    at, kind = found.pop("at", None), found.pop("kind", None)
    if isinstance(at, bool) or not isinstance(at, int | float):
        raise MalformedRecording("at is no number")
    if not 0 <= at <= MAX_SECONDS:  # nor is NaN, or an integer that no float can hold
        raise MalformedRecording(f"at is not from 0 to {MAX_SECONDS:.0f}")
    if not isinstance(kind, str) or not _KIND.fullmatch(kind):
        raise MalformedRecording("kind is no word")
    for name, value in found.items():
        if not _fits(name, value):
            raise MalformedRecording("a member is no number, or no text of the allowed length")
    return RecordedLine(float(at), kind, found)


def _fits(name: str, value: object) -> bool:
    if isinstance(value, str):
        return name == "data" or len(value) <= MAX_TEXT
    return type(value) is int and abs(value) < 1 << 63


def _check_first(line: RecordedLine) -> None:
    if line.kind != "recording":
        raise MalformedRecording("it is not the first line of a recording")
    if line.number("version", 1 << 31) != VERSION:
        raise MalformedRecording("its version is unknown: take a newer gatewayd-simulator")
