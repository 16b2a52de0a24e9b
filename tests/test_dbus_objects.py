"""What the objects beside the children can do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from gatewayd.cloud.preflight import Check, CheckResult, PreflightContext
from gatewayd.config import ConfiguredPlugin
from gatewayd.dbus_objects import LogControl, ProviderTest
from gatewayd.errors import Busy, CloudUnreachable, InvalidArgs
from gatewayd.gateway_status import endpoint
from gatewayd.runtime.journal import SYSLOG_LEVELS, syslog_level


@pytest.fixture
def level() -> Iterator[logging.Logger]:
    """Our logger, whose level is put back."""
    ours = logging.getLogger("gatewayd")
    before = ours.level
    yield ours
    ours.setLevel(before)


@pytest.mark.parametrize("name", SYSLOG_LEVELS)
async def test_every_level_of_syslog_can_be_set(name: str, level: logging.Logger) -> None:
    changes: list[int] = []
    await LogControl(lambda: changes.append(1)).set_level(name, "uid 0")
    assert changes == [1]
    names = ("debug", "info", "notice", "warning", "err", "crit", "alert", "emerg")
    assert names.index(syslog_level()) - names.index(name) in (0, 1, -1, -2)


async def test_no_other_level_can_be_set(level: logging.Logger) -> None:
    before = level.level
    with pytest.raises(InvalidArgs, match="debug, info"):
        await LogControl(lambda: None).set_level("loud", "uid 0")
    assert level.level == before


def cloud(*verdicts: CheckResult, gate: asyncio.Event | None = None) -> ProviderTest:
    async def preflight(_: object, __: PreflightContext) -> AsyncIterator[Check]:
        for verdict in verdicts:
            if gate is not None:
                await gate.wait()
            yield Check("tcp", verdict, f"It is {verdict}.", "Look." if verdict == "failed" else "")

    plugin: Any = SimpleNamespace(preflight=preflight)
    return ProviderTest(ConfiguredPlugin("ali", "alibaba", plugin, None), {})


async def test_a_test_ends_well_or_says_what_failed() -> None:
    await cloud(CheckResult.OK, CheckResult.UNSURE).test("uid 0")
    with pytest.raises(CloudUnreachable, match=r"^It is failed\. Look\.$"):
        await cloud(CheckResult.OK, CheckResult.FAILED, CheckResult.OK).test("uid 0")


async def test_one_test_at_a_time() -> None:
    gate = asyncio.Event()
    ours = cloud(CheckResult.OK, gate=gate)
    first = asyncio.create_task(ours.test("uid 0"))
    while not ours._one.locked():
        await asyncio.sleep(0)
    with pytest.raises(Busy):
        await ours.test("uid 0")
    gate.set()
    await first
    await ours.test("uid 0")


def test_endpoints() -> None:
    assert endpoint(SimpleNamespace(host="h", port=8883)) == "h:8883"
    assert endpoint(SimpleNamespace(host="", port=8883)) == ""
    assert endpoint(SimpleNamespace(url="h")) == ""
