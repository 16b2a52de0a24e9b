"""The end of the story on a booted gateway: what a child says in an outage reaches the cloud."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from gatewayd.simulator.story import TEMPERATURES, TICK
from tests.integration.lan import GATEWAY
from tests.system.box import PATIENCE
from tests.system.conftest import CHILDREN
from tests.system.gateway import Gateway

VALUE = "CurrentTemperature"
MESSAGES = ("org.gatewayd1", "/org/gatewayd1/messages", "org.gatewayd1.Messages")


class SpeakingChild:
    """A child that publishes from its side of the LAN, by TLS and its password."""

    def __init__(self, gateway: Gateway, child: str, directory: Path) -> None:
        self._gateway, self._child = gateway, child
        self._authority = directory / "ca.pem"
        self._authority.write_text(gateway.box.run("gatewayctl", "door", "authority"))
        self._password = gateway.box.run("gatewayctl", "door", "password", child)
        shown = gateway.call("DescribeDevice", "s", child)
        self.serial = str(shown["CloudId"]["data"]).rpartition("/")[2]

    def say(self, value: float) -> bool:
        """Publish a temperature; return whether the broker has acknowledged it."""
        outside = self._gateway.namespace.replace("gw-", "children-")
        command = [
            "ip", "netns", "exec", outside, "mosquitto_pub", "-h", GATEWAY, "-p", "8883", "-q", "1",
            "--cafile", str(self._authority), "-u", self._child, "-P", self._password,
            "-t", f"c/{self._child}/up/properties", "-m", json.dumps({VALUE: value}),
        ]  # fmt: skip
        said = subprocess.run(command, check=False, capture_output=True, timeout=PATIENCE)
        return said.returncode == 0

    def said(self) -> Sequence[tuple[float, float]]:
        """Return what the cloud has of it: first copies in their order, with their times."""
        first: dict[float, float] = {}
        for one in self._gateway.plant.ask(do="reports", child=self.serial):
            if VALUE in one["values"]:
                first.setdefault(one["values"][VALUE], one["times"][VALUE] / 1000)
        return list(first.items())


def loses_nothing_in_an_outage(gateway: Gateway, silent: str, directory: Path) -> None:
    """Have a child that has said nothing yet speak while the cloud is away, and gatewayd killed.

    directory: where the authority of gatewayd's own broker is kept.  Raises TimeoutError.
    """
    box, child = gateway.box, SpeakingChild(gateway, silent, directory)
    box.until(lambda: child.say(19.5), "the child to publish")
    box.until(lambda: [value for value, _ in child.said()] == [19.5], "the cloud to have it")

    gateway.plant.ask(do="faults", plan="down")
    box.until(lambda: "online" not in gateway.counts(), "the children to be offline")
    began = time.time()
    for value in TEMPERATURES:
        assert child.say(value)
    ended = time.time()
    waiting = f"t {len(TEMPERATURES)}"
    box.until(
        lambda: box.run("busctl", "get-property", *MESSAGES, "NWaiting") == waiting, "all to wait"
    )
    pid = gateway.shown("MainPID")
    gateway.systemctl("kill", "--signal=SIGKILL", "--kill-whom=main")
    box.until(lambda: gateway.shown("MainPID") not in (pid, "0"), "gatewayd to be started again")
    gateway.plant.ask(do="faults", plan="")
    gateway.await_online(CHILDREN)

    def arrived() -> bool:
        return len(child.said()) == 1 + len(TEMPERATURES)

    box.until(arrived, "all to be at the cloud")
    _, *late = child.said()
    assert tuple(value for value, _ in late) == TEMPERATURES
    times = [at for _, at in late]
    assert times == sorted(times)
    assert began - TICK <= times[0]
    assert times[-1] <= ended + TICK
