"""The real daemon's objects: what they show is so, and what they can do is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatewayd.simulator.site import Site

pytestmark = pytest.mark.integration

DEST = "org.gatewayd1"
STORE = (DEST, "/org/gatewayd1/secretstore", "org.gatewayd1.SecretStore")
CLOUD = (DEST, "/org/gatewayd1/provider/alibaba", "org.gatewayd1.Provider")
LOG = (DEST, "/org/freedesktop/LogControl1", "org.freedesktop.LogControl1")


async def shows(site: Site, where: tuple[str, str, str], *expected: str) -> None:
    """Return when properties have these values, each as "Name=value"."""
    names = [one.partition("=")[0] for one in expected]
    values = [one.partition("=")[2] for one in expected]

    async def so() -> bool:
        printed = await site.busctl("get-property", *where, *names)
        return [line.partition(" ")[2].strip('"') for line in printed.splitlines()] == values

    await site.until(so, f"{where[1]} to show {expected}")


async def test_the_objects_of_a_site(tmp_path: Path) -> None:
    site = Site(tmp_path, plant_options=("--children", "0", "--late", "1", "--seed", "7"))
    async with site.open():
        (child,) = site.plant["serials"]
        await site.start()
        await shows(site, STORE, "Backend=vault", "Protection=key-on-disk", "State=unsealed")
        await shows(site, STORE, "Explanation=", "NSecrets=0")
        await shows(site, CLOUD, "Id=alibaba", "Kind=alibaba", "State=idle", "NDevices=0")
        assert f":{site.plant['port']}" in await site.busctl("get-property", *CLOUD, "Endpoint")
        await site.ask(do="announce", child=child)
        await site.wait_for(child, "online")
        await shows(site, CLOUD, "State=ready", "Reason=", "NDevices=1", "NQueued=0")
        await shows(site, STORE, "NSecrets=1")
        assert await site.busctl("call", *CLOUD, "Test") == ""
        assert await site.busctl("call", *STORE, "Rotate") == ""
        await shows(site, STORE, "KeyId=2", "RecoverySlots=0")
        assert await site.call("Discover", "uas", "5", "1", "mdns") is None
        with pytest.raises(RuntimeError, match="choose from mdns"):
            await site.call("Discover", "uas", "5", "1", "upnp")
        await shows(site, LOG, "LogTarget=console", "SyslogIdentifier=gatewayd")
        await site.busctl("set-property", *LOG, "LogLevel", "s", "err")
        await shows(site, LOG, "LogLevel=err")
        await site.call("Reload")
        assert await site.stop() == 0
    assert "Discovery for 5 s was requested by root" in site.log()
    assert "cloud alibaba was requested by root" in site.log()


async def test_a_sealed_store_says_why(tmp_path: Path) -> None:
    site = Site(tmp_path, plant_options=("--children", "0"))
    async with site.open():
        config = tmp_path / "gatewayd.toml"
        text = config.read_text()
        config.write_text(text.replace('key = "development-file"', 'key = "credential"'))
        await site.start()
        await shows(site, STORE, "Protection=none", "State=sealed")
        assert await site.busctl("get-property", *STORE, "Explanation") != 's ""'
