"""A gateway with a unit that has the session of the one child, which a certificate proves.

The unit is enabled before there is any child.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gatewayd.dbus.names import AUTHORITY, NAME, provider_path
from gatewayd.simulator.huawei.account import home
from tests.integration.lan import CHILDREN, namespaces
from tests.system.gateway import BUSCTL, LAN, RULES, Gateway
from tests.system.plant import Plant, plant

EXAMPLES = "/usr/share/doc/gatewayd/examples"
SOCKET = "/run/gatewayd/credentials"
BRIDGE = "mosquitto-bridge"

CONFIG = (
    LAN
    + """\
[cloud.{cloud}]
kind = "huawei"
host = "{host}"
port = {facts[port]}
ca_file = "/etc/gatewayd/ca.pem"
[cloud.{cloud}.certificates]
template_file = "/etc/gatewayd/template.json"
key_algorithm = "ec-p256"
[credentials.units.{unit}]
child = "{child}"
rule = "sensors"
[credentials.users.nobody]
child = "{child}"
"""
)
HELD = 'session = "holder"\n'


@pytest.fixture
def lan(tmp_path: Path) -> Iterator[tuple[str, Plant]]:
    """A LAN with a cloud that knows devices by certificates, and a child that is not there yet."""
    options = ("--cloud", "huawei", "--children", "0", "--late", "1", "--seed", "5")
    with (
        namespaces() as (gateway, children),
        plant(tmp_path / "plant", children, *options) as running,
    ):
        yield gateway[-1], running


class Holder:
    """A gateway with one child, and the unit that is its holder.  unit: without .service."""

    def __init__(self, gateway: Gateway, unit: str = BRIDGE) -> None:
        self.gateway, self.box, self.plant = gateway, gateway.box, gateway.plant
        self.unit = unit
        (self.child,) = self.plant.facts["serials"]
        self.cloud = home(self.child)

    def configure(self) -> None:
        """Write the configuration of this site."""
        facts = self.plant.facts
        host = facts["hosts"][self.cloud]
        known = {
            "cloud": self.cloud, "child": self.child, "host": host, "facts": facts,
            "unit": self.unit, "action": "register",
        }  # fmt: skip
        self.box.write("/etc/hosts", f"127.0.0.1 localhost\n{CHILDREN} {host}\n")
        self.box.write("/etc/gatewayd/conf.d/50-site.toml", CONFIG.format_map(known))
        self.box.write("/etc/gatewayd/rules.d/50-site.toml", RULES.format_map(known) + HELD)
        for name in ("ca.pem", "serials.txt", "template.json"):
            self.box.write(f"/etc/gatewayd/{name}", self.plant.text(name))
        self.box.run("systemctl", "enable", "gatewayd-credentials@nobody.socket")
        self.gateway.systemctl("restart")

    def install(self, example: str, target: str, mode: str = "0644") -> None:
        """Install an example as its first lines say."""
        self.box.run("install", "-D", "-m", mode, f"{EXAMPLES}/{example}", target)

    def enable(self) -> None:
        """Enable the unit, and start it without waiting for it."""
        self.box.run("systemctl", "daemon-reload")
        self.box.run("systemctl", "enable", "--now", "--no-block", self.unit)

    def enrol(self) -> None:
        """Make a device CA, and have the platform verify it."""
        made = self._authority("Make", "a{sv}", "1", "common-name", "s", "devices")
        code = self.plant.ask(do="upload", instance=self.cloud, pem=made)
        self.plant.ask(do="verify", instance=self.cloud, pem=self._authority("Prove", "s", code))

    def announce(self) -> None:
        """Have the child be seen for the first time; return when it is handed over."""
        self.plant.ask(do="announce", child=self.child)
        self.until_state("handed-over")

    def renew(self) -> None:
        """Replace the certificate, as an operator does; return when the cloud has seen the new one.

        The session of the holder is untouched until the new one is put into use.
        """
        (first,) = self.ledger()["certificates_sha256"]
        self._next_step()
        self.box.until(lambda: "as SECONDARY" in self.explained(), "the new certificate")
        found = re.search(r"fingerprint ([0-9a-f]{64}) as SECONDARY", self.explained())
        assert found
        assert self.ledger()["connected"]
        self.plant.ask(do="reset", child=self.child, slot="SECONDARY", fingerprint=found[1])
        self._next_step()
        known = [first, found[1]]
        self.box.until(
            lambda: self.ledger()["certificates_sha256"] == known, "the new one to be used"
        )

    def reject(self) -> None:
        """Reject the child; return when its unit has lost it."""
        (device,) = self.gateway.children()
        self.box.run("gatewayctl", "reject", device)
        self.box.until(lambda: not self.ledger()["connected"], "the unit to lose it")
        self.box.until(lambda: self.state_of_unit() != "running", "the unit to end")

    def _next_step(self) -> None:
        """Take the next step of a renewal."""
        (device,) = self.gateway.children()
        self._authority("Renew", "s", device)

    def _authority(self, method: str, *arguments: str) -> str:
        place = (NAME, provider_path(self.cloud), AUTHORITY)
        told = self.box.run(*BUSCTL, "--json=short", "call", *place, method, *arguments)
        return str(json.loads(told)["data"][0]) if told else ""

    def explained(self) -> str:
        """Return what an operator reads of the child."""
        (device,) = self.gateway.children()
        return self.box.run("gatewayctl", "explain", device)

    def until_state(self, state: str) -> None:
        self.box.until(
            lambda: list(self.gateway.children().values()) == [state], f"it to be {state}"
        )

    def ledger(self) -> dict[str, Any]:
        """Return what the cloud knows of the child."""
        found: dict[str, Any] = self.plant.ask(do="ledger", child=self.child)
        return found

    def arrivals(self) -> int:
        """Return how many readings of the child the cloud has."""
        return len(self.plant.ask(do="arrivals", child=self.child))

    def state_of_unit(self) -> str:
        return self._shown("SubState")

    def restarts(self) -> int:
        """Return how often systemd has restarted the unit by itself."""
        return int(self._shown("NRestarts"))

    def _shown(self, name: str) -> str:
        return self.box.run("systemctl", "show", "--value", "-p", name, self.unit)

    def failures_until_given(self) -> int:
        """Return how often the unit has failed to start between its child's hand-over and its
        credential."""
        lines = self.box.journal(
            "-o", "cat", "--unit", self.unit, "--unit", "gatewayd"
        ).splitlines()
        handed = next(n for n, line in enumerate(lines) if "is handed-over (HandedOver)" in line)
        given = next(n for n, line in enumerate(lines) if f"was given to unit {self.unit}" in line)
        assert handed < given
        return sum("Failed with result" in line for line in lines[handed:given])
