"""One host keeps 10,000 silent connections to gatewayd's broker going, and a known child connects.

The broker, its configuration and the table of nftables are those that are shipped; the host and the
child are in another network namespace, so that the table is in force between.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from gatewayd.messages.broker import files
from gatewayd.messages.broker.settings import BrokerSettings
from tests.integration.lan import GATEWAY, namespaces
from tests.messages.broker.running import ONE, RunningBroker, Site, secret_from, short_directory

SETTINGS = BrokerSettings(names=(GATEWAY,), certificate_port=0)
SILENT = "10.77.1.1"
"""The address of the silent host; the child has another one."""
WITHIN = 10.0
"""Seconds in which a known child has to be connected, and its message acknowledged."""
EVERY = 1.0
"""Seconds between two connections of the child."""
FILES = 16_384
"""Descriptors that the host may have."""
PATIENCE = 60.0


@dataclass(slots=True)
class SilenceTally:
    """What was counted.

    tried, most: connections of the silent host in all, and those that were open at a time.
    connected: how often the child has published.  longest: seconds that took, at most.
    """

    tried: int = 0
    most: int = 0
    connected: int = 0
    longest: float = 0.0
    wrong: list[str] = field(default_factory=list)


async def be_silent(seconds: float) -> SilenceTally:
    """Have a host be silent for so long.  Needs the right to make namespaces."""
    tally = SilenceTally()
    with short_directory() as directory, namespaces() as (inside, outside):
        broker = RunningBroker(directory, SETTINGS, tuple(inside))
        await asyncio.to_thread(broker.prepare)
        publish = [*outside, *await _publisher(broker, directory)]
        await asyncio.to_thread(broker.start)
        try:
            async with asyncio.timeout(PATIENCE):
                while await _seconds(publish) is None:
                    await asyncio.sleep(0.1)
            async with _limited(inside), _silent_host(outside, tally):
                end = time.monotonic() + seconds
                while time.monotonic() < end:
                    await _connect(publish, tally)
                    await asyncio.sleep(EVERY)
        finally:
            await asyncio.to_thread(broker.stop)
    most = SETTINGS.connections_per_address
    if tally.most > most:
        tally.wrong.append(f"one address had {tally.most} connections, and may have {most}")
    return tally


async def _connect(publish: Sequence[str], tally: SilenceTally) -> None:
    """Have the child connect once, and count."""
    took = await _seconds(publish)
    if took is None:
        tally.wrong.append(f"the child was not connected within {WITHIN:.0f} s")
    else:
        tally.connected += 1
        tally.longest = max(tally.longest, took)


async def _seconds(publish: Sequence[str]) -> float | None:
    """Return the seconds that publishing once takes; None where it fails, or takes too long."""
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *publish, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(WITHIN):
            failed = await process.wait()
    except TimeoutError:
        process.kill()
        failed = await process.wait()
    return None if failed else time.monotonic() - began


async def _publisher(broker: RunningBroker, directory: Path) -> list[str]:
    """Write the broker's files; return a command by which a child of it publishes."""
    site = Site(broker)
    writes = asyncio.create_task(site.make_access().run())
    try:
        async with asyncio.timeout(PATIENCE):
            while not (broker.places.access / files.PASSWORDS).exists():
                await asyncio.sleep(0.01)
        password = await secret_from(lambda end: site.access.set_password(ONE, end, "uid 0"))
    finally:
        writes.cancel()
        await asyncio.wait({writes})
    authority = directory / "ca.pem"
    authority.write_bytes((broker.places.access / files.AUTHORITY).read_bytes())
    return [
        "mosquitto_pub", "-h", GATEWAY, "-p", str(SETTINGS.port), "-q", "1",
        "--cafile", str(authority), "-u", ONE, "-P", password.decode(),
        "-t", f"c/{ONE}/up/x", "-m", "1",
    ]  # fmt: skip


@asynccontextmanager
async def _limited(inside: Sequence[str]) -> AsyncIterator[None]:
    """Have the table of nftables in force until the block ends."""
    numbers = map(str, (SETTINGS.connections_per_address, *SETTINGS.ports))
    limiter = await asyncio.create_subprocess_exec(
        *inside, sys.executable, "-m", "tests.messages.broker.limiter", *numbers,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert limiter.stdout is not None
    if await limiter.stdout.readline() != b"limited\n":
        raise RuntimeError("nftables does not accept the table")
    try:
        yield
    finally:
        await limiter.communicate(b"")


@asynccontextmanager
async def _silent_host(outside: Sequence[str], tally: SilenceTally) -> AsyncIterator[None]:
    """Run a silent host, and count what it has done."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(FILES, hard)), hard))
    host = await asyncio.create_subprocess_exec(
        *outside, sys.executable, "-m", "script.soaking.messages.silent_host",
        SILENT, GATEWAY, str(SETTINGS.port),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert host.stdout is not None, "it is a pipe"
        async with asyncio.timeout(PATIENCE):
            assert await host.stdout.readline() == b"open\n"
        yield
        printed, _ = await asyncio.wait_for(host.communicate(b""), PATIENCE)
        tally.tried, tally.most = map(int, printed.split())
    finally:
        with suppress(ProcessLookupError):
            host.kill()
        await host.wait()
