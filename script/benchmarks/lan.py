"""Many children that appear at once, at one source or at three, and an attacker that forges many
more."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from gatewayd.dbus.glib import Variant
from gatewayd.dbus.names import MANAGER, NAME, ROOT
from gatewayd.simulator.lan.child import LanChild
from gatewayd.simulator.mqtt import codec
from script.benchmarks.client import PROPERTIES
from script.benchmarks.mosquitto import MqttClient
from script.benchmarks.process import family_cpu, family_memory
from script.benchmarks.stage import TUNING, Stage, stage
from script.benchmarks.table import Figure
from script.benchmarks.thrice import ThriceShown, births, devices, group_socket

ENOUGH = 30.0  # seconds after which whoever was not sighted was missed
FORGED, RATE = 50_000, 2500.0  # announcements, and of those in a second
REAL = 20  # children that appear after them
RECOVERED = 90.0  # seconds after which whoever of those is not online will not be
STEADY_MB = 5  # what a second flood may add, if memory is bounded
LOOK = 0.5  # seconds
SOURCES = 3
RETAIN = 1  # a bit of the first byte of PUBLISH (MQTT 3.1.1, 3.3.1.3)
LOOPBACK, NETWORK = "lo", "127.2.0.0/16"
THRICE = (
    TUNING
    + """\
[discovery.ssdp]
interfaces = ["lo"]
[discovery.births]
kind = "mqtt-births"
doors = ["site"]
dialects = ["tasmota"]
"""
)
"""The bounds are the default ones."""


async def measure_rush(children: int) -> list[Figure]:
    """Let so many children appear at once, all held for the operator."""
    async with stage(late=children) as one:
        one.rule("ask")
        await one.start()
        used, began = family_cpu(one.pid), time.perf_counter()
        await one.announce(one.site.plant["serials"])
        await _count(one, "", children, ENOUGH)
        seconds = time.perf_counter() - began
        missed = children - one.client.count()
        used = family_cpu(one.pid) - used
    return [
        Figure(f"{children:,} children announced at once: all sighted in", seconds, "s", 5,
               f"with {used:.1f} s of CPU"),
        Figure("  missed", missed, "", 0),
    ]  # fmt: skip


async def measure_flood() -> list[Figure]:
    """Forge announcements, twice; then let real children appear."""
    async with stage(late=REAL) as one:
        one.rule("register")
        await one.start()
        await asyncio.sleep(1)
        before, used = family_memory(one.pid).pss, family_cpu(one.pid)
        most = await _flood(one)
        used = family_cpu(one.pid) - used
        again = await _flood(one)
        shown = one.client.count()
        await one.announce(one.site.plant["serials"])
        seconds = await _count(one, "online", REAL, RECOVERED)
        missed = REAL - one.client.count("online")
        after = family_memory(one.pid).pss
    return [
        Figure(f"flood of {FORGED:,} forged announcements: PSS added", most - before, "MB", 20,
               f"{before:.1f} before, {after:.1f} at the end; {shown} devices shown"),
        Figure("  added by a second flood", max(0.0, again - most), "MB", STEADY_MB),
        Figure("  CPU meanwhile", used / (FORGED / RATE) * 100, "%", 40,
               f"of a core, at {RATE:.0f} announcements a second"),
        Figure(f"  real children after it, of {REAL}: not online", missed, "", 0,
               f"{seconds:.1f} s until the last was"),
    ]  # fmt: skip


async def measure_sources(children: int) -> list[Figure]:
    """Let three sources show so many devices at once; they are as many children."""
    shown = devices(children, NETWORK)
    playing = ThriceShown(
        shown, lambda group: group_socket(group, LOOPBACK), socket.if_nametoindex(LOOPBACK),
        random.Random(1),
    )  # fmt: skip
    async with stage(speaks=True) as one:
        one.rule("ask", THRICE)
        assert one.site.broker is not None, "the stage has one"
        await _publish(one.site.broker.socket, shown)
        async with playing:
            began = time.perf_counter()
            await one.start()
            used, ready = family_cpu(one.pid), time.perf_counter() - began
            everywhere = SOURCES * children
            with contextlib.suppress(TimeoutError):
                await one.until(lambda: _seen(one) >= everywhere, "them", ENOUGH)
            seconds = time.perf_counter() - began - ready
            used = family_cpu(one.pid) - used
            await asyncio.sleep(1)
            seen, known = _seen(one), one.client.count()
    return [
        Figure(f"{children:,} devices at three sources at once: all sighted in", seconds, "s", 10,
               f"with {used:.1f} s of CPU, after a start of {ready:.1f} s"),
        Figure("  sightings missed", everywhere - seen, "", 0),
        Figure("  children more than devices", known - children, "", 0),
    ]  # fmt: skip


async def _publish(path: Path, shown: Sequence[LanChild]) -> None:
    """Have a broker keep the births of devices."""
    client = await MqttClient.open_local(path, "devices")
    for child in shown:
        for topic, payload in births(child):
            packet = codec.publish(topic, payload)
            client.writer.write(bytes([packet[0] | RETAIN]) + packet[1:])
        await client.writer.drain()
    client.close()


def _seen(one: Stage) -> int:
    """Return at how many places devices are seen: a child that three sources show, at three."""
    arguments = Variant("(ss)", (MANAGER, "Counters"))
    counters: Mapping[str, int] = one.client.ask(NAME, ROOT, PROPERTIES, "Get", arguments).unpack()[
        0
    ]
    return counters.get("observations", 0)


async def _count(one: Stage, state: str, children: int, enough: float) -> float:
    """Return the seconds until so many are in this state; `enough` where they are not by then."""
    with contextlib.suppress(TimeoutError):
        return await one.until(lambda: one.client.count(state) >= children, "them", enough)
    return enough


async def _flood(one: Stage) -> float:
    """Return the most memory that the daemon held meanwhile, MB of PSS."""
    forging = asyncio.create_task(one.site.ask(do="attack", kind="flood", count=FORGED, rate=RATE))
    most = 0.0
    try:
        while not forging.done():
            most = max(most, family_memory(one.pid).pss)
            await asyncio.sleep(LOOK)
    finally:
        forging.cancel()
    if (sent := await forging) < FORGED:
        raise RuntimeError(f"only {sent} of {FORGED} forged announcements were sent")
    return most
