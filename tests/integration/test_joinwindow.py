"""The join window of the real daemon, opened as an operator does."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatewayd.simulator.site import MANAGER, Site
from gatewayd.simulator.site_files import config, rules
from tests.integration.test_faults import announce, two_children, wait_for_reason

pytestmark = pytest.mark.integration


async def join_state(site: Site) -> str:
    told = await site.busctl("get-property", *MANAGER, "JoinState")
    return told.removeprefix("s ").strip('"')


async def test_one_comes_in_by_the_window_and_closes_it(tmp_path: Path) -> None:
    async with two_children(tmp_path) as (site, one, two):
        asking = rules(site).replace('action = "register"', 'action = "ask"\nwindow = true')
        site.configure(config(site), asking)
        await site.start()
        await announce(site, one)
        await wait_for_reason(site, one, "pending", "approval-required")
        permit = ("PermitJoin", "ua{sv}", "300", "2", "interface", "s")
        await site.call(*permit, "lan7", "max-devices", "u", "1")
        assert await join_state(site) == "open"
        assert (await site.describe(one))["State"] == "pending"
        await site.call(*permit, "lo", "max-devices", "u", "1")
        await site.wait_for(one, "online")
        assert (await site.describe(one))["Admission"] == "window"
        assert await join_state(site) == "closed"
        await announce(site, two)
        await wait_for_reason(site, two, "pending", "approval-required")
        await site.call("PermitJoin", "ua{sv}", "300", "0")
        await site.wait_for(two, "online")
        await site.stop()
        assert "The join window was opened for 300 s by root" in site.log()
        await site.start()
        assert await join_state(site) == "closed"
        await site.wait_for(one, "online")
