"""What goes wrong for one, is said clearly, and leaves the others alone."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gatewayd.simulator.site import Site
from gatewayd.simulator.site_files import rules

pytestmark = pytest.mark.integration

TWO = ("--children", "0", "--late", "2", "--seed", "7")


@contextlib.asynccontextmanager
async def two_children(tmp_path: Path, *options: str) -> AsyncIterator[tuple[Site, str, str]]:
    """Yield a site before gatewayd is started, with two children not announced yet."""
    site = Site(tmp_path, plant_options=(*TWO, *options))
    async with site.open():
        yield site, *site.plant["serials"]


async def announce(site: Site, *children: str) -> None:
    for child in children:
        await site.ask(do="announce", child=child)


async def wait_for_reason(site: Site, child: str, state: str, reason: str) -> dict[str, object]:
    """Return what is shown of a child, once state and reason are; the log must say it too."""

    async def shown() -> dict[str, object] | None:
        if child not in await site.devices():
            return None
        view = await site.describe(child)
        return view if (view["State"], view["Reason"]) == (state, reason) else None

    view: dict[str, object] = await site.until(shown, f"{child} to be {state}: {reason}")
    assert view["Explanation"]
    assert str(view["Explanation"]) in site.log()
    return view


async def test_a_wrong_product_secret(tmp_path: Path) -> None:
    async with two_children(tmp_path) as (site, one, two):
        secret = tmp_path / "product-secret"
        right = secret.read_text()
        secret.write_text("not the right one")
        await site.start()
        await announce(site, one, two)
        view = await wait_for_reason(site, one, "failed", "cloud-auth-failed")
        assert "product secret" in str(view["Remedy"]) + str(view["Explanation"])
        await wait_for_reason(site, two, "failed", "cloud-auth-failed")
        secret.write_text(right)
        await site.call("Reload")
        await site.wait_for(one, "online")
        await site.wait_for(two, "online")
        assert right not in site.log()


async def test_a_device_name_that_the_cloud_does_not_know(tmp_path: Path) -> None:
    async with two_children(tmp_path) as (site, stranger, child):
        await site.ask(do="delete", child=stranger)
        await site.start()
        await announce(site, stranger, child)
        await wait_for_reason(site, stranger, "failed", "cloud-auth-failed")
        await site.wait_for(child, "online")


async def test_an_activated_device_needs_a_reset(tmp_path: Path) -> None:
    async with two_children(tmp_path) as (site, known, child):
        await site.ask(do="faults", plan=f"refuse:5@{known}")
        await site.start()
        await announce(site, known, child)
        view = await wait_for_reason(site, known, "failed", "cloud-not-authorised")
        assert view["SubState"] == "needs-reset"
        await site.wait_for(child, "online")


async def test_a_cloud_that_is_down_and_comes_back(tmp_path: Path) -> None:
    async with two_children(tmp_path, "--faults", "down") as (site, one, two):
        await site.start()
        await announce(site, one, two)
        for child in (one, two):
            view = await wait_for_reason(site, child, "admitted", "tcp-refused")
            assert view["NextAttemptTimestamp"]
        await site.ask(do="faults", plan="")
        await site.wait_for(one, "online")
        await site.wait_for(two, "online")


@pytest.mark.parametrize(
    ("certificate", "foreign_ca", "reason"),
    [
        ("good", True, "tls-unknown-ca"),
        ("expired", False, "tls-expired"),
        ("wrong-host", False, "tls-host-name"),
    ],
)
async def test_a_cloud_that_cannot_prove_who_it_is(
    tmp_path: Path, certificate: str, foreign_ca: bool, reason: str
) -> None:
    """Two clouds: the children of the other one go on."""
    (tmp_path / "other").mkdir()
    (tmp_path / "site").mkdir()
    other = Site(tmp_path / "other", plant_options=(*TWO, "--certificate", certificate))
    options = ("--children", "0", "--late", "1", "--seed", "8")
    site = Site(tmp_path / "site", plant_options=options)
    async with site.open(), other.open():
        if foreign_ca:
            (other.directory / "ca.pem").write_text((site.directory / "ca.pem").read_text())
        (site.directory / "rules.d/05-other.toml").write_text(_rule("other", other))
        with (site.directory / "gatewayd.toml").open("a") as config:
            config.write(_cloud("other", other))
        await site.start()
        await announce(other, other.plant["serials"][0])
        await announce(site, site.plant["serials"][0])
        await wait_for_reason(site, other.plant["serials"][0], "admitted", reason)
        await site.wait_for(site.plant["serials"][0], "online")


async def test_what_is_forged_or_too_large_is_dropped_and_counted(tmp_path: Path) -> None:
    async with two_children(tmp_path) as (site, early, late):
        await site.start()
        await announce(site, early)
        await site.wait_for(early, "online")
        for kind, count in (("oversize", 100), ("malform", 500), ("flood", 300)):
            await site.ask(do="attack", kind=kind, count=count, rate=1000)
        await announce(site, late)
        await site.wait_for(late, "online")
        assert (await site.devices())[early][1] == "online"

        async def counted() -> bool:
            counters = await site.busctl(
                "get-property",
                "org.gatewayd1",
                "/org/gatewayd1",
                "org.gatewayd1.Manager",
                "Counters",
            )
            return "mdns:dropped:" in counters

        await site.until(counted, "the oversized to be counted")


async def test_a_malformed_configuration_is_explained(tmp_path: Path) -> None:
    async with two_children(tmp_path) as (site, child, _):
        good = (tmp_path / "gatewayd.toml").read_text()
        (tmp_path / "gatewayd.toml").write_text(good.replace("settle = 0.5", 'setle = "soon"'))
        await site.launch()
        assert site.daemon is not None
        assert await site.daemon.wait() == 78
        line = 1 + good.splitlines().index("settle = 0.5")
        assert f"gatewayd.toml:{line}: " in site.log()
        assert "did you mean 'settle'?" in site.log()
        (tmp_path / "gatewayd.toml").write_text(good)
        await site.start()
        await announce(site, child)
        await site.wait_for(child, "online")
        (tmp_path / "rules.d/10-sensors.toml").write_text("[[rule]\n")
        with pytest.raises(RuntimeError, match=r"10-sensors\.toml:1"):
            await site.call("Reload")
        assert (await site.devices())[child][1] == "online"


def _cloud(name: str, site: Site) -> str:
    return (
        f'[cloud.{name}]\nkind = "alibaba"\nhost = "{site.plant["host"]}"\n'
        f'port = {site.plant["port"]}\nca_file = "{site.directory}/ca.pem"\n'
        f"[cloud.{name}.products.{site.plant['product']}]\n"
        f'secret_file = "{site.directory}/product-secret"\n'
    )


def _rule(name: str, site: Site) -> str:
    """A rule of its own for the first child of another site, which has to stand first."""
    rule = rules(site).replace('"txt.serial" = "TH20-*"', f'"txt.serial" = {_first(site)}')
    return rule.replace('"alibaba"', f'"{name}"').replace('"sensors"', f'"{name}"')


def _first(site: Site) -> str:
    return f'"{site.plant["serials"][0]}"'
