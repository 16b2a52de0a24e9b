"""The simulated cloud and children, in a network namespace beside the gateway's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gatewayd.simulator.control import ask
from tests.integration.lan import CHILDREN, NETWORK
from tests.system.box import PATIENCE

ON_THE_LAN = ("--interface", CHILDREN, "--address", CHILDREN, "--network", NETWORK)


class Plant:
    """A running simulator.  directory: has what its clients must know."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.facts: dict[str, Any] = json.loads((directory / "plant.json").read_text())

    def text(self, name: str) -> str:
        """Return a file that the simulator wrote."""
        return (self.directory / name).read_text()

    def ask(self, **request: object) -> Any:  # JSON
        """Have the plant do something: a verb of simulator/control.py."""
        return asyncio.run(ask(self.directory / "control", **request))

    def secrets_issued(self) -> dict[str, int]:
        """Return how many secrets the cloud has issued for each child."""
        devices = self.ask(do="truth")["cloud"]["devices"][self.facts["product"]]
        return {name: len(one["secrets_sha256"]) for name, one in devices.items()}


@contextlib.contextmanager
def plant(directory: Path, inside: Sequence[str], *options: str) -> Iterator[Plant]:
    """Run a simulator in a namespace, whose command prefix is `inside`, until the block ends."""
    directory.mkdir()
    command = [*inside, sys.executable, "-m", "gatewayd.simulator", str(directory)]
    process = subprocess.Popen([*command, *ON_THE_LAN, *options], stdin=subprocess.DEVNULL)
    try:
        end = time.monotonic() + PATIENCE
        while not (directory / "plant.json").exists():
            assert process.poll() is None, "the simulator has ended"
            assert time.monotonic() < end, "the simulator does not start"
            time.sleep(0.02)
        yield Plant(directory)
    finally:
        process.terminate()
        process.wait(PATIENCE)
