"""Files that the configuration names are corrected while the daemon runs: that leads out.

Where it is Reload that is tested, waits are so long that nothing else has a child tried again.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gatewayd.simulator import pki
from gatewayd.simulator.site import Site

pytestmark = pytest.mark.integration

LATER = "retry_first = 900\nretry_last = 900"
SOON = "retry_first = 12\nretry_last = 12"  # and no oftener than the cloud allows
ONE = ("--children", "0", "--late", "1", "--seed", "5")

Break = Callable[[Site, str], Awaitable[Path]]
"""Spoils a file of a site; takes a child, and returns the file."""


async def other_root(site: Site, _: str) -> Path:
    now = datetime.now(UTC)
    path = keep_good(site.directory / "ca.pem")
    path.write_text(pki.make_ca("another", now - pki.LIFE, now + pki.LIFE).pem)
    return path


async def no_root(site: Site, _: str) -> Path:
    path = keep_good(site.directory / "ca.pem")
    path.unlink()
    return path


async def other_product_secret(site: Site, _: str) -> Path:
    return spoiled(site.directory / "product-secret")


async def other_known_secret(site: Site, child: str) -> Path:
    folder = site.directory / "device-secrets"
    folder.mkdir()
    secret = folder / child
    secret.touch(mode=0o600)
    secret.write_text(await site.ask(do="secret", child=child))
    return spoiled(secret)


async def other_gateway_secrets(site: Site, _: str) -> Path:
    spoiled(site.directory / "east-gateway-secret")
    return spoiled(site.directory / "west-gateway-secret")


def spoiled(path: Path) -> Path:
    """Write another content of the same form."""
    good = keep_good(path).read_text()
    path.write_text(good[1:] + good[:1])
    return path


def keep_good(path: Path) -> Path:
    """Keep the content of a file beside it."""
    path.with_name(f"{path.name}.good").write_bytes(path.read_bytes())
    return path


@contextlib.asynccontextmanager
async def waiting(
    folder: Path, cloud: str, route: str, *, patient: bool = True
) -> AsyncIterator[tuple[Site, str]]:
    """A site with one child, where gatewayd waits long, or, if not patient, shortly."""
    site = Site(folder, cloud=cloud, route=route, plant_options=ONE)
    async with site.open():
        config = folder / "gatewayd.toml"
        text = config.read_text()
        text = text.replace("retry_first = 1", LATER if patient else SOON)
        if patient:
            text = text.replace("retry_refused = 2", "retry_refused = 900")
        config.write_text(text)
        (child,) = site.plant["serials"]
        yield site, child


def put_back(folder: Path) -> None:
    """Give each spoiled file its good content again."""
    for good in folder.rglob("*.good"):
        good.with_name(good.name.removesuffix(".good")).write_bytes(good.read_bytes())


@pytest.mark.parametrize(
    ("cloud", "route", "spoil", "stuck_as", "setting"),
    [
        ("alibaba", "", other_root, ("admitted", "tls-unknown-ca"), "cloud.alibaba.ca_file"),
        ("alibaba", "", no_root, ("admitted", "ca-file-unusable"), "cloud.alibaba.ca_file"),
        ("alibaba", "", other_product_secret, ("failed", "cloud-auth-failed"), ".secret_file"),
        ("alibaba", "sub-device-known", other_known_secret, ("activating", "cloud-auth-failed"),
         ".device_directory"),
        ("huawei", "sub-device", other_root, ("admitted", "gateway-offline"), ".ca_file"),
        ("huawei", "sub-device", other_gateway_secrets, ("admitted", "gateway-offline"),
         ".gateway.secret_file"),
    ],
)  # fmt: skip
async def test_a_corrected_file_and_a_reload_bring_the_child_online(
    tmp_path: Path, cloud: str, route: str, *, spoil: Break, stuck_as: tuple[str, str], setting: str
) -> None:
    async with waiting(tmp_path, cloud, route) as (site, child):
        spoiled = await spoil(site, child)
        await site.start()
        await site.ask(do="announce", child=child)

        async def stuck() -> bool:
            if child not in await site.devices():
                return False
            shown = await site.describe(child)
            return (shown["State"], shown["Reason"]) == stuck_as

        await site.until(stuck, f"{child} to be {stuck_as}")
        put_back(tmp_path)
        await site.call("Reload")
        await site.wait_for(child, "online")
        (line,) = (line for line in site.log().splitlines() if "Read again" in line)
        assert setting in line
        assert str(spoiled.parent if setting == ".device_directory" else spoiled) in line
        assert spoiled.read_text().strip() not in site.log()


async def test_a_root_that_is_exchanged_under_a_running_gateway_counts_both_ways(
    tmp_path: Path,
) -> None:
    """The cloud's certificate is of another root than the file's, and then of the same again."""
    async with waiting(tmp_path, "alibaba", "") as (site, child):
        await site.start()
        await site.ask(do="announce", child=child)
        await site.wait_for(child, "online")
        await other_root(site, child)
        await site.call("Reload")
        await site.wait_for(child, "online")  # its connection stands
        await site.ask(do="leave", child=child)
        await site.wait_for(child, "offline")
        await site.ask(do="announce", child=child)

        async def refused() -> bool:
            shown = await site.describe(child)
            return (shown["State"], shown["Reason"]) == ("activating", "tls-unknown-ca")

        await site.until(refused, f"{child} not to trust the cloud")
        put_back(tmp_path)
        await site.call("Reload")
        await site.wait_for(child, "online")
        assert site.log().count("Read again, as they have changed: cloud.alibaba.ca_file") == 2


@pytest.mark.parametrize(
    ("cloud", "route", "spoil", "reason"),
    [
        ("alibaba", "", other_root, "tls-unknown-ca"),
        ("alibaba", "sub-device-known", other_known_secret, "cloud-auth-failed"),
        ("huawei", "sub-device", other_gateway_secrets, "gateway-offline"),
    ],
)
async def test_what_is_tried_again_by_itself_needs_no_command(
    tmp_path: Path, cloud: str, route: str, spoil: Break, reason: str
) -> None:
    async with waiting(tmp_path, cloud, route, patient=False) as (site, child):
        await spoil(site, child)
        await site.start()
        await site.ask(do="announce", child=child)

        async def stuck() -> bool:
            known = child in await site.devices()
            return known and (await site.describe(child))["Reason"] == reason

        await site.until(stuck, f"{child} to wait: {reason}")
        put_back(tmp_path)
        await site.wait_for(child, "online")
        assert "Configuration reloaded" not in site.log()
