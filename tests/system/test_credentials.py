"""A unit speaks for a child that gatewayd has registered: from before it was seen to its rejection.

The unit is the example of a mosquitto that bridges to the cloud; the cloud knows each child by its
certificate.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gatewayd.dbus.names import AUTHORITY, NAME, provider_path
from gatewayd.simulator.huawei.account import READING, home
from tests.integration.lan import CHILDREN, namespaces
from tests.system.gateway import Gateway
from tests.system.plant import Plant, plant

pytestmark = pytest.mark.system

UNIT, EXAMPLES = "mosquitto-bridge.service", "/usr/share/doc/gatewayd/examples"
SOCKET = "/run/gatewayd/credentials"

CONFIG = """\
[discovery]
settle = 0.5
[discovery.mdns]
interfaces = ["lan0"]
types = ["_gatewayd-child._tcp"]
[registration]
retry_first = 1
[cloud.{cloud}]
kind = "huawei"
host = "{host}"
port = {port}
ca_file = "/etc/gatewayd/ca.pem"
[cloud.{cloud}.certificates]
template_file = "/etc/gatewayd/template.json"
key_algorithm = "ec-p256"
[credentials.units.mosquitto-bridge]
child = "{child}"
rule = "sensors"
[credentials.users.nobody]
child = "{child}"
"""

RULE = """\
[[rule]]
name = "sensors"
match = {{ service = "_gatewayd-child._tcp" }}
extract = {{ serial = "txt.serial" }}
list = "/etc/gatewayd/serials.txt"
action = "register"
session = "holder"
provider = "{cloud}"
product = "{product}"
device_name = "{{serial}}"
"""

SAY = f"""\
import paho.mqtt.publish as publish
publish.single("child/properties", {json.dumps(json.dumps(READING))}, qos=1,
               hostname="127.0.0.1", port=1884)
"""

ASK = f"""\
import os, socket, sys
os.setgid(65534), os.setuid(65534)
client = socket.socket(socket.AF_UNIX)
client.bind("\\0f/unit/{UNIT}/child.json")
client.connect("{SOCKET}")
"""
"""Another user who forges the name of the unit."""


READ = """\
import json, socket
client = socket.socket(socket.AF_UNIX)
client.connect("/run/gatewayd-holders/nobody")
print(json.load(client.makefile())["name"])
"""
"""A program of a user that has a socket of its own."""


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
    """A gateway with a unit that is the holder of the one child."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway, self.box, self.plant = gateway, gateway.box, gateway.plant
        (self.child,) = self.plant.facts["serials"]
        self.cloud = home(self.child)

    def configure(self) -> None:
        """Write the configuration of this site, and enable the unit before there is any child."""
        facts = self.plant.facts
        host = facts["hosts"][self.cloud]
        known = {"cloud": self.cloud, "child": self.child, "host": host, **facts}
        self.box.write("/etc/hosts", f"127.0.0.1 localhost\n{CHILDREN} {host}\n")
        self.box.write(
            "/etc/gatewayd/conf.d/50-site.toml", CONFIG.format_map(known | {"host": host})
        )
        self.box.write("/etc/gatewayd/rules.d/50-site.toml", RULE.format_map(known))
        for name in ("ca.pem", "serials.txt", "template.json"):
            self.box.write(f"/etc/gatewayd/{name}", self.plant.text(name))
        self.box.run("systemctl", "enable", "gatewayd-credentials@nobody.socket")
        self.gateway.systemctl("restart")
        for source, target, mode in (
            ("mosquitto-bridge.service", f"/etc/systemd/system/{UNIT}", "0644"),
            ("mosquitto-bridge.py", "/usr/local/lib/gatewayd/mosquitto-bridge", "0755"),
        ):
            self.box.run("install", "-D", "-m", mode, f"{EXAMPLES}/{source}", target)
        self.box.run("systemctl", "daemon-reload")
        self.box.run("systemctl", "enable", "--now", "--no-block", UNIT)

    def enrol(self) -> None:
        """Make a device CA, and have the platform verify it."""
        made = self._authority("Make", "a{sv}", "1", "common-name", "s", "devices")
        code = self.plant.ask(do="upload", instance=self.cloud, pem=made)
        self.plant.ask(do="verify", instance=self.cloud, pem=self._authority("Prove", "s", code))

    def renew(self) -> None:
        """Take the next step of a renewal, as an operator does."""
        (device,) = self.gateway.children()
        self._authority("Renew", "s", device)

    def _authority(self, method: str, *arguments: str) -> str:
        place = (NAME, provider_path(self.cloud), AUTHORITY)
        told = self.box.run("busctl", "--json=short", "call", *place, method, *arguments)
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

    def says(self) -> bool:
        """Have a local program publish; return whether the cloud has one reading more."""
        before = len(self.plant.ask(do="arrivals", child=self.child))
        self.box.run("python3", "-c", SAY)
        return len(self.plant.ask(do="arrivals", child=self.child)) > before

    def until_data(self) -> None:
        """Return when what a local program publishes arrives at the cloud.  Raises TimeoutError."""

        def arrives() -> bool:
            try:
                return self.says()
            except Exception:  # noqa: BLE001  # no broker runs yet, or no device is there
                return False

        self.box.until(arrives, "data of the child at the cloud")

    def state_of_unit(self) -> str:
        return self.box.run("systemctl", "show", "--value", "-p", "SubState", UNIT)


def test_a_unit_speaks_for_a_child_until_that_is_rejected(new: Gateway) -> None:
    holder = Holder(new)
    holder.configure()
    holder.enrol()
    assert holder.state_of_unit() != "running"
    assert new.box.run("stat", "--format=%a", SOCKET) == "600"
    assert "PermissionError" in new.refused("python3", "-c", ASK)

    holder.plant.ask(do="announce", child=holder.child)
    holder.until_state("handed-over")
    holder.until_data()
    (first,) = holder.ledger()["certificates_sha256"]
    assert holder.ledger()["connected"]
    assert new.box.run("python3", "-c", READ, user="nobody").endswith(holder.child)
    new.refused("python3", "-c", READ, user="daemon")

    holder.renew()
    new.box.until(lambda: "as SECONDARY" in holder.explained(), "the new certificate")
    found = re.search(r"fingerprint ([0-9a-f]{64}) as SECONDARY", holder.explained())
    assert found
    assert holder.ledger()["connected"], "the session of the holder is untouched"
    holder.plant.ask(do="reset", child=holder.child, slot="SECONDARY", fingerprint=found[1])
    holder.renew()
    new.box.until(
        lambda: holder.ledger()["certificates_sha256"] == [first, found[1]],
        "the new one to be used",
    )
    holder.until_data()

    new.systemctl("kill", "--signal=SIGKILL", "--kill-whom=main")
    new.box.until(lambda: list(new.children().values()) == ["handed-over"], "gatewayd to be back")
    assert holder.says(), "the holder needs no gatewayd"

    (device,) = new.children()
    new.box.run("gatewayctl", "reject", device)
    new.box.until(lambda: not holder.ledger()["connected"], "the unit to lose it")
    new.box.until(lambda: holder.state_of_unit() != "running", "the unit to end")
    new.refused("gatewayctl", "credential", device)
    new.box.run("gatewayctl", "approve", device)
    holder.until_data()
    kept = json.loads(new.box.run("gatewayctl", "credential", device))
    assert kept["name"].endswith(holder.child)
    assert "PRIVATE KEY" in kept["key"]
    assert "PRIVATE KEY" not in new.journal()
    assert len(re.findall("was given to unit mosquitto-bridge", new.journal())) >= 2
    new.box.run("systemd-analyze", "--man=no", "verify", UNIT, "gatewayd-credential@x.path")
    new.box.run(
        "systemd-analyze",
        "--no-pager",
        "--threshold=10",
        "security",
        "gatewayd-credential@x.service",
    )
