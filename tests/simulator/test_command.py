"""The command gatewayd-simulator: a wrong order is one line, and no traceback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from gatewayd.cli.setup.questions import BY_KEY
from gatewayd.simulator.control import ask
from tests.simulator.alibaba import client as alibaba
from tests.simulator.huawei.client import Gateway, Hello
from tests.simulator.wire import trusting, wire
from tests.support.mosquitto import free_port

pytestmark = pytest.mark.integration

OPTIONS = ("--children", "2", "--network", "10.77.0.0/24")
MANUAL = Path(__file__).parents[2] / "packaging/man/gatewayd-simulator.1"


def refused(*words: str) -> str:
    """What the command says that fails."""
    command = [sys.executable, "-m", "gatewayd.simulator", *words]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert ran.returncode == 1
    return ran.stderr


@pytest.mark.parametrize(("words", "said"), [
    (("--faults", "nonsense"), "Unknown fault"),
    (("--interface", "192.0.2.77"), "cannot be started: "),
    (("--address", "192.0.2.77"), "cannot be started: "),
    (("--interface", "no-such-one"), "gatewayd-simulator: "),
    (("--address", "localhost"), "Correct --network or --address"),
    (("--network", "10.0.0.1/8"), "Correct --network or --address"),
    (("--network", "10.77.0.0/30"), "no room for"),
    (("--children", "200000", "--network", "10.0.0.0/8"), "too many"),
    (("--children", "-1"), "negative"),
    (("--rate", "-1"), "negative"),
    (("--port", "70000"), "at most 65535"),
])  # fmt: skip
def test_what_cannot_be_simulated_is_said(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    (line,) = refused(*words, str(tmp_path / "new")).splitlines()
    assert said in line


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (line,) = refused(str(tmp_path / "file" / "plant")).splitlines()
    assert f"{tmp_path}/file/plant: Not a directory" in line


def test_nothing_is_asked_of_a_simulator_that_does_not_run(tmp_path: Path) -> None:
    (line,) = refused("--ask", '{"do": "truth"}', str(tmp_path)).splitlines()
    assert f"no simulator runs with {tmp_path}" in line


def test_what_is_no_request_is_said_in_one_line(tmp_path: Path) -> None:
    with running(tmp_path):
        for line in ("[]", "7", "{", '"truth"', '{"do": 7}', '{"path": "x"}', "null"):
            (said,) = refused("--ask", line, str(tmp_path)).splitlines()
            assert said.startswith("gatewayd-simulator: "), line


@contextlib.contextmanager
def running(directory: Path, *options: str) -> Iterator[dict[str, Any]]:
    """Run the command until the block ends; yield its plant.json."""
    (directory / "plant.json").unlink(missing_ok=True)
    command = [sys.executable, "-m", "gatewayd.simulator", *OPTIONS, *options, str(directory)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while not (directory / "plant.json").exists():
            assert process.poll() is None, "the simulator has ended"
            assert time.monotonic() < end, "the simulator does not start"
            time.sleep(0.02)
        yield json.loads((directory / "plant.json").read_text())
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def asked(directory: Path, **request: object) -> Any:  # JSON
    return asyncio.run(ask(directory / "control", **request))


def test_the_port_can_be_chosen(tmp_path: Path) -> None:
    port = free_port()
    with running(tmp_path, "--port", str(port)) as facts:
        assert facts["port"] == port


def files(directory: Path) -> dict[str, str]:
    """Return what clients need of a plant."""
    wanted = [*directory.glob("*.pem"), *directory.glob("*.json"), *directory.glob("*secret")]
    return {path.name: path.read_text() for path in wanted if path.name != "plant.json"}


def fixed(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the facts that a restart leaves: not the ports of interfaces for owners."""
    return {name: fact for name, fact in facts.items() if name not in ("open_api", "management")}


@pytest.mark.parametrize("cloud", ["alibaba", "huawei"])
def test_the_state_of_a_cloud_is_kept_over_a_restart_on_request(tmp_path: Path, cloud: str) -> None:
    with running(tmp_path, "--cloud", cloud, "--keep") as facts:
        before, wrote, child = fixed(facts), files(tmp_path), facts["serials"][0]
        if cloud == "alibaba":
            asked(tmp_path, do="delete", child=child)
        else:
            asked(tmp_path, do="model", services=[])
        truth = asked(tmp_path, do="truth")["cloud"]
    assert (tmp_path / "kept-state").stat().st_mode & 0o777 == 0o600
    with running(tmp_path, "--cloud", cloud, "--keep") as facts:
        assert fixed(facts) == before
        assert files(tmp_path) == wrote
        assert asked(tmp_path, do="truth")["cloud"] == truth
        if cloud == "alibaba":
            with pytest.raises(RuntimeError):
                asked(tmp_path, do="ledger", child=child)
    with running(tmp_path, "--cloud", cloud):
        assert files(tmp_path) != wrote


async def test_a_child_that_has_its_secret_logs_in_again_after_a_restart(tmp_path: Path) -> None:
    with running(tmp_path, "--keep") as facts:
        name, context = facts["serials"][0], trusting((tmp_path / "ca.pem").read_text())
        who = alibaba.registering(name, key=(tmp_path / "product-secret").read_text())
        who = who.but(product=facts["product"])
        secret = await alibaba.obtain(facts["port"], who, context)
        known = alibaba.logging_in(name, secret).but(product=facts["product"])
        assert await alibaba.knock(facts["port"], known, context) == 0
    with running(tmp_path, "--keep") as facts:
        assert await alibaba.knock(facts["port"], known, context) == 0
        assert await alibaba.knock(facts["port"], known.but(key="another"), context) != 0
        assert await alibaba.knock(facts["port"], who, context) != 0, "it is activated"


async def test_a_sub_device_comes_online_again_after_a_restart(tmp_path: Path) -> None:
    options = ("--cloud", "huawei", "--keep")
    with running(tmp_path, *options) as facts:
        new = {"node_id": facts["serials"][0], "product_id": facts["product"]}
        async with huawei_gateway(tmp_path, facts) as gateway:
            added = await gateway.ask("add_sub_device_request", {"devices": [new]})
        (child,) = (one["device_id"] for one in added["successful_devices"])
    with running(tmp_path, *options) as facts:
        async with huawei_gateway(tmp_path, facts) as gateway:
            answer = await gateway.report({child: "ONLINE", "unknown": "ONLINE"})
    assert [one["device_id"] for one in answer["successful_devices"]] == [child]


@contextlib.asynccontextmanager
async def huawei_gateway(directory: Path, facts: dict[str, Any]) -> AsyncIterator[Gateway]:
    """Log the gateway of "east" in."""
    own = f"{facts['gateways']}_{facts['gateway']}"
    hello = Hello(own, secret=(directory / "east-gateway-secret").read_text())
    context = trusting((directory / "ca.pem").read_text())
    async with wire(facts["port"], context, hello.packet, facts["hosts"]["east"]) as link:
        assert await link.code() == 0
        yield Gateway(link, own)


def test_state_of_another_plant_is_refused(tmp_path: Path) -> None:
    with running(tmp_path, "--keep"):
        pass
    options = ("--keep", *OPTIONS, str(tmp_path))
    assert "remove it to begin again" in refused("--seed", "2", *options)
    (tmp_path / "kept-state").chmod(0o666)
    assert "another user's" in refused(*options)
    (tmp_path / "kept-state").chmod(0o600)
    (tmp_path / "kept-state").write_bytes(b"x")
    assert "Remove it to begin again" in refused(*options)


@pytest.mark.parametrize("options", [
    ("--cloud", "alibaba"), ("--cloud", "alibaba", "--node", "sub-device"), ("--cloud", "huawei"),
], ids=" ".join)  # fmt: skip
def test_a_configuration_is_printed_that_gatewayd_accepts(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    plant, site = tmp_path / "plant", tmp_path / "etc"
    command = [sys.executable, "-m", "gatewayd.simulator", "--configuration", str(plant)]
    with running(plant_made(plant), *options):
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for name in ("conf.d", "rules.d"):
        (site / name).mkdir(parents=True)
    printed = printed.replace("/etc/gatewayd", str(site)).replace(" -g gatewayd", "")
    _, conf, rules = re.split(r"^# /.*\.toml:$", printed, flags=re.M)
    (site / "conf.d/60-plant.toml").write_text(conf)
    (site / "rules.d/60-plant.toml").write_text(rules)
    for line in printed.splitlines():
        if line.startswith("install "):
            subprocess.run(line.split(), check=True)
    assert tomllib.loads(conf)["discovery"]["mdns"]["interfaces"] == ["lo"]
    (site / "gatewayd.toml").write_text(f'[gateway]\nstate_directory = "{tmp_path}"\n')
    config = str(site / "gatewayd.toml")
    checked = subprocess.run(
        [sys.executable, "-m", "gatewayd", "--check-config", "--config", config],
        capture_output=True, text=True, check=False, env=os.environ | {"HOME": str(tmp_path)},
    )  # fmt: skip
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize(("cloud", "secret", "wanted"), [
    ("alibaba", "product-secret", {"product": "a1SimProdKey"}),
    ("huawei", "east-gateway-secret", {"gateway": "6742bf260f2f9030e44210d9/gateway-1"}),
    ("mqtt", "management-password", {"product": "sensor"}),
])  # fmt: skip
def test_answers_are_printed_that_gatewayctl_setup_accepts(
    tmp_path: Path, cloud: str, secret: str, wanted: dict[str, str]
) -> None:
    plant = tmp_path / "plant"
    with running(plant_made(plant), "--cloud", cloud):
        printed = subprocess.run(
            [sys.executable, "-m", "gatewayd.simulator", "--answers", str(plant)],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        facts = json.loads((plant / "plant.json").read_text())
    answers = tomllib.loads(printed)
    assert answers.keys() <= BY_KEY.keys()
    host = facts["hosts"]["east"] if cloud == "huawei" else facts["host"]
    user = f"{facts['manager']}@" if cloud == "mqtt" else ""
    assert answers["endpoint"] == f"{user}{host}:{facts['port']}"
    assert answers["secret"] == (plant / secret).read_text()
    assert answers.items() >= wanted.items()


def test_there_are_no_answers_where_setup_cannot_set_up(tmp_path: Path) -> None:
    with running(plant_made(tmp_path / "plant"), "--node", "sub-device"):
        assert "Use --configuration" in refused("--answers", str(tmp_path / "plant"))


def plant_made(plant: Path) -> Path:
    plant.mkdir()
    return plant


def test_the_manual_has_every_option() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "gatewayd.simulator", "--help"], capture_output=True, text=True,
        check=True,
    ).stdout  # fmt: skip
    options = set(re.findall(r"^  (--[a-z-]+)", shown, re.M)) - {"--certificate", "--faults"}
    manual = MANUAL.read_text().replace("\\-", "-")
    assert {one for one in options if one not in manual} == set()
