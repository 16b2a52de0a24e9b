"""The join window opens on request, ends by itself, and admits no more than its limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.admission.join_window import MAX_SECONDS, JoinWindow, WindowOptions, parse_options
from gatewayd.admission.policy.engine import WindowScope
from gatewayd.admission.policy.rules import (
    Action,
    RuleLimits,
    RuleRequirements,
    RuleTable,
    make_rule,
)
from gatewayd.admission.rules import RuleBook
from gatewayd.device.identity import DeviceId
from gatewayd.errors import InvalidArgs, StoreUnavailable
from gatewayd.runtime.clock import Clock
from tests.support.fakes import FakeCloud, MemoryRecords
from tests.support.stage import Stage

ANY = WindowOptions(WindowScope())
START = 1_000_000_000

pytestmark = pytest.mark.jumping_clock


def rules() -> RuleBook:
    """Lamps may come in by a window; tables are asked about always."""
    made = []
    for name, window in (("lamp", True), ("table", False)):
        base: dict[str, Any] = {
            "match": {"instance": f"{name}*"}, "action": Action.ASK, "window": window,
            "extract": {"serial": "instance"}, "device_name": "{serial}",
            "provider": "cloud", "product": "p",
            "require": RuleRequirements("claimed"), "limits": RuleLimits(9),
        }  # fmt: skip
        table = RuleTable(name=f"{name}s", **base)
        made.append(make_rule(table, frozenset(), lambda at, text: pytest.fail(f"{at}: {text}")))
    return RuleBook(tuple(one for one in made if one))


@pytest_asyncio.fixture
async def stage() -> AsyncIterator[Stage]:
    """The application, running with these rules."""
    async with Stage(MemoryRecords(), FakeCloud(), rules=rules()).running() as running:
        yield running


async def announced(stage: Stage, *names: str) -> list[DeviceId]:
    """Children that wait for an operator."""
    devices = [stage.announce(name) for name in names]
    for device in devices:
        await stage.tape.wait_for(device, "pending", "approval-required")
    return devices


def window_on(changes: list[int]) -> JoinWindow:
    """A window on the running loop's clock, which notes until when it is open."""
    now = asyncio.get_running_loop().time
    window = JoinWindow(Clock(now, lambda: START + int(now() * 1e6), lambda: 0.5))
    window.listen(lambda: changes.append(window.until))
    return window


def shown(window: JoinWindow) -> tuple[WindowScope | None, int, str]:
    return window.current, window.until, window.opener


async def test_it_is_closed_at_the_start_and_ends_by_itself() -> None:
    changes: list[int] = []
    window = window_on(changes)
    assert shown(window) == (None, 0, "")
    window.permit(180, WindowOptions(WindowScope(rule="r")), "uid 0")
    assert window.current == WindowScope(rule="r")
    assert window.opener == "uid 0"
    assert changes == [window.until] == [START + 180_000_000]
    await asyncio.sleep(179.9)
    assert window.current
    await asyncio.sleep(0.2)
    assert shown(window) == (None, 0, "")
    assert len(changes) == 2


async def test_it_is_closed_in_time_even_if_the_loop_is_late() -> None:
    late = [0.0]
    now = asyncio.get_running_loop().time
    window = JoinWindow(Clock(lambda: now() + late[0], lambda: START, lambda: 0.5))
    window.permit(60, ANY, "uid 0")
    late[0] = 60.0  # and no timer was served since
    assert shown(window) == (None, 0, "")
    await asyncio.sleep(0)


async def test_another_takes_its_place_and_zero_closes_it() -> None:
    changes: list[int] = []
    window = window_on(changes)
    window.permit(60, ANY, "uid 0")
    await asyncio.sleep(50)
    window.permit(60, WindowOptions(WindowScope(interface="lan0")), "uid 7")
    await asyncio.sleep(50)
    assert window.current == WindowScope(interface="lan0"), "the first one's time is over"
    window.permit(0, ANY, "uid 0")
    assert window.current is None
    window.permit(0, ANY, "uid 0")
    assert len(changes) == 3, "to close what is closed is no change"
    await asyncio.sleep(100)
    assert len(changes) == 3


@pytest.mark.parametrize("seconds", [-1, MAX_SECONDS + 1, 2**32 - 1])
async def test_it_never_stays_open_for_long(seconds: int) -> None:
    changes: list[int] = []
    window = window_on(changes)
    with pytest.raises(InvalidArgs, match="900 s"):
        window.permit(seconds, ANY, "uid 0")
    assert (window.current, changes) == (None, [])


async def test_the_last_that_it_may_let_in_closes_it() -> None:
    changes: list[int] = []
    window = window_on(changes)
    window.permit(60, WindowOptions(WindowScope(), 2), "uid 0")
    window.count()
    assert window.current
    window.count()
    assert window.current is None
    window.count()
    assert len(changes) == 2


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["permit", "count", "wait"]), st.integers(0, MAX_SECONDS)),
        max_size=20,
    ),
    devices=st.integers(0, 3),
)
async def test_whatever_happens_it_is_open_only_as_long_as_was_said_last(
    steps: Iterable[tuple[str, int]], devices: int
) -> None:
    now = asyncio.get_running_loop().time
    window = window_on([])
    until, counted = 0.0, 0
    for step, seconds in steps:
        match step:
            case "permit":
                window.permit(seconds, WindowOptions(WindowScope(), devices), "uid 0")
                until, counted = now() + seconds, 0
            case "count":
                window.count()
                counted += 1
            case "wait":
                await asyncio.sleep(seconds)
        full = 0 < devices <= counted
        assert (window.current is not None) == (now() < until and not full)
        assert (window.until != 0) == (window.current is not None)


def test_the_scope_is_read() -> None:
    assert parse_options({}) == ANY
    options = {"interface": "lan0", "protocol": "mdns", "rule": "r", "max-devices": 3}
    assert parse_options(options) == WindowOptions(WindowScope("lan0", "mdns", "r"), 3)


@pytest.mark.parametrize(
    "options",
    [
        {"colour": "red"},
        {"provider": "alibaba"},
        {"interface": 1},
        {"interface": ""},
        {"rule": "r" * 129},
        {"max-devices": 0},
        {"max-devices": "3"},
        {"max-devices": True},
        {"max-devices": 1.5},
    ],
)
def test_a_scope_that_cannot_be_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(InvalidArgs):
        parse_options(options)


async def test_what_waits_comes_in_when_the_window_opens(stage: Stage) -> None:
    lamp, table = await announced(stage, "lamp-1", "table-1")
    before = len(stage.tape.shown[table].history)
    await stage.app.commands.permit_join(60, {}, "uid 0")
    view = await stage.tape.wait_for(lamp, "online")
    assert (view.admission, view.rule) == ("window", "lamps")
    assert stage.records[lamp].admission == "window"
    assert stage.records[lamp].reason == "admitted-by-window"
    assert stage.tape.shown[table].state == "pending"
    assert len(stage.tape.shown[table].history) == before, "it is left in peace"
    second = stage.announce("lamp-2")
    await stage.tape.wait_for(second, "online")


async def test_what_comes_too_late_waits_and_what_came_in_stays(stage: Stage) -> None:
    await stage.app.commands.permit_join(60, {}, "uid 0")
    early = stage.announce("lamp-1")
    await stage.tape.wait_for(early, "online")
    await asyncio.sleep(45)
    late = stage.announce("lamp-2")  # and settles for 10 s, when the time is over
    await stage.tape.wait_for(late, "pending", "approval-required")
    assert stage.tape.shown[early].state == "online"
    assert late not in stage.records.rows
    assert stage.window_until == [60_000_001, 0]


async def test_of_many_that_wait_only_so_many_come_in(stage: Stage) -> None:
    devices = await announced(stage, *(f"lamp-{n}" for n in range(5)))
    await stage.app.commands.permit_join(60, {"max-devices": 2}, "uid 0")
    assert stage.app.window.current
    await stage.manager.ping()
    await asyncio.sleep(30)
    states = [stage.tape.shown[device].state for device in devices]
    assert (states.count("online"), states.count("pending")) == (2, 3)
    assert stage.app.window.current is None
    assert len(stage.records.rows) == 2


async def test_what_the_disk_did_not_take_is_not_given_back(stage: Stage) -> None:
    (lamp,) = await announced(stage, "lamp-1")
    stage.records.failing = StoreUnavailable("not now")
    await stage.app.commands.permit_join(60, {"max-devices": 1}, "uid 0")
    await asyncio.sleep(5)
    stage.records.failing = None
    assert stage.app.window.current is None
    await stage.tape.wait_for(lamp, "pending", "approval-required")
    assert not stage.records.rows


async def test_a_restart_closes_it() -> None:
    register, cloud = MemoryRecords(), FakeCloud()
    async with Stage(register, cloud, rules=rules()).running() as stage:
        await stage.app.commands.permit_join(900, {}, "uid 0")
        lamp = stage.announce("lamp-1")
        await stage.tape.wait_for(lamp, "online")
    async with Stage(register, cloud, rules=rules()).running() as stage:
        assert stage.app.window.current is None
        stage.announce("lamp-1")
        assert (await stage.tape.wait_for(lamp, "online")).admission == "window"
        await announced(stage, "lamp-2")


async def test_an_operators_no_stands(stage: Stage) -> None:
    (lamp,) = await announced(stage, "lamp-1")
    await stage.app.commands.reject(lamp, "", "uid 0")
    await stage.tape.wait_for(lamp, "rejected")
    await stage.app.commands.permit_join(60, {}, "uid 0")
    await asyncio.sleep(30)
    assert stage.tape.shown[lamp].state == "rejected"


@pytest.mark.parametrize(
    ("seconds", "options"),
    [(901, {}), (60, {"colour": "red"}), (0, {"colour": "red"}), (60, {"rule": "lamp"})],
)
async def test_what_cannot_be_asked_for_opens_nothing(
    stage: Stage, seconds: int, options: dict[str, object]
) -> None:
    with pytest.raises(InvalidArgs):
        await stage.app.commands.permit_join(seconds, options, "uid 0")
    assert stage.app.window.current is None
    assert not stage.window_until


async def test_a_dry_run_mentions_the_window(stage: Stage) -> None:
    (table,) = await announced(stage, "table-1")
    await stage.app.commands.permit_join(60, {"rule": "tables"}, "uid 0")
    action, _, reasons = stage.app.commands.test_admission(table)
    assert action == "ask"
    assert "the rule does not have window = true" in reasons[-1]
