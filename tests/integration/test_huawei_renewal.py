"""A child's certificate is replaced, on real parts: refused, accepted, and killed at each step."""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gatewayd.simulator.huawei.account import home
from gatewayd.simulator.site import Site
from gatewayd.simulator.site_files import config, rules
from tests.support.kill_points import RENEWAL

pytestmark = pytest.mark.integration

BEFORE_LOGIN = ("candidate-on-record", "candidate-in-slot")
"""Steps before the platform has seen the new certificate."""
AFTER_POINTER = ("candidate-in-use", "old-secret-deleted")
"""Steps by which the new certificate is in use."""


@contextlib.asynccontextmanager
async def opened(
    folder: Path, rule: Callable[[Site], str] = rules, state: str = "online"
) -> AsyncIterator[tuple[Site, str]]:
    """A site with one child, which has come into this state with its first certificate."""
    options = ("--children", "0", "--late", "1", "--seed", "5")
    site = Site(folder, cloud="huawei", route="certificate", plant_options=options)
    async with site.open():
        (child,) = site.plant["serials"]
        site.configure(config(site), rule(site))
        await site.start()
        await site.enrol(home(child))
        await site.ask(do="announce", child=child)
        await site.wait_for(child, state)
        yield site, child


async def renew(site: Site, child: str) -> None:
    device, _ = (await site.devices())[child]
    await site.authority(home(child), "Renew", "s", device)


async def reason(site: Site, child: str, code: str, state: str = "online") -> dict[str, Any]:
    """Return what D-Bus says of a child in a state, when this is why."""

    async def described() -> dict[str, Any] | None:
        facts = await site.describe(child)
        return facts if (facts["State"], facts["Reason"]) == (state, code) else None

    facts: dict[str, Any] = await site.until(described, f"{child} to be {state} with {code}")
    return facts


async def used(site: Site, child: str) -> list[str]:
    """Return the fingerprints with which the child has logged in, the newest last."""
    fingerprints: list[str] = (await site.ledger(child))["certificates_sha256"]
    return fingerprints


async def refused(site: Site, child: str) -> str:
    """Have the certificate replaced, which the platform refuses; return the new fingerprint."""
    await renew(site, child)
    described = await reason(site, child, "renewal-refused")
    found = re.search(r"fingerprint ([0-9a-f]{64}) as SECONDARY", described["Remedy"])
    assert found, described["Remedy"]
    return found[1]


async def introduce(site: Site, child: str, fingerprint: str) -> None:
    """Make a new certificate known at the platform, as an operator does there."""
    await site.ask(do="reset", child=child, slot="SECONDARY", fingerprint=fingerprint)


async def kill_at(site: Site, child: str, step: str) -> None:
    """Run gatewayd until it dies right after a step of a renewal that is asked for."""
    await site.start("tests.support.kill_points", step)
    await site.wait_for(child, "online")
    with contextlib.suppress(RuntimeError):  # it may die before it has answered
        await renew(site, child)
    assert site.daemon is not None
    assert await site.daemon.wait() == -signal.SIGKILL


async def test_one_that_the_platform_does_not_know_waits_until_it_does(tmp_path: Path) -> None:
    async with opened(tmp_path) as (site, child):
        (first,) = await used(site, child)
        new = await refused(site, child)
        assert (await site.ledger(child))["connected"], "the old session is open"
        assert await used(site, child) == [first]
        assert await site.stop() == 0
        await site.start()
        described = await reason(site, child, "renewal-waiting")
        assert f"fingerprint {new} as SECONDARY" in described["Remedy"]
        assert await used(site, child) == [first]
        await introduce(site, child, new)
        await renew(site, child)
        await reason(site, child, "secret-renewed")
        assert await used(site, child) == [first, new]
        assert await site.stop() == 0
        await site.start()
        await reason(site, child, "")
        assert await used(site, child) == [first, new], "the new one is in use"
        assert b"PRIVATE" not in everything(tmp_path)


def everything(folder: Path) -> bytes:
    """Return the log, and whatever gatewayd has written."""
    files = [folder / "gatewayd.log", *(folder / "state").iterdir()]
    found = [path.read_bytes() for path in files if path.is_file()]
    assert all(found[:1])
    return b"".join(found)


@pytest.mark.parametrize("step", BEFORE_LOGIN)
async def test_killed_before_the_platform_has_seen_it(step: str, tmp_path: Path) -> None:
    async with opened(tmp_path) as (site, child):
        (first,) = await used(site, child)
        assert await site.stop() == 0
        await kill_at(site, child, step)
        await site.start()
        await site.wait_for(child, "online")
        assert await used(site, child) == [first]
        new = await refused(site, child)
        await introduce(site, child, new)
        await renew(site, child)
        await reason(site, child, "secret-renewed")
        assert await used(site, child) == [first, new]


@pytest.mark.parametrize("step", [step for step in RENEWAL if step not in BEFORE_LOGIN])
async def test_killed_when_the_platform_has_accepted_it(step: str, tmp_path: Path) -> None:
    async with opened(tmp_path) as (site, child):
        (first,) = await used(site, child)
        new = await refused(site, child)
        await introduce(site, child, new)
        assert await site.stop() == 0
        await kill_at(site, child, step)
        assert await used(site, child) == [first, new]
        await site.start()
        await site.wait_for(child, "online")
        if step not in AFTER_POINTER:
            assert await used(site, child) == [new, first], "the old one is as good"
            await renew(site, child)
            await reason(site, child, "secret-renewed")
        assert (await used(site, child))[-1] == new
        ledger = await site.ledger(child)
        assert ledger["registrations"] == 1
        assert len(ledger["certificates_sha256"]) == 2
        assert await site.stop() == 0
