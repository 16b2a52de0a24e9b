"""What it costs to read a property, beside the same call on the bus itself."""

from __future__ import annotations

from statistics import median

from gatewayd.dbus.glib import Variant
from gatewayd.dbus.names import MANAGER, NAME, ROOT
from script.benchmarks.client import BUS, PROPERTIES, Client, timed
from script.benchmarks.stage import stage
from script.benchmarks.table import Figure

CALLS = 1500
OURS = (NAME, ROOT, PROPERTIES, "Get", Variant("(ss)", (MANAGER, "State")))
THEIRS = (BUS, "/org/freedesktop/DBus", PROPERTIES, "Get", Variant("(ss)", (BUS, "Features")))
PING = (NAME, ROOT, f"{BUS}.Peer", "Ping")


async def measure() -> list[Figure]:
    """Call in turn, so that what disturbs one disturbs all."""
    async with stage() as one:
        one.rule("ask")
        await one.start()
        return _figures(one.client)


def _figures(client: Client) -> list[Figure]:
    calls = (OURS, THEIRS, PING)
    taken = [[timed(client, *call) for call in calls] for _ in range(CALLS)]
    ours, theirs, ping = (median(column) * 1e6 for column in zip(*taken, strict=True))
    return [
        Figure("D-Bus Get of a property, of the bus's own Get", ours / theirs, "times", 3),
        Figure("  Get on gatewayd, median", ours, "µs", note=f"of {CALLS}"),
        Figure("  Get on dbus-daemon, median", theirs, "µs", note="by the bus itself, in C"),
        Figure("  Ping of gatewayd, median", ping, "µs", note="by GLib, in C: what the way costs"),
    ]
