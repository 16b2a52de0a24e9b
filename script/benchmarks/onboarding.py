"""Many children at once: from the start of the daemon until all are online."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass

from gatewayd.simulator.site import Site
from gatewayd.simulator.site_files import config, rules
from gatewayd.simulator.story import is_online, ledgers, own_names
from script.benchmarks.process import cpu, memory
from script.benchmarks.stage import PATIENCE, Stage

LOOK = 0.2  # seconds
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
    """What it took.

    ready, seconds: from the start of the process, to READY=1 and until all were online.
    started, used: seconds of CPU, likewise.  peak, empty: MB of PSS, the most and at READY=1.
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


async def onboard(one: Stage, serials: Iterable[str], speed: Speed) -> Run:
    """Start gatewayd on a configuration that lists these children; return when all are online."""
    listed = tuple(serials)
    one.site.configure(_config(one.site, listed, speed), rules(one.site, found=FOUND))
    began = time.perf_counter()
    ready = await one.start()
    started, empty = cpu(one.pid), memory(one.pid).pss
    peak = empty
    while (online := one.client.count("online") - own_names(one.site)) < len(listed):
        if time.perf_counter() - began > PATIENCE:
            raise TimeoutError(f"only {online} of {len(listed)} came online")
        peak = max(peak, memory(one.pid).pss)
        await asyncio.sleep(LOOK)
    seconds, used = time.perf_counter() - began, cpu(one.pid)
    await _check(one, listed)
    peak = max(peak, memory(one.pid).pss)
    return Run(len(listed), ready, seconds, started, used, empty, peak)


async def _check(one: Stage, listed: Iterable[str]) -> None:
    """Ask the cloud, too.  Raises RuntimeError."""
    told = await ledgers(one.site)
    if missing := [serial for serial in listed if not is_online(told[serial])]:
        raise RuntimeError(f"the cloud says that {len(missing)} are not online")


def _config(site: Site, listed: Iterable[str], speed: Speed) -> str:
    tuning = TUNING.format(
        in_flight=speed.in_flight, per_minute=PER_MINUTE, connecting=speed.connecting
    )
    return config(site, tuning) + "".join(DEVICE.format(serial=serial) for serial in listed)
