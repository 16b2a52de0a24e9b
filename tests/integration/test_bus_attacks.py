"""A local user who floods the bus: memory and descriptors stay, and others are answered."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from time import process_time

import pytest

from gatewayd.dbus.glib import MAX_VALUES, Gio, Variant, few_values
from gatewayd.runtime.systemd import unresponsive
from gatewayd.simulator.bus import PrivateBus
from gatewayd.testing.waiting import PATIENCE, until
from tests.dbus.support import Busctl, RecordingCommands, recorded_signals, served, view
from tests.support.bus_attacker import CALLS

pytestmark = pytest.mark.integration

MANAGER = ("org.gatewayd1", "/org/gatewayd1", "org.gatewayd1.Manager")
GROWTH = 20
"""MiB by which the daemon may grow."""
MANY = 300
"""Messages of 25,000 values each."""
OURS = 10.0
"""Seconds of our processor in which two calls of another are answered: what else the machine does,
as the attacker itself, is not counted.  How long callers wait is measured by script/attack."""


def resident() -> int:
    """Memory of this process, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize(("kind", "count"), [
    ("small", 20_000), ("string", 500), ("texts", 150), ("options", 150), ("denied", 1500),
    ("list", 3000), ("descriptors", 1500), ("describe", 5000), ("senders", 5000),
])  # fmt: skip
async def test_a_flood_costs_no_memory_and_no_other_caller_its_answer(
    bus: PrivateBus, caplog: pytest.LogCaptureFixture, kind: str, count: int
) -> None:
    asked, busctl = RecordingCommands("child-1a"), Busctl(bus)
    async with served(bus, asked, view("child-1a"), gather=0.02) as service:
        await busctl("call", *MANAGER, "ListDevices")
        memory, files = resident(), descriptors()
        attacker = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.bus_attacker", bus.address, kind, str(count),
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert attacker.stdout is not None
        assert await attacker.stdout.readline() == b"sending\n"
        during = list[int]()
        while attacker.returncode is None:
            began = process_time()
            assert "child-1a" in await busctl("call", *MANAGER, "ListDevices")
            assert await busctl("get-property", *MANAGER, "NDevices") == "u 1"
            assert process_time() - began < OURS
            assert not await unresponsive({"dbus": service.ping}, PATIENCE)
            during.append(resident())
            assert descriptors() < files + 200
        assert attacker.returncode == 0
        assert await attacker.stdout.read() == b"sent\n"
        assert max(during) - memory <= GROWTH
        await busctl("call", *MANAGER, "Approve", "ss", "child-1a", "")
        await until(lambda: descriptors() <= files)
        await until(lambda: len(service._intake) == 0)
    refusals = [record for record in caplog.records if "D-Bus calls" in record.message]
    assert len(refusals) <= 2


async def test_of_a_flood_of_many_values_little_is_parsed(bus: PrivateBus) -> None:
    """It would take GLib seconds, in which the calls of others wait behind it."""
    arguments = CALLS["values"]()[2]
    message = Gio.DBusMessage.new_method_call(*MANAGER, "PermitJoin")
    message.set_body(arguments)
    message.set_serial(1)
    blob = message.to_blob(Gio.DBusCapabilityFlags.NONE)
    began = process_time()
    Gio.DBusMessage.new_from_blob(blob, Gio.DBusCapabilityFlags.NONE)
    whole, busctl = MANY * (process_time() - began), Busctl(bus)
    async with served(bus, RecordingCommands("child-1a"), view("child-1a")):
        await busctl("call", *MANAGER, "ListDevices")
        began = process_time()
        attacker = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.bus_attacker", bus.address, "values", str(MANY)
        )
        assert await attacker.wait() == 0
        assert "child-1a" in await busctl("call", *MANAGER, "ListDevices")
        assert process_time() - began < whole / 2


async def test_announcements_go_on_during_a_flood(bus: PrivateBus) -> None:
    async with (
        served(bus, RecordingCommands(), view("child-1a"), gather=0.02) as service,
        recorded_signals(bus) as listener,
    ):
        attacker = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.bus_attacker", bus.address, "small", "20000",
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert attacker.stdout is not None
        assert await attacker.stdout.readline() == b"sending\n"
        service.show(view("child-2b"))
        await until(lambda: listener.named("InterfacesAdded"), PATIENCE)
        assert attacker.returncode is None
        attacker.kill()
        await attacker.wait()


@pytest.mark.parametrize(("arguments", "fits"), [
    (Variant("(s)", ("x" * 100_000,)), True),
    (Variant("(ua{sv})", (1, {})), True),
    (Variant("(as)", (["x"] * (MAX_VALUES - 1),)), True),
    (Variant("(as)", (["x"] * MAX_VALUES,)), False),
    (Variant("(v)", (Variant("a{sv}", {str(n): Variant("b", True) for n in range(200)}),)), False),
    (Variant("(ay)", (b"x" * 1000,)), False),
])  # fmt: skip
def test_values_are_counted_without_unpacking_them(arguments: Variant, fits: bool) -> None:
    assert few_values(arguments) is fits
