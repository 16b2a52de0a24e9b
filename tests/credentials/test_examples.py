"""The examples of holders do what they say, with what gatewayd gives them."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from gatewayd.cloud.provider import Credential
from gatewayd.credentials.document import document
from gatewayd.device.secret import Secret
from tests.cloud.alibaba.direct import PRODUCT, furnish
from tests.cloud.test_hand_over import staged
from tests.credentials.support import a_record

EXAMPLES = Path(__file__).parents[2] / "systemd/examples"


async def run(name: str, *arguments: str | Path) -> tuple[int, str]:
    """Run an example; return its exit status, and what it complains of."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, EXAMPLES / name, *arguments, stderr=asyncio.subprocess.PIPE
    )
    _, told = await process.communicate()
    return process.returncode or 0, told.decode()


def written(directory: Path, credential: Credential) -> Path:
    path = directory / "child.json"
    path.write_bytes(document(a_record("TH20-1"), credential).reveal())
    return path


async def written_as(form: str, credential: Credential, directory: Path) -> tuple[int, str]:
    """Write the files of a form; return what `run` does."""
    return await run("credential-files.py", form, written(directory, credential), directory)


BY_KEY = Credential(
    "iot.example", 8883, "id_0_0_2026", "id",
    {"prefix": "$oc/devices/id/sys/", "properties": "$oc/devices/id/sys/properties/report",
     "set": "$oc/devices/id/sys/properties/set/#"},
    ca="ROOTS", certificate="CERTIFICATE", key=Secret(b"KEY"), address="192.0.2.7",
)  # fmt: skip
BY_PASSWORD = Credential(
    "iot.example", 1883, "a.b|securemode=2,signmethod=hmacsha256|", "b&a",
    {"prefix": "/sys/a/b/", "properties": "/sys/a/b/post", "set": "/sys/a/b/set"},
    password=Secret(b'12"$`\\34'),
)  # fmt: skip


@pytest.mark.parametrize("form", ["mosquitto", "environment"])
async def test_without_a_credential_the_unit_does_not_start(form: str, tmp_path: Path) -> None:
    (tmp_path / "child.json").touch()
    status, told = await run("credential-files.py", form, tmp_path / "child.json", tmp_path)
    assert status == 1
    assert "not handed over" in told
    assert [path.name for path in tmp_path.iterdir()] == ["child.json"]


async def test_a_bridge_shows_a_certificate_or_a_password(tmp_path: Path) -> None:
    assert await written_as("mosquitto", BY_KEY, tmp_path) == (
        0,
        "",
    )
    lines = (tmp_path / "bridge.conf").read_text().splitlines()
    assert "address 192.0.2.7:8883" in lines
    assert f"bridge_keyfile {tmp_path}/key.pem" in lines
    assert (tmp_path / "key.pem").read_text() == "KEY"
    assert "topic # in 1 child/set/ $oc/devices/id/sys/properties/set/" in lines
    assert not [line for line in lines if line.startswith("remote_password")]
    assert await run(
        "credential-files.py", "mosquitto", written(tmp_path, BY_PASSWORD), tmp_path
    ) == (0, "")
    lines = (tmp_path / "bridge.conf").read_text().splitlines()
    assert "remote_clientid a.b|securemode=2,signmethod=hmacsha256|" in lines
    assert 'remote_password 12"$`\\34' in lines
    assert 'topic "" in 1 child/set /sys/a/b/set' in lines
    assert "bridge_capath /etc/ssl/certs" in lines


def sourced(path: Path) -> str:
    """Return the environment that a shell makes of a file, each entry with a null after it."""
    script = ["env", "-i", "sh", "-c", 'set -a; . "$0"; env -0', str(path)]
    return subprocess.run(script, check=True, capture_output=True, text=True).stdout


async def test_an_environment_file_is_read_as_it_was_meant(tmp_path: Path) -> None:
    made = await written_as("environment", BY_PASSWORD, tmp_path)
    assert made == (0, "")
    told = await asyncio.to_thread(sourced, tmp_path / "environment")
    values = dict(entry.split("=", 1) for entry in told.split("\0") if entry)
    assert values["CHILD_PASSWORD"] == '12"$`\\34'
    assert values["CHILD_CLIENT_ID"] == "a.b|securemode=2,signmethod=hmacsha256|"
    assert values["CHILD_TOPIC_PROPERTIES"] == "/sys/a/b/post"
    assert values["CHILD_KEY_FILE"] == values["CHILD_CA_FILE"] == ""


def shown(name: str) -> str:
    """Return the part of a drop-in that its user copies elsewhere."""
    lines = (EXAMPLES / name).read_text().partition("[Unit]")[0].splitlines()
    return "\n".join(line.removeprefix("#") for line in lines)


@pytest.mark.parametrize("name", ["telegraf-gatewayd.conf", "node-red-gatewayd.conf"])
@pytest.mark.parametrize("credential", [BY_KEY, BY_PASSWORD])
async def test_each_variable_that_a_drop_in_uses_is_written(
    name: str, credential: Credential, tmp_path: Path
) -> None:
    await written_as("environment", credential, tmp_path)
    told = await asyncio.to_thread(sourced, tmp_path / "environment")
    known = {entry.partition("=")[0] for entry in told.split("\0")}
    used = set(re.findall(r"\$\{(\w+)\}", shown(name)))
    assert {"CHILD_KEY_FILE", "CHILD_CERTIFICATE_FILE", "CHILD_PASSWORD"} < used <= known


def test_telegraf_connects_as_both_clouds_want() -> None:
    """Both refuse QoS 2, and a keep-alive that is not in 30 to 1200 s."""
    text = shown("telegraf-gatewayd.conf").partition("[[outputs.mqtt]]")[2]
    settings = [line for line in text.splitlines() if " = " in line]
    output = tomllib.loads("\n".join(settings))
    assert output["qos"] == 1
    assert 30 <= output["keep_alive"] <= 1200
    assert output["servers"] == ["tls://${CHILD_HOST}:${CHILD_PORT}"]


async def test_a_program_with_paho_keeps_the_session_of_its_child(tmp_path: Path) -> None:
    async with staged(furnish(tmp_path), "direct") as (stage, provider):
        secret = await stage.issued()
        await (await provider.connect(stage.name, secret)).close()
        path = written(tmp_path, await provider.credential(stage.name, secret))
        assert json.loads(path.read_text())["host"] == "localhost"
        process = await asyncio.create_subprocess_exec(
            sys.executable, EXAMPLES / "paho-holder.py", path
        )
        try:
            async with asyncio.timeout(60):
                while (PRODUCT, stage.name.device) not in stage.cloud.online:
                    assert process.returncode is None
                    await asyncio.sleep(0.05)
        finally:
            process.kill()
            await process.wait()
