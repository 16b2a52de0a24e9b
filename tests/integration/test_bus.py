"""The service on a real bus, with busctl as the client an operator has."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
from collections.abc import AsyncIterator
from dataclasses import replace
from time import perf_counter
from typing import Any

import pytest

from gatewayd.dbus.bus import Bus, BusSettings
from gatewayd.device.identity import DeviceId
from gatewayd.errors import BusNameTaken
from gatewayd.simulator.bus import PrivateBus
from gatewayd.testing.waiting import until
from tests.admission.test_join_window import rules
from tests.dbus.support import (
    CANARY,
    GATEWAY,
    OTHERS,
    Busctl,
    RecordingCommands,
    error_of,
    recorded_signals,
    served,
    view,
)
from tests.support.fakes import FakeCloud, MemoryRecords
from tests.support.stage import Stage

pytestmark = pytest.mark.integration

DEST = "org.gatewayd1"
MANAGER = (DEST, "/org/gatewayd1", "org.gatewayd1.Manager")
CAM = "/org/gatewayd1/device/child_2d1a"
DEVICE = (DEST, CAM, "org.gatewayd1.Device")


@pytest.fixture
async def asked() -> RecordingCommands:
    return RecordingCommands("child-1a", "child-2b")


@pytest.fixture
async def service(bus: PrivateBus, asked: RecordingCommands) -> AsyncIterator[Bus]:
    online = view("child-2b", state="online", provider="alibaba", name="Meter")
    async with served(bus, asked, view("child-1a"), online, gather=0.02) as ours:
        yield ours


@pytest.fixture
def busctl(bus: PrivateBus, service: Bus) -> Busctl:
    return Busctl(bus)


async def test_tree_and_introspection(busctl: Busctl) -> None:
    tree = await busctl("--list", "tree", DEST)
    assert CAM in tree.split()
    result = await busctl("introspect", *DEVICE)
    assert '"pending"' in result
    assert "emits-change" in result
    assert ".Approve" in await busctl("introspect", *MANAGER)


async def test_properties(busctl: Busctl) -> None:
    result = await busctl("get-property", *MANAGER, "State", "NPending", "NDevices", "Protection")
    assert result.split() == ["s", '"running"', "u", "1", "u", "2", "s", '"credential"']
    assert await busctl("get-property", *DEVICE, "Addresses") == 'as 1 "10.0.0.7"'


async def test_lists(busctl: Busctl) -> None:
    rows = json.loads(await busctl("-j", "call", *MANAGER, "ListDevices"))["data"][0]
    assert rows[0] == ["child-1a", "pending", "", "Dock camera", 3, CAM]
    assert [row[0] for row in rows] == ["child-1a", "child-2b"]
    page = ("call", *MANAGER, "ListDevicesFiltered", "a{sv}su")
    first = await busctl("-j", *page, "0", "", "1")
    assert [json.loads(first)["data"][0][0][0], json.loads(first)["data"][1]] == ["child-1a"] * 2
    second = json.loads(await busctl("-j", *page, "0", "child-1a", "1"))["data"]
    assert [second[0][0][0], second[1]] == ["child-2b", ""]
    assert "Meter" in await busctl(*page, "1", "state", "s", "online", "", "0")
    assert await busctl("call", *MANAGER, "CountDevices") == 'a{su} 2 "online" 1 "pending" 1'


async def test_a_child_is_found_and_described(busctl: Busctl) -> None:
    assert await busctl("call", *MANAGER, "GetDevice", "s", "child-1a") == f'o "{CAM}"'
    assert await busctl("call", *MANAGER, "GetDevice", "s", "child-1") == f'o "{CAM}"'
    result = json.loads(await busctl("-j", "call", *MANAGER, "DescribeDevice", "s", "child-1"))
    facts = result["data"][0]
    assert facts["Remedy"]["data"] == "Approve it, or write a rule."
    assert facts["History"]["data"] == [[3, "Seen", "discovered", "Heard on eth1."]]


async def test_rules(busctl: Busctl) -> None:
    listed = await busctl("call", *MANAGER, "ListRules")
    assert listed == 'a(sssu) 2 "cameras" "register" "alibaba" 7 "rest" "ask" "" 0'
    tried = await busctl("call", *MANAGER, "TestAdmission", "s", "child-1")
    assert tried.startswith('ssas "ask" "cameras" 1 "child-1a: trust')


async def test_the_join_window(
    bus: PrivateBus, asked: RecordingCommands, service: Bus, busctl: Busctl
) -> None:
    properties = ("get-property", *MANAGER, "JoinState", "JoinUntilTimestamp")
    assert (await busctl(*properties)).split() == ["s", '"closed"', "t", "0"]
    async with recorded_signals(bus) as listener:
        service.show_manager(replace(GATEWAY, join_until=7_000_000))
        await until(lambda: listener.named("PropertiesChanged"))
    ((path, (interface, values, _)),) = listener.named("PropertiesChanged")
    assert (path, interface) == (MANAGER[1], MANAGER[2])
    assert values == {"JoinState": "open", "JoinUntilTimestamp": 7_000_000}
    assert (await busctl(*properties)).split() == ["s", '"open"', "t", "7000000"]
    permit = ("call", *MANAGER, "PermitJoin", "ua{sv}")
    assert not await busctl(*permit, "180", "2", "interface", "s", "lan0", "max-devices", "u", "3")
    caller = pwd.getpwuid(os.getuid()).pw_name
    assert asked.asked == [("permit-join", "180", "interface='lan0'", "max-devices=3", caller)]


@pytest.mark.parametrize("other", OTHERS, ids=["nobody"] * len(OTHERS))
async def test_other_users_do_not_open_the_join_window(
    bus: PrivateBus, asked: RecordingCommands, service: Bus, other: tuple[str, ...]
) -> None:
    permit = ("call", *MANAGER, "PermitJoin", "ua{sv}", "180", "0")
    assert await Busctl(bus, *other).fails(*permit) == "Call failed: Access denied"
    assert not asked.asked


async def test_the_join_window_of_the_flow(bus: PrivateBus) -> None:
    stage, busctl = Stage(MemoryRecords(), FakeCloud(), rules=rules()), Busctl(bus)
    window, permit = stage.app.window, ("call", *MANAGER, "PermitJoin", "ua{sv}")
    async with stage.running(), served(bus, stage.app.commands, gather=0.02) as ours:
        window.listen(lambda: ours.show_manager(replace(GATEWAY, join_until=window.until)))
        await busctl(*permit, "60", "1", "rule", "s", "lamps")
        opened = window.until
        shown = await busctl("get-property", *MANAGER, "JoinState", "JoinUntilTimestamp")
        assert shown.split() == ["s", '"open"', "t", str(opened)]
        for fact, *wrong in (
            ("900", "901", "0"),
            ("max-devices", "60", "1", "colour", "s", "red"),
            ("max-devices", "60", "1", "max-devices", "s", "3"),
            ("max-devices", "60", "1", "max-devices", "b", "true"),
            ("rule", "60", "1", "rule", "s", "unknown"),
        ):
            assert fact in await busctl.fails(*permit, *wrong)
        assert window.until == opened
        await busctl(*permit, "0", "0")
        assert await busctl("get-property", *MANAGER, "JoinState") == 's "closed"'


async def test_managed_objects(busctl: Busctl) -> None:
    managed = (DEST, "/org/gatewayd1/device", "org.freedesktop.DBus.ObjectManager")
    result = json.loads(await busctl("-j", "call", *managed, "GetManagedObjects"))["data"][0]
    assert result[CAM]["org.gatewayd1.Device"]["State"]["data"] == "pending"
    assert len(result) == 2


async def test_a_view_that_cannot_be_shown_stops_no_other(
    bus: PrivateBus, asked: RecordingCommands
) -> None:
    busctl = Busctl(bus)
    managed = (DEST, "/org/gatewayd1/device", "org.freedesktop.DBus.ObjectManager")
    async with served(bus, asked, view("child-1a", name="\ud800"), view("child-2b")) as service:
        for _ in range(2):
            printed = await busctl.fails("call", *managed, "GetManagedObjects")
            assert "Internal error" in printed
        assert "Internal error" in await busctl.fails("call", *MANAGER, "ListDevices")
        assert await busctl("get-property", *DEVICE, "State") == 's "pending"'
        service.show(view("child-1a"))
        await until(lambda: not service._views)
        assert "child-2b" in await busctl("call", *managed, "GetManagedObjects")


async def test_changes_reach_the_commands(busctl: Busctl, asked: RecordingCommands) -> None:
    await busctl("call", *MANAGER, "Approve", "ss", "child-1a", "alibaba")
    await busctl("call", *DEVICE, "Approve", "s", "")
    await busctl("call", *DEVICE, "Reject", "s", "not ours")
    await busctl("call", *DEVICE, "Retry")
    await busctl("call", *DEVICE, "Forget")
    await busctl("call", *MANAGER, "Reregister", "ssa{sv}", "child-1a", "child-1a", "0")
    caller = pwd.getpwuid(os.getuid()).pw_name
    assert asked.asked == [
        ("approve", "child-1a", "alibaba", caller),
        ("approve", "child-1a", "", caller),
        ("reject", "child-1a", "not ours", caller),
        ("retry", "child-1a", caller),
        ("forget", "child-1a", caller),
        ("reregister", "child-1a", "child-1a", caller),
    ]


async def test_a_caller_reads_the_effect_of_its_command(
    busctl: Busctl, asked: RecordingCommands, service: Bus
) -> None:
    asked.before = lambda: service.show(view("child-1a", state="admitted"))
    await busctl("call", *DEVICE, "Approve", "s", "")
    assert await busctl("get-property", *DEVICE, "State") == 's "admitted"'


async def test_what_has_changed_is_shown_before_a_call_is_answered(
    bus: PrivateBus, asked: RecordingCommands
) -> None:
    async with served(bus, asked, view("child-1a"), gather=10.0) as service:
        waiting = {"child-1a": "admitted", "child-2b": "pending", "child-3c": "pending"}

        def show_changes(limit: int, *, steps: bool = False) -> bool:
            for name in list(waiting)[:limit]:
                service.show(view(name, state=waiting.pop(name)))
            return bool(waiting)

        service.gather(show_changes)
        busctl = Busctl(bus)
        await busctl("call", *DEVICE, "Approve", "s", "")
        assert await busctl("get-property", *DEVICE, "State") == 's "admitted"'
        assert not waiting
        waiting = {"child-2b": "online"}
        service.gather(show_changes)
        assert [one.state for one in await service.views()] == ["admitted", "online", "pending"]


async def test_changes_are_shown_a_bounded_number_at_each_tick(
    bus: PrivateBus, asked: RecordingCommands
) -> None:
    async with served(bus, asked, rate=100, gather=0.02) as service:
        waiting, limits = [f"child-{number}" for number in range(5)], []

        def show_changes(limit: int, *, steps: bool = False) -> bool:
            limits.append(limit)
            for _ in range(min(limit, len(waiting))):
                service.show(view(waiting.pop()))
            return bool(waiting)

        service.gather(show_changes)
        await until(lambda: not waiting)
        assert limits == [2, 2, 2]
        assert len(await service.views()) == 5


async def test_errors_stand_alone_and_are_safe(busctl: Busctl) -> None:
    printed = await busctl.fails("call", *MANAGER, "GetDevice", "s", "x\x1b[31m")
    assert "\x1b" not in printed
    assert await busctl.fails("call", *MANAGER, "Rename", "ss", "child-1a", "plain") == (
        "Call failed: There is no renaming to 'plain'"
    )
    assert await busctl.fails("call", *MANAGER, "Rename", "ss", "child-1a", "\x1b[31m") == (
        "Call failed: There is no renaming to '...'"
    )
    options = ("child-1a", "child-1a", "1", "force", "b", "true")
    assert "options" in await busctl.fails("call", *MANAGER, "Reregister", "ssa{sv}", *options)
    filters = ("ListDevicesFiltered", "a{sv}su", "1", "colour", "s", "red", "", "0")
    assert "glob" in await busctl.fails("call", *MANAGER, *filters)


async def test_errors_have_names(bus: PrivateBus, service: Bus) -> None:
    ours, standard = "org.gatewayd1.Error.", "org.freedesktop.DBus.Error."
    for name, *call in (
        (f"{ours}NoSuchDevice", "GetDevice", "x"),
        (f"{ours}WrongState", "Rename", "child-1", "x"),
        (f"{standard}Failed", "Reload"),
        (f"{standard}InvalidArgs", "GetDevice"),
    ):
        assert (await error_of(bus, MANAGER[1:], *call))[0] == name


async def test_the_text_of_an_exception_never_leaves(
    busctl: Busctl, caplog: pytest.LogCaptureFixture
) -> None:
    printed = await busctl.fails("call", *MANAGER, "Reload")
    assert CANARY not in printed
    number = printed.rpartition("(id ")[2].rstrip(")")
    assert number in caplog.text


@pytest.mark.parametrize("other", OTHERS, ids=["nobody"] * len(OTHERS))
async def test_other_users_may_read_and_nothing_else(
    bus: PrivateBus, busctl: Busctl, asked: RecordingCommands, other: tuple[str, ...]
) -> None:
    other_user = Busctl(bus, *other)
    assert await other_user("get-property", *DEVICE, "State") == 's "pending"'
    assert "child-2b" in await other_user("call", *MANAGER, "ListDevices")
    for change in (("Approve", "ss", "child-1a", ""), ("Forget", "s", "child-1a"), ("Reload",)):
        printed = await other_user.fails("call", *MANAGER, *change)
        assert printed == "Call failed: Access denied"  # busctl's own words for this error
    assert "Access denied" in await other_user.fails("call", *DEVICE, "Forget")
    name, sentence = await error_of(bus, MANAGER[1:], "Forget", "child-1a", prefix=other)
    assert name == "org.freedesktop.DBus.Error.AccessDenied"
    assert "org.gatewayd1.forget-device" in sentence
    assert "denied" in await other_user.fails("set-property", *DEVICE, "State", "s", "online")
    assert asked.asked == []


async def test_changes_are_announced_once_and_the_latest_wins(
    bus: PrivateBus, asked: RecordingCommands
) -> None:
    async with (
        served(bus, asked, view("child-1a"), gather=0.3) as service,
        recorded_signals(bus) as listener,
    ):
        for number in range(50):
            service.show(view("child-1a", state="admitted", name=f"name {number}"))
        service.show(view("child-1a", state="online", registered=8, provider="alibaba"))
        service.show(view("child-3c"))
        await until(lambda: listener.named("ApprovalNeeded"))  # the last of them
    (result,) = [v for path, v in listener.named("PropertiesChanged") if path == CAM]
    assert result[1] == {"State": "online", "RegisteredTimestamp": 8, "Provider": "alibaba"}
    ((_, (rows, removed)),) = listener.named("DevicesChanged")
    assert [(row[0], row[1]) for row in rows] == [("child-1a", "online"), ("child-3c", "pending")]
    assert removed == []
    ok = ("child-1a", "alibaba", "ok", "")
    assert listener.named("RegistrationFinished") == [("/org/gatewayd1", ok)]
    ((_, approval),) = listener.named("ApprovalNeeded")
    assert approval == ("child-3c", "/org/gatewayd1/device/child_2d3c", "Dock camera")
    ((_, added),) = listener.named("InterfacesAdded")
    assert added[0] == "/org/gatewayd1/device/child_2d3c"


async def test_a_child_that_goes_is_gone(bus: PrivateBus, busctl: Busctl, service: Bus) -> None:
    async with recorded_signals(bus) as listener:
        service.remove(DeviceId("child-1a"))
        await until(lambda: listener.named("DevicesChanged"))
        assert listener.named("DevicesChanged")[0][1] == ([], ["child-1a"])
        assert listener.named("InterfacesRemoved")[0][1] == (CAM, ["org.gatewayd1.Device"])
    await busctl.fails("get-property", *DEVICE, "State")
    assert await busctl("get-property", *MANAGER, "NDevices", "NPending") == "u 1\nu 0"


async def test_many_changes_are_announced_in_parts(
    bus: PrivateBus, asked: RecordingCommands
) -> None:
    ids = [f"child-{n:03}" for n in range(30)]
    settings: dict[str, Any] = {"gather": 0.05, "rate": 200}
    async with (
        served(bus, asked, *map(view, ids), **settings) as service,
        recorded_signals(bus) as listener,
    ):
        for one in ids:
            service.show(view(one, state="online"))
        await until(lambda: sum(len(v[0]) for _, v in listener.named("DevicesChanged")) == 30)
    assert [len(v[0]) for _, v in listener.named("DevicesChanged")] == [10, 10, 10]


async def test_the_manager_announces_its_properties(
    bus: PrivateBus, service: Bus, busctl: Busctl
) -> None:
    async with recorded_signals(bus) as listener:
        service.show_manager(GATEWAY.__class__("0.1.0", "sealed", "none", (), 1))
        await until(lambda: listener.named("PropertiesChanged"))
    (_, (face, values, gone)) = listener.named("PropertiesChanged")[0]
    assert face == "org.gatewayd1.Manager"
    assert values == {"State": "sealed", "Protection": "none", "Providers": []}
    assert gone == []


async def test_busctl_monitor_shows_changes(bus: PrivateBus, service: Bus) -> None:
    monitor = await asyncio.create_subprocess_exec(
        "busctl", f"--address={bus.address}", "-j", "monitor", DEST,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert monitor.stdout is not None
    states = iter(range(10_000))

    async def change() -> (
        None
    ):  # until the monitor, which does not say when it listens, has seen one
        while True:
            service.show(view("child-1a", name=f"{next(states)}"))
            await asyncio.sleep(0.05)

    changing = asyncio.create_task(change())
    async with asyncio.timeout(60):
        while json.loads(await monitor.stdout.readline())["member"] != "DevicesChanged":
            pass
    changing.cancel()
    await asyncio.gather(changing, return_exceptions=True)
    monitor.kill()
    await monitor.communicate()


async def test_a_taken_name_is_fatal(
    bus: PrivateBus, service: Bus, asked: RecordingCommands
) -> None:
    second = Bus(BusSettings(address=bus.address), GATEWAY)
    with pytest.raises(BusNameTaken):
        await second.start(asked)


async def test_commands_under_way_are_bounded(bus: PrivateBus, asked: RecordingCommands) -> None:
    busctl = Busctl(bus)
    async with served(bus, asked, view("child-1a"), commands=1):
        asked.gate.clear()
        first = asyncio.create_task(busctl("call", *DEVICE, "Retry"))
        await until(lambda: asked.asked)
        name, _ = await error_of(bus, DEVICE[1:], "Retry")
        assert name == "org.gatewayd1.Error.Busy"
        assert await busctl("get-property", *DEVICE, "State") == 's "pending"'
        asked.gate.set()
        await first
        await busctl("call", *DEVICE, "Retry")


async def test_stopping_answers_what_is_under_way(
    bus: PrivateBus, asked: RecordingCommands
) -> None:
    busctl = Busctl(bus)
    async with served(bus, asked, view("child-1a")) as service:
        asked.gate.clear()
        call = asyncio.create_task(busctl("call", *DEVICE, "Retry"))
        await until(lambda: asked.asked)
        stopping = asyncio.create_task(service.stop())
        await until(lambda: service._dispatcher._closing)
        assert (await error_of(bus, DEVICE[1:], "Forget"))[0] == "org.gatewayd1.Error.Busy"
        asked.gate.set()
        assert await call == ""
        await stopping


async def test_ten_thousand_children(bus: PrivateBus, asked: RecordingCommands) -> None:
    views = [view(f"child-{n:05}") for n in range(10_000)]
    busctl = Busctl(bus)
    async with served(bus, asked, *views):
        for attempt in ("first", "second"):
            began = perf_counter()
            listed = await busctl("call", *MANAGER, "ListDevices")
            print(f"busctl ListDevices, {attempt}: {perf_counter() - began:.3f} s")
            assert listed.startswith('a(ssssto) 10000 "child-00000"')
        assert await busctl("call", *MANAGER, "CountDevices") == 'a{su} 1 "pending" 10000'
        assert "_2d09999" in await busctl("call", *MANAGER, "GetDevice", "s", "child-09999")
