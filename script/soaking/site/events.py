"""What happened at a site, in the order of one clock: the cloud, etcd and the faults.  Pure.

All moments are seconds of CLOCK_MONOTONIC, which all processes of the machine share.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

REGISTERS = "authType=register"
"""In the client id of a CONNECT at Alibaba Cloud that asks for a secret."""
_SHARD = re.compile(r".*/shard/([0-9]+)$", re.ASCII)


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
class LeaderFell:
    """etcd got another leader while the faults of an epoch lasted, or because of them."""

    at: float
    epoch: int


@dataclass(frozen=True, slots=True)
class StartedAgain:
    """All gateways are stopped in order, and started again: the last act of a campaign."""

    at: float


SiteEvent: TypeAlias = (
    Connected | Said | Ended | Claimed | Released
    | FaultBegan | FaultEnded | LeaderFell | StartedAgain
)  # fmt: skip


class JournalReader:
    """Reads the journal of the simulated cloud, in pieces.

    gateways: their names, by the address that the cloud sees.
    child: returns that of a user of MQTT; "" for a user that is none, which is left out.
    """

    def __init__(self, gateways: Mapping[str, str], child: Callable[[str], str]) -> None:
        self._gateways, self._child = gateways, child
        self._children: dict[int, str] = {}

    def read(self, lines: Iterable[str]) -> Iterator[SiteEvent]:
        """Yield what whole lines say.  Raises KeyError for an address of no gateway."""
        for line in lines:
            yield from self._one(json.loads(line))

    def _one(self, facts: Mapping[str, Any]) -> Iterator[SiteEvent]:
        at, link, gateway = facts["at"], facts["link"], self._gateways[facts["peer"]]
        if facts["do"] == "connect":
            if not (child := self._child(facts["user"])):
                return
            self._children[link] = child
            registers = REGISTERS in facts["client"]
            yield Connected(at, gateway, child, link, facts["accepted"], registers)
        elif link not in self._children:
            return  # of no child
        elif facts["do"] == "publish":
            yield Said(at, gateway, self._children[link], link)
        else:
            del self._children[link]
            yield Ended(at, link)


class ShardReader:
    """Reads what etcdctl prints of its watches of the shards' keys, of several members.

    seen: claims and releases, each once: the first member to say so counts.
    revision: the newest that was read.
    """

    def __init__(self) -> None:
        self.seen: list[Claimed | Released] = []
        self.revision = 0
        self._holders: dict[int, int] = {}

    def read(self, line: bytes, now: float) -> None:
        """Read a line, which has all that happened at its revisions.  now: seconds."""
        events = json.loads(line).get("Events") or ()
        for event in events:
            found = _SHARD.match(base64.b64decode(event["kv"]["key"]).decode())
            if found and event["kv"]["mod_revision"] > self.revision:
                self._note(int(found[1]), event, now)
        revisions = (event["kv"]["mod_revision"] for event in events)
        self.revision = max(self.revision, *revisions, 0)

    def _note(self, shard: int, event: Mapping[str, Any], now: float) -> None:
        facts, token = event["kv"], self._holders.get(shard, 0)
        if event.get("type"):  # it is deleted
            self._holders.pop(shard, None)
            if token:
                self.seen.append(Released(now, shard, token))
        elif facts["create_revision"] == facts["mod_revision"]:
            self._holders[shard] = facts["mod_revision"]
            holder = base64.b64decode(facts["value"]).decode()
            self.seen.append(Claimed(now, shard, facts["mod_revision"], holder))
