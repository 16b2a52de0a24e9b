"""The identity of PROFINET devices: their answers to Identify-All of DCP, IEC 61158-6-10, 4.3.

The MAC that an answer comes from identifies; name and IP address are what people have set.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from collections.abc import Iterator, Mapping
from typing import Final

from gatewayd.device.identity import claim
from gatewayd.discovery import sanitize
from gatewayd.discovery.probing.protocol import Found, UnreadableAnswer
from gatewayd.discovery.raw_link.frames import SENDER, answer_of

MAX_BLOCKS: Final = 32
"""Blocks of one answer that are read; devices send about ten."""

_IP, _DEVICE = 1, 2  # options
_SUITE = 2  # suboption of the first: address, mask, gateway
_TYPE, _NAME, _ID, _ROLE, _ALIAS = 1, 2, 3, 4, 6  # suboptions of the second
_BLOCK = struct.Struct("!BBH")  # option, suboption, length
_INFO_SIZE = 2  # bytes before the value, which answers have
_ID_SIZE, _IP_SIZE = 4, 4

_STATION = re.compile(rb"[A-Za-z0-9]([A-Za-z0-9.-]{0,238}[A-Za-z0-9])?")
"""A name of station (IEC 61158-6-10, 4.3.1.4.15), though older devices have capitals."""
_ROLES: Final[Mapping[int, str]] = {1: "device", 2: "controller", 4: "multidevice", 8: "supervisor"}


def read_answer(frame: bytes) -> Found:
    """Return the device of an answer, a frame without tags.  Raises UnreadableAnswer."""
    answer = answer_of(frame)
    if answer is None:
        raise UnreadableAnswer("not-an-answer")
    identity = claim("mac", "profinet", frame[SENDER].hex())
    if identity is None:
        raise UnreadableAnswer("bad-mac")
    blocks = {(option, which): value for option, which, value in _blocks(answer[1])}
    facts = _facts(blocks)
    name = facts.get("profinet.name") or facts.get("model")
    return Found(
        key=identity.value,
        claims=frozenset((identity,)),
        attributes=sanitize.escaped_attributes({**facts, "profinet.mac": identity.value}),
        label=name or f"PROFINET device {identity.value}",
        valid_for=0.0,
    )


def _blocks(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield option, suboption and value of each block; each begins at an even place."""
    at = 0
    for _ in range(MAX_BLOCKS):
        if at == len(data):
            return
        if len(data) < at + _BLOCK.size:
            raise UnreadableAnswer("truncated")
        option, which, length = _BLOCK.unpack_from(data, at)
        at += _BLOCK.size
        if length > len(data) - at:
            raise UnreadableAnswer("truncated")
        yield option, which, data[at + _INFO_SIZE : at + length]
        at = min(at + length + length % 2, len(data))


def _facts(blocks: Mapping[tuple[int, int], bytes]) -> dict[str, str]:
    """Return the attributes; a name that cannot be one of a station is none."""
    made: dict[str, str] = {}
    for key, which in (("profinet.name", _NAME), ("profinet.alias", _ALIAS)):
        value = blocks.get((_DEVICE, which), b"")
        if _STATION.fullmatch(value):
            made[key] = value.decode("ascii")
    made["model"] = blocks.get((_DEVICE, _TYPE), b"").rstrip(b"\0 ").decode("latin-1")
    numbers = blocks.get((_DEVICE, _ID), b"")
    if len(numbers) == _ID_SIZE:
        made["profinet.vendor-id"], made["profinet.device-id"] = (
            numbers[:2].hex(),
            numbers[2:].hex(),
        )
    role = blocks.get((_DEVICE, _ROLE), b"")[:1]
    made["profinet.role"] = " ".join(word for bit, word in _ROLES.items() if role and role[0] & bit)
    made["profinet.address"] = _address(blocks.get((_IP, _SUITE), b""))
    return made


def _address(suite: bytes) -> str:
    """Return the IP address that a device says it has; "" if it has none."""
    number = suite[:_IP_SIZE]
    return str(ipaddress.IPv4Address(number)) if len(number) == _IP_SIZE and any(number) else ""
