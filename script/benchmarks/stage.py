"""Where it is measured: a site with the settings of the product, and what is done to it."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gatewayd.simulator.site import Site
from gatewayd.simulator.site_files import config, rules
from script.benchmarks.client import Client
from script.benchmarks.process import Readiness
from script.benchmarks.subject import HERE, Subject

PATIENCE: Final = 120.0
"""Seconds to wait for anything; a measurement that takes longer could not be made."""
READY: Final = 60.0
"""Seconds in which gatewayd has started, on a slow machine with many children."""
LOOK: Final = 0.05

TUNING = """\
[discovery]
settle = 1
[discovery.mdns]
interfaces = ["lo"]
types = ["_gatewayd-child._tcp"]
[registration]
per_minute = 60000
"""
"""The defaults of the product, but for: how long a sighting must stay the same, and how many
may be registered in a minute.  Both only make a run shorter."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A site, a client of its bus, and the socket on which its daemon notifies systemd.

    subject: what its daemon runs.
    """

    site: Site
    client: Client
    readiness: Readiness
    subject: Subject

    @property
    def pid(self) -> int:
        """The daemon's process."""
        assert self.site.daemon is not None, "it was started"
        return self.site.daemon.pid

    def rule(self, action: str, tuning: str = TUNING) -> None:
        """Write down what is to become of a child that the operator has listed.

        tuning: tables of the configuration, to be formatted with the site.
        """
        self.site.configure(config(self.site, tuning), rules(self.site, action=action))

    async def start(self) -> float:
        """Start gatewayd; return the seconds until it says READY=1.  Raises TimeoutError."""
        before = time.perf_counter()
        await self.site.launch()
        try:
            await self.readiness.wait(READY)
        except TimeoutError:
            end = self.site.log().splitlines()[-1:]
            raise TimeoutError(f"gatewayd does not become ready; its log ends: {end}") from None
        return time.perf_counter() - before

    async def announce(self, children: Iterable[str]) -> None:
        """Let children appear, all at once."""
        path = self.site.directory / "control"
        requests = [json.dumps({"do": "announce", "child": child}) for child in children]
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write("".join(f"{request}\n" for request in requests).encode())
        answers = [json.loads(await reader.readline()) for _ in requests]
        writer.close()
        await writer.wait_closed()
        if failed := [answer for answer in answers if "error" in answer]:
            raise RuntimeError(f"the simulator refuses: {failed[0]['error']}")

    async def until(
        self, holds: Callable[[], bool], what: str, patience: float = PATIENCE
    ) -> float:
        """Return the seconds until this is true.  Raises TimeoutError."""
        before = time.perf_counter()
        while not holds():
            if time.perf_counter() - before > patience:
                raise TimeoutError(f"timed out waiting for {what}")
            await asyncio.sleep(LOOK)
        return time.perf_counter() - before


@asynccontextmanager
async def stage(  # noqa: PLR0913  # by keyword
    late: int = 0,
    subject: Subject = HERE,
    *,
    apart: bool = False,
    speaks: bool = False,
    cloud: str = "alibaba",
    route: str = "",
    key_algorithm: str = "ec-p256",
) -> AsyncIterator[Stage]:
    """Yield a site whose gatewayd is not started yet.

    late: children that are listed, and are announced when asked for.  subject: what is run.
    apart: keep gatewayd on the first processor and the plant on the second, if there are two.
    speaks: whether there is a broker.
    cloud, route, key_algorithm: as of Site.
    """
    options = ("--children", "0", "--late", str(late))
    first, second = processors() if apart else ((), ())
    _allow_files()
    with tempfile.TemporaryDirectory(prefix="gatewayd-bench-") as directory:
        site = Site(
            Path(directory), (*first, *subject.prefix), second, plant_options=options,
            cloud=cloud, route=route, key_algorithm=key_algorithm, speaks=speaks,
        )  # fmt: skip
        with Readiness(site.directory / "notify") as readiness:
            os.environ.update(readiness.environment)
            async with site.open():
                with closing(Client(site.bus)) as client:
                    yield Stage(site, client, readiness, subject)


def processors() -> tuple[Sequence[str], Sequence[str]]:
    """Return prefixes of commands, for what is measured and for what it talks to."""
    numbers = sorted(os.sched_getaffinity(0))
    if len(numbers) == 1:
        return (), ()
    return ("taskset", "--cpu-list", str(numbers[0])), ("taskset", "--cpu-list", str(numbers[1]))


def _allow_files() -> None:
    """Let whoever is started open as many files as this machine lets it: a child needs one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
