"""What becomes of a child after each class of the cloud's codes, with the whole daemon.

Each test has children of its own for several classes: a fault is for one child only, and they come
one after the other, so that no two share a request.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gatewayd.cli.main import main
from gatewayd.simulator.alibaba.account import PRODUCT
from gatewayd.simulator.site import Site

pytestmark = pytest.mark.integration

REGISTER, LOGIN = "thing.sub.register", "combine.login"


def site_of(folder: Path, children: int) -> Site:
    """A site whose children are sub-devices, none of them announced yet."""
    options = ("--children", "0", "--late", str(children))
    return Site(folder, route="sub-device", plant_options=options)


async def plan(site: Site, faults: Mapping[str, str]) -> None:
    """Plan faults, each for one child."""
    await site.ask(do="faults", plan=" ".join(f"{what}/{who}" for who, what in faults.items()))


async def reach(site: Site, child: str, state: str, reason: str, announce: bool = True) -> Any:
    """Announce a child; return what is shown of it once it has a state for this reason."""
    if announce:
        await site.ask(do="announce", child=child)

    async def shown() -> dict[str, Any] | None:
        if child not in await site.devices():
            return None
        view = await site.describe(child)
        return view if (view["State"], view["Reason"]) == (state, reason) else None

    return await site.until(shown, f"{child} to be {state}: {reason}")


async def online(site: Site, child: str, announce: bool = True) -> int:
    """Wait for a child to be online; return how many secrets the cloud has issued to it."""
    if announce:
        await site.ask(do="announce", child=child)
    await site.wait_for(child, "online")
    view = await site.ledger(child)
    assert view["online"]
    return len(view["secrets_sha256"])


async def reset(site: Site, child: str) -> None:
    """Reset a child at the cloud, as its owner does from any machine."""
    key, keys = site.directory / "key", site.directory / "open-api.json"
    key.touch(mode=0o600)
    key.write_text("\n".join(json.loads(keys.read_text()).values()))
    words = (
        "console", "alibaba", "device", "reset", f"{PRODUCT}/{child}",
        "--endpoint", f"{site.plant['host']}:{site.plant['open_api']}",
        "--ca-file", str(site.directory / "ca.pem"), "--key-file", str(key),
    )  # fmt: skip
    assert await asyncio.to_thread(main, words, {}) == 0


async def fails(site: Site, child: str, reason: str, announce: bool = True) -> None:
    """Wait for a child to need an operator, with a remedy."""
    view = await reach(site, child, "failed", reason, announce)
    assert view["SubState"] == "needs-operator"
    assert view["Remedy"]
    assert not view["NextAttemptTimestamp"]


async def answered(site: Site, method: str, code: int) -> int:
    """How often the cloud has answered so."""
    truth = await site.ask(do="truth")
    (gateway,) = (g for gs in truth["cloud"]["gateways"].values() for g in gs.values())
    return int(gateway["calls"].get(method, {}).get(str(code), 0))


async def test_what_comes_right_by_itself(tmp_path: Path) -> None:
    site = site_of(tmp_path, 5)
    async with site.open():
        registering, logging_in, stale, detached, disabled = site.plant["serials"]
        await plan(
            site,
            {
                registering: f"reply:500:x1@{REGISTER}",
                logging_in: f"reply:400:x1@{LOGIN}",
                stale: f"reply:6287:x1@{LOGIN}",
                detached: f"reply:6401:x1@{LOGIN}",
                disabled: f"reply:522@{LOGIN}",
            },
        )
        await site.start()
        assert await online(site, registering) == 1
        assert await answered(site, REGISTER, 500) == 1
        assert await online(site, logging_in) == 1
        assert await answered(site, LOGIN, 400) == 1
        assert await online(site, stale) == 2, "a secret that does not serve is replaced"
        added = await answered(site, "thing.topo.add", 200)
        assert await online(site, detached) == 1
        assert await answered(site, "thing.topo.add", 200) == added + 2
        view = await reach(site, disabled, "activating", "cloud-disabled")
        assert view["SubState"] == "disabled-at-cloud"
        assert "Enable" in view["Remedy"]
        await plan(site, {})
        assert await online(site, disabled, announce=False) == 1


async def test_what_needs_an_operator(tmp_path: Path) -> None:
    site = site_of(tmp_path, 4)
    async with site.open():
        wrong, off, never_good, fine = site.plant["serials"]
        await plan(
            site,
            {
                wrong: f"reply:460@{REGISTER}",
                off: f"reply:6288@{REGISTER}",
                never_good: f"reply:6287@{LOGIN}",
            },
        )
        await site.start()
        await site.ask(do="announce", child=never_good)
        await fails(site, wrong, "cloud-request-refused")
        refusals = await answered(site, REGISTER, 460)
        await fails(site, off, "cloud-registration-off")
        await fails(site, never_good, "secret-repeatedly-stale", announce=False)
        assert await online(site, fine) == 1
        assert await answered(site, REGISTER, 460) == refusals, "it is not asked again"
        await plan(site, {})
        for child in (wrong, off, never_good):
            await site.call("Retry", "s", (await site.devices())[child][0])
            await online(site, child, announce=False)


async def test_what_waits_and_is_shown(tmp_path: Path) -> None:
    """The cloud is not asked again for minutes; the others go on."""
    site = site_of(tmp_path, 4)
    async with site.open():
        rival, strange, removed, fine = site.plant["serials"]
        await plan(
            site,
            {
                rival: f"reply:427@{LOGIN}",
                strange: f"reply:9876@{REGISTER}",
                removed: f"reply:521@{LOGIN}",
            },
        )
        await site.start()
        view = await reach(site, rival, "activating", "cloud-session-elsewhere")
        assert view["Remedy"]
        view = await reach(site, strange, "admitted", "cloud-code-unknown")
        assert "9876" in view["Explanation"]
        view = await reach(site, removed, "retired", "cloud-removed")
        assert "gatewayctl approve" in view["Remedy"]
        assert await online(site, fine) == 1
        assert await answered(site, LOGIN, 427) == 1
        assert await answered(site, LOGIN, 521) == 1
        assert await answered(site, REGISTER, 9876) == 1
        await plan(site, {})
        await site.call("Approve", "ss", (await site.devices())[removed][0], "")
        await online(site, removed, announce=False)


async def test_a_child_that_was_activated_before_needs_a_reset(tmp_path: Path) -> None:
    """It is asked for once, whatever is tried, until it was reset at the cloud."""
    site = site_of(tmp_path, 2)
    async with site.open():
        used, fine = site.plant["serials"]
        await site.start()
        assert await online(site, used) == 1
        await site.ask(do="leave", child=used)
        await site.wait_for(used, "offline")
        await site.call("Forget", "s", (await site.devices())[used][0])
        view = await reach(site, used, "failed", "cloud-already-activated")
        assert view["SubState"] == "needs-reset"
        assert "ResetThing" in view["Remedy"]
        assert "gatewayctl reregister" in view["Remedy"]
        assert not view["NextAttemptTimestamp"]
        device = (await site.devices())[used][0]
        with pytest.raises(RuntimeError, match="needs a reset"):
            await site.call("Retry", "s", device)
        await site.call("Reload")
        assert await online(site, fine) == 1
        assert (await site.devices())[used][1] == "failed"
        assert await answered(site, REGISTER, 6289) == 1
        await reset(site, used)
        await site.call("Reregister", "ssa{sv}", device, device, "0")
        assert await online(site, used, announce=False) == 2
        await reset(site, fine)
        await reach(site, fine, "retired", "cloud-removed", announce=False)
        await site.call("Approve", "ss", (await site.devices())[fine][0], "")
        assert await online(site, fine, announce=False) == 1, "with the secret that it has"
