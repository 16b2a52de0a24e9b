"""What one child costs on its way to online: counted statements, signals and decisions."""

from __future__ import annotations

import asyncio
import json
import signal
from itertools import pairwise
from pathlib import Path
from typing import Any

from gatewayd.dbus.names import DEVICES
from gatewayd.simulator.site import Site
from gatewayd.simulator.site_files import config, rules
from tests.support.monitor import watched

CHILDREN = 40
STATEMENTS, SIGNALS, DECISIONS, SHARED = 20, 3, 2, 0.4
"""Bounds for each child; 18.7, 3.0, 2.0 and 0.1 were measured for an Alibaba device that connects
directly.  The group commit shares some statements among several.  SHARED are those that are about
all: DevicesChanged, and the properties of gatewayd itself."""
SHOWN = 500_000
"""Microseconds that a step lasts at least where it is one more signal, as only those of about a
second are announced: the first, where the child settles, and on a busy machine any of them."""
TUNING = """\
[discovery]
settle = 2
[registration]
per_minute = 60000
"""
"""Children are admitted after the window has opened; all else is as installed."""
DEVICE = """\
[[discovery.static.devices]]
key = "{serial}"
serial = "{serial}"
attributes = {{ "txt.serial" = "{serial}" }}
"""
QUIET = 1.0
"""Seconds without a message of gatewayd after which its work is done."""


async def test_a_child_comes_online_in_few_steps(tmp_path: Path) -> None:
    result = tmp_path / "counts.json"
    options = ("--children", "0", "--late", str(CHILDREN))
    async with Site(tmp_path, plant_options=options).open() as site, watched(site) as messages:
        serials = site.plant["serials"]
        listed = "".join(DEVICE.format(serial=serial) for serial in serials)
        site.configure(config(site, TUNING) + listed, rules(site, found='source = "static"'))
        await site.start("tests.support.counted_daemon", str(result))
        assert site.daemon is not None
        site.daemon.send_signal(signal.SIGUSR1)

        async def all_online() -> bool:
            counts: dict[str, Any] = await site.call("CountDevices")
            return bool(counts.get("online") == CHILDREN)

        await site.until(all_online, "all children to be online")
        while await _news(messages):
            pass
        site.daemon.send_signal(signal.SIGUSR2)

        async def counted() -> bool:
            return result.exists()

        await site.until(counted, "the counts")
        announced = sum([await _long_steps(site, child) for child in serials])
    counts = json.loads(result.read_text())
    signals = [one for one in messages if one["type"] == "signal"]
    found = {
        "statements": sum(counts["statements"].values()) / CHILDREN,
        "signals": sum(map(_of_a_child, signals)) / CHILDREN,
        "decisions": counts["decisions"] / CHILDREN,
        "shared": sum(not _of_a_child(one) for one in signals) / CHILDREN,
    }
    bounds = {
        "statements": STATEMENTS,
        "signals": SIGNALS + announced / CHILDREN,
        "decisions": DECISIONS,
        "shared": SHARED,
    }
    assert all(found.values()), "something is counted of each"
    assert {what for what, count in found.items() if count > bounds[what]} == set(), (
        found,
        counts["statements"],
    )


def _of_a_child(message: dict[str, Any]) -> bool:
    """Whether a signal is about one child."""
    about_one = ("InterfacesAdded", "InterfacesRemoved", "ApprovalNeeded", "RegistrationFinished")
    return message["path"].startswith(f"{DEVICES}/") or message["member"] in about_one


async def _long_steps(site: Site, child: str) -> int:
    """Return how many steps of a child have lasted so long that they may have been announced."""
    times = [at for at, *_ in (await site.describe(child))["History"]]
    return sum(after - before >= SHOWN for before, after in pairwise(times))


async def _news(messages: list[dict[str, Any]]) -> bool:
    """Whether gatewayd sends a message within a while."""
    before = len(messages)
    await asyncio.sleep(QUIET)
    return len(messages) > before
