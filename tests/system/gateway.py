"""A booted gateway with gatewayd installed, as its operator sees it: over D-Bus and systemctl."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gatewayd.simulator.site import MANAGER
from tests.integration.lan import GATEWAY
from tests.system.box import PATIENCE, Box, Failed
from tests.system.plant import Plant

UNIT = "gatewayd.service"
DROP_INS = "/etc/systemd/system/gatewayd.service.d"
STATE = "/var/lib/gatewayd"
KEY = "/etc/credstore.encrypted/vault.key"

LAN = """\
[discovery]
settle = 0.5
[discovery.mdns]
interfaces = ["lan0"]
types = ["_gatewayd-child._tcp"]
[registration]
retry_first = 1
"""
"""Where the children are, and waits that are short enough for a test."""

CONFIG = (
    LAN
    + """\
[sessions]
retry_first = 1
per_minute = 60
[cloud.alibaba]
host = "{facts[host]}"
port = {facts[port]}
ca_file = "/etc/gatewayd/ca.pem"
[cloud.alibaba.products.{facts[product]}]
secret_credential = "product"
"""
)

RULES = """\
[[rule]]
name = "sensors"
match = {{ service = "_gatewayd-child._tcp" }}
extract = {{ serial = "txt.serial" }}
list = "/etc/gatewayd/serials.txt"
action = "{action}"
provider = "{cloud}"
product = "{facts[product]}"
device_name = "{{serial}}"
"""
"""For the children of one cloud."""

BUSCTL = ("busctl", f"--timeout={PATIENCE:.0f}")
"""By itself it waits no longer than 25 seconds for an answer."""

PRODUCT = """\
[Service]
LoadCredential=product:/etc/gatewayd/product-secret
"""


def install(box: Box, *packages: Path) -> str:
    """Install packages as `apt install ./….deb` does; return what is told."""
    names = []
    for package in packages:
        shutil.copy(package, box.path("/opt"))
        names.append(f"/opt/{package.name}")
    return apt(box, "install", "--allow-downgrades", *names)


def apt(box: Box, *arguments: str) -> str:
    """Run apt-get, which asks no questions; return what it tells."""
    return box.run(
        "env", "DEBIAN_FRONTEND=noninteractive", "sh", "-c", 'exec apt-get -qqy "$@" 2>&1',
        "apt", *arguments,
    )  # fmt: skip


class Gateway:
    """One gateway on a LAN with a plant.  namespace: the name of its network."""

    def __init__(self, box: Box, plant: Plant, namespace: str) -> None:
        self.box, self.plant, self.namespace = box, plant, namespace

    def configure(self, action: str = "register") -> None:
        """Write the configuration of this site, and restart.  action: of the rule."""
        self.prepare(action)
        self.box.run("systemctl", "daemon-reload")
        self.systemctl("restart")

    def prepare(self, action: str = "register") -> None:
        """Write the configuration of this site; the machine may be off.  action: of the rule."""
        files = {
            "conf.d/50-site.toml": CONFIG.format(facts=self.plant.facts),
            "rules.d/50-site.toml": RULES.format(
                facts=self.plant.facts, action=action, cloud="alibaba"
            ),
            "ca.pem": self.plant.text("ca.pem"),
            "serials.txt": self.plant.text("serials.txt"),
        }
        for name, text in files.items():
            self.box.write(f"/etc/gatewayd/{name}", text)
        self.box.write("/etc/gatewayd/product-secret", self.plant.text("product-secret"), 0o600)
        self.box.write(f"{DROP_INS}/product.conf", PRODUCT)

    def begin_with_key(self, *options: str) -> None:
        """Begin with an empty vault whose key is made by hand.  options: of systemd-creds."""
        self.systemctl("stop")
        self.box.run("sh", "-c", f"rm -rf {STATE}/* {KEY}")
        self.write_key(*options)

    def write_key(self, *options: str) -> None:
        """Make a key by hand, in the place of that of the vault.  options: of systemd-creds."""
        self.box.run("mkdir", "-p", "-m", "0700", str(Path(KEY).parent))
        script = f'head -c 32 /dev/urandom | systemd-creds "$@" --name=vault.key encrypt - {KEY}'
        self.box.run("sh", "-c", script, "sh", *options)

    def key(self) -> bytes:
        """Return the file of the vault's key, as it lies on the disk."""
        return self.box.path(KEY).read_bytes()

    def drop_in(self, name: str, text: str, unit: str = UNIT) -> None:
        """Add to a unit."""
        self.box.write(f"/etc/systemd/system/{unit}.d/{name}.conf", text)
        self.box.run("systemctl", "daemon-reload")

    def systemctl(self, verb: str, *options: str) -> str:
        """Run a verb of systemctl on the daemon."""
        return self.box.run("systemctl", verb, *options, UNIT)

    def shown(self, name: str) -> str:
        """Return a property of the unit."""
        return self.systemctl("show", "--value", "-p", name)

    def call(self, method: str, signature: str = "", *arguments: str, user: str = "") -> Any:
        """Call a method of the Manager, as a user; return its first result.  Raises Failed."""
        told = (*BUSCTL, "--json=short", "call", *MANAGER, method)
        given = (signature, *arguments) if signature else ()
        text = self.box.run(*told, *given, user=user)
        return json.loads(text)["data"][0] if text else None

    def property(self, name: str, user: str = "") -> Any:  # JSON
        """Return a property of the Manager.  Raises Failed."""
        told = (*BUSCTL, "--json=short", "get-property", *MANAGER, name)
        text = self.box.run(*told, user=user)
        return json.loads(text)["data"]

    def counts(self) -> Mapping[str, int]:
        """Return how many children are in each state."""
        return dict(self.call("CountDevices"))

    def children(self) -> Mapping[str, str]:
        """Return the state of each child by its id."""
        return {row[0]: row[1] for row in self.call("ListDevices")}

    def await_online(self, number: int) -> None:
        """Return when so many children are online.  Raises TimeoutError."""
        self.box.until(lambda: self.counts().get("online") == number, f"{number} to be online")

    def await_state(self, state: str) -> None:
        """Return when the daemon is in this state.  Raises TimeoutError."""
        self.box.until(lambda: self.property("State") == state, f"gatewayd to be {state}")

    def await_status(self, text: str) -> None:
        """Return when systemd shows this of the daemon, which it does some time after the state."""
        self.box.until(lambda: text in self.shown("StatusText"), f"the status {text!r}")

    def publish(
        self,
        child: str,
        password: str,
        authority: Path,
        payload: str = '{"CurrentTemperature": 21.5}',
    ) -> int:
        """Publish as a child does, from its side of the LAN; return the status of mosquitto_pub.

        authority: the file with the CA of gatewayd's own broker, outside of the box.
        """
        outside = self.namespace.replace("gw-", "children-")
        command = [
            "ip", "netns", "exec", outside, "mosquitto_pub", "-h", GATEWAY, "-p", "8883", "-q", "1",
            "--cafile", str(authority), "-u", child, "-P", password,
            "-t", f"c/{child}/up/properties", "-m", payload,
        ]  # fmt: skip
        return subprocess.run(
            command, check=False, capture_output=True, timeout=PATIENCE
        ).returncode

    def journal(self, *options: str) -> str:
        """Return what the daemon has logged."""
        return self.box.journal("--unit", UNIT, *options)

    def await_entry(self, text: str, *options: str) -> None:
        """Return when the daemon has logged this, which it may do after what it is about."""
        self.box.until(lambda: text in self.journal(*options), f"the entry {text!r}")

    def refused(self, *command: str, user: str = "") -> str:
        """Return what a command that must fail complains of."""
        try:
            self.box.run(*command, user=user)
        except Failed as error:
            return str(error)
        raise AssertionError(f"{' '.join(command)} was not refused")
