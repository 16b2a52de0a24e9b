"""gatewayctl console alibaba, against the simulated cloud's calls of an owner."""

from __future__ import annotations

import asyncio
import json
import stat
import time
import tomllib
from argparse import ArgumentTypeError
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from gatewayd.cli.console.alibaba import device_path
from gatewayd.cli.main import commands_for, main
from gatewayd.cli.setup.questions import BY_KEY
from gatewayd.console.alibaba import platform, provisioning
from gatewayd.simulator.alibaba.account import MODEL
from gatewayd.simulator.alibaba.cloud import AlibabaCloud
from gatewayd.simulator.alibaba.open_api.management import OpenApiOptions
from gatewayd.simulator.alibaba.open_api.server import OpenApi
from gatewayd.simulator.alibaba.thing import specification
from tests.simulator.alibaba.client import PRODUCT
from tests.simulator.alibaba.gateway import CHILD, SENSORS, site
from tests.support.gatewayctl import validate
from tests.support.simulated_ca import AUTHORITY

pytestmark = pytest.mark.integration

KEY, SECRET, TOKEN = "LTAIexample", "s3cr3t-of+the/owner=", "CAIS+token/with=signs"
FIELDS = {command.words: command.fields for command in commands_for(("console",))}
OPTIONS = OpenApiOptions("cn-shanghai", limited=False, batch_seconds=0.05)


@dataclass
class Operator:
    """An operator's machine, where nothing of gatewayd is but gatewayctl and an access key."""

    cloud: AlibabaCloud
    folder: Path
    capsys: pytest.CaptureFixture[str]
    port: int

    async def run(self, *words: str, key: str = "key") -> tuple[int, str, str]:
        """Return the exit status, the output and the errors of a command, without any secret."""
        where = (
            "--endpoint", f"localhost:{self.port}", "--address", "127.0.0.1",
            "--ca-file", str(self.folder / "ca.pem"), "--key-file", str(self.folder / key),
        )  # fmt: skip
        status = await asyncio.to_thread(main, ["console", "alibaba", *words, *where], {})
        out, errors = self.capsys.readouterr()
        for secret in (SECRET, TOKEN, *self.secrets()):
            assert secret not in out + errors
        return status, out, errors

    def secrets(self) -> list[str]:
        """Return the secrets that the cloud has now."""
        registry = self.cloud.registry
        devices = [one.secret for one in registry.devices.values() if one.secret]
        return [*devices, *(one.secret for one in registry.products.values())]

    async def good(self, *words: str, **more: str) -> str:
        """Return the output of a command that succeeds."""
        status, out, errors = await self.run(*words, **more)
        assert status == 0, errors
        return out

    async def json(self, *words: str) -> list[dict[str, Any]]:
        """Return the objects of a command, validated."""
        status, out, _ = await self.run(*words, "--json")
        assert status == 0, out
        longest = max((one for one in FIELDS if " ".join(words).startswith(one[16:])), key=len)
        validate(out, FIELDS[longest], status)
        return [json.loads(line) for line in out.splitlines()]

    async def refused(self, *words: str, **more: str) -> str:
        """Return the error of a command that fails."""
        status, _, errors = await self.run(*words, **more)
        assert status == 1
        return errors

    def list_names(self, *names: str) -> str:
        """Write a list of names, and return its path."""
        path = self.folder / "names.txt"
        path.write_text("".join(f"{name}\n" for name in names))
        return str(path)


async def operated(
    folder: Path, capsys: pytest.CaptureFixture[str], options: OpenApiOptions
) -> AsyncIterator[Operator]:
    (folder / "ca.pem").write_text(AUTHORITY.pem)
    for name, lines in {
        "key": (KEY, SECRET),
        "stale": (KEY, "another"),
        "unknown": ("LTAIanother", SECRET),
        "temporary": ("STS.example", SECRET, TOKEN),
        "expired": ("STS.example", SECRET, "CAIS+an+older+one"),
    }.items():
        (folder / name).write_text("\n".join(lines))
        (folder / name).chmod(0o600)
    cloud = site(clock=time.monotonic)
    served = OpenApi(
        cloud,
        authority=AUTHORITY,
        credentials={KEY: SECRET, "STS.example": SECRET},
        options=options,
        wall=time.time,
    )
    async with served:
        yield Operator(cloud, folder, capsys, served.port)


@pytest.fixture
async def operator(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Operator]:
    monkeypatch.setattr(platform, "PAUSE", 0.0)
    monkeypatch.setattr(provisioning, "FIRST_POLL", 0.05)
    options = replace(OPTIONS, tokens={"STS.example": TOKEN})
    async for one in operated(tmp_path, capsys, options):
        yield one


async def test_two_thousand_serial_numbers_are_one_command(operator: Operator) -> None:
    names = [f"TH20-{number:06}" for number in range(2_000)]
    listed = operator.list_names("# the plant", *names)
    dry = await operator.json("device", "register", SENSORS, listed, "--dry-run")
    assert [(one["Outcome"], one["Done"], one["Detail"]) for one in dry] == [
        ("made", False, "1000 devices"),
        ("made", False, "1000 devices"),
    ]
    assert dry[0]["Asked"] == [
        "BatchCheckDeviceNames of 1000 names",
        "BatchRegisterDeviceWithApplyId of 1000 names",
    ]
    assert (SENSORS, names[0]) not in operator.cloud.registry.devices
    made = await operator.json("device", "register", SENSORS, listed)
    assert [(one["Outcome"], one["Done"], one["Name"]) for one in made] == [
        ("made", True, f"{names[0]} to {names[999]}"),
        ("made", True, f"{names[1000]} to {names[1999]}"),
    ]
    assert all((SENSORS, name) in operator.cloud.registry.devices for name in names)
    again = await operator.good("device", "register", SENSORS, listed)
    assert "present   devices   TH20-000000 to TH20-001999" in again
    assert again.endswith("Nothing was changed: all is as wanted already.\n")


async def test_a_run_that_was_interrupted_goes_on(operator: Operator) -> None:
    for name in ("pump-2", "pump-3"):
        operator.cloud.create(SENSORS, name)
    listed = operator.list_names("pump-1", "pump-2", "pump-3", "pump-4")
    steps = await operator.json("device", "register", SENSORS, listed)
    assert [(one["Outcome"], one["Name"], one["Detail"]) for one in steps] == [
        ("present", "pump-2 to pump-3", "2 devices"),
        ("made", "pump-1 to pump-4", "2 devices"),
    ]


async def test_a_wrong_name_is_refused_before_it_is_sent(operator: Operator) -> None:
    listed = operator.list_names("pump-1", "abc", "pump 2", "pump-1")
    said = await operator.refused("device", "register", SENSORS, listed)
    rule = "Use 4 to 32 letters, digits and - _ @ . :"
    other = "it has another character than a device name may have"
    assert said.splitlines() == [
        f"gatewayctl: {listed}, line {line}"
        for line in (
            f"2: 'abc' cannot be a device name: it has 3 characters. {rule}",
            f"3: 'pump 2' cannot be a device name: {other}. {rule}",
            "4: pump-1 is on line 1, too. Remove one of them",
        )
    ]
    assert (SENSORS, "pump-1") not in operator.cloud.registry.devices


async def test_a_product_is_prepared_to_the_one_step_that_is_left(operator: Operator) -> None:
    secret_file = operator.folder / "product-secret"
    words = (
        "prepare", "--product", "Pumps_1", "--node", "sub-device",
        "--names", operator.list_names("pump-1", "pump-2"), "--secret-file", str(secret_file),
    )  # fmt: skip
    dry = await operator.good(*words, "--dry-run")
    assert "to make   product   Pumps_1" in dry
    assert not secret_file.exists()
    steps = await operator.json(*words)
    assert [(one["Outcome"], one["Kind"]) for one in steps] == [
        ("made", "product"), ("made", "secret"), ("made", "devices"), ("left", "switch"),
    ]  # fmt: skip
    key = steps[0]["Id"]
    product = operator.cloud.registry.products[key]
    assert (product.node.value, product.dynamic) == ("sub-device", False)
    assert "Devices > Products > Pumps_1 > Product Details" in steps[3]["Detail"]
    assert secret_file.read_text().strip() == product.secret
    assert stat.S_IMODE(secret_file.stat().st_mode) == 0o600
    assert [one["Outcome"] for one in await operator.json(*words)] == [
        "present", "present", "present", "left",
    ]  # fmt: skip
    assert f"found     product   Pumps_1  {key}  (2 devices)" in await operator.good(
        "product", "list"
    )
    secret_file.write_text("another\n")
    assert "is there with another content" in await operator.refused(*words)
    said = await operator.refused("prepare", "--product", "Pumps_1", "--node", "gateway")
    assert "with the node type sub-device, and not gateway" in said


async def test_the_model_of_a_product_is_published_once(operator: Operator) -> None:
    model = operator.folder / "model.json"
    words = ("prepare", "--product", "Pumps_1", "--node", "direct", "--model", str(model))
    model.write_text(json.dumps(MODEL))
    dry = await operator.good(*words, "--dry-run")
    assert "PublishThingModel" in dry
    steps = await operator.json(*words)
    assert [(one["Outcome"], one["Kind"]) for one in steps[:2]] == [
        ("made", "product"), ("made", "model"),
    ]  # fmt: skip
    product = operator.cloud.registry.products[steps[0]["Id"]]
    assert product.model == specification.parse(MODEL)
    assert (await operator.json(*words))[1]["Outcome"] == "present"
    fewer = {**MODEL, "properties": MODEL["properties"][:1]}
    model.write_text(json.dumps(fewer))
    assert (await operator.json(*words))[1]["Outcome"] == "present", "it has all of these"
    more = [*MODEL["properties"], {"identifier": "Rpm", "dataType": {"type": "int"}}]
    model.write_text(json.dumps({**MODEL, "properties": more}))
    assert (await operator.json(*words))[1]["Outcome"] == "changed"
    assert "Rpm" in product.model.properties
    model.write_text("{}")
    assert "it has none of properties, events, services" in await operator.refused(*words)


async def test_the_answers_for_setup_are_written(operator: Operator) -> None:
    answers = operator.folder / "answers.toml"
    words = (
        "prepare",
        "--product",
        "Pumps_1",
        "--answers",
        str(answers),
        "--region",
        "cn-shanghai",
    )
    said = await operator.refused(*words, "--node", "gateway")
    assert "Use --node direct, or leave out --answers" in said
    assert "to make   answers" in await operator.good(*words, "--node", "direct", "--dry-run")
    assert not answers.exists()
    steps = await operator.json(*words, "--node", "direct")
    assert [(one["Outcome"], one["Kind"]) for one in steps] == [
        ("made", "product"), ("made", "answers"), ("left", "switch"),
    ]  # fmt: skip
    known = tomllib.loads(answers.read_text())
    assert known.keys() <= BY_KEY.keys()
    key = steps[0]["Id"]
    assert known == {
        "cloud": "alibaba",
        "endpoint": "cn-shanghai",
        "product": key,
        "secret": operator.cloud.registry.products[key].secret,
    }
    assert stat.S_IMODE(answers.stat().st_mode) == 0o600
    assert (await operator.json(*words, "--node", "direct"))[1]["Outcome"] == "present"


async def test_a_device_is_reset(operator: Operator) -> None:
    device, registry = f"{SENSORS}/{CHILD}", operator.cloud.registry
    fresh = await operator.good("device", "reset", device)
    assert "it was never online, and may register as it is" in fresh
    registry.issue((SENSORS, CHILD))
    registry.admit((SENSORS, CHILD))
    assert not registry.devices[SENSORS, CHILD].may_register
    dry = await operator.good("device", "reset", device, "--dry-run")
    assert f"ResetThing {SENSORS} {CHILD}" in dry
    assert not registry.devices[SENSORS, CHILD].may_register
    (step,) = await operator.json("device", "reset", device)
    assert (step["Outcome"], step["Done"]) == ("changed", True)
    assert "a new secret by gatewayctl reregister CHILD CHILD" in step["Detail"]
    assert registry.devices[SENSORS, CHILD].may_register
    shown = await operator.good("device", "show", device)
    assert f"found     device    {CHILD}  {SENSORS}  (offline, first online 20" in shown


async def test_a_device_is_deleted_once(operator: Operator) -> None:
    device = f"{SENSORS}/{CHILD}"
    assert "Use --yes" in await operator.refused("device", "delete", device)
    (step,) = await operator.json("device", "delete", device, "--yes")
    assert step["Outcome"] == "deleted"
    (step,) = await operator.json("device", "delete", device, "--yes")
    assert step["Outcome"] == "absent"
    for verb in ("show", "reset"):
        assert "There is no device" in await operator.refused("device", verb, device)


async def test_why_a_call_is_refused(operator: Operator) -> None:
    words = ("product", "list")
    assert "the secret is not that of this access key" in await operator.refused(
        *words, key="stale"
    )
    assert "the access key is not known" in await operator.refused(*words, key="unknown")
    assert "the security token has expired" in await operator.refused(*words, key="expired")
    assert PRODUCT in await operator.good(*words, key="temporary")
    said = await operator.refused(*words, "--instance", "iot-other")
    assert "there is no instance of this ID here (iot.system.InstanceNotFound)" in said
    said = await operator.refused("device", "register", "a1Unknown", operator.list_names("pump-1"))
    assert "there is no such product in this instance" in said


async def test_a_clock_that_is_off_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ca.pem").write_text(AUTHORITY.pem)
    (tmp_path / "key").write_text(f"{KEY}\n{SECRET}\n")
    (tmp_path / "key").chmod(0o600)
    cloud = site(clock=time.monotonic)
    served = OpenApi(
        cloud, authority=AUTHORITY, credentials={KEY: SECRET}, options=OPTIONS,
        wall=lambda: time.time() + 1_000,
    )  # fmt: skip
    async with served:
        one = Operator(cloud, tmp_path, capsys, served.port)
        said = await one.refused("product", "list")
    assert (
        "the clock of this machine is more than 15 minutes off (InvalidTimeStamp.Expired)" in said
    )


async def test_what_is_throttled_is_asked_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six look-ups without a pause are one too many for a second."""
    monkeypatch.setattr(platform, "PAUSE", 0.0)
    async for one in operated(tmp_path, capsys, replace(OPTIONS, limited=True)):
        names = [f"pump-{number}" for number in range(501)]
        for name in names:
            one.cloud.create(SENSORS, name)
        (step,) = await one.json("device", "register", SENSORS, one.list_names(*names))
        assert (step["Outcome"], step["Detail"]) == ("present", "501 devices")


@pytest.mark.parametrize(
    ("device", "why"),
    [
        ("pump-1", "PRODUCT/NAME"),
        (f"{SENSORS}/", "it has 0 characters"),
        ("/pump-1", "PRODUCT/NAME"),
        (f"{SENSORS}/a b c", "another character"),
    ],
)
def test_a_device_that_is_not_named_right(device: str, why: str) -> None:
    with pytest.raises(ArgumentTypeError, match=why):
        device_path(device)


def test_a_device_is_named_as_in_the_list() -> None:
    assert device_path(f"{SENSORS}/{CHILD}") == (SENSORS, CHILD)
