"""Runs one gatewayd after the other in one directory: each is killed at a random moment."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gatewayd.errors import StoreError
from gatewayd.simulator.site import Site
from gatewayd.simulator.site_files import rules
from script.benchmarks.onboarding import DEVICE, FOUND
from script.soaking.disk import look
from script.soaking.laws import CloudFacts, LossDetector, StoredFacts, stranded

AT_ONCE = 5
"""Children that are being registered in one run of gatewayd, at most."""
OLD = 2
"""Children that are activated, and log in again in each run."""
EARLY = 0.5
"""Of the time that a start takes: no run is shorter, or there would be nothing to kill."""
WORKING = 0.5
"""Seconds in which a gatewayd that has started may work before it is killed, at most."""
STARTING = 0.5
"""Of the kills: those that come while gatewayd starts.  The others come once it has started,
however long that takes on a machine that is busy, or nothing would be found half-way."""

CONFIG = """\
[gateway]
state_directory = "{state}"
[log]
level = "warning"
[bus]
address = "{site.bus}"
[discovery]
settle = 0
[registration]
quiet_time = 0.2
retry_first = 0.1
per_minute = 60000
[sessions]
retry_first = 0.1
per_minute = 60
[secretstore.vault]
key = "development-file"
[cloud.alibaba]
host = "{site.plant[host]}"
port = {site.plant[port]}
ca_file = "{site.directory}/ca.pem"
[cloud.alibaba.products.{site.plant[product]}]
secret_file = "{site.directory}/product-secret"
"""


@dataclass(slots=True)
class KillTally:
    """What was counted.

    amid: kills with a child between its first intent and its activation.
    lost, stranded: a sentence for each.
    """

    kills: int = 0
    starts: int = 0
    amid: int = 0
    registered: int = 0
    issued: int = 0
    acknowledged: int = 0
    lost: list[str] = field(default_factory=list)
    stranded: list[str] = field(default_factory=list)

    def add(self, other: KillTally) -> None:
        """Add what another has counted."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class KillLoop:
    """Successive runs of gatewayd in one state directory.

    site: where the cloud and the bus are.  serials: children that are to be registered.
    """

    def __init__(self, site: Site, state: Path, serials: Sequence[str], rng: random.Random) -> None:
        self._site, self._state, self._serials, self._rng = site, state, serials, rng
        self._detector = LossDetector()
        self._stored: Mapping[str, StoredFacts] = {}
        self._start = 0.0
        self.tally = KillTally()

    async def measure(self) -> None:
        """Measure how long a start takes, without children to register."""
        self._configure(())
        began = time.monotonic()
        await self._site.start()
        self._start = time.monotonic() - began
        await self._site.stop()

    async def kill(self) -> None:
        """Start gatewayd, kill it at a random moment, and look at what is on the disk."""
        waiting, through = self._waiting(), self._through()
        old = self._rng.sample(through, min(OLD, len(through)))
        self._configure([*waiting[:AT_ONCE], *old])
        if self._rng.random() < STARTING:
            await self._site.launch()
            delay = self._rng.uniform(self._start * EARLY, self._start)
        else:
            await self._site.start()
            delay = self._rng.uniform(0, WORKING)
        self.tally.starts += 1
        daemon = self._site.daemon
        assert daemon is not None, "it was launched"
        await asyncio.wait({ended := asyncio.ensure_future(daemon.wait())}, timeout=delay)
        if ended.done():
            raise RuntimeError(f"gatewayd ended by itself, with status {ended.result()}")
        daemon.kill()
        if await ended != -signal.SIGKILL:
            raise RuntimeError(f"gatewayd was not killed, but ended with status {ended.result()}")
        self.tally.kills += 1
        await self._look()
        self.tally.amid += any(one.attempt and not one.activated for one in self._stored.values())

    async def settle(self) -> None:
        """Start it once more, wait until all children are online, and ask the cloud."""
        children = [child for child in self._serials if child in self._stored]
        self._configure(children)
        await self._site.start()
        self.tally.starts += 1

        async def all_online() -> bool:
            counted = await self._counted()
            return all(counted[child].online for child in children)

        try:
            await self._site.until(all_online, "all children to be online")
        except TimeoutError:
            counted = await self._counted()
            self.tally.stranded += [c for c in children if not counted[c].online]
        await self._site.stop()
        await self._look()
        counted = await self._counted()
        self.tally.registered += sum(one.activated for one in counted.values())
        self.tally.issued += sum(len(one.secrets) for one in counted.values())
        self.tally.acknowledged += sum(bool(one.stored) for one in self._stored.values())
        gone = stranded(self._stored, counted)
        self.tally.stranded += [child for child in gone if child not in self.tally.stranded]

    async def _look(self) -> None:
        try:
            self._stored = await asyncio.to_thread(look, self._state)
        except StoreError as error:
            self.tally.lost.append(str(error))
            return
        self.tally.lost += self._detector.compare(self._stored)

    async def _counted(self) -> dict[str, CloudFacts]:
        """What the cloud says of our children."""
        truth = await self._site.ask(do="truth")
        ledgers: Mapping[str, Mapping[str, Any]] = truth["cloud"]["devices"][
            self._site.plant["product"]
        ]
        return {
            child: CloudFacts(
                tuple(ledgers[child]["secrets_sha256"]),
                ledgers[child]["activation"] is not None,
                ledgers[child]["online"],
            )
            for child in self._serials
        }

    def _waiting(self) -> list[str]:
        return [c for c in self._serials if c not in self._stored or not self._stored[c].activated]

    def _through(self) -> list[str]:
        return [c for c in self._serials if c in self._stored and self._stored[c].activated]

    def _configure(self, children: Sequence[str]) -> None:
        devices = "".join(DEVICE.format(serial=serial) for serial in children)
        config = CONFIG.format(site=self._site, state=self._state) + devices
        self._site.configure(config, rules(self._site, found=FOUND))
