"""What the gateways of a site know of one another, and who is called when it changes.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class SiteGateway:
    """A gateway whose lease etcd has.

    lease: its number at etcd.  version: of gatewayd.  draining: whether it gives up all shards.
    owed: shards of whose children it has messages, which it could not send before others had them.
    """

    lease: int
    version: str = ""
    draining: bool = False
    owed: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class ShardOwner:
    """Which gateway has a shard.

    token: the revision at which its key was created, larger for each later owner.
    lease: with which the key ends.
    """

    gateway: str
    token: int
    lease: int


@dataclass(frozen=True, slots=True)
class SiteReading:
    """What etcd held at one revision.

    gateways: those that live, by name.  owners: by shard.
    held: the last owner of each shard, unless it has given it up in good order.
    members, joining: the documents of members, and of gateways that wait for an operator's yes.
    layout: the version of all these keys; "" in a site that has none yet.
    """

    revision: int
    gateways: Mapping[str, SiteGateway] = field(default_factory=dict)
    owners: Mapping[int, ShardOwner] = field(default_factory=dict)
    held: Mapping[int, ShardOwner] = field(default_factory=dict)
    members: Mapping[str, bytes] = field(default_factory=dict)
    joining: Mapping[str, bytes] = field(default_factory=dict)
    layout: str = ""


@dataclass(frozen=True, slots=True)
class SiteSnapshot:
    """The site as this gateway sees it at one moment.

    site, gateway: the names of both.
    reading: the newest; None before the first.  read_before: seconds since it was read.
    reachable: whether the newest request was answered; else `fault` says why, and what to do.
    lease: ours at etcd; 0 without one.  left: seconds for which the fence holds.
    owned: shards whose children work here, with their tokens.
    gaining, stopping: shards whose children are not yet, or no longer, to work here.
    """

    site: str
    gateway: str
    reading: SiteReading | None = None
    read_before: float = 0.0
    reachable: bool = False
    fault: str = ""
    lease: int = 0
    left: float = 0.0
    owned: Mapping[int, int] = field(default_factory=dict)
    gaining: frozenset[int] = frozenset()
    stopping: frozenset[int] = frozenset()
    draining: bool = False


class ShardListener(Protocol):
    """What is called when shards change hands; for one shard never twice at once."""

    async def gained(self, shard: int, token: int) -> None:
        """Merge what etcd has of the shard's children, then let them work here.

        Cancelled where the shard is lost meanwhile.  Raises GatewayError where it cannot; then it
        is called again later.
        """

    async def lost(self, shard: int) -> None:
        """Return when nothing of the shard's children runs here any more; raises nothing.

        Called after each `gained`, however that ended.
        """
