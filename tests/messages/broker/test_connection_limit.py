"""One host cannot use up the connections that the broker accepts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatewayd.messages.broker import files
from gatewayd.messages.broker.connection_limit import check
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
     ([0], 4), ([1], 65536), (list(range(1, 18)), 4)],
)  # fmt: skip
def test_nothing_but_numbers_gets_into_the_table(ports: list[int], most: int) -> None:
    with pytest.raises(ValueError, match=r"whole numbers|at most 16 ports"):
        check(ports, most)


def test_the_command_finds_what_gatewayd_writes() -> None:
    assert json.loads(files.limit(SETTINGS)) == {"ports": [8883, 8884], "connections": FROM_ONE}


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


@contextlib.contextmanager
def limited(inside: tuple[str, ...], ports: list[int], most: int) -> Iterator[None]:
    """Limit the connections of an address until the block ends."""
    numbers = map(str, (most, *ports))
    command = [*inside, sys.executable, "-m", "tests.messages.broker.limiter", *numbers]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as limiter:
        assert limiter.stdout is not None
        assert limiter.stdout.readline() == "limited\n"
        try:
            yield
        finally:
            limiter.communicate("")


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
            found = json.loads(limit.read_bytes())
            with (
                limited(inside, found["ports"], found["connections"]),
                silent_host(outside) as opened,
            ):
                assert opened == FROM_ONE
                assert published()
        finally:
            broker.stop()
