"""The faults of a campaign: chosen from a seed, and done to the processes and their network."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from script.soaking.site.etcd import EtcdCluster
from script.soaking.site.events import (
    OF_ETCD,
    OF_GATEWAYS,
    FaultBegan,
    FaultEnded,
    FaultKind,
    LeaderFell,
    SiteEvent,
)
from script.soaking.site.gateways import SoakGateway
from script.soaking.site.network import PLANT, SiteNetwork

TWO = 0.35
"""The part of the faults that come with another one."""
SOON, LONG = (1.0, 8.0), (20.0, 60.0)
"""Seconds that a fault lasts: as of a service that is restarted, or of a machine that is away."""
IS_SOON = 0.3
SEEN = 1.0
"""Seconds after the last fault in which members see that their leader is another one."""
APART = 8.0
"""Seconds between the first and the second of two at once, at most."""


@dataclass(frozen=True, slots=True)
class PlannedFault:
    """A fault.  after: seconds from the begin of its epoch.  lasts: seconds."""

    kind: FaultKind
    victim: str
    after: float
    lasts: float


def plan_faults(
    rng: random.Random, gateways: Sequence[str], members: Sequence[str]
) -> Sequence[PlannedFault]:
    """Return one fault, or two of different victims.  Pure, but for the rng."""
    first = _fault(rng, gateways, members, 0.0)
    if rng.random() >= TWO:
        return (first,)
    others = [one for one in gateways if one != first.victim]
    more = [one for one in members if one != first.victim]
    return first, _fault(rng, others, more, rng.uniform(0.0, APART))


def _fault(
    rng: random.Random, gateways: Sequence[str], members: Sequence[str], after: float
) -> PlannedFault:
    kind = rng.choice((*OF_GATEWAYS, *OF_ETCD))
    lasts = rng.uniform(*(SOON if rng.random() < IS_SOON else LONG))
    return PlannedFault(
        kind, rng.choice(gateways if kind in OF_GATEWAYS else members), after, lasts
    )


class SiteFaults:
    """Does faults, and writes them down.

    network: theirs.  note: called with what is done when.
    """

    def __init__(
        self,
        network: SiteNetwork,
        gateways: Mapping[str, SoakGateway],
        cluster: EtcdCluster,
        note: Callable[[SiteEvent], None],
    ) -> None:
        self.network, self._gateways, self._cluster = network, gateways, cluster
        self._note = note

    async def do(self, epoch: int, faults: Sequence[PlannedFault]) -> None:
        """Do the faults of an epoch; return when all are over.  Raises RuntimeError."""
        leader, victims = await self._cluster.leader(), {one.victim for one in faults}
        changes = await self._cluster.leader_changes(victims)
        async with asyncio.TaskGroup() as group:
            for one in faults:
                group.create_task(self._one(epoch, one, leader=one.victim == leader))
        await asyncio.sleep(SEEN)
        if await self._cluster.leader_changes(victims) != changes:
            self._note(LeaderFell(time.monotonic(), epoch))

    async def _one(self, epoch: int, fault: PlannedFault, *, leader: bool) -> None:
        await asyncio.sleep(fault.after)
        at = time.monotonic()
        await self._begin(fault)
        self._note(FaultBegan(at, epoch, fault.kind, fault.victim, leader))
        await asyncio.sleep(fault.lasts)
        await self._end(fault)
        self._note(FaultEnded(time.monotonic(), epoch, fault.kind, fault.victim))

    async def _begin(self, fault: PlannedFault) -> None:
        host = self.network.hosts[fault.victim]
        match fault.kind:
            case FaultKind.KILL:
                await self._gateways[fault.victim].kill()
            case FaultKind.PAUSE:
                self._gateways[fault.victim].signal(signal.SIGSTOP)
            case FaultKind.CUT_ETCD:
                members = [one.host.lan for one in self._cluster.members.values()]
                await self.network.cut(fault.victim, host.lan, members)
            case FaultKind.CUT_CLOUD:
                cloud = self.network.hosts[PLANT].cloud
                await self.network.cut(fault.victim, host.cloud, [cloud])
            case FaultKind.KILL_ETCD:
                await self._cluster.members[fault.victim].kill()
            case FaultKind.PAUSE_ETCD:
                self._cluster.members[fault.victim].pause()
            case FaultKind.CUT_PEERS:
                all_ = self._cluster.members.values()
                peers = [one.host.lan for one in all_ if one.host.name != fault.victim]
                await self.network.cut(fault.victim, host.lan, peers)

    async def _end(self, fault: PlannedFault) -> None:
        match fault.kind:
            case FaultKind.KILL:
                await self._gateways[fault.victim].site.launch()
            case FaultKind.PAUSE:
                self._gateways[fault.victim].signal(signal.SIGCONT)
            case FaultKind.KILL_ETCD:
                await self._cluster.members[fault.victim].start()
            case FaultKind.PAUSE_ETCD:
                self._cluster.members[fault.victim].resume()
            case _:
                await self.network.heal(fault.victim)
