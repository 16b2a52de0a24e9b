"""gatewayctl console huawei, against the simulated platform's management interface."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import shlex
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tomli

from gatewayd.ca.authority import authority_name, make_authority, read_authority
from gatewayd.ca.certificates import to_pem
from gatewayd.cli.main import commands_for, main
from gatewayd.device.secret import Secret
from gatewayd.simulator.huawei.cloud import HuaweiCloud
from gatewayd.simulator.huawei.platform.platform import Platform
from tests.simulator.huawei.client import GATEWAYS, SENSORS
from tests.simulator.huawei.rest import ACCESS_KEY, PROJECT, SECRET_KEY, Rest, manage
from tests.support.gatewayctl import GATEWAYCTL, validate
from tests.support.simulated_ca import AUTHORITY

pytestmark = pytest.mark.integration

FIELDS = {command.words: command.fields for command in commands_for(())}
OWN = "one.st1.iotda-app.cn-north-4.myhuaweicloud.com"


@dataclass
class Operator:
    """An operator's machine, where nothing of gatewayd is but gatewayctl and an access key."""

    rest: Rest
    folder: Path
    capsys: pytest.CaptureFixture[str]

    async def run(self, *words: str, key: str = "key", host: str = OWN) -> tuple[int, str, str]:
        """Return the exit status, the output and the errors of a command."""
        where = (
            "--project", PROJECT, "--endpoint", f"{host}:{self.rest.port}",
            "--address", "127.0.0.1", "--ca-file", str(self.folder / "ca.pem"),
            "--key-file", str(self.folder / key),
        )  # fmt: skip
        status = await asyncio.to_thread(main, ["console", "huawei", *words, *where], {})
        out, errors = self.capsys.readouterr()
        assert SECRET_KEY not in out + errors
        return status, out, errors

    async def json(self, *words: str) -> list[dict[str, Any]]:
        """Return the objects of a command, validated."""
        status, out, _ = await self.run(*words, "--json")
        assert status == 0, out
        longest = max((one for one in FIELDS if " ".join(words).startswith(one[15:])), key=len)
        validate(out, FIELDS[longest], status)
        return [json.loads(line) for line in out.splitlines()]

    async def good(self, *words: str) -> str:
        """Return the output of a command that succeeds."""
        status, out, errors = await self.run(*words)
        assert status == 0, errors
        return out

    async def refused(self, *words: str, **more: str) -> str:
        """Return the error of a command that fails."""
        status, _, errors = await self.run(*words, **more)
        assert status == 1
        return errors


@pytest.fixture
async def operator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[Operator]:
    (tmp_path / "ca.pem").write_text(AUTHORITY.pem)
    (tmp_path / "key").write_text(f"{ACCESS_KEY}\n{SECRET_KEY}\n")
    (tmp_path / "stale").write_text(f"{ACCESS_KEY}\nanother\n")
    for name in ("key", "stale"):
        (tmp_path / name).chmod(0o600)
    platform = Platform(clock=time.time, random=secrets.token_bytes)
    instance = platform.create("one")
    for product in (GATEWAYS, SENSORS):
        instance.products.create(product_id=product, name=product, device_type="thing")
    async with HuaweiCloud(platform, authority=AUTHORITY) as cloud, manage(cloud) as rest:
        yield Operator(rest, tmp_path, capsys)


async def test_what_there_is_is_listed(operator: Operator) -> None:
    products = await operator.json("product", "list")
    assert {one["Id"] for one in products} == {GATEWAYS, SENSORS}
    assert {one["Outcome"] for one in products} == {"found"}
    (space,) = await operator.json("space", "list")
    assert space["Name"] == "DefaultApp"
    gateway = operator.rest.instance.devices.add(node_id="gw-1", product_id=GATEWAYS)
    assert gateway.device_id in await operator.good("device", "list", "--product", GATEWAYS)
    assert await operator.good("template", "list") == "There is none.\n"


async def test_a_list_is_read_page_by_page(operator: Operator) -> None:
    for number in range(120):
        operator.rest.instance.devices.add(node_id=f"node-{number}", product_id=SENSORS)
    found = await operator.json("device", "list", "--product", SENSORS)
    assert {one["Name"] for one in found} >= {f"node-{number}" for number in range(120)}
    assert len({one["Id"] for one in found}) == len(found)


async def test_an_access_key_that_is_refused(operator: Operator) -> None:
    said = await operator.refused("product", "list", key="stale")
    assert "APIGW.0301" in said
    assert "Check that the access key" in said


async def test_a_host_that_several_instances_share(operator: Operator) -> None:
    host = "iotda.cn-north-4.myhuaweicloud.com"
    status, out, _ = await operator.run("product", "list", "--instance", "one", host=host)
    assert (status, SENSORS in out) == (0, True)
    said = await operator.refused("product", "list", "--instance", "other", host=host)
    assert "IOTDA." in said


async def test_options_that_cannot_be(operator: Operator) -> None:
    for words, why in (
        (("--endpoint", "https://a"), "scheme"),
        (("--endpoint", "a:0"), "port"),
        (("--address", "a b"), "white space"),
        (("--ca-file", "/dev/null"), "PEM"),
        (("--region", "", "--endpoint", ""), "Use --region"),
        (("--proxy", "127.0.0.1:9"), "proxy"),
    ):
        status = await asyncio.to_thread(
            main,
            ["console", "huawei", "product", "list", "--project", "p", "--key-file",
             str(operator.folder / "key"), "--endpoint", "localhost", *words],
            {},
        )  # fmt: skip
        assert status == 1
        assert why in operator.capsys.readouterr().err


TEMPLATE = json.dumps({
    "template_name": "by-name",
    "template_body": {
        "parameters": {"iotda::certificate::common_name": {"type": "String"}},
        "resources": {"device": {"node_id": {"ref": "iotda::certificate::common_name"},
                                 "product_id": SENSORS}},
    },
})  # fmt: skip
SERVICES = [{"service_id": "climate", "service_type": "climate",
             "properties": [{"property_name": "temperature", "data_type": "decimal"}]}]  # fmt: skip
MANAGEMENT = (
    "space", "product", "template", "ca", "policy", "device",
)  # fmt: skip


def made_ca(folder: Path, name: str = "plant CA") -> Path:
    """Return a file with the certificate of a device CA; beside it is one with its key, too."""
    authority = make_authority(authority_name({"common-name": name}), "ec-p256", 30, time.time())
    (folder / "ca-and-key.pem").write_bytes(authority.secret().reveal())
    (folder / "device-ca.pem").write_text(authority.pem)
    return folder / "device-ca.pem"


def outcomes(steps: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(one["Kind"], one["Outcome"]) for one in steps if one["Kind"] != "answer"]


async def test_an_empty_instance_is_prepared_and_a_second_run_changes_nothing(
    operator: Operator,
) -> None:
    folder, instance = operator.folder, operator.rest.instance
    made_ca(folder)
    (folder / "services.json").write_text(json.dumps(SERVICES))
    words = (
        "prepare", "--name", "plant-7", "--space", "plant", "--template", str(folder / "t.json"),
        "--ca", str(folder / "ca-and-key.pem"), "--ca-key", str(folder / "ca-and-key.pem"),
        "--services", str(folder / "services.json"), "--publish", "/plant/${devices.deviceId}/*",
        "--answers", str(folder / "answers.toml"),
    )  # fmt: skip
    planned = await operator.json(*words, "--dry-run")
    assert not any(one["Done"] for one in planned if one["Kind"] not in ("answer",))
    assert [one["Asked"][0].split()[0] for one in planned if one["Asked"]] == [
        "write", "POST", "POST", "POST", "POST", "POST", "POST", "POST", "PUT", "write",
    ]  # fmt: skip
    assert len(instance.apps.list()) == 1
    assert sorted(one.name for one in folder.iterdir()) == sorted(
        ["ca.pem", "key", "stale", "ca-and-key.pem", "device-ca.pem", "services.json"]
    )

    done = await operator.json(*words)
    assert outcomes(done) == [
        ("file", "made"), ("space", "made"), ("product", "made"), ("policy", "made"),
        ("policy", "changed"), ("template", "made"), ("ca", "made"), ("ca", "changed"),
        ("ca", "changed"), ("file", "made"),
    ]  # fmt: skip
    (ca,) = instance.authorities.list()
    assert (ca.status, ca.provision_enable, ca.cn_name) == (True, True, "plant CA")
    assert "PRIVATE" not in ca.content
    product = next(one for one in instance.products.list() if one.name == "plant-7")
    assert ca.app_id == product.app_id == instance.apps.list()[0].app_id
    answers = tomli.loads((folder / "answers.toml").read_text())
    assert answers == {
        "cloud": "huawei", "endpoint": instance.domain, "product": product.product_id,
        "template": str(folder / "t.json"),
    }  # fmt: skip
    assert {one["Name"]: one["Id"] for one in done if one["Kind"] == "answer"} == answers

    again = await operator.json(*words)
    assert {outcome for _, outcome in outcomes(again)} == {"present"}
    assert "Nothing was changed" in await operator.good(*words)


async def test_what_is_not_there_yet_is_named_and_done_by_the_next_run(operator: Operator) -> None:
    folder = operator.folder
    words = ["prepare", "--name", "plant-7", "--template", str(folder / "t.json")]
    assert "run gatewayctl ca make" in await operator.good(*words)
    words += ["--ca", str(made_ca(folder))]
    steps = await operator.json(*words)
    (proof,) = [one for one in steps if one["Kind"] == "proof"]
    (ca,) = operator.rest.instance.authorities.list()
    assert (proof["Outcome"], proof["Code"]) == ("left", ca.verify_code)
    assert [one["Code"] for one in await operator.json("ca", "list")] == [ca.verify_code]
    assert not ca.provision_enable
    authority = read_authority(Secret((folder / "ca-and-key.pem").read_bytes()))
    (folder / "proof.pem").write_text(to_pem(authority.prove(ca.verify_code, time.time())))
    prints = f"cat {folder / 'proof.pem'} #"
    command = f"sh -c {shlex.quote(prints)}"
    assert outcomes(await operator.json(*words, "--prove-with", command))[-2:] == [
        ("ca", "changed"), ("ca", "changed"),
    ]  # fmt: skip
    assert ca.status
    assert ca.provision_enable


async def test_a_gateway_with_sub_devices_is_prepared(operator: Operator) -> None:
    folder, instance = operator.folder, operator.rest.instance
    words = (
        "prepare", "--name", "plant-7", "--gateway", "gw-7", "--secret-file", str(folder / "s"),
        "--answers", str(folder / "answers.toml"),
    )  # fmt: skip
    await operator.json(*words, "--dry-run")
    assert not (folder / "s").exists()
    await operator.good(*words)
    secret = (folder / "s").read_text().strip()
    answers = tomli.loads((folder / "answers.toml").read_text())
    device = instance.devices.get(answers["gateway"].replace("/", "_"))
    assert (device.auth.secret, answers["secret"]) == (secret, secret)
    assert {(folder / one).stat().st_mode & 0o777 for one in ("s", "answers.toml")} == {0o600}
    again = await operator.good(*words)
    assert "Nothing was changed" in again
    assert secret not in again


async def test_each_step_is_a_command_of_its_own(operator: Operator) -> None:
    folder, instance = operator.folder, operator.rest.instance
    (folder / "t.json").write_text(TEMPLATE)
    ca = made_ca(folder)
    for words in (
        ("space", "make", "plant"),
        ("product", "make", "meters", "--space", "plant", "--product-id", "meters-1"),
        ("template", "make", str(folder / "t.json")),
        ("ca", "upload", str(ca), "--space", "plant"),
        ("ca", "prove", "plant CA", "--ca-key", str(folder / "ca-and-key.pem")),
        ("ca", "bind", "plant CA", "--template", "by-name"),
        ("ca", "unbind", "plant CA"),
        ("policy", "make", "own", "--publish", "/a/*", "--subscribe", "/b", "--space", "plant"),
        ("policy", "bind", "own", "--product", "meters-1"),
        ("device", "make", "gw-1", "--product", "meters", "--secret-file", str(folder / "s")),
    ):
        planned = await operator.json(*words, "--dry-run")
        assert not planned[0]["Done"], words
        (first,) = await operator.json(*words)
        assert first["Outcome"] in ("made", "changed"), words
        (second,) = await operator.json(*words)
        assert second["Outcome"] == "present", words
        assert second["Id"] == first["Id"]
    assert instance.products.get("meters-1").name == "meters"
    (authority,) = instance.authorities.list()
    assert (authority.status, authority.provision_enable, authority.template_id) == (
        True, False, None,
    )  # fmt: skip
    device = instance.devices.get("meters-1_gw-1")
    assert (folder / "s").read_text().strip() == device.auth.secret
    for kind in MANAGEMENT:
        assert "found" in await operator.good(kind, "list")


async def test_what_was_made_is_deleted(operator: Operator) -> None:
    folder, instance = operator.folder, operator.rest.instance
    (folder / "t.json").write_text(TEMPLATE)
    instance.devices.add(node_id="node-1", product_id=SENSORS)
    await operator.good("template", "make", str(folder / "t.json"))
    await operator.good("ca", "upload", str(made_ca(folder)))
    await operator.good("policy", "make", "own", "--publish", "/a")
    said = await operator.refused("product", "delete", SENSORS, "--yes")
    assert "IOTDA.013903" in said
    for words in (
        ("device", "delete", f"{SENSORS}_node-1"),
        ("product", "delete", SENSORS),
        ("template", "delete", "by-name"),
        ("ca", "delete", "plant CA"),
        ("policy", "delete", "own"),
    ):
        assert "Use --yes" in await operator.refused(*words)
        assert not (await operator.json(*words, "--dry-run"))[0]["Done"]
        (first,) = await operator.json(*words, "--yes")
        assert first["Outcome"] == "deleted", words
        (second,) = await operator.json(*words, "--yes")
        assert second["Outcome"] == "absent"
    assert not instance.authorities.list()
    assert not instance.templates.list()
    assert instance.devices.lookup(f"{SENSORS}_node-1") is None


async def test_a_list_of_devices_is_registered_beforehand(operator: Operator) -> None:
    folder, instance = operator.folder, operator.rest.instance
    gateway = instance.devices.add(node_id="gw-1", product_id=GATEWAYS).device_id
    listed = folder / "serials.txt"
    listed.write_text("SN-0001  # the first\n\nSN-0002\nSN-0001\n")
    words = ("device", "add", str(listed), "--product", SENSORS, "--gateway", gateway)
    await operator.json(*words, "--dry-run")
    assert not instance.devices.children(gateway)
    assert outcomes(await operator.json(*words)) == [("device", "made")] * 2
    assert {one.node_id for one in instance.devices.children(gateway)} == {"SN-0001", "SN-0002"}
    listed.write_text("SN-0001\nSN-0002\nSN-0003\n")
    assert outcomes(await operator.json(*words))[2] == ("device", "made")
    await operator.good("device", "delete", f"{SENSORS}_SN-0003", "--yes")
    said = await operator.refused("device", "add", str(listed), "--product", SENSORS)
    assert f"behind '{gateway}'" in said
    assert instance.devices.lookup(f"{SENSORS}_SN-0003") is None
    listed.write_text("a b\n")
    assert "letters, digits, _ and -" in await operator.refused(*words)


async def test_the_secret_of_a_device_is_set(operator: Operator) -> None:
    folder, device = operator.folder, None
    device = operator.rest.instance.devices.add(node_id="gw-1", product_id=GATEWAYS)
    words = ("device", "reset-secret", device.device_id, "--secret-file", str(folder / "s"))
    shown = await operator.good(*words)
    secret = (folder / "s").read_text().strip()
    assert device.auth.secret == secret
    assert secret not in shown
    await operator.json(*words, "--secondary", "--disconnect")
    assert device.auth.secondary_secret == secret
    (planned,) = await operator.json(*words, "--dry-run")
    assert '"secret": "***"' in planned["Asked"][0]
    (folder / "s").write_text("short\n")
    assert "8 to 32" in await operator.refused(*words)
    (folder / "s").chmod(0o644)
    assert "0600" in await operator.refused(*words)


async def test_what_is_there_and_otherwise_is_not_changed_unasked(operator: Operator) -> None:
    folder, instance = operator.folder, operator.rest.instance
    file = folder / "t.json"
    file.write_text(TEMPLATE)
    await operator.good("template", "make", str(file))
    other = json.loads(TEMPLATE)
    other["template_body"]["resources"]["device"]["product_id"] = GATEWAYS
    file.write_text(json.dumps(other))
    assert "another body" in await operator.refused("template", "make", str(file))
    await operator.good("template", "make", str(file), "--replace")
    (template,) = instance.templates.list()
    assert template.body == other["template_body"]
    said = await operator.refused("product", "make", SENSORS, "--device-type", "another")
    assert "device_type" in said
    await operator.good("policy", "make", "own", "--publish", "/a")
    assert "something else" in await operator.refused("policy", "make", "own", "--publish", "/b")
    ca = str(made_ca(folder))
    await operator.good("ca", "upload", ca)
    await operator.good("ca", "bind", "plant CA", "--template", "by-name")
    file.write_text(TEMPLATE.replace("by-name", "second"))
    await operator.good("template", "make", str(file))
    refused = await operator.refused("ca", "bind", "plant CA", "--template", "second")
    assert "Use --replace" in refused
    await operator.good("ca", "bind", "plant CA", "--template", "second", "--replace")
    await operator.good("space", "make", "plant")
    assert "another resource space" in await operator.refused(
        "ca", "upload", ca, "--space", "plant"
    )


async def test_a_proof_that_is_none(operator: Operator) -> None:
    folder = operator.folder
    ca = made_ca(folder)
    await operator.good("ca", "upload", str(ca))
    prove = ("ca", "prove", "plant CA")
    for way, why in (
        (("--proof", str(ca)), "IOTDA.01430[78]"),
        (("--prove-with", "false"), "exit status 1"),
        (("--prove-with", "echo"), "no certificate"),
        (("--prove-with", "sh -c 'exec cat /dev/zero' #"), "too much is printed"),
        (("--prove-with", "no-such-command"), "No such file"),
        (("--prove-with", "'"), "is no command"),
        (("--ca-key", str(ca)), "has no private key"),
    ):
        assert re.search(why, await operator.refused(*prove, *way)), way
    made_ca(folder, "another CA")
    said = await operator.refused(*prove, "--ca-key", str(folder / "ca-and-key.pem"))
    assert "IOTDA.014308" in said
    assert "There is no ca 'none'" in await operator.refused(
        "ca", "prove", "none", "--proof", str(ca)
    )


async def test_mistakes_are_found_before_anything_is_asked(operator: Operator) -> None:
    folder = operator.folder
    (folder / "bad.json").write_text("{}")
    (folder / "list.json").write_text('["a"]')
    for words, why in (
        (("prepare", "--name", "a b", "--template", "t"), "--name must be"),
        (("prepare", "--name", "a"), "--template FILE"),
        (("prepare", "--name", "a", "--gateway", "gw-1"), "--secret-file"),
        (("prepare", "--name", "a", "--gateway", "g w", "--secret-file", "s"), "must be"),
        (("template", "make", str(folder / "bad.json")), "has mistakes"),
        (("product", "make", "a", "--services", str(folder / "list.json")), "list of services"),
        (("ca", "upload", str(folder / "bad.json")), "has 0, and not one"),
        (("ca", "prove", "a", "--proof", str(folder / "bad.json")), "has 0, and not one"),
        (("policy", "make", "a"), "allows nothing"),
        (("policy", "bind", "a"), "no target"),
        (("device", "make", "a b", "--product", "p", "--secret-file", "s"), "node ID must"),
    ):
        assert why in await operator.refused(*words)
    assert not (folder / "s").exists()


async def test_the_key_by_a_descriptor_and_an_end_by_ctrl_c(operator: Operator) -> None:
    """A process of its own, without a bus, an environment and a configuration of gatewayd."""
    rest, folder = operator.rest, operator.folder
    reading, writing = os.pipe()
    os.write(writing, f"{ACCESS_KEY}\n{SECRET_KEY}\n".encode())
    os.close(writing)
    words = (
        *GATEWAYCTL, "--bus", "unix:path=/nonexistent", "console", "huawei", "product", "list",
        "--project", "p", "--address", "127.0.0.1", "--ca-file", str(folder / "ca.pem"),
        "--key-fd",
    )  # fmt: skip
    asked = await asyncio.create_subprocess_exec(
        *words, str(reading), "--endpoint", f"{OWN}:{rest.port}", pass_fds=(reading,), env={},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    os.close(reading)
    out, errors = await asked.communicate()
    assert (asked.returncode, errors) == (0, b"")
    assert SENSORS.encode() in out

    came = asyncio.Event()

    def never_answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        silent.append(writer)
        came.set()

    silent = list[asyncio.StreamWriter]()
    server = await asyncio.start_server(never_answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        waiting = await asyncio.create_subprocess_exec(
            *words, "0", "--endpoint", f"{OWN}:{port}", env={}, stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert waiting.stdin is not None
        waiting.stdin.write(f"{ACCESS_KEY}\n{SECRET_KEY}\n".encode())
        waiting.stdin.write_eof()
        async with asyncio.timeout(60):
            await came.wait()
        waiting.send_signal(signal.SIGINT)
        out, errors = await waiting.communicate()
        assert (waiting.returncode, out, errors) == (130, b"", b"")
        for writer in silent:
            writer.transport.abort()
