"""How the Alibaba cloud's replies to a gateway are sent, whole or spoiled by a fault.  Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gatewayd.testing.simulator.faults import Fault


@dataclass(frozen=True, slots=True)
class Delivery:
    """What is sent.  copies: of the payload.  after: seconds.

    last: whether it waits for the sender's next reply.
    close: whether the connection is closed instead.
    """

    payload: bytes
    copies: int = 1
    after: float = 0.0
    last: bool = False
    close: bool = False


def deliver(body: Mapping[str, object], fault: Fault | None) -> Delivery:
    """Decide how a reply is sent."""
    if fault is None or (spoil := _SPOILERS.get(fault.name)) is None:
        return Delivery(encode(body))
    return spoil(body, fault.number)


def encode(body: object) -> bytes:
    """Write a message."""
    return json.dumps(body, separators=(",", ":")).encode()


def _mixed(body: Mapping[str, object]) -> Mapping[str, object]:
    """Swap the types, as some samples of the vendor do."""
    mixed: dict[str, object] = {**body, "code": str(body["code"])}
    if "id" in body:
        mixed["id"] = int(str(body["id"]))
    return mixed


_SPOILERS: Mapping[str, Callable[[Mapping[str, object], float], Delivery]] = {
    "lose-reply": lambda body, _: Delivery(encode(body), copies=0),
    "reply-late": lambda body, seconds: Delivery(encode(body), after=seconds),
    "reply-last": lambda body, _: Delivery(encode(body), last=True),
    "reply-twice": lambda body, _: Delivery(encode(body), copies=2),
    "reply-mixed": lambda body, _: Delivery(encode(_mixed(body))),
    "reply-garbled": lambda body, _: Delivery(encode(body)[:-7]),
    "reply-hang-up": lambda body, _: Delivery(encode(body), copies=0, close=True),
}
"""Fault → how it sends a reply."""
