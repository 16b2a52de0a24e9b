"""A unit speaks for a child that gatewayd has registered: from before it was seen to its rejection.

The unit is the example of a mosquitto that bridges to the cloud; the cloud knows each child by its
certificate.
"""

from __future__ import annotations

import json
import re

import pytest

from gatewayd.simulator.huawei.account import READING
from tests.system.gateway import Gateway
from tests.system.holder import BRIDGE, SOCKET, Holder, lan

__all__ = ["lan"]  # a fixture

pytestmark = pytest.mark.system

SAY = f"""\
import paho.mqtt.publish as publish
publish.single("child/properties", {json.dumps(json.dumps(READING))}, qos=1,
               hostname="127.0.0.1", port=1884)
"""

ASK = f"""\
import os, socket, sys
os.setgid(65534), os.setuid(65534)
client = socket.socket(socket.AF_UNIX)
client.bind("\\0f/unit/{BRIDGE}.service/child.json")
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


def says(holder: Holder) -> bool:
    """Have a local program publish; return whether the cloud has one reading more."""
    before = holder.arrivals()
    holder.box.run("python3", "-c", SAY)
    return holder.arrivals() > before


def until_data(holder: Holder) -> None:
    """Return when what a local program publishes arrives at the cloud.  Raises TimeoutError."""
    holder.box.until(lambda: says(holder), "data of the child at the cloud")


def test_a_unit_speaks_for_a_child_until_that_is_rejected(new: Gateway) -> None:
    holder = Holder(new)
    holder.configure()
    holder.install(f"{BRIDGE}.service", f"/etc/systemd/system/{BRIDGE}.service")
    holder.install("credential-files.py", "/usr/local/lib/gatewayd/credential-files", "0755")
    new.systemctl("stop")
    holder.enable()
    new.box.until(lambda: holder.restarts() > 0, "the unit to ask again")
    new.systemctl("start")
    holder.enrol()
    assert holder.state_of_unit() != "running"
    assert new.box.run("stat", "--format=%a", SOCKET) == "600"
    assert "PermissionError" in new.refused("python3", "-c", ASK)

    holder.announce()
    until_data(holder)
    assert holder.failures_until_given() <= 1, "one that it was about to report"
    assert new.box.run("python3", "-c", READ, user="nobody").endswith(holder.child)
    new.refused("python3", "-c", READ, user="daemon")
    holder.renew()
    until_data(holder)

    new.systemctl("kill", "--signal=SIGKILL", "--kill-whom=main")
    new.box.until(lambda: list(new.children().values()) == ["handed-over"], "gatewayd to be back")
    until_data(holder)

    (device,) = new.children()
    holder.reject()
    new.refused("gatewayctl", "credential", device)
    new.box.run("gatewayctl", "approve", device)
    until_data(holder)
    kept = json.loads(new.box.run("gatewayctl", "credential", device))
    assert kept["name"].endswith(holder.child)
    assert "PRIVATE KEY" in kept["key"]
    assert "PRIVATE KEY" not in new.journal()
    assert len(re.findall(f"was given to unit {BRIDGE}", new.journal())) >= 2
    unit = f"{BRIDGE}.service"
    new.box.run("systemd-analyze", "--man=no", "verify", unit, "gatewayd-credential@x.path")
    new.box.run(
        "systemd-analyze",
        "--no-pager",
        "--threshold=10",
        "security",
        "gatewayd-credential@x.service",
    )
