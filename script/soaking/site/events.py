"""What happened at a site, in the order of one clock: the cloud, etcd and the faults.  Pure.

All moments are seconds of CLOCK_MONOTONIC, which all processes of the machine share.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

REGISTERS = "authType=register"
"""In the client id of a CONNECT at Alibaba Cloud that asks for a secret."""


class FaultKind(StrEnum):
    """What is done to a gateway, or to a member of etcd."""

    KILL = "kill"
    PAUSE = "pause"
    CUT_ETCD = "cut from etcd"
    CUT_CLOUD = "cut from the cloud"
    KILL_ETCD = "kill of an etcd"
    PAUSE_ETCD = "pause of an etcd"
    CUT_PEERS = "cut of an etcd from its peers"


OF_GATEWAYS = (FaultKind.KILL, FaultKind.PAUSE, FaultKind.CUT_ETCD, FaultKind.CUT_CLOUD)
OF_ETCD = (FaultKind.KILL_ETCD, FaultKind.PAUSE_ETCD, FaultKind.CUT_PEERS)


@dataclass(frozen=True, slots=True)
class Connected:
    """A CONNECT at the cloud.  registers: whether it asks for a secret, and not for a session."""

    at: float
    gateway: str
    child: str
    link: int
    accepted: bool
    registers: bool = False


@dataclass(frozen=True, slots=True)
class Said:
    """A PUBLISH at the cloud."""

    at: float
    gateway: str
    child: str
    link: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a connection at the cloud."""

    at: float
    link: int


@dataclass(frozen=True, slots=True)
class Claimed:
    """A key of a shard was made in etcd.  token: its create_revision."""

    at: float
    shard: int
    token: int
    gateway: str


@dataclass(frozen=True, slots=True)
class Released:
    """It was deleted: given up, or with its lease."""

    at: float
    shard: int
    token: int


@dataclass(frozen=True, slots=True)
class FaultBegan:
    """A fault.  epoch: faults of one number were made at once.  leader: of etcd, was the victim."""

    at: float
    epoch: int
    kind: FaultKind
    victim: str
    leader: bool = False


@dataclass(frozen=True, slots=True)
class FaultEnded:
    """The victim runs again, or its network is whole again."""

    at: float
    epoch: int
    kind: FaultKind
    victim: str


@dataclass(frozen=True, slots=True)
class StartedAgain:
    """All gateways are stopped in order, and started again: the last act of a campaign."""

    at: float


SiteEvent: TypeAlias = (
    Connected | Said | Ended | Claimed | Released | FaultBegan | FaultEnded | StartedAgain
)


class JournalReader:
    """Reads the journal of the simulated cloud, in pieces.

    gateways: their names, by the address that the cloud sees.
    """

    def __init__(self, gateways: Mapping[str, str]) -> None:
        self._gateways = gateways
        self._children: dict[int, str] = {}

    def read(self, lines: Iterable[str]) -> Iterator[SiteEvent]:
        """Yield what whole lines say.  Raises KeyError for an address of no gateway."""
        for line in lines:
            yield from self._one(json.loads(line))

    def _one(self, facts: Mapping[str, Any]) -> Iterator[SiteEvent]:
        at, link, gateway = facts["at"], facts["link"], self._gateways[facts["peer"]]
        if facts["do"] == "connect":
            child = self._children[link] = facts["user"].partition("&")[0]
            registers = REGISTERS in facts["client"]
            yield Connected(at, gateway, child, link, facts["accepted"], registers)
        elif facts["do"] == "publish":
            yield Said(at, gateway, self._children[link], link)
        else:
            self._children.pop(link, None)
            yield Ended(at, link)
