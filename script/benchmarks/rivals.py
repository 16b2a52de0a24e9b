"""The same work done by others: the vendor's SDK, plain paho, and the least that is durable."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatewayd.simulator.site import Site, run
from script.benchmarks.identities import Identity
from script.benchmarks.process import cpu
from script.benchmarks.stage import PATIENCE
from script.benchmarks.threads import Took

TOP = Path(__file__).parents[2]
VENDOR = TOP / ".venv-vendor" / "bin" / "python"
PEER = TOP / "tests" / "interop" / "linkkit_peer.py"


@dataclass(frozen=True, slots=True)
class Pace:
    """each: milliseconds of CPU for one.  rate: how many in a second, one after the other."""

    each: float
    rate: float


async def install_vendor() -> None:
    """Have script/setup make the environment of the vendor's SDK, if it is missing."""
    if not VENDOR.exists():
        await run(str(TOP / "script" / "setup"), "test")


async def registering(site: Site, devices: Sequence[str]) -> Took:
    """Let plain paho register these devices and log them in.  Raises RuntimeError."""
    return await _threads(
        site,
        devices,
        host=site.plant["host"],
        product=site.plant["product"],
        secret=(site.directory / "product-secret").read_text(),
    )


async def created(site: Site, devices: Sequence[str]) -> Took:
    """Let plain paho create these devices at a broker, and log them in.  Raises RuntimeError."""
    return await _threads(
        site,
        devices,
        host=site.plant["host"],
        product=site.plant["product"],
        manager=site.plant["manager"],
        password=(site.directory / "management-password").read_text(),
    )


async def lean(site: Site, devices: Sequence[str], at_once: int) -> Took:
    """Let the least that is durable bring these devices online.  Raises RuntimeError."""
    facts = {
        "host": site.plant["host"],
        "port": site.plant["port"],
        "ca": str(site.directory / "ca.pem"),
        "product": site.plant["product"],
        "secret": (site.directory / "product-secret").read_text(),
        "directory": str(site.directory),
        "at_once": at_once,
        "devices": devices,
    }
    return await _took(site, "script.benchmarks.lean", facts)


async def showing(site: Site, identities: Sequence[Identity], cloud: str = "") -> Took:
    """Let plain paho log devices in that show certificates.  Raises RuntimeError.

    cloud: how, see `DEVICES` in threads.py; "" for that of the site.
    """
    devices = [{"id": i.device_id, "host": i.host, "file": str(i.file)} for i in identities]
    return await _threads(site, devices, cloud=cloud or site.cloud)


async def _threads(site: Site, devices: Sequence[object], **more: str) -> Took:
    told = {"cloud": site.cloud, "port": site.plant["port"], "ca": str(site.directory / "ca.pem")}
    return await _took(site, "script.benchmarks.threads", {**told, "devices": devices, **more})


async def _took(site: Site, module: str, facts: dict[str, Any]) -> Took:
    process = await _start(site, sys.executable, "-m", module)
    async with _ending(process):
        out, _ = await process.communicate(json.dumps(facts).encode())
    if process.returncode:
        raise RuntimeError(f"{module} ended with {process.returncode}")
    took, wanted = Took(**json.loads(out)), len(facts["devices"])
    if took.online < wanted:
        raise RuntimeError(f"with {module}, only {took.online} of {wanted} came online")
    return took


async def vendor(site: Site, devices: Sequence[str]) -> Pace:
    """Let the vendor's SDK register these devices, each with an object of its own.

    Raises RuntimeError.
    """
    key = (site.directory / "product-secret").read_text()
    process = await _start(site, str(VENDOR), str(PEER))
    async with _ending(process):
        ca = (site.directory / "ca.pem").read_text()
        _tell(process, {**site.plant, "serials": (), "ca": ca, "https_port": 0})
        told = {"do": "register", "product": site.plant["product"], "key": key, "kind": "register"}
        await _do(process, {**told, "device": devices[0]})  # what is loaded once does not count
        began, used = time.perf_counter(), cpu(process.pid)
        for device in devices[1:]:
            await _do(process, {**told, "device": device})
        seconds, used = time.perf_counter() - began, cpu(process.pid) - used
    return Pace(used / (len(devices) - 1) * 1000, (len(devices) - 1) / seconds)


async def _start(site: Site, *command: str) -> asyncio.subprocess.Process:
    """Start a process where gatewayd would be."""
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        *site.gateway, *command, stdin=pipe, stdout=pipe, cwd=TOP
    )


@asynccontextmanager
async def _ending(process: asyncio.subprocess.Process) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(PATIENCE):
            yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def _do(process: asyncio.subprocess.Process, request: dict[str, Any]) -> None:
    """Raises RuntimeError where the SDK does not get a secret."""
    _tell(process, request)
    assert process.stdout is not None, "it is a pipe"
    answer = json.loads(await process.stdout.readline() or b"{}")
    if answer.get("ok", (1,))[0] != 0:
        raise RuntimeError("the vendor's SDK could not register a device")


def _tell(process: asyncio.subprocess.Process, body: object) -> None:
    assert process.stdin is not None, "it is a pipe"
    process.stdin.write(json.dumps(body).encode() + b"\n")
