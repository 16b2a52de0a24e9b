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
from gatewayd.cloud.provider import Issued
from gatewayd.device.record import CloudName
from gatewayd.testing.contracts.cloud import RecordingKeeper
from tests.cloud.mqtt_broker.brokers import MANAGER, PASSWORD, ManagedBroker, managed_broker, plugin
from tests.support.gatewayctl import validate

PAGE = (Path(__file__).parents[3] / "docs/mqtt.md").read_text()
USER = "root" if os.geteuid() == 0 else "mosquitto"
ADMIN = ("admin", "the administrator's")


def broker_lines() -> list[str]:
    """Return the configuration of the page, with the paths of a test."""
    (text,) = re.findall(r"```\n(per_listener.*?)```", PAGE, re.S)
    text = text.replace("listener 8883", "listener {port} 127.0.0.1")
    text = text.replace("/etc/mosquitto/certs", "{directory}")
    text = re.sub(r"/usr/lib/\S+security.so", plugin(), text)
    return text.replace("/var/lib/mosquitto/clients.json", "{directory}/page.json").splitlines()


def test_gatewayctl_prints_what_the_page_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (table,) = re.findall(r"```toml\n(\[cloud\.plant\].*?)```", PAGE, re.S)
    path = tmp_path / "gatewayd.toml"
    path.write_text(table.replace('ca_file = "/etc/gatewayd/plant-ca.pem"', ""))
    assert main(["broker-config", "plant", "--config", str(path)], {}) == 0
    printed = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("#")]
    (conf,) = re.findall(r"```\n(per_listener.*?)```", PAGE, re.S)
    typed = re.findall(r"^    \$ (mosquitto_ctrl .*|chown .*|systemctl .*)$", PAGE, re.M)
    assert [re.sub(r"/usr/lib/[^/]+/", "/usr/lib/x/", one) for one in printed] == [
        re.sub(r"/usr/lib/[^/]+/", "/usr/lib/x/", one) for one in (*conf.splitlines(), *typed)
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
