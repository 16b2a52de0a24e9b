"""How long the children of a healthy cloud take beside a dead one, and alone, by a real daemon."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from gatewayd.simulator.site import Site
from tests.support.dead_cloud import NAMES, TLS, add_dead_cloud

TENTH = 1.1
"""The healthy cloud's children may take so many times what they take alone."""
MANY = ("--children", "0", "--late", "160", "--seed", "7")
"""About half of them are the healthy cloud's."""
ROUNDS = 3
"""Each is played so often, in turns, and its shortest counts: what else the machine does makes it
longer, by more than a tenth on one that is busy."""
HOW = {
    "alone": "", "beside a cloud whose name is not answered": NAMES,
    "beside a cloud that does not answer TLS": TLS,
}  # fmt: skip


def measure() -> int:
    """Print the time of each; return the exit status: 1 where a dead cloud costs a healthy one."""
    rounds = [{name: _played(how) for name, how in HOW.items()} for _ in range(ROUNDS)]
    took = {name: min(one[name] for one in rounds) for name in HOW}
    alone = took["alone"]
    for name, seconds in took.items():
        verdict = "held" if seconds <= TENTH * alone else "a healthy cloud waits for a dead one"
        print(f"{name:45} {seconds:5.2f} s  {seconds / alone:4.2f} times  {verdict}", flush=True)
    return 1 if max(took.values()) > TENTH * alone else 0


def _played(how: str) -> float:
    with (
        TemporaryDirectory(prefix="attack-") as name,
        socket.create_server(("127.0.0.1", 0), backlog=128) as silent,
    ):
        return asyncio.run(_online(Path(name), how, silent.getsockname()[1]))


async def _online(directory: Path, how: str, port: int) -> float:
    """Return the seconds from the announcement of the healthy cloud's children to all online."""
    site = Site(directory, plant_options=MANY)
    async with site.open():
        doomed, healthy = add_dead_cloud(site, how or NAMES, port)
        await site.start("tests.support.dead_names")
        first, *others = healthy
        await _announce(site, [first])  # what a daemon does once is not measured
        await site.wait_for(first, "online")
        if how:
            await _announce(site, doomed)
            await site.wait_for(doomed[0], "registering")
        began = time.time()
        await _announce(site, others)
        for child in others:
            await site.wait_for(child, "online")
        activated = [(await site.describe(child))["ActivatedTimestamp"] for child in others]
        await site.stop()
    return float(max(activated)) / 1e6 - began


async def _announce(site: Site, children: Sequence[str]) -> None:
    for child in children:
        await site.ask(do="announce", child=child)
