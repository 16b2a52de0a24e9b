"""The command that moves children to other clouds, over a real bus."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from gatewayd.dbus.bus import Bus
from gatewayd.errors import NotAdmitted, WrongState
from gatewayd.simulator.bus import PrivateBus
from tests.dbus.support import RecordingCommands, served, view
from tests.support.gatewayctl import ctl

pytestmark = pytest.mark.integration

MOVING = {
    "To": "site", "ToCloudId": "q/name", "Step": "refused", "AskedTimestamp": 1_700_000_000_000_000,
    "Reason": "cloud-refused", "Explanation": "It refused.", "Remedy": "Ask it.",
    "Dormant": ["huawei p2/name"], "MovedTimestamp": 1_600_000_000_000_000,
}  # fmt: skip


class Choosy(RecordingCommands):
    """A gateway one of whose children cannot move."""

    async def move(self, device: str, provider: str, options: object, caller: str) -> None:
        if device == "child-2b":
            raise NotAdmitted("Cloud site would not accept it")
        await self._ask("move", device, provider, str(options), caller)

    async def cancel_move(self, device: str, caller: str) -> None:
        if device == "child-2b":
            raise WrongState("Device child-2b is not moving")
        await self._ask("cancel-move", device, caller)


@pytest.fixture
async def asked() -> RecordingCommands:
    commands, when = Choosy("child-1a", "child-2b"), 1_700_000_000_000_000
    why = "cloud-unreachable", "The cloud does not answer."
    commands.moves = (("child-1a", "alibaba", "site", "logging-in", *why, when, when),)
    return commands


@pytest.fixture
async def service(bus: PrivateBus, asked: RecordingCommands) -> AsyncIterator[Bus]:
    first = view("child-1a", state="online", provider="alibaba", rule="meters", move=MOVING)
    second = view("child-2b", state="online", provider="alibaba", rule="meters")
    async with served(bus, asked, first, second, gather=0.02) as ours:
        yield ours


async def test_one_child_moves(bus: PrivateBus, service: Bus, asked: RecordingCommands) -> None:
    status, said = await ctl(bus, "move", "child-1", "--to", "site", "--product", "q")
    assert (status, said) == (
        0, "child-1a moves to cloud site. See how far with: gatewayctl move --list\n",
    )  # fmt: skip
    assert asked.asked[-1][:3] == ("move", "child-1a", "site")
    assert "'product': 'q'" in asked.asked[-1][3]


async def test_the_children_of_a_rule_move_and_those_that_cannot_are_named(
    bus: PrivateBus, service: Bus
) -> None:
    status, said = await ctl(bus, "move", "--rule", "meters", "--to", "site")
    assert status == 1
    assert "child-2b stays: Cloud site would not accept it" in said
    assert "child-1a moves to cloud site" in said
    _, none = await ctl(bus, "move", "--rule", "meters", "--to", "alibaba")
    assert "0 children move" in none, "they are there"


async def test_a_move_is_called_off(
    bus: PrivateBus, service: Bus, asked: RecordingCommands
) -> None:
    status, said = await ctl(bus, "move", "child-1", "--cancel")
    assert (status, said) == (0, "child-1a stays where it is.\n")
    status, said = await ctl(bus, "move", "--rule", "meters", "--cancel")
    assert (status, said) == (0, "child-1a stays where it is.\n"), "the other one does not move"
    status, said = await ctl(bus, "move", "child-2", "--cancel")
    assert (status, "is not moving" in said) == (1, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--to", "site"), "Name one child, or a rule"),
        (("child-1", "--rule", "meters", "--to", "site"), "Name one child, or a rule"),
        (("child-1",), "Name the cloud by --to"),
        (("child-1", "--to", "site", "--cancel"), "Name the cloud by --to"),
        (("--rule", "metres", "--to", "site"), "Rule metres has admitted no child"),
    ],
)
async def test_what_is_not_clear_is_refused(
    bus: PrivateBus, service: Bus, words: tuple[str, ...], said: str
) -> None:
    status, printed = await ctl(bus, "move", *words)
    assert (status, said in printed) == (1, True)


async def test_moves_are_shown_where_one_looks_for_them(bus: PrivateBus, service: Bus) -> None:
    _, listed = await ctl(bus, "move", "--list")
    assert "child-1a  alibaba -> site  logging-in (next try 2023-11-1" in listed
    assert "The cloud does not answer." in listed
    _, devices = await ctl(bus, "list")
    assert "alibaba -> site" in devices
    _, explained = await ctl(bus, "explain", "child-1a")
    assert "Moving to: q/name at site, asked for 2023-11-1" in explained
    assert "It refused. Ask it." in explained
    assert "Dormant at huawei: p2/name; to move back: gatewayctl move child-1a --to huawei" in (
        explained
    )
    assert "Moved here: 2020-09-1" in explained
    _, other = await ctl(bus, "explain", "child-2b")
    assert "Moving" not in other
    assert "Dormant" not in other


async def test_the_wait_ends_when_time_is_over_and_says_who_is_left(
    bus: PrivateBus, service: Bus
) -> None:
    status, said = await ctl(bus, "move", "child-1", "--to", "site", "--wait", "1")
    assert status == 1
    assert "0 of 1 have moved, 1 logging-in" in said
    assert "1 still move: see gatewayctl move --list" in said


async def test_json_has_the_same(bus: PrivateBus, service: Bus) -> None:
    _, printed = await ctl(bus, "--json", "move", "--list")
    assert json.loads(printed)["To"] == "site"
    _, printed = await ctl(bus, "--json", "list")
    assert json.loads(printed.splitlines()[0])["MovingTo"] == "site"
    _, printed = await ctl(bus, "--json", "show", "child-1")
    assert json.loads(printed)["Move"]["Dormant"] == ["huawei p2/name"]


async def test_forgetting_what_is_dormant_is_a_call_of_its_own(
    bus: PrivateBus, service: Bus, asked: RecordingCommands
) -> None:
    status, _ = await ctl(bus, "forget", "child-1", "--dormant", "huawei", "--yes")
    assert status == 0
    assert asked.asked[-1][:3] == ("forget-dormant", "child-1", "huawei")


async def test_the_wait_does_not_take_a_child_that_stays_for_one_that_has_moved(
    bus: PrivateBus, service: Bus, asked: RecordingCommands
) -> None:
    asked.moves = ()  # it was called off, or rejected
    status, said = await ctl(bus, "move", "child-1", "--to", "site", "--wait", "60")
    assert status == 1
    assert "1 of 1" not in said
    assert "1 have not moved, as that was called off: see gatewayctl explain child-1a" in said
    status, said = await ctl(bus, "move", "child-1", "--to", "alibaba", "--wait", "60")
    assert (status, "1 of 1 have moved" in said) == (0, True)
