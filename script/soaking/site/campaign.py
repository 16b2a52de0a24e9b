"""A campaign at a site: all comes up, faults are made and the site is given time, all is judged."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gatewayd.device.record import CloudName
from gatewayd.runtime.tasks import cancel_and_wait
from gatewayd.simulator.broker.site_broker import SiteBroker
from gatewayd.site.shards import shard_of
from script.soaking.site.clouds import CLOUDS
from script.soaking.site.etcd import EtcdCluster, etcd_cluster
from script.soaking.site.events import Connected, Ended, JournalReader, SiteEvent, StartedAgain
from script.soaking.site.faults import PlannedFault, SiteFaults, plan_faults
from script.soaking.site.gateways import (
    USUAL,
    SitePlant,
    SoakGateway,
    SoakLayout,
    found_site,
    running_plant,
    speak,
)
from script.soaking.site.laws import FinalFacts, SiteVerdict, judge
from script.soaking.site.network import site_network

MEMBERS = ("etcd1", "etcd2", "etcd3")
TIMING = (
    "--heartbeat-interval=250", "--election-timeout=2500", "--pre-vote", "--snapshot-count=10000",
    "--auto-compaction-mode=periodic", "--auto-compaction-retention=1h",
    "--quota-backend-bytes=536870912",
)  # fmt: skip
"""As docs/how-to/several-gateways.md has it.  Without a vote before the vote, a member that was cut
off or paused ends the leader when it is back, and the next one renews the leases of the dead."""
LOOK = 0.2
"""Seconds between two looks at the journal."""
GIVEN_UP = 120.0
"""Seconds after which a site is no longer awaited; the laws allow 60."""
NEW = 3
"""Children that come with an epoch, while there are some to come."""
REST = (2.0, 8.0)
"""Seconds between the end of an epoch, with all children served, and the next."""
COMES_UP = 900.0
"""Seconds until all children are online for the first time, and for the last, at most."""

PlanFaults = Callable[[random.Random, Sequence[str], Sequence[str]], Sequence[PlannedFault]]


@dataclass(frozen=True, slots=True)
class SiteOptions:
    """What is played.

    faults: at least so many, counted each.  until: no more begin after so many seconds.
    late: further children, of which NEW come with each epoch, so that they register amid faults.
    period: seconds between two messages of a child; 0 for none.
    rest: seconds for which the traffic to etcd is measured, before the first fault.
    cloud: a key of CLOUDS.
    announced: whether the children announce themselves on the LAN; else each gateway lists them.
    plan: chooses the faults of an epoch.
    """

    children: int = 300
    gateways: int = 3
    faults: int = 1000
    seed: int = 1
    late: int = 0
    until: float = float("inf")
    period: float = 30.0
    rest: float = 60.0
    tuning: str = USUAL
    cloud: str = "alibaba"
    announced: bool = True
    plan: PlanFaults = plan_faults

    @property
    def on_lan(self) -> tuple[int, int]:
        """How many children are on the LAN at first, and how many are there to come."""
        return (self.children, self.late) if self.announced else (0, self.children)

    @property
    def names(self) -> Sequence[str]:
        """The names of the gateways."""
        return [f"gateway-{chr(ord('a') + number)}" for number in range(self.gateways)]


@dataclass(slots=True)
class AtRest:
    """What passes between gateways and etcd while nothing happens, in a second."""

    bytes: float = 0.0
    requests: float = 0.0


@dataclass(slots=True)
class SiteFigures:
    """What was measured beside the laws.

    up: seconds until all children were online first.  memory: bytes of the largest etcd.
    fsync: of etcd's log, as (seconds, part of the writes that took no longer).
    """

    up: float = 0.0
    rest: AtRest = field(default_factory=AtRest)
    memory: int = 0
    fsync: Sequence[tuple[float, float]] = ()


class SiteCampaign:
    """A campaign in one directory, on a disk whose fsync is real.

    events: what has happened so far.  figures: measured so far.
    say: is called with progress.
    """

    def __init__(self, directory: Path, options: SiteOptions, say: Callable[[str], None]) -> None:
        self._directory, self._options, self._say = directory, options, say
        self._rng, self._cloud = random.Random(options.seed), CLOUDS[options.cloud]()
        self._open: dict[str, Connected] = {}
        self._read = 0
        self.events: list[SiteEvent] = []
        self.figures = SiteFigures()

    async def run(self) -> SiteVerdict:
        """Return the verdict when all is done.  Raises RuntimeError, TimeoutError."""
        options = self._options
        async with AsyncExitStack() as stack:
            hosts = (*options.names, *MEMBERS)
            network = await stack.enter_async_context(site_network(hosts))
            members = [network.hosts[name] for name in MEMBERS]
            cluster = await stack.enter_async_context(
                etcd_cluster(members, self._directory / "etcd", TIMING)
            )
            broker = SiteBroker(self._directory / "broker")
            if options.period:
                await stack.enter_async_context(broker)
            plant = await stack.enter_async_context(
                running_plant(
                    network, self._directory / "plant", options.on_lan, options.seed, self._cloud
                )
            )  # fmt: skip
            layout = SoakLayout(
                self._directory, network, plant, cluster, self._cloud,
                broker.socket if options.period else None, options.tuning, options.announced,
            )  # fmt: skip
            gateways = await stack.enter_async_context(layout.gateways(options.names))
            addresses = {network.hosts[name].cloud: name for name in options.names}
            self._reader = JournalReader(addresses, self._cloud.child)
            faults = SiteFaults(network, gateways, cluster, self.events.append)
            final = await self._play(plant, gateways, cluster, faults, broker)
            log = [*self.events, *cluster.shards.seen]  # before the gateways give all up
        await asyncio.to_thread(self._keep, log)
        product = str(plant.facts["product"])
        return judge(
            log,
            lambda child: shard_of(CloudName("", product, child, ""), self._cloud.piece),
            final,
        )

    def _keep(self, log: Sequence[SiteEvent]) -> None:
        """Write what happened, in order, a line for each, to be looked up after an offence."""
        lines = (f"{event}\n" for event in sorted(log, key=lambda event: event.at))
        (self._directory / "events").write_text("".join(lines))

    async def _play(
        self,
        plant: SitePlant,
        gateways: Mapping[str, SoakGateway],
        cluster: EtcdCluster,
        faults: SiteFaults,
        broker: SiteBroker,
    ) -> Mapping[str, FinalFacts]:
        all_: Sequence[str] = plant.facts["serials"]
        children, coming = all_[: self._options.children], all_[self._options.children :]
        began = time.monotonic()
        await asyncio.gather(*(one.site.start() for one in gateways.values()))
        for name, one in gateways.items():
            await self._cloud.prepare(one.site, name, plant.ask)
        await found_site(list(gateways.values()))
        if missing := await self._served(plant, children, COMES_UP):
            raise TimeoutError(f"{len(missing)} of {len(children)} children never came online")
        self.figures.up = time.monotonic() - began
        self._say(f"all {len(children)} children are online after {self.figures.up:.0f} s")
        await self._rest(cluster, faults)
        speaking = asyncio.create_task(
            speak(broker.socket, children, self._options.period)
            if self._options.period
            else asyncio.sleep(0)
        )
        try:
            came = await self._torment(plant, children, coming, cluster, faults)
        finally:
            await cancel_and_wait([speaking])
        return await self._start_again(plant, [*children, *came], gateways)

    async def _rest(self, cluster: EtcdCluster, faults: SiteFaults) -> None:
        """Measure the traffic to etcd while nothing happens."""
        seconds = self._options.rest
        if not seconds:
            return
        before = await faults.network.etcd_bytes(), await cluster.requests()
        await asyncio.sleep(seconds)
        after = await faults.network.etcd_bytes(), await cluster.requests()
        self.figures.rest = AtRest(
            (after[0] - before[0]) / seconds, (after[1] - before[1]) / seconds
        )
        rest = self.figures.rest
        self._say(f"at rest {rest.bytes:,.0f} bytes and {rest.requests:.2f} requests a second")

    async def _torment(
        self,
        plant: SitePlant,
        children: Collection[str],
        coming: Sequence[str],
        cluster: EtcdCluster,
        faults: SiteFaults,
    ) -> Sequence[str]:
        """Make the faults, one epoch after the other; return the children that came meanwhile."""
        options, done, epoch = self._options, 0, 0
        began = time.monotonic()
        while done < options.faults and time.monotonic() < began + options.until:
            epoch += 1
            planned = options.plan(self._rng, options.names, MEMBERS)
            for child in coming[(epoch - 1) * NEW : epoch * NEW]:
                await plant.ask(do="announce", child=child)
            await faults.do(epoch, planned)
            done += len(planned)
            ended = time.monotonic()
            missing = await self._served(plant, children, GIVEN_UP)
            what = ", ".join(f"{one.kind} {one.victim} {one.lasts:.0f} s" for one in planned)
            self._say(
                f"{epoch:>5}  {what}; all online {time.monotonic() - ended:.1f} s later"
                + (f", but {len(missing)}" if missing else "")
            )
            self.figures.memory = max(self.figures.memory, cluster.memory())
            await asyncio.sleep(self._rng.uniform(*REST))
        self.figures.fsync = await cluster.fsync()
        came = coming[: epoch * NEW]
        if missing := await self._served(plant, came, GIVEN_UP):
            self._say(f"{len(missing)} of {len(came)} children that came never got online")
        return came

    async def _start_again(
        self, plant: SitePlant, children: Collection[str], gateways: Mapping[str, SoakGateway]
    ) -> Mapping[str, FinalFacts]:
        """Stop and start all gateways; return what the cloud then says of each child."""
        self.events.append(StartedAgain(time.monotonic()))
        await asyncio.gather(*(one.site.stop() for one in gateways.values()))
        await asyncio.gather(*(one.site.start() for one in gateways.values()))
        await self._served(plant, children, COMES_UP)
        ledgers = await self._ledgers(plant)
        return {
            child: FinalFacts(
                ledgers[child]["online"],
                self._cloud.refused(ledgers[child]),
                self._cloud.issued(ledgers[child]),
            )
            for child in children
        }

    async def _ledgers(self, plant: SitePlant) -> Mapping[str, Mapping[str, Any]]:
        """Return what the cloud counts of each child."""
        truth = await plant.ask(do="truth")
        return self._cloud.ledgers(truth["cloud"], plant.facts["product"])

    async def _served(
        self, plant: SitePlant, children: Collection[str], patience: float
    ) -> Collection[str]:
        """Wait until each child has a session; return those that have none after all."""
        end = time.monotonic() + patience
        while True:
            await asyncio.to_thread(self._read_on, plant.journal)
            missing = [child for child in children if child not in self._open]
            if self._cloud.piece:
                missing = await self._offline(plant, children)
            if not missing or time.monotonic() > end:
                return missing
            await asyncio.sleep(LOOK)

    async def _offline(self, plant: SitePlant, children: Collection[str]) -> list[str]:
        """Return the children that are offline by the cloud: they have no CONNECT of their own."""
        ledgers = await self._ledgers(plant)
        return [child for child in children if not ledgers[child]["online"]]

    def _read_on(self, journal: Path) -> None:
        """Read what is new in the journal of the cloud."""
        with journal.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        for event in self._reader.read(whole.decode().splitlines()):
            self.events.append(event)
            if isinstance(event, Connected) and event.accepted and not event.registers:
                self._open[event.child] = event
            elif isinstance(event, Ended):
                for child in [c for c, one in self._open.items() if one.link == event.link]:
                    del self._open[child]
