"""Node-RED as the holder of a child, on a booted Debian: a campaign, run by script/holders.

Its packages come from npm, so it is no part of script/test.  The unit is as others bring it; the
example is the drop-in beside it, and the flow does what that says of the node of the broker.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gatewayd.simulator.huawei.account import READING
from tests.system import roots
from tests.system.conftest import TOP, booted, gateway_packages
from tests.system.gateway import Gateway
from tests.system.holder import Holder, lan
from tests.system.plant import Plant

__all__ = ["lan"]  # a fixture

pytestmark = pytest.mark.system

LAYER = TOP / ".cache/node-red"
"""What script/holders has installed, as a layer of a root file system."""
FLOWS = "/var/lib/node-red"

UNIT = f"""\
[Unit]
Description=Node-RED
After=network.target
[Service]
User=daemon
ExecStart=node /opt/node-red/node_modules/node-red/red.js --userDir {FLOWS}
Restart=on-failure
KillSignal=SIGINT
[Install]
WantedBy=multi-user.target
"""

NODES: list[dict[str, Any]] = [
    {"id": "flow", "type": "tab"},
    {
        "id": "tls", "type": "tls-config", "verifyservercert": True,
        "ca": "${CHILD_CA_FILE}", "cert": "${CHILD_CERTIFICATE_FILE}", "key": "${CHILD_KEY_FILE}",
    },
    {
        "id": "cloud", "type": "mqtt-broker", "autoConnect": True, "cleansession": True,
        "broker": "${CHILD_HOST}", "port": "${CHILD_PORT}", "clientid": "${CHILD_CLIENT_ID}",
        "usetls": True, "tls": "tls", "protocolVersion": "4", "keepalive": "60",
    },
    {
        "id": "each-second", "type": "inject", "z": "flow", "once": True, "repeat": "1",
        "props": [{"p": "payload"}], "payloadType": "json", "payload": json.dumps(READING),
        "wires": [["report"]],
    },
    {
        "id": "report", "type": "mqtt out", "z": "flow", "broker": "cloud", "qos": "1",
        "topic": "${CHILD_TOPIC_PROPERTIES}",
    },
]  # fmt: skip
ACCOUNT = {"cloud": {"user": "${CHILD_USER}", "password": "${CHILD_PASSWORD}"}}
SETTINGS = (
    'module.exports = {flowFile: "flows.json", credentialSecret: false, httpAdminRoot: false}\n'
)


@pytest.fixture(scope="session")
def root(release: str, packages: Path) -> Path:
    """The root file system of a release with Node.js, without our packages."""
    return roots.root(release, gateway_packages(packages) | {"nodejs"}, "node-red")


@pytest.fixture
def with_node_red(
    installed: Path, root: Path, lan: tuple[str, Plant], memory: Path
) -> Iterator[Gateway]:
    """A gateway with Node-RED, and gatewayd as it was installed."""
    with booted([installed, LAYER, root], lan, memory) as gateway:
        yield gateway


def until_data(holder: Holder) -> None:
    """Return when the cloud has two readings more."""
    before = holder.arrivals()
    holder.box.until(lambda: holder.arrivals() > before + 1, "data of the child at the cloud")


def test_node_red_speaks_for_a_child_until_that_is_rejected(with_node_red: Gateway) -> None:
    holder = Holder(with_node_red, "nodered")
    holder.configure()
    holder.box.write("/etc/systemd/system/nodered.service", UNIT)
    holder.install("node-red-gatewayd.conf", "/etc/systemd/system/nodered.service.d/gatewayd.conf")
    holder.install("credential-files.py", "/usr/local/lib/gatewayd/credential-files", "0755")
    for name, text in (
        ("flows.json", json.dumps(NODES)),
        ("flows_cred.json", json.dumps(ACCOUNT)),
        ("settings.js", SETTINGS),
    ):
        holder.box.write(f"{FLOWS}/{name}", text)
    holder.box.run("chown", "-R", "daemon", FLOWS)
    holder.enable()
    holder.enrol()
    assert holder.state_of_unit() != "running"
    holder.announce()
    until_data(holder)
    assert holder.failures_until_given() <= 1
    holder.renew()
    until_data(holder)
    holder.reject()
