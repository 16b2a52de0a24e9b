"""What a cloud may ask of the gateway, and what it may not."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable

import pytest

from gatewayd.admission.policy.engine import WindowScope
from gatewayd.device.identity import Claim, DeviceId, Evidence, Trust
from gatewayd.device.reason import Reason
from gatewayd.device.record import CloudName
from gatewayd.errors import StoreUnavailable
from gatewayd.manager.cloud_requests import (
    MAX_APPROVALS,
    REFUSALS_LOGGED,
    CloudRequests,
    CloudRequestSettings,
)
from tests.admission.test_join_window import announced, rules
from tests.support.fakes import FakeCloud, MemoryRecords
from tests.support.stage import Stage
from tests.support.tasks import in_background

NOTHING = CloudRequestSettings()
ALL = CloudRequestSettings(allow_permit_join=True, allow_approve=True)
LAMP = CloudName("cloud", "p", "lamp-1")


pytestmark = pytest.mark.jumping_clock


@contextlib.asynccontextmanager
async def requesting(
    settings: CloudRequestSettings = ALL, cloud: FakeCloud | None = None
) -> AsyncIterator[tuple[Stage, CloudRequests]]:
    """A running stage, and what a cloud may ask of it."""
    stage = Stage(MemoryRecords(), cloud or FakeCloud(), rules=rules())
    now = asyncio.get_running_loop().time
    requests = CloudRequests(
        settings, stage.manager, stage.app.admission, now, stage.records.decisions
    )
    async with stage.running(), in_background(requests.run()):
        yield stage, requests


async def settled(stage: Stage) -> None:
    """Let everything that was asked for happen."""
    await asyncio.sleep(5)
    await stage.manager.ping()


async def test_nothing_is_allowed_unless_it_is_configured(caplog: pytest.LogCaptureFixture) -> None:
    async with requesting(NOTHING) as (stage, requests):
        (lamp,) = await announced(stage, "lamp-1")
        requests.permit_join("cloud", 60)
        requests.approve(LAMP)
        await settled(stage)
        assert stage.app.window.current is None
        assert stage.tape.shown[lamp].state == "pending"
    logged = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert [
        word in line
        for word, line in zip(("allow_permit_join", "allow_approve"), logged, strict=True)
    ] == [True] * 2
    assert all("Cloud 'cloud'" in line for line in logged)


async def test_a_cloud_that_asks_without_end_does_not_fill_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with requesting(NOTHING) as (_, requests):
        for number in range(1000):
            requests.approve(CloudName("cloud", "p", f"lamp-{number}"))
            requests.permit_join("cloud", 60)
    logged = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert len(logged) == REFUSALS_LOGGED


async def test_a_cloud_opens_the_window_for_its_own_rules(caplog: pytest.LogCaptureFixture) -> None:
    async with requesting() as (stage, requests):
        (lamp,) = await announced(stage, "lamp-1")
        requests.permit_join("other", 60)
        assert stage.app.window.current == WindowScope(provider="other")
        await settled(stage)
        assert stage.tape.shown[lamp].state == "pending"
        requests.permit_join("other", 0)
        assert stage.app.window.current is None
        with caplog.at_level(logging.INFO):
            requests.permit_join("cloud", 60)
        assert (await stage.tape.wait_for(lamp, "online")).admission == "window"
    assert "opened for 60 s by cloud cloud" in caplog.text


@pytest.mark.parametrize(("asked", "given"), [(5000, 900), (900, 900), (1, 1), (-7, 0)])
async def test_what_a_cloud_asks_for_is_capped(asked: int, given: int) -> None:
    async with requesting() as (stage, requests):
        now = asyncio.get_running_loop().time()
        requests.permit_join("cloud", asked)
        until = stage.app.window.until
        assert (until - int(now * 1e6)) // 1_000_000 == given if given else not until


async def test_a_cloud_does_not_touch_what_somebody_else_has_opened() -> None:
    async with requesting() as (stage, requests):
        await stage.app.commands.permit_join(60, {"rule": "tables"}, "uid 0")
        for seconds in (0, 900):
            requests.permit_join("cloud", seconds)
            assert stage.app.window.current == WindowScope(rule="tables")
        await asyncio.sleep(61)
        requests.permit_join("cloud", 60)
        requests.permit_join("other", 0)
        assert stage.app.window.opener == "cloud cloud"
        await stage.app.commands.permit_join(0, {}, "uid 0")
        assert stage.app.window.current is None


async def test_a_child_that_is_wanted_and_waits_is_approved() -> None:
    async with requesting() as (stage, requests):
        lamp, other = await announced(stage, "lamp-1", "table-1")
        requests.approve(LAMP)
        view = await stage.tape.wait_for(lamp, "online")
        assert view.admission == "cloud"
        assert stage.records[lamp].admission == "cloud"
        assert any("cloud cloud" in step.text for step in view.history)
        assert stage.tape.shown[other].state == "pending"


@pytest.mark.parametrize(
    "name",
    [
        CloudName("other", "p", "lamp-1"),
        CloudName("cloud", "q", "lamp-1"),
        CloudName("cloud", "p", "lamp-2"),
    ],
)
async def test_another_name_is_not_meant(name: CloudName) -> None:
    async with requesting() as (stage, requests):
        (lamp,) = await announced(stage, "lamp-1")
        requests.approve(name)
        await settled(stage)
        assert stage.tape.shown[lamp].state == "pending"


def _conflict(stage: Stage, lamp: DeviceId) -> None:
    known = stage.lan.known[lamp]
    stage.lan.known[lamp] = Evidence(known.views, known.claims, Trust.CLAIMED, conflict="two")


def _twin(stage: Stage, lamp: DeviceId) -> None:
    twin = DeviceId("child-twin")
    claims = frozenset({Claim("serial", "fake", "another")})
    stage.lan.known[twin] = Evidence(stage.lan.known[lamp].views, claims, Trust.LISTED)
    stage.lan.changed[twin] = 0.0
    stage.manager.seen(twin)


@pytest.mark.parametrize("trouble", [_conflict, _twin])
async def test_what_is_in_doubt_is_for_people(trouble: Callable[[Stage, DeviceId], None]) -> None:
    async with requesting() as (stage, requests):
        (lamp,) = await announced(stage, "lamp-1")
        trouble(stage, lamp)
        await settled(stage)
        requests.approve(LAMP)
        await settled(stage)
        assert {view.state for view in stage.tape.shown.values()} == {"pending"}
        assert not stage.records.rows


async def test_a_doubt_that_comes_up_meanwhile_counts() -> None:
    async with requesting() as (stage, requests):
        first, second = await announced(stage, "lamp-1", "lamp-2")
        requests.approve(LAMP)
        requests.approve(CloudName("cloud", "p", "lamp-2"))
        await asyncio.sleep(0.003)  # the first is on its way to the disk
        _conflict(stage, second)
        await stage.tape.wait_for(first, "online")
        await settled(stage)
        assert stage.tape.shown[second].state == "pending"
        assert second not in stage.records.rows


async def test_what_does_not_wait_is_left_alone() -> None:
    async with requesting() as (stage, requests):
        (lamp,) = await announced(stage, "lamp-1")
        await stage.app.commands.reject(lamp, "", "uid 0")
        await stage.tape.wait_for(lamp, "rejected")
        requests.approve(LAMP)
        await settled(stage)
        assert stage.tape.shown[lamp].state == "rejected"


async def test_a_disk_that_fails_leaves_it_waiting() -> None:
    async with requesting() as (stage, requests):
        (lamp,) = await announced(stage, "lamp-1")
        stage.records.failing = StoreUnavailable("not now")
        requests.approve(LAMP)
        await settled(stage)
        stage.records.failing = None
        assert stage.tape.shown[lamp].state == "pending"
        requests.approve(LAMP)
        await stage.tape.wait_for(lamp, "online")


async def test_requests_for_approval_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    async with requesting() as (stage, requests):
        (lamp,) = await announced(stage, "lamp-1")
        for number in range(MAX_APPROVALS):
            requests.approve(CloudName("cloud", "p", f"unknown-{number}"))
        requests.approve(LAMP)
        await settled(stage)
        assert stage.tape.shown[lamp].state == "pending"
        requests.approve(LAMP)
        await stage.tape.wait_for(lamp, "online")
    assert len(caplog.records) == 1


class Unreachable(FakeCloud):
    """A cloud that cannot be reached, until a test says otherwise."""

    reachable = False

    async def check_ready(self, name: CloudName) -> Reason | None:
        return None if self.reachable else Reason("gateway-offline")


async def test_try_again_ends_the_wait_of_a_child_that_could_not_be_registered() -> None:
    cloud = Unreachable()

    async with requesting(cloud=cloud) as (stage, requests):
        (lamp,) = await announced(stage, "lamp-1")
        await stage.app.commands.approve(lamp, "", "uid 0")
        view = await stage.tape.wait_for(lamp, "admitted", "gateway-offline")
        cloud.reachable = True
        requests.retry(LAMP)
        await stage.tape.wait_for(lamp, "online")
        assert asyncio.get_running_loop().time() * 1e6 < view.next_attempt


async def test_try_again_ends_the_wait_of_a_child_that_is_offline_once() -> None:
    async with requesting() as (stage, requests):
        (lamp,) = await announced(stage, "lamp-1")
        await stage.app.commands.approve(lamp, "", "uid 0")
        await stage.tape.wait_for(lamp, "online")
        stage.cloud.drop("lamp-1")
        await stage.tape.wait_for(lamp, "offline")
        await asyncio.sleep(0.1)  # it waits to log in again
        asked = stage.cloud.calls.count("connect lamp-1")
        for _ in range(3):
            requests.retry(LAMP)
            await asyncio.sleep(0.02)
        await stage.tape.wait_for(lamp, "online")
        assert stage.cloud.calls.count("connect lamp-1") == asked + 1, "a login is not broken off"


async def test_try_again_is_for_those_who_wait() -> None:
    async with requesting() as (stage, requests):
        (lamp,) = await announced(stage, "lamp-1")
        requests.retry(LAMP)
        await settled(stage)
        assert stage.tape.shown[lamp].state == "pending"
        await stage.app.commands.approve(lamp, "", "uid 0")
        await stage.tape.wait_for(lamp, "online")
        asked = list(stage.cloud.calls)
        requests.retry(LAMP)
        requests.retry(CloudName("cloud", "p", "unknown"))
        await settled(stage)
        assert stage.cloud.calls == asked
