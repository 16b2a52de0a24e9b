"""The bus hangs, dies, and comes back: the service serves on, and takes its name again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gatewayd.dbus import bus as bus_module
from gatewayd.dbus.bus import Bus, BusSettings
from gatewayd.dbus.glib import BUS_PATH, Gio
from gatewayd.dbus.names import BUS
from gatewayd.device.identity import DeviceId
from gatewayd.runtime.systemd import unresponsive
from gatewayd.runtime.tasks import cancel_and_wait
from gatewayd.simulator.bus import PrivateBus
from gatewayd.testing.waiting import until
from tests.dbus.fake_polkit import FakeAuthority, polkit
from tests.dbus.support import (
    GATEWAY,
    OTHERS,
    Busctl,
    RecordingCommands,
    recorded_signals,
    run,
    served,
    view,
)

pytestmark = pytest.mark.integration

DEST = "org.gatewayd1"
MANAGER = (DEST, "/org/gatewayd1", "org.gatewayd1.Manager")
DEVICE = (DEST, "/org/gatewayd1/device/child_2d1a", "org.gatewayd1.Device")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take no longer than a test may."""
    for name, seconds in (("FIRST_WAIT", 0.02), ("LAST_WAIT", 0.1), ("PULSE", 0.1), ("OPEN", 2.0)):
        monkeypatch.setattr(bus_module, name, seconds)


def bus_entries(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What is logged about the bus."""
    return [r.message for r in caplog.records if "message bus" in r.message]


async def test_after_a_restart_of_the_bus_everything_is_served_again(
    bus: PrivateBus, caplog: pytest.LogCaptureFixture
) -> None:
    asked, busctl = RecordingCommands("child-1a", "child-3c"), Busctl(bus)
    children = view("child-1a"), view("child-2b")
    async with served(bus, asked, *children, gather=0.02) as service:
        for _ in range(3):
            bus.kill()
            await until(lambda: service.fault)
            service.show(view("child-1a", state="online"))
            service.show(view("child-3c"))
            service.remove(DeviceId("child-2b"))
            await until(lambda: not service._views)
            assert not await unresponsive({"dbus": service.ping}, 20)
            bus.start()
            await until(lambda: not service.fault)
            listed = await busctl("call", *MANAGER, "ListDevices")
            assert "child-3c" in listed
            assert "child-2b" not in listed
            assert await busctl("get-property", *DEVICE, "State") == 's "online"'
            await busctl("call", *DEVICE, "Approve", "s", "")
            async with recorded_signals(bus) as listener:
                service.show(view("child-2b"))
                await until(lambda: listener.named("InterfacesAdded"))
    assert len(asked.asked) == 3
    assert max(Counter(bus_entries(caplog)).values()) <= 3  # each of lost, refused, and back


async def test_a_bus_that_hangs_stops_nothing_and_is_reported_once(
    bus: PrivateBus, caplog: pytest.LogCaptureFixture
) -> None:
    asked, busctl = RecordingCommands("child-1a"), Busctl(bus)
    async with served(bus, asked, view("child-1a"), gather=0.01, rate=10_000) as service:
        bus.pause()
        await until(lambda: service.fault == bus_module.NO_ANSWER)
        reported = len(bus_entries(caplog))
        for number in range(3000):
            service.show(view(f"child-{number}"))
        run_there = service._thread.run
        while not await run_there(lambda: service._connection.is_congested):
            await asyncio.sleep(0.01)
        assert not await unresponsive({"dbus": service.ping}, 20)
        unsent = await run_there(service._connection._unsent)
        for name in "abc":
            for number in range(3000):
                service.show(view(f"child-{number}", name=name))
            await asyncio.sleep(0.05)
        assert await run_there(service._connection._unsent) == unsent
        assert len(bus_entries(caplog)) == reported
        bus.resume()
        await until(lambda: not service.fault)
        assert await busctl("call", *MANAGER, "CountDevices") == 'a{su} 1 "pending" 3001'
    assert len(bus_entries(caplog)) > reported, "it answers again"


async def test_a_bus_that_answers_at_once_counts_as_alive(
    bus: PrivateBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer can be there before the thread that has sent the question goes on."""
    send = Gio.DBusConnection.send_message

    def overtaken(connection: Gio.DBusConnection, *message: object) -> None:
        send(connection, *message)
        get_id = (BUS, BUS_PATH, BUS, "GetId")  # answered after the question
        connection.call_sync(*get_id, None, None, Gio.DBusCallFlags.NONE, -1, None)

    async with served(bus, RecordingCommands()) as service:
        monkeypatch.setattr(Gio.DBusConnection, "send_message", overtaken)
        for _ in range(3):
            assert await service._thread.run(service._connection.ping)


async def test_a_bus_that_hangs_and_then_dies(bus: PrivateBus) -> None:
    async with served(bus, RecordingCommands(), view("child-1a"), gather=0.02) as service:
        bus.pause()
        await until(lambda: service.fault)
        bus.kill()
        await until(lambda: "not on the message bus" in service.fault)
        bus.start()
        await until(lambda: not service.fault)
        assert "child-1a" in await Busctl(bus)("call", *MANAGER, "ListDevices")


async def test_a_service_stops_although_the_bus_hangs(bus: PrivateBus) -> None:
    async with served(bus, RecordingCommands(), view("child-1a")) as service:
        bus.pause()
        service.show(view("child-2b"))
    bus.resume()


@asynccontextmanager
async def started(address: str) -> AsyncIterator[Bus]:
    """The service, whether or not there is a bus."""
    ours = Bus(BusSettings(address=address, gather=0.02), GATEWAY, jitter=lambda: 0.0)
    ours.show(view("child-1a"))
    await ours.start(RecordingCommands("child-1a"))
    running = [asyncio.ensure_future(service()) for service in ours.services()]
    try:
        yield ours
    finally:
        await cancel_and_wait(running)
        await ours.stop()


async def test_a_service_starts_without_a_bus(tmp_path: Path, bus: PrivateBus) -> None:
    async with started(f"unix:path={tmp_path}/bus") as service:
        assert "not on the message bus" in service.fault
        service.show(view("child-2b"))
        await service.ping()
    bus.kill()
    async with started(bus.address) as service:
        assert service.fault
        bus.start()
        await until(lambda: not service.fault)
        assert "child-1a" in await Busctl(bus)("call", *MANAGER, "ListDevices")


async def test_a_service_starts_although_the_bus_hangs(bus: PrivateBus) -> None:
    bus.pause()
    async with started(bus.address) as service:
        assert "does not answer" in service.fault
        bus.resume()
        await until(lambda: not service.fault)
        assert "child-1a" in await Busctl(bus)("call", *MANAGER, "ListDevices")


async def test_a_name_that_another_has_meanwhile_is_taken_once_it_is_free(bus: PrivateBus) -> None:
    async with served(bus, RecordingCommands(), view("child-1a")) as service:
        await service._thread.run(service._connection.close)  # as if the bus was lost
        async with started(bus.address):
            service._on_lost()
            await until(lambda: "another gatewayd" in service.fault)
        await until(lambda: not service.fault)


@pytest.mark.parametrize("other", OTHERS, ids=["nobody"] * len(OTHERS))
async def test_a_call_that_waits_for_polkit_is_not_asked_about_on_another_bus(
    bus: PrivateBus, other: tuple[str, ...]
) -> None:
    """The next bus gives its sender's unique name to another."""
    asked, authority = RecordingCommands("child-1a"), FakeAuthority()
    async with served(bus, asked, view("child-1a"), gather=0.02) as service:
        async with polkit(bus, authority):
            command = (*other, "busctl", f"--address={bus.address}", "call", *DEVICE, "Retry")
            waiting = asyncio.create_task(run(*command))
            await until(lambda: authority.checks)
            bus.kill()
            await waiting
        await until(lambda: not service._dispatcher._tasks)
        assert not service._dispatcher._users._known
        await until(lambda: len(service._intake) == 0)
    assert not asked.asked
