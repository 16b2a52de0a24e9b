"""The neighbour at the other end of a cable, which a second lldpd plays."""

from __future__ import annotations

import asyncio
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from gatewayd.device.identity import Claim
from gatewayd.discovery.discoverer import Sighting
from gatewayd.discovery.protocols.lldp.discoverer import Lldp, LldpSettings
from gatewayd.testing.contracts.discoverer import RecordingSink, running
from tests.support import bridged_lan as support
from tests.support.bridged_lan import GATEWAY, INTERFACE, LanHost

pytestmark = pytest.mark.namespace

TOP = Path(__file__).parents[3]
MAC = "001b1b3434cb"
SERIAL = Claim("serial", "lldp.acme", "sn-0815")
INVENTORY = {"manufacturer": "ACME", "serial-number": "SN-0815", "model": "S-8"}


@dataclass(frozen=True)
class Lldpd:
    """One lldpd.  inside: what a command begins with that is to run where it does."""

    socket: Path
    inside: tuple[str, ...] = ()

    def command(self) -> list[str]:
        return [*self.inside, "lldpd", "-d", "-u", str(self.socket), "-I", INTERFACE, "-M", "1"]

    def control(self, *words: str) -> bool:
        """Have it do something; False if it could not."""
        tried = subprocess.run(
            ["lldpcli", "-u", self.socket, *words], check=False, capture_output=True, timeout=30
        )
        return tried.returncode == 0 and not tried.stderr

    def is_ready(self) -> bool:
        return self.control("resume")


def write_report(lldpd: Lldpd, directory: Path) -> None:
    """Write the report by the command of the unit that is shipped."""
    unit = (TOP / "systemd/examples/gatewayd-lldp.service").read_text()
    (line,) = (one for one in unit.splitlines() if one.startswith("ExecStart="))
    shell = shlex.split(line.removeprefix("ExecStart="))
    shell[-1] = shell[-1].replace("lldpcli ", f"lldpcli -u {lldpd.socket} ")
    subprocess.run(shell, env={"RUNTIME_DIRECTORY": str(directory), "PATH": "/usr/bin:/usr/sbin"},
                   check=True, timeout=240)  # fmt: skip


@contextmanager
def running_lldpd(lldpd: Lldpd) -> Iterator[None]:
    with support.running(lldpd.command()):
        while not lldpd.is_ready():
            time.sleep(0.1)
        yield


@contextmanager
def cabled(directory: Path) -> Iterator[tuple[Lldpd, Lldpd, LanHost]]:
    """The gateway's lldpd, which runs, and that of a switch at the other end of its cable."""
    Path("/run/lldpd").mkdir(exist_ok=True)  # its root, as its package has it
    with support.cable("00:1b:1b:34:34:cb", "10.77.0.2/24") as switch:
        ours, theirs = Lldpd(directory / "ours"), Lldpd(directory / "theirs", switch.inside)
        with running_lldpd(ours):
            yield ours, theirs, switch


class Switch:
    """What the source shows of a switch.  reports: where the gateway's reports are written."""

    def __init__(self, ours: Lldpd, theirs: Lldpd, reports: Path, sink: RecordingSink) -> None:
        self._ours, self._theirs, self._reports, self._sink = ours, theirs, reports, sink

    def configure(self, name: str) -> None:
        """Have it announce a name, and what it is."""
        assert self._theirs.control("configure", "system", "hostname", name)
        for key, value in INVENTORY.items():
            assert self._theirs.control("configure", "inventory", key, value)

    async def until(self, condition: Callable[[Sighting], bool]) -> Sighting:
        """Wait until the source shows something of it, while reports are written."""
        async with asyncio.timeout(30):
            while (shown := self._sink.seen.get(MAC)) is None or not condition(shown):
                await asyncio.to_thread(self._theirs.control, "update")
                await asyncio.to_thread(write_report, self._ours, self._reports)
                await asyncio.sleep(0.5)
        return shown


@pytest.fixture
def directory() -> Iterator[Path]:
    with support.open_directory() as made:  # lldpcli gives up its rights
        yield made


async def test_a_renamed_renumbered_and_restarted_switch_stays_one(directory: Path) -> None:
    with cabled(directory) as (ours, theirs, host):
        source = Lldp("cables", LldpSettings((INTERFACE,), directory / "neighbours.json"))
        write_report(ours, directory)
        async with running(source) as sink:
            switch = Switch(ours, theirs, directory, sink)
            for name in ("sw-1", "sw-2"):  # renamed in the meantime
                with running_lldpd(theirs):
                    switch.configure(name)
                    shown = await switch.until(lambda one, name=name: one.label == name)  # type: ignore[misc]  # bound early
                    assert shown.claims == {Claim("mac", "lldp", MAC), SERIAL}
                    assert shown.attributes["model"] == "S-8"
                    assert await source.verify(shown)
            with running_lldpd(theirs):  # its address counts once the kernel has seen its MAC there
                host.run("busybox", "ping", "-c", "1", "-W", "2", GATEWAY)
                shown = await switch.until(lambda one: bool(one.addresses))
                assert shown.addresses == ("10.77.0.2",)
                host.address("10.77.0.9/24")
                host.run("busybox", "ping", "-c", "1", "-W", "2", GATEWAY)
                await switch.until(lambda one: one.addresses == ("10.77.0.9",))
            assert set(sink.seen) == {MAC}
