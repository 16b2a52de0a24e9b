"""docs/how-to/several-gateways.md, as a newcomer follows it: its certificates, etcd and user."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gatewayd.cli.site import etcd_checks
from gatewayd.cloud.credentials import read_secret
from gatewayd.cloud.preflight import CheckResult, local_context
from gatewayd.errors import EtcdRefused, EtcdUnreachable
from gatewayd.site.etcd import EtcdClient
from gatewayd.site.etcd_messages import Compare, Compared, Put
from gatewayd.site.settings import SiteSettings
from tests.support.etcd import Cluster, running_etcd
from tests.support.lacking import give_up
from tests.support.mosquitto import free_port
from tests.support.pseudo_terminal import PATIENCE, on_terminal

PAGE = (Path(__file__).parents[2] / "docs/how-to/several-gateways.md").read_text()
MACHINES = {"gateway-a": "192.0.2.11", "gateway-b": "192.0.2.12", "gateway-c": "192.0.2.13"}
PASSWORD = "correct horse"  # of a server that lives for one test


def block(start: str) -> str:
    """The block of code in the page that begins so."""
    found: str
    (found,) = (
        text for text in re.findall(r"^```\w+\n(.*?)^```$", PAGE, re.M | re.S) if start in text
    )
    return found


class Trial:
    """The machines of the page on the loopback interface, with their files in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory, self._ports = directory, (str(free_port()), str(free_port()))

    def here(self, text: str, machine: str = "gateway-a") -> str:
        """What the page says, for a machine, with what this trial has in place of it."""
        address, (client, peer) = MACHINES[machine].replace("192.0.2", "127.0.0"), self._ports
        cluster = [line for line in text.splitlines() if line.startswith("ETCD_INITIAL_CLUSTER=")]
        for line in cluster:
            text = text.replace(line, "CLUSTER")
        text = text.replace("192.0.2.11", address) if "ETCD_NAME" in text else text
        text = text.replace("ETCD_NAME=gateway-a", f"ETCD_NAME={machine}")
        text = text.replace("CLUSTER\n", "".join(f"{line}\n" for line in cluster))
        text = text.replace("192.0.2.", "127.0.0.").replace(":2379", f":{client}")
        text = text.replace(":2380", f":{peer}").replace("/etc/gatewayd", str(self.directory))
        return text.replace("/etc/etcd", str(self.directory / machine))

    def certificates(self) -> None:
        """Make the certificates, and give each machine its own.

        All members of this trial connect from 127.0.0.1.
        """
        script = self.here(block("openssl req -x509")).replace(
            "IP:$address", "IP:$address,IP:127.0.0.1"
        )
        subprocess.run(["bash", "-euc", script], cwd=self.directory, check=True)
        made = self.directory / "etcd-plant"
        for machine in MACHINES:
            (self.directory / machine).mkdir()
            for name, copy in (("ca.pem", "ca.pem"), (f"{machine}.pem", "etcd.pem"),
                               (f"{machine}.key", "etcd.key")):  # fmt: skip
                (self.directory / machine / copy).write_bytes((made / name).read_bytes())
        for name, copy in (("ca.pem", "etcd-ca.pem"), ("gateway-a.pem", "etcd.pem")):
            (self.directory / copy).write_bytes((made / name).read_bytes())
        (self.directory / "etcd.key").touch(0o600)
        (self.directory / "etcd.key").write_bytes((made / "gateway-a.key").read_bytes())

    @contextlib.contextmanager
    def etcd(self) -> Iterator[None]:
        """Run the three members, by the file of each."""
        running = []
        try:
            for machine in MACHINES:
                lines = self.here(block("ETCD_NAME"), machine).splitlines()
                options = dict(
                    one.split("=", 1) for one in lines if one and not one.startswith("#")
                )
                data = str(self.directory / machine / "data")
                environ = {**os.environ, **options, "ETCD_DATA_DIR": data}
                log = (self.directory / machine / "log").open("wb")
                with log:
                    running.append(subprocess.Popen(["etcd"], env=environ, stdout=log, stderr=log))
            yield
        finally:
            for process in running:
                process.kill()
                process.wait()

    def users(self) -> Mapping[str, str]:
        """Make the users, typing the passwords; return the environment for etcdctl."""
        script = self.here(block("etcdctl user add root"))
        ready = "until etcdctl endpoint health 2>/dev/null; do sleep 0.1; done\n"
        exports = "".join(f"{line}\n" for line in script.splitlines() if line[:7] == "export ")
        script = script.replace(exports, exports + ready)
        with on_terminal(["bash", "-euc", script]) as terminal:
            for _ in ("root", *MACHINES):
                terminal.wait_for("Password of ")
                terminal.type(PASSWORD)
                terminal.wait_for("Type password of ")
                terminal.type(PASSWORD)
            assert terminal.end() == 0, terminal.shown
            assert "Authentication Enabled" in terminal.shown
        words = (pair for line in exports.splitlines() for pair in line.split()[1:])
        return dict(pair.split("=", 1) for pair in words)

    def settings(self) -> SiteSettings:
        """The settings of the first gateway, with files in place of credentials."""
        site = tomllib.loads(self.here(block("[site]")))["site"]
        assert set(site) <= {one.name for one in fields(SiteSettings)}
        (self.directory / "password").touch(0o600)
        (self.directory / "password").write_text(PASSWORD)
        given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value
                 for key, value in site.items() if not key.endswith("_credential")}  # fmt: skip
        given |= {key: Path(value) for key, value in given.items() if key.endswith("_file")}
        return SiteSettings(
            **given,
            password_file=self.directory / "password",
            private_key_file=self.directory / "etcd.key",
        )


def healthy(environ: Mapping[str, str]) -> str:
    """What etcdctl says of all members."""
    ran = subprocess.run(
        ["etcdctl", "endpoint", "health", "--cluster"], env=environ, capture_output=True,
        text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    return ran.stdout + ran.stderr


@pytest.fixture(autouse=True)
def installed() -> None:
    if shutil.which("etcd") is None:
        give_up("etcd is not installed")


@pytest.mark.integration
async def test_etcd_is_set_up_as_the_page_says(tmp_path: Path) -> None:
    trial = Trial(tmp_path)
    trial.certificates()
    with trial.etcd():
        environ = {**os.environ, **trial.users(), "ETCDCTL_USER": f"root:{PASSWORD}"}
        assert healthy(environ).count("is healthy") == 3
        settings = trial.settings()
        assert not [*settings.problems(), *settings.warnings()]
        around = await asyncio.to_thread(local_context, {})
        found = [one async for one in etcd_checks(settings, around)]
        assert [one.verdict for one in found] == [CheckResult.OK] * 3, found
        await asyncio.to_thread((tmp_path / "password").write_text, "wrong")
        found = [one async for one in etcd_checks(settings, around)]
        assert {one.verdict for one in found} == {CheckResult.FAILED}
        assert "password" in found[0].text
        await asyncio.to_thread((tmp_path / "password").write_text, PASSWORD)
        client = EtcdClient.of(settings, partial(read_secret, None))
        try:
            absent = Compare("/gatewayd/plant/x", Compared.CREATED, 0)
            lease = await client.grant(15)
            assert (await client.txn([absent], [Put("/gatewayd/plant/x", b"1", lease)])).succeeded
            await client.keep_alive(lease)
            with pytest.raises(EtcdRefused):
                await client.txn([], [Put("/gatewayd/elsewhere/x", b"1")])
        finally:
            client.close()


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """An etcd of so many members."""
    with running_etcd(request.param) as running:
        yield running


@pytest.mark.integration
@pytest.mark.parametrize("cluster", [2, 3], indirect=True)
async def test_two_members_of_etcd_are_worse_than_one_and_three_survive_one(
    cluster: Cluster,
) -> None:
    client = EtcdClient.of(cluster.settings(), partial(read_secret, None))
    try:
        await client.txn([], [Put("/gatewayd/plant/x", b"1")])
        await asyncio.to_thread(cluster.members[-1].end)
        if len(cluster.members) > 2:
            await until_written(client)
        else:
            with pytest.raises(EtcdUnreachable):
                await client.txn([], [Put("/gatewayd/plant/x", b"2")])
    finally:
        client.close()


async def until_written(client: EtcdClient) -> None:
    """Return once etcd has written something: it may have to find a new leader first."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(EtcdUnreachable):
                await client.txn([], [Put("/gatewayd/plant/x", b"2")])
                return
            await asyncio.sleep(0.1)


@pytest.mark.integration
@pytest.mark.parametrize("cluster", [1], indirect=True)
async def test_two_etcds_in_place_of_one_are_noticed(cluster: Cluster, others: Cluster) -> None:
    """As of machines on which etcd was started alone; one authority has issued for both."""
    both = tuple(one.members[0].endpoint for one in (cluster, others))
    settings = replace(cluster.settings(), endpoints=both)
    found = [one async for one in etcd_checks(settings, await asyncio.to_thread(local_context, {}))]
    assert [one.verdict for one in found] == [CheckResult.OK, CheckResult.OK, CheckResult.FAILED]
    assert "members of 2 etcds" in found[-1].text
    client, leases = (EtcdClient.of(settings, partial(read_secret, None)) for _ in range(2))
    try:
        await client.range("/gatewayd/", 1)
        lease = await leases.grant(600)
        await asyncio.to_thread(cluster.members[0].end)
        with pytest.raises(EtcdUnreachable, match="no member of the etcd that was used so far"):
            await client.range("/gatewayd/", 1)
        with pytest.raises(EtcdUnreachable, match="no member of the etcd that was used so far"):
            await leases.keep_alive(lease)
    finally:
        client.close()
        leases.close()


@pytest.fixture
def others() -> Iterator[Cluster]:
    """Another etcd."""
    with running_etcd() as running:
        yield running
