"""docs/mqtt.md: its broker, its commands and its configuration, as they are printed."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from gatewayd.cli.main import commands_for, main
from gatewayd.cloud.provider import Issued, LoginError
from gatewayd.device.record import CloudName
from gatewayd.testing.contracts.cloud import RecordingKeeper
from gatewayd.testing.waiting import until
from tests.cloud.mqtt_broker.brokers import (
    MANAGER,
    NAMES,
    PASSWORD,
    ManagedBroker,
    managed_broker,
    plugin,
)
from tests.cloud.mqtt_broker.certified import CertifiedBroker, certified_broker
from tests.support.gatewayctl import validate

PAGE = (Path(__file__).parents[3] / "docs/mqtt.md").read_text()
USER = "root" if os.geteuid() == 0 else "mosquitto"
ADMIN = ("admin", "the administrator's")


def configurations() -> list[str]:
    """Return the broker's configuration for passwords, and that for certificates."""
    found = re.findall(r"```\n(per_listener.*?)```", PAGE, re.S)
    assert len(found) == 2
    return found


def section(title: str) -> str:
    """Return a section of the page, without its title."""
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]


def access() -> str:
    """Return the access list of the page."""
    (text,) = re.findall(r"```\n(pattern .*?)```", PAGE, re.S)
    return str(text)


def local(text: str) -> str:
    """Return a configuration of the page, with the paths of a test."""
    text = text.replace("listener 8883", "listener {port} 127.0.0.1")
    text = text.replace("/etc/mosquitto/certs", "{directory}").replace(
        "/etc/mosquitto", "{directory}"
    )
    text = re.sub(r"/usr/lib/\S+security.so", plugin(), text)
    return text.replace("/var/lib/mosquitto/clients.json", "{directory}/page.json")


def broker_lines() -> list[str]:
    """Return the configuration for passwords, with the paths of a test."""
    return local(configurations()[0]).splitlines()


@pytest.mark.parametrize("which", [0, 1], ids=["passwords", "certificates"])
def test_gatewayctl_prints_what_the_page_has(
    which: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certificates, passwords = re.findall(r"```toml\n(\[cloud\.plant\].*?)```", PAGE, re.S)
    path = tmp_path / "gatewayd.toml"
    table = (passwords, certificates)[which]
    path.write_text(table.replace('ca_file = "/etc/gatewayd/plant-ca.pem"', ""))
    assert main(["broker-config", "plant", "--config", str(path)], {}) == 0
    printed = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("#")]
    own = section(("Run your own broker: passwords", "Run your own broker: certificates")[which])
    typed = re.findall(
        r"^    \$ (mosquitto_ctrl .*|chown .*|chmod .*|systemctl .*|gatewayctl ca .*)$", own, re.M
    )
    conf = configurations()[which].splitlines()
    expected = [*conf, *typed]
    if which:
        expected = [*typed[:2], *conf, *access().splitlines(), *typed[2:]]
    assert [re.sub(r"/usr/lib/[^/]+/", "/usr/lib/x/", one) for one in printed] == [
        re.sub(r"/usr/lib/[^/]+/", "/usr/lib/x/", one) for one in expected
    ]
    assert main(["broker-config", "--json", "--config", str(path)], {}) == 0
    (command,) = commands_for(["broker-config"])
    validate(capsys.readouterr().out, command.fields, 0)
    assert main(["broker-config", "other", "--config", str(path)], {}) == 1
    assert "Use one of: plant" in capsys.readouterr().err


def commands(one: ManagedBroker) -> list[list[str]]:
    """Return the page's commands of an administrator, for a broker of a test."""
    where = [
        "-h", "localhost", "-p", str(one.broker.port), "--cafile", str(one.directory / "ca.pem"),
        "-u", ADMIN[0], "-P", ADMIN[1],
    ]  # fmt: skip
    found = re.findall(r"^    \$ mosquitto_ctrl (dynsec (?!init).*)$", PAGE, re.M)
    assert len(found) == 6
    return [["mosquitto_ctrl", *where, *shlex.split(line)] for line in found]


def set_up(one: ManagedBroker) -> None:
    """Do what the page says."""
    one.broker.stop()
    page = one.directory / "page.json"
    init = ["mosquitto_ctrl", "dynsec", "init", str(page), *ADMIN]
    subprocess.run(init, check=True, capture_output=True)
    port, directory = one.broker.port, one.directory
    lines = [
        line.replace("{port}", str(port)).replace("{directory}", str(directory))
        for line in broker_lines()
    ]
    (directory / "mosquitto.conf").write_text("\n".join([*lines, f"user {USER}", ""]))
    one.broker.start()
    for command in commands(one):
        create = "createClient" in command  # what it asks for at a terminal
        more = ["-p", PASSWORD] if create else []
        ended = subprocess.run([*command, *more], capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert "Error" not in ended.stdout + ended.stderr, command


@pytest.mark.integration
async def test_a_broker_that_is_set_up_by_the_page_is_a_cloud() -> None:
    async with managed_broker() as one:
        await asyncio.to_thread(set_up, one)
        name = CloudName("plant", "meter", "PM-0001")
        kept = RecordingKeeper()
        assert MANAGER in PAGE
        assert await one.provider.register(name, kept.keep) == Issued()
        session = await one.provider.connect(name, kept.secrets[0])
        await session.close()


STUBS = {
    "ssh": '#!/bin/sh\n[ "$*" = "gateway-1 gatewayctl ca revoked --cloud plant" ] || exit 9\n'
    "cat fetched\n",
    "systemctl": '#!/bin/sh\n[ "$*" = "reload mosquitto" ] && kill -HUP {pid} && touch reloaded\n',
}
"""What stands for a gateway that is elsewhere, and for the service of the broker."""


async def fetch(one: CertifiedBroker, listed: str) -> bool:
    """Run the script of the page, where the gateway has this list; whether the broker reloads."""
    (script,) = re.findall(r"```sh\n(.*?)```", PAGE, re.S)
    programs = one.directory / "bin"
    programs.mkdir(exist_ok=True)
    for name, text in STUBS.items():
        (programs / name).write_text(text.replace("{pid}", str(one.broker.pid)))
        (programs / name).chmod(0o755)
    (one.directory / "reloaded").unlink(missing_ok=True)
    (one.directory / "fetched").write_text(listed)
    script = script.replace("/etc/mosquitto/certs", str(one.directory))
    before = one.broker.log().count("Reloading config")
    ended = await asyncio.create_subprocess_exec(
        "sh", "-c", script, env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"},
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert (await ended.wait() == 0) == ("BEGIN" in listed)
    reloads = (one.directory / "reloaded").exists()
    if reloads:
        await until(lambda: one.broker.log().count("Reloading config") > before)
    return reloads


@pytest.mark.integration
async def test_a_broker_that_is_set_up_by_the_page_refuses_what_the_script_has_fetched() -> None:
    async with certified_broker() as one:
        one.broker.stop()
        port, directory = str(one.broker.port), str(one.directory)
        text = local(configurations()[1]).replace("{port}", port).replace("{directory}", directory)
        more = f"log_dest file {directory}/log\nlog_type information\nuser {USER}\n"
        awaited = f"listener 0 {directory}/socket\n"  # what shows that it has started
        (one.directory / "mosquitto.conf").write_text(text + more + awaited)
        (one.directory / "gateways.acl").write_text(access())
        one.broker.start()
        assert one.provider.issuer is not None
        authority = one.provider.issuer.authority
        assert not await fetch(one, (one.directory / "revoked.pem").read_text())
        kept = RecordingKeeper()
        assert await one.provider.register(NAMES[0], kept.keep) == Issued()
        await (await one.provider.connect(NAMES[0], kept.secrets[0])).close()
        assert await one.provider.unbind(NAMES[0]) is None
        assert not await fetch(one, "no list"), "a broken one would let everyone in"
        assert await fetch(one, await authority.revocation_lists())
        assert not await fetch(one, await authority.revocation_lists())
        with pytest.raises(LoginError):
            await one.provider.connect(NAMES[0], kept.secrets[0])
