"""A disk that takes no writes at the start: the children come online, and no one has to help."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gatewayd.simulator.site import Site
from tests.support.sites import SECRET_STORE, wait_for_gateway

pytestmark = [pytest.mark.integration, pytest.mark.namespace]

SEED = "1313"  # children that no other test has: all share the loopback interface
STATE = "state"
READ_ONLY = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'
FULL = """
    cp -a "$1" "$1.all" && rm -f "$1.all"/*-shm &&
    mount -t tmpfs -o size=8m,mode=0700 tmpfs "$1" && cp -a "$1.all/." "$1" &&
    ! cat /dev/zero 2>/dev/null >"$1/filler" && shift && exec "$@"
"""
"""They run a program that sees a directory as one that cannot be written, or on a full disk, as the
files are there after a crash with a log, and after a power cut without its index."""
MESSAGES = {READ_ONLY: "is read-only", FULL: "is full"}


@contextlib.asynccontextmanager
async def site_with_a_new_child(directory: Path) -> AsyncIterator[Site]:
    """Yield a site: gatewayd was killed when the first child was online, and a second is there."""
    options = ("--children", "1", "--late", "1", "--rate", "0", "--seed", SEED)
    site = Site(directory, plant_options=options)
    async with site.open():
        first, second = site.plant["serials"]
        await site.start()
        await site.wait_for(first, "online")
        assert site.daemon is not None
        site.daemon.kill()
        await site.daemon.wait()
        await site.ask(do="announce", child=second)
        yield site


def take_writes(site: Site, how: str) -> None:
    """Let the disk of gatewayd take writes again."""
    assert site.daemon is not None
    process, state = str(site.daemon.pid), site.directory / STATE
    if how is FULL:
        Path(f"/proc/{process}/root{state}/filler").unlink()
        return
    enter = ["nsenter", "-t", process, "-U", "-m", "--preserve-credentials"]
    subprocess.run([*enter, "mount", "-o", "remount,bind,rw", str(state)], check=True)


@pytest.mark.parametrize("how", [READ_ONLY, FULL], ids=["read-only", "full"])
async def test_it_serves_from_what_can_be_read_and_recovers_by_itself(
    tmp_path: Path, how: str
) -> None:
    async with site_with_a_new_child(tmp_path) as site:
        first, second = site.plant["serials"]
        site.gateway = ("unshare", "-rm", "sh", "-c", how, "sh", str(tmp_path / STATE))
        await site.start()
        await site.wait_for(first, "online")
        await wait_for_gateway(site, "degraded")
        condition = await site.busctl("get-property", *SECRET_STORE, "State", "Explanation")
        assert condition.startswith('s "degraded"')
        assert MESSAGES[how] in condition

        async def explained() -> bool:
            known = await site.devices()
            return second in known and str((await site.describe(second))["Reason"]) in (
                "store-full", "store-unavailable",
            )  # fmt: skip

        await site.until(explained, "the disk to be why the second child waits")
        assert not (await site.ledger(second))["secrets_sha256"]
        take_writes(site, how)
        await wait_for_gateway(site, "running")
        await site.wait_for(second, "online")
        for child in (first, second):
            assert len((await site.ledger(child))["secrets_sha256"]) == 1
        assert await site.stop() == 0
