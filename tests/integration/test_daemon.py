"""The daemon as a process: sealed, reloaded, stopped, and left by its bus."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gatewayd.simulator.bus import PrivateBus
from gatewayd.simulator.site import MANAGER, POLICY, Site
from tests.support.sites import wait_for_gateway

pytestmark = pytest.mark.integration

ONE = ("--children", "0", "--late", "1", "--seed", "7")

ALONE = """\
[gateway]
state_directory = "{site.directory}/state"
[bus]
address = "{site.bus}"
[secretstore.vault]
key = "development-file"
"""


@contextlib.asynccontextmanager
async def alone(tmp_path: Path) -> AsyncIterator[tuple[Site, PrivateBus]]:
    """Yield a running gatewayd with a bus, and without a LAN or a cloud."""
    with PrivateBus(POLICY) as bus:
        site = Site(tmp_path, bus=bus.address)
        site.configure(ALONE.format(site=site), "")
        await site.start()
        try:
            yield site, bus
        finally:
            await site.stop()


async def logged(site: Site, text: str) -> None:
    async def is_there() -> bool:
        return text in site.log()

    await site.until(is_there, text)


async def test_without_a_key_it_is_sealed_and_says_so_and_registers_nobody(tmp_path: Path) -> None:
    site = Site(tmp_path, plant_options=ONE)
    async with site.open():
        (child,) = site.plant["serials"]
        config = tmp_path / "gatewayd.toml"
        with_key = config.read_text()
        config.write_text(with_key.replace('key = "development-file"', 'key = "credential"'))
        await site.start()
        await site.ask(do="announce", child=child)

        async def explained() -> bool:
            if child not in await site.devices():
                return False
            told = await site.describe(child)
            return (told["State"], told["Reason"]) == ("admitted", "store-sealed")

        await site.until(explained, "the store to be why the child is no more than admitted")
        await wait_for_gateway(site, "sealed")
        assert "store sealed: " in site.log()
        assert not (await site.ledger(child))["secrets_sha256"]
        assert await site.stop() == 0

        config.write_text(with_key)
        await site.start()
        await site.wait_for(child, "online")
        await wait_for_gateway(site, "running")


async def test_a_storm_of_hang_ups_is_a_few_reloads(tmp_path: Path) -> None:
    async with alone(tmp_path) as (site, _):
        assert site.daemon is not None
        for _n in range(500):
            site.daemon.send_signal(signal.SIGHUP)
        await logged(site, "Configuration reloaded.")
        await site.call("Reload")  # waits for its turn
        assert site.log().count("Configuration reloaded.") < 100
        assert await site.stop() == 0


async def test_a_reload_tells_what_waits_for_a_restart(tmp_path: Path) -> None:
    async with alone(tmp_path) as (site, _):
        path = tmp_path / "gatewayd.toml"
        before = path.read_text()
        path.write_text(f'{before}[registration]\nin_flight = 7\n[log]\nlevel = "debug"\n')
        await site.call("Reload")
        assert "take effect after a restart: registration." in site.log()
        waits = ("get-property", *MANAGER, "RestartNeeded")
        assert await site.busctl(*waits) == 'as 1 "registration"'
        path.write_text(before)
        await site.call("Reload")
        assert await site.busctl(*waits) == "as 0"


async def test_what_is_passed_over_is_logged_at_the_start_and_at_a_reload(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/50-site.conf").write_text("[log]\nlevel = 'debug'\n")
    async with alone(tmp_path) as (site, _):
        assert site.log().count("50-site.conf: warning: is not read") == 1
        (tmp_path / "rules.d/20-more.TOML").write_text("")
        await site.call("Reload")
        assert site.log().count("50-site.conf: warning: is not read") == 2
        assert "20-more.TOML: warning: is not read" in site.log()


async def test_a_list_that_changed_is_named_at_a_reload(tmp_path: Path) -> None:
    rule = """
        [[rule]]
        name = "meters"
        match = { service = "_meter._tcp" }
        action = "reject"
        list = "site.list"
    """
    async with alone(tmp_path) as (site, _):
        (tmp_path / "rules.d/site.list").write_text("AB-1\n")
        (tmp_path / "rules.d/10-meters.toml").write_text(rule)
        await site.call("Reload")
        await site.call("Reload")
        assert "Read again" not in site.log()
        (tmp_path / "rules.d/site.list").write_text("AB-1\nAB-2\n")
        await site.call("Reload")
        (line,) = (line for line in site.log().splitlines() if "Read again" in line)
        assert f"list ({tmp_path}/rules.d/site.list)" in line
        assert "AB-2" not in site.log()


async def test_a_hang_up_with_a_bad_configuration_changes_nothing(tmp_path: Path) -> None:
    async with alone(tmp_path) as (site, _):
        assert site.daemon is not None
        with (tmp_path / "gatewayd.toml").open("a") as config:
            config.write("[cloud.nowhere]\n")
        site.daemon.send_signal(signal.SIGHUP)
        await logged(site, "Configuration not reloaded:")
        assert re.search(r"no plug-in 'nowhere'", site.log())
        await wait_for_gateway(site, "running")
        assert await site.stop() == 0


async def test_children_stay_online_while_the_bus_hangs_and_is_gone(tmp_path: Path) -> None:
    site = Site(tmp_path, plant_options=("--children", "1", "--late", "1", "--seed", "7"))
    async with site.open():
        late, early = site.plant["serials"][-1], site.plant["serials"][0]
        assert site.private_bus is not None
        await site.start()
        await site.wait_for(early, "online")

        site.private_bus.pause()
        site.private_bus.kill()
        await logged(site, "Connection to the message bus lost")
        assert (await site.ledger(early))["online"]
        await site.ask(do="announce", child=late)

        async def is_online() -> bool:
            return bool((await site.ledger(late))["online"])

        await site.until(is_online, "a child to come online without a bus")

        site.private_bus.start()
        await logged(site, "Connected to the message bus again")
        await wait_for_gateway(site, "running")
        await site.wait_for(late, "online")
        assert (await site.ledger(early))["secrets_sha256"]
        device, _ = (await site.devices())[early]
        assert await site.call("Rename", "ss", device, "Dock") is None
        assert await site.stop() == 0


async def test_without_a_bus_it_runs_and_takes_its_name_when_the_bus_is_there(
    tmp_path: Path,
) -> None:
    with PrivateBus(POLICY) as bus:
        bus.kill()
        site = Site(tmp_path, bus=bus.address)
        site.configure(ALONE.format(site=site), "")
        await site.launch()
        await logged(site, "Ready: ")
        assert "not on the message bus" in site.log()
        bus.start()
        await logged(site, "Connected to the message bus again")
        await wait_for_gateway(site, "running")
        assert await site.stop() == 0


async def test_a_second_daemon_on_the_bus_ends_before_it_begins(tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    async with alone(tmp_path) as (site, _):
        second = Site(tmp_path / "second", bus=site.bus)
        second.configure(ALONE.format(site=second), "")
        await second.launch()
        assert second.daemon is not None
        assert await second.daemon.wait() == 1
        assert "Ready" not in second.log()


async def test_a_systemd_that_reads_nothing_keeps_no_child_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path, plant_options=ONE)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        async with site.open():
            (child,) = site.plant["serials"]
            with monkeypatch.context() as environment:
                environment.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
                environment.setenv("WATCHDOG_USEC", "300000")
                await site.launch()
            await logged(site, "Failed to notify systemd")
            await site.ask(do="announce", child=child)
            await site.wait_for(child, "online")
            systemd.setblocking(False)
            received: list[bytes] = []

            async def is_notified_again() -> bool:
                with contextlib.suppress(BlockingIOError):
                    received.append(systemd.recv(4096))
                return "Systemd is notified again" in site.log()

            await site.until(is_notified_again, "systemd to be notified again")
            assert received[0].startswith(b"READY=1\n")
            stuck, _, _ = site.log().partition("Systemd is notified again")
            assert stuck.count("Failed to notify") == 1  # it may be stuck again by now
            assert await site.stop() == 0
