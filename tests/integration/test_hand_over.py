"""A child with a holder, on real parts: one login, renewals without any, kills on the way."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import stat
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from gatewayd.simulator.site import Site
from gatewayd.simulator.site_files import config, rules
from tests.integration.test_huawei_renewal import opened as renewing
from tests.integration.test_huawei_renewal import reason, renew
from tests.support.gatewayctl import ctl

pytestmark = pytest.mark.integration

OFFERED, REPLACED = "renewal-offered", "secret-replaced"


def held(site: Site) -> str:
    """Return the rules of a site, whose children have holders."""
    return rules(site).replace("limits =", 'session = "holder"\nlimits =')


def opened(folder: Path) -> AbstractAsyncContextManager[tuple[Site, str]]:
    """A site with one child, which is handed over."""
    return renewing(folder, held, "handed-over")


async def killed(site: Site) -> None:
    assert site.daemon is not None
    assert await site.daemon.wait() == -signal.SIGKILL


async def shown(site: Site, child: str, code: str) -> dict[str, Any]:
    """Return what D-Bus says of the child, when this is why it is as it is."""
    return await reason(site, child, code, "handed-over")


async def credential(site: Site, child: str) -> dict[str, Any]:
    """Return what gatewayctl writes for a person."""
    device, _ = (await site.devices())[child]
    path = site.directory / "credential.json"
    assert site.private_bus is not None
    status, told = await ctl(site.private_bus, "credential", device, "--output", str(path))
    if status:
        raise RuntimeError(told)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found: dict[str, Any] = json.loads(path.read_text())
    path.unlink()
    return found


async def logins(site: Site, child: str) -> tuple[list[str], bool]:
    """Return the certificates that the platform has seen, and whether a session is open."""
    ledger = await site.ledger(child)
    return ledger["certificates_sha256"], ledger["connected"]


async def test_a_renewal_needs_no_login_and_a_reload_takes_the_child_back(tmp_path: Path) -> None:
    async with opened(tmp_path) as (site, child):
        first = await credential(site, child)
        (fingerprint,), connected = await logins(site, child)
        assert not connected
        await renew(site, child)
        facts = await shown(site, child, OFFERED)
        found = re.search(r"fingerprint ([0-9a-f]{64}) as SECONDARY", facts["Remedy"])
        assert found
        assert facts["NextAttemptTimestamp"] > 0
        assert await credential(site, child) == first
        await renew(site, child)
        assert found[1] in (await shown(site, child, REPLACED))["Remedy"]
        second = await credential(site, child)
        assert second["key"] != first["key"]
        assert second["valid_until"] >= first["valid_until"]
        assert await logins(site, child) == ([fingerprint], False)
        events = [event for _, event, *_ in (await site.describe(child))["History"]]
        assert events[-3:] == ["HandedOver", "RenewalDelayed", "SecretRenewed"]
        assert "PRIVATE KEY" not in site.log()
        assert re.search(r"credential of device \S+ was read by", site.log())

        await site.ask(do="reset", child=child, slot="SECONDARY", fingerprint=found[1])
        site.configure(config(site), rules(site))
        await site.call("Reload")
        await site.wait_for(child, "online")
        with pytest.raises(RuntimeError, match="not handed over"):
            await credential(site, child)
        site.configure(config(site), held(site))
        await site.call("Reload")
        await site.wait_for(child, "handed-over")

        async def let_go() -> bool:
            return not (await logins(site, child))[1]

        await site.until(let_go, "the session to be closed")


async def test_killed_at_the_first_login(tmp_path: Path) -> None:
    site = Site(tmp_path, plant_options=("--children", "1"))
    async with site.open():
        (child,) = site.plant["serials"]
        site.configure(config(site), held(site))
        await site.start("tests.support.kill_points", "logged-in")
        await killed(site)
        await site.start()
        await site.wait_for(child, "handed-over")
        found = await credential(site, child)
        assert found["password"]
        assert "deviceSecret" not in json.dumps(found)
        ledger = await site.ledger(child)
        assert ledger["logins"] == 2, "the second one puts the first on record"
        assert ledger["registrations"] == 1
        assert not ledger["online"]


@pytest.mark.parametrize("step", ["candidate-on-record", "candidate-in-use"])
async def test_killed_while_a_certificate_is_renewed(step: str, tmp_path: Path) -> None:
    async with opened(tmp_path) as (site, child):
        first = await credential(site, child)
        seen = await logins(site, child)
        assert await site.stop() == 0
        await site.start("tests.support.kill_points", step)
        await site.wait_for(child, "handed-over")
        with contextlib.suppress(RuntimeError):  # it may die before it has answered
            await renew(site, child)
            await shown(site, child, OFFERED)
            await renew(site, child)
        await killed(site)
        await site.start()
        await site.wait_for(child, "handed-over")
        found = await credential(site, child)
        assert (found == first) is (step == "candidate-on-record")
        if found == first:
            for reason in (OFFERED, REPLACED):
                if (await site.describe(child))["Reason"] != reason:
                    await renew(site, child)
                await shown(site, child, reason)
            assert await credential(site, child) != first
        assert await logins(site, child) == seen, "gatewayd never logs in again"
