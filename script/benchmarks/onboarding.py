"""Many children at once: from the start of the daemon until all are online."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from gatewayd.simulator.site import Site
from gatewayd.simulator.site_files import config, rules
from gatewayd.simulator.story import is_online, ledgers, own_names
from script.benchmarks.process import family_cpu, family_memory
from script.benchmarks.rounds import Sample
from script.benchmarks.stage import PATIENCE, Stage

LOOK = 0.2  # seconds
REST = 5.0
"""Seconds after the last child came online, in which what it leaves to do is done, and counted."""
PER_MINUTE = 60_000

TUNING = """\
[discovery]
settle = 0
[registration]
in_flight = {in_flight}
per_minute = {per_minute}
[sessions]
connecting = {connecting}
"""

DEVICE = """\
[[discovery.static.devices]]
key = "{serial}"
serial = "{serial}"
attributes = {{ "txt.serial" = "{serial}" }}
"""

FOUND = 'source = "static"'
STATE = 1
"""The column of the state in the rows of ListDevices."""


Online: TypeAlias = Callable[[], Awaitable[Collection[str]]]
"""Returns the serial numbers of the children that a cloud shows as online."""


@dataclass(frozen=True, slots=True)
class Speed:
    """What limits how fast it goes: settings of the daemon."""

    in_flight: int
    connecting: int

    def __str__(self) -> str:
        return (
            f"registration.in_flight {self.in_flight}, per_minute {PER_MINUTE}, "
            f"sessions.connecting {self.connecting}"
        )


@dataclass(frozen=True, slots=True)
class Run:
    """What it took, by all processes of gatewayd.

    ready, seconds: from the start of the process, to READY=1 and until all were online.
    started, used: seconds of CPU, to READY=1 and until it is at rest.
    peak, empty: MB of PSS, the most and at READY=1.
    """

    children: int
    ready: float
    seconds: float
    started: float
    used: float
    empty: float
    peak: float

    @property
    def each(self) -> float:
        """Milliseconds of CPU for each child, without what the start took."""
        return (self.used - self.started) / self.children * 1000

    @property
    def sample(self) -> Sample:
        """The same for a comparison; `kept` is kB of PSS for each child."""
        kept = (self.peak - self.empty) / self.children * 1000
        return {
            "seconds": self.seconds, "ready": self.ready, "online": self.seconds - self.ready,
            "cpu": self.each, "peak": self.peak, "kept": kept,
        }  # fmt: skip


async def onboard(
    one: Stage,
    serials: Iterable[str],
    speed: Speed,
    *,
    cloud: str = "",
    online: Online | None = None,
    patience: float = PATIENCE,
) -> Run:
    """Start gatewayd on a configuration that lists these children; return what that took.

    cloud: tables of it, in place of those of the site; then `online` is what it shows.
    patience: seconds in which all have to be online.
    It counts when all are online, by D-Bus and by the cloud, and durable.  Afterwards gatewayd is
    stopped.  Raises RuntimeError, TimeoutError.
    """
    listed = tuple(serials)
    shown = online or _online_of(one.site)
    one.site.configure(_config(one.site, listed, speed, cloud), rules(one.site, found=FOUND))
    began = time.perf_counter()
    ready = await one.start()
    started, empty = family_cpu(one.pid), family_memory(one.pid).pss
    peak = empty
    for all_online in _signs(one, listed, online):
        while not await all_online():
            if time.perf_counter() - began > patience:
                raise TimeoutError(f"not all of {len(listed)} came online")
            peak = max(peak, family_memory(one.pid).pss)
            await asyncio.sleep(LOOK)
    seconds = time.perf_counter() - began
    await asyncio.sleep(REST)
    used, peak = family_cpu(one.pid), max(peak, family_memory(one.pid).pss)
    if missing := set(listed) - set(await shown()):
        raise RuntimeError(f"{len(missing)} children are not online at the cloud")
    await agree(one)
    return Run(len(listed), ready, seconds, started, used, empty, peak)


def _online_of(site: Site) -> Online:
    async def online() -> Collection[str]:
        found = await ledgers(site)
        return [serial for serial, ledger in found.items() if is_online(ledger)]

    return online


def _signs(
    one: Stage, listed: Sequence[str], online: Online | None
) -> Iterator[Callable[[], Awaitable[bool]]]:
    """Yield what shows that all are online: the last that is listed, the cloud, and gatewayd.

    gatewayd is asked last: before it answers a call it announces the newest step of each child,
    which costs as much as the step, and is no part of the work that others do beside it.
    """

    at_cloud = online or _online_of(one.site)

    async def last() -> bool:
        if online is not None:
            return listed[-1] in await online()
        return is_online(await one.site.ledger(listed[-1]))

    async def cloud() -> bool:
        return set(listed) <= set(await at_cloud())

    async def shown() -> bool:
        return one.client.count("online") - own_names(one.site) == len(listed)

    yield from (last, cloud, shown)


async def agree(one: Stage) -> None:
    """Stop gatewayd; the children that it has listed must be those that are durable.

    Raises RuntimeError.
    """
    rows = one.client.call("ListDevices")
    shown = {row[0] for row in rows if row[STATE] == "online"}
    await one.site.stop()
    durable = await one.subject.store("read", one.site.directory / "state")
    lasting = {device for device, complete in durable if complete}
    if shown != lasting:
        raise RuntimeError(f"{len(shown)} children are online; {len(lasting)} of those are durable")


def _config(site: Site, listed: Iterable[str], speed: Speed, cloud: str) -> str:
    tuning = TUNING.format(
        in_flight=speed.in_flight, per_minute=PER_MINUTE, connecting=speed.connecting
    )
    text = config(site, tuning)
    if cloud:
        text = text.partition("[cloud.")[0] + cloud
    return text + "".join(DEVICE.format(serial=serial) for serial in listed)
