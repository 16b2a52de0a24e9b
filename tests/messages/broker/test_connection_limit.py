"""One host cannot use up the connections that the broker accepts."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatewayd.messages.broker import files
from gatewayd.messages.broker.connection_limit import TABLE, main, ruleset
from gatewayd.messages.broker.settings import BrokerSettings
from tests.integration.lan import GATEWAY, namespaces
from tests.messages.broker.running import ONE, RunningBroker, Site, secret_from, short_directory

SILENT = Path(__file__).with_name("silent.py")
MOST, FROM_ONE, ACCEPTED = 300, 16, 200
"""Connections that a host opens; that one host may have; and that the broker accepts."""
SETTINGS = BrokerSettings(names=(GATEWAY,), connections=ACCEPTED, connections_per_address=FROM_ONE)
KNOWN_WITHIN = 10.0
"""Seconds in which a known child connects all the same."""


@pytest.mark.parametrize(
    ("ports", "most"),
    [([1, 65536], 4), ([-1], 4), (["1"], 4), ([True], 4), ([1.0], 4), ([1], -1), ([1], "4; flush"),
     ([0], 4), ([1], 65536)],
)  # fmt: skip
def test_nothing_but_numbers_gets_into_the_table(ports: list[int], most: int) -> None:
    with pytest.raises(ValueError, match="whole numbers"):
        ruleset(ports, most)


def test_without_a_limit_or_a_port_the_table_goes() -> None:
    for text in (ruleset([], 4), ruleset([1], 0)):
        assert f"delete table inet {TABLE}" in text
        assert "chain" not in text


def test_the_command_reads_what_gatewayd_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / files.LIMIT
    file.write_text(files.limit(SETTINGS))
    assert main([str(file)]) == 0
    assert capsys.readouterr().out == ruleset((8883, 8884), FROM_ONE)


@contextlib.contextmanager
def silent_host(inside: tuple[str, ...]) -> Iterator[int]:
    """Hold silent connections until the block ends; yield how many were not refused."""
    command = [*inside, sys.executable, SILENT, "10.77.1.1", GATEWAY, SETTINGS.port, MOST]
    with subprocess.Popen(
        list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as host:
        assert host.stdout is not None
        try:
            yield int(host.stdout.readline())
        finally:
            host.kill()


async def prepared(broker: RunningBroker) -> str:
    """Write the files; return the password of a child."""
    site = Site(broker)
    run = asyncio.create_task(site.make_access().run())
    try:
        while not await asyncio.to_thread((broker.places.access / files.PASSWORDS).exists):
            await asyncio.sleep(0.01)
        return (await secret_from(lambda end: site.access.set_password(ONE, end, "uid 0"))).decode()
    finally:
        run.cancel()
        await asyncio.wait({run})


@pytest.mark.namespace
def test_a_known_child_connects_while_one_host_opens_all_it_can(tmp_path: Path) -> None:
    with short_directory() as directory, namespaces() as (inside, outside):
        broker = RunningBroker(directory, SETTINGS, inside)
        broker.prepare()
        password = asyncio.run(prepared(broker))
        authority = tmp_path / "ca.pem"
        authority.write_bytes((broker.places.access / files.AUTHORITY).read_bytes())
        publish = [
            *outside, "mosquitto_pub", "-h", GATEWAY, "-p", str(SETTINGS.port), "-q", "1",
            "--cafile", str(authority), "-u", ONE, "-P", password, "-t", f"c/{ONE}/up/x", "-m", "1",
        ]  # fmt: skip

        def published() -> bool:
            with contextlib.suppress(subprocess.TimeoutExpired):
                ran = subprocess.run(
                    publish, check=False, timeout=KNOWN_WITHIN, capture_output=True
                )
                return ran.returncode == 0
            return False

        broker.start()
        try:
            while not published():
                pass
            with silent_host(outside) as opened:
                assert opened > ACCEPTED
                assert not published()  # as mosquitto has no such limit
            limit = broker.places.access / files.LIMIT
            table = ruleset(SETTINGS.ports, FROM_ONE)
            assert limit.exists()
            subprocess.run([*inside, "nft", "-f", "-"], input=table, text=True, check=True)
            subprocess.run([*inside, "nft", "-f", "-"], input=table, text=True, check=True)
            with silent_host(outside) as opened:
                assert opened == FROM_ONE
                assert published()
        finally:
            broker.stop()
