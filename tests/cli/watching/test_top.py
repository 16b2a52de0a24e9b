"""`gatewayctl top`: what is on the screen, and how it comes and goes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from gatewayd.cli.output.terminal import Terminal, columns_of
from gatewayd.cli.watching.top import COMMANDS, NEWEST, WatchedFleet, screen
from gatewayd.dbus.bus import Bus
from gatewayd.dbus.names import OUTBOX, OWN_SITE, PROVIDER, ObjectInterface, provider_path
from gatewayd.dbus.objects import ExportedObject
from gatewayd.device.views import ALONE_VIEW, MessageCounts, MessagesView, ProviderView
from gatewayd.simulator.bus import PrivateBus
from tests.dbus.support import RecordingCommands, served, view
from tests.support.gatewayctl import GATEWAYCTL, ctl, validate
from tests.support.pseudo_terminal import on_terminal

FACTS = {
    "Version": "0.1.0", "State": "running", "JoinUntilTimestamp": 0, "MessagesState": "ready",
    "NWaiting": 3, "Site": "", "SiteState": "ready", "NShards": 0, "Gateways": {},
    "Clouds": {"ali": "ready", "idle-one": "idle"},
    "Children": {"ali": {"online": 4000, "failed": 2}, "": {"pending": 1}},
}  # fmt: skip


def fleet() -> WatchedFleet:
    return WatchedFleet(lambda: "12:00:00")


def test_children_by_cloud_and_state() -> None:
    lines = list(screen(FACTS, (), Terminal()))
    assert lines[0] == "gatewayd 0.1.0 is running"
    assert lines[1] == "4003 children: 1 pending, 4000 online, 2 failed"
    assert lines[2] == "messages ready, 3 waiting; join window closed"
    assert [line.split() for line in lines[4:]] == [
        ["CLOUD", "IS", "PENDING", "ONLINE", "FAILED"],
        ["ali", "ready", ".", "4000", "2"],
        ["idle-one", "idle", ".", ".", "."],
        ["-", "-", "1", ".", "."],
    ]


def test_a_site_has_a_line() -> None:
    site = {"Site": "plant", "SiteState": "ready", "NShards": 22, "Gateways": {"live": 3}}
    lines = list(screen({**FACTS, **site}, (), Terminal()))
    assert lines[3] == "site plant is ready: 22 shards; gateways: 3 live"
    assert lines[4] == ""


@pytest.mark.parametrize("width", [30, 40, 80])
def test_it_fits_the_terminal(width: int) -> None:
    newest = [("12:00:00", "online", "child-1", "a name that is long " * 4)] * NEWEST
    lines = list(screen(FACTS, newest, Terminal(width), 24))
    assert len(lines) == 24
    assert all(columns_of(line) <= max(width, 40) for line in lines)


def test_what_strangers_name_is_escaped() -> None:
    hostile = [("12:00:00", "online", "child-1", "\x1b[2J\u202e")]
    assert "\x1b" not in "".join(screen(FACTS, hostile, Terminal()))
    assert "\u202e" not in "".join(screen(FACTS, hostile, Terminal()))


def test_changes_are_counted_and_the_newest_are_kept() -> None:
    watched = fleet()
    watched.start([("a", "online", "ali", "A", 1, "/a"), ("b", "pending", "", "B", 1, "/b")])
    watched.update(
        [("b", "online", "ali", "B", 1, "/b"), ("a", "online", "ali", "new", 1, "/a")], []
    )
    assert watched.counts() == {"ali": {"online": 2}}
    assert list(watched.newest) == [("12:00:00", "online", "b", "B")]  # the other is as it was
    watched.update([], ["a", "never-seen"])
    assert watched.newest[0][1:3] == ("gone", "a")
    for number in range(2 * NEWEST):
        watched.update([(str(number), "pending", "", "", 1, "/c")], [])
    assert len(watched.newest) == NEWEST


@pytest.fixture
async def service(bus: PrivateBus) -> AsyncIterator[Bus]:
    clouds = (
        ExportedObject(
            ObjectInterface(provider_path(name), PROVIDER), ProviderView(name, name, "", "ready")
        )
        for name in ("huawei", "alibaba")
    )
    messages = ExportedObject(OUTBOX, MessagesView("ready", total=MessageCounts(waiting=2)))
    further = (*clouds, messages, ExportedObject(OWN_SITE, ALONE_VIEW))
    commands = RecordingCommands("child-1a", "child-2b")
    online = view("child-2b", state="online", provider="alibaba")
    async with served(bus, commands, online, further=further, gather=0.02) as ours:
        yield ours


@pytest.mark.integration
async def test_once(bus: PrivateBus, service: Bus) -> None:
    status, printed = await ctl(bus, "top", "--once")
    assert status == 0, printed
    assert ["alibaba", "ready", "1"] in [line.split() for line in printed.splitlines()]
    assert (await ctl(bus, "top"))[1] == printed  # there is no terminal
    status, printed = await ctl(bus, "top", "--once", "--json")
    validate(printed, COMMANDS[0].fields, status)
    assert json.loads(printed)["Children"] == {"alibaba": {"online": 1}}


def use(address: str) -> str:
    """Press q on a terminal once it shows the children; return all that was shown."""
    with on_terminal([*GATEWAYCTL, "--bus", address, "top", "--every", "1"]) as terminal:
        terminal.wait_for("alibaba")
        terminal.wait_for("child-3c")
        terminal.type("q")
        assert terminal.end() == 0
        return terminal.shown


@pytest.mark.integration
async def test_it_is_live_until_q(bus: PrivateBus, service: Bus) -> None:
    used = asyncio.create_task(asyncio.to_thread(use, bus.address))
    number = 0
    while not used.done():
        states = ("online", "offline")
        service.show(view("child-3c", state=states[number % 2], provider="alibaba"))
        number += 1
        await asyncio.sleep(0.2)
    shown = await used
    assert shown.index("\x1b[?1049h") < shown.index("child-3c") < shown.rindex("\x1b[?1049l")
    assert "Traceback" not in shown
