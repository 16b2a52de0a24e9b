"""What one child costs on its way to online: counted statements, signals, decisions and turns."""

from __future__ import annotations

import asyncio
import json
import signal
from math import inf
from pathlib import Path
from typing import Any

import pytest

from gatewayd.dbus.names import DEVICES
from gatewayd.manager.device_view import STEPS as ANNOUNCED_EVERY
from gatewayd.simulator.site import Site
from gatewayd.simulator.site_files import config, rules
from gatewayd.simulator.story import is_online, ledgers, own_names
from tests.support.monitor import watched

CHILDREN = 40
STATEMENTS, SIGNALS, DECISIONS, SHARED = 20, 3, 2, 0.4
"""Bounds for each child.  The group commit shares some statements among several.  SHARED are the
signals that are about all: DevicesChanged, and the properties of gatewayd itself."""
BATCHED = {"groups": 1.0, "deliveries": 1.0}
"""Groups of the store, and turns of the mailbox, for each child that comes with others through the
gateway's session: each of some six steps is one of either for a whole batch."""
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


@pytest.mark.parametrize("route", ["", "sub-device"])
async def test_a_child_comes_online_in_few_steps(route: str, tmp_path: Path) -> None:
    result = tmp_path / "counts.json"
    site = Site(tmp_path, route=route, plant_options=("--children", "0", "--late", str(CHILDREN)))
    async with site.open(), watched(site) as messages:
        serials = site.plant["serials"]
        listed = "".join(DEVICE.format(serial=serial) for serial in serials)
        site.configure(config(site, TUNING) + listed, rules(site, found='source = "static"'))
        await site.start("tests.support.counted_daemon", str(result))
        assert site.daemon is not None
        site.daemon.send_signal(signal.SIGUSR1)

        async def all_online() -> bool:
            ledger = await ledgers(site)
            return all(is_online(ledger[serial]) for serial in serials)

        # By the cloud, as a call of gatewayd would have each child's newest step announced.
        await site.until(all_online, "all children to be online")
        while await _news(messages):
            pass
        site.daemon.send_signal(signal.SIGUSR2)

        async def counted() -> bool:
            return result.exists()

        await site.until(counted, "the counts")
        children = CHILDREN + own_names(site)
        assert (await site.call("CountDevices"))["online"] == children
        announced = sum([await _announced_steps(site, child) for child in serials])
    counts = json.loads(result.read_text())
    signals = [one for one in messages if one["type"] == "signal"]
    found = {
        "statements": sum(counts["statements"].values()) / children,
        "signals": sum(map(_of_a_child, signals)) / children,
        "decisions": counts["decisions"] / children,
        "shared": sum(not _of_a_child(one) for one in signals) / children,
        "groups": counts["groups"] / children,
        "deliveries": counts["deliveries"] / children,
    }
    bounds = {
        "statements": STATEMENTS,
        "signals": SIGNALS + announced / CHILDREN,
        "decisions": DECISIONS,
        "shared": SHARED,
    } | (BATCHED if route else {})
    assert all(found.values()), "something is counted of each"
    assert {what for what, count in found.items() if count > bounds.get(what, inf)} == set(), (
        found,
        counts["statements"],
    )


def _of_a_child(message: dict[str, Any]) -> bool:
    """Whether a signal is about one child."""
    about_one = ("InterfacesAdded", "InterfacesRemoved", "ApprovalNeeded", "RegistrationFinished")
    return message["path"].startswith(f"{DEVICES}/") or message["member"] in about_one


async def _announced_steps(site: Site, child: str) -> int:
    """Return how many steps of a child are announced on its way, as that takes long."""
    times = [at for at, event, *_ in (await site.describe(child))["History"] if event != "Seen"]
    return int((times[-1] - times[0]) / 1e6 // ANNOUNCED_EVERY)


async def _news(messages: list[dict[str, Any]]) -> bool:
    """Whether gatewayd sends a message within a while."""
    before = len(messages)
    await asyncio.sleep(QUIET)
    return len(messages) > before
