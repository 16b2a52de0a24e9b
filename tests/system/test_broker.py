"""gatewayd's own broker: after `apt install` and one line of settings, a child publishes by TLS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.conftest import CHILDREN, UNLIMITED, on_a_lan
from tests.system.gateway import Gateway
from tests.system.outage import loses_nothing_in_an_outage
from tests.system.plant import Plant

pytestmark = pytest.mark.system

BROKER, ACCESS, LIMIT = (
    "gatewayd-broker.service", "gatewayd-broker-access.service", "gatewayd-broker-limit.service",
)  # fmt: skip
EXPOSURE = {BROKER: 10, ACCESS: 10, LIMIT: 6, "gatewayd.service": 11}
"""Tenths, as systemd-analyze(1) takes them, at most."""

MODES = {
    "/run/gatewayd-door": "2750 gatewayd gatewayd-broker",
    "/run/gatewayd-door/key.pem": "640 gatewayd gatewayd-broker",
    "/run/gatewayd-broker": "750 gatewayd-broker gatewayd-door",
    "/run/gatewayd-broker/socket": "770 gatewayd-broker gatewayd-door",
    "/run/gatewayd-broker/passwords": "400 gatewayd-broker gatewayd-door",
    "/run/gatewayd-broker/listeners": "755 gatewayd-broker gatewayd-door",
    "/var/lib/gatewayd-broker": "700 gatewayd-broker gatewayd-door",
    "/var/lib/gatewayd/broker-users.json": "600 gatewayd gatewayd",
}
"""Mode, owner and group: a program in the group can connect, and read or write nothing."""
LISTENERS = "/run/gatewayd-door/listeners.conf"
COPY = "/run/gatewayd-broker/listeners/listeners.conf"
CHANGED = "# changed"


@pytest.fixture
def lan(tmp_path: Path) -> Iterator[tuple[str, Plant]]:
    with on_a_lan(tmp_path, *UNLIMITED) as found:
        yield found


def _state(gateway: Gateway, unit: str = BROKER) -> str:
    return gateway.box.run("systemctl", "show", "--value", "-p", "ActiveState", unit)


def _restarts(gateway: Gateway) -> str:
    return gateway.box.run("systemctl", "show", "--value", "-p", "NRestarts", BROKER)


def _pid(gateway: Gateway) -> str:
    return gateway.box.run("systemctl", "show", "--value", "-p", "MainPID", BROKER)


def _has_other_listeners(gateway: Gateway) -> str:
    """Have the broker run with other listeners than gatewayd writes; return its process.

    gatewayd writes its own once more some seconds after a start: then it is tried again.
    """
    found = ""

    def has() -> bool:
        nonlocal found
        found = _pid(gateway)
        if CHANGED in gateway.box.run("cat", COPY):
            return _pid(gateway) == found != "0"
        add = f"grep -qx '{CHANGED}' {LISTENERS} || echo '{CHANGED}' >> {LISTENERS}"
        gateway.box.run("sh", "-c", add)
        gateway.box.run("systemctl", "reload", BROKER)
        return False

    gateway.box.until(has, "a broker with other listeners")
    return found


def _modes(gateway: Gateway) -> dict[str, str]:
    lines = gateway.box.run("stat", "--format=%n %a %U %G", *MODES).splitlines()
    return {path: mode for path, _, mode in (line.partition(" ") for line in lines)}


def _until(gateway: Gateway, state: str) -> None:
    gateway.box.until(lambda: _state(gateway) == state, f"the broker to be {state}")


def test_children_publish_with_what_gatewayctl_makes(gateway: Gateway, tmp_path: Path) -> None:
    box = gateway.box
    child, silent, *_ = gateway.children()
    assert _state(gateway) == "inactive"
    gateway.refused("gatewayctl", "door", "list")
    box.write("/etc/gatewayd/conf.d/60-messages.toml", "[messages]\nenabled = true\n")
    gateway.systemctl("restart")
    _until(gateway, "active")
    gateway.await_online(CHILDREN)

    password = box.run("gatewayctl", "door", "password", child)
    authority = tmp_path / "ca.pem"
    authority.write_text(box.run("gatewayctl", "door", "authority"))
    box.until(lambda: gateway.publish(child, password, authority) == 0, "the child to publish")
    assert gateway.publish(child, "wrong", authority) != 0
    sent = ("org.gatewayd1", "/org/gatewayd1/messages", "org.gatewayd1.Messages", "Sent")
    box.until(lambda: box.run("busctl", "get-property", *sent) == "t 1", "the cloud to have it")

    broker = _pid(gateway)
    pid = gateway.shown("MainPID")
    gateway.systemctl("kill", "--signal=SIGKILL", "--kill-whom=main")
    box.until(lambda: gateway.shown("MainPID") not in (pid, "0"), "gatewayd to be started again")
    gateway.await_online(CHILDREN)
    assert _pid(gateway) == broker
    box.until(lambda: gateway.publish(child, password, authority) == 0, "it to be served")

    box.run("systemctl", "kill", "--signal=SIGKILL", "--kill-whom=main", BROKER)
    box.until(lambda: _restarts(gateway) == "1", "another broker")
    box.until(lambda: gateway.publish(child, password, authority) == 0, "it to be served again")

    before = _pid(gateway)
    changed = _has_other_listeners(gateway)
    assert changed != before
    box.until(lambda: gateway.publish(child, password, authority) == 0, "these to be served")

    # What gatewayd writes has no longer the line that was added: other listeners, once more.
    box.run("gatewayctl", "door", "revoke", child)
    box.until(lambda: _pid(gateway) not in (changed, "0"), "a broker with the listeners of before")
    _until(gateway, "active")
    assert CHANGED not in box.run("cat", COPY)
    box.until(lambda: gateway.publish(child, password, authority) != 0, "it to be refused")

    table = box.run("nft", "list", "table", "inet", "gatewayd_broker")
    assert "ct count over 64" in table
    assert box.run("systemctl", "--failed", "--plain", "--no-legend") == ""
    units = (BROKER, ACCESS, LIMIT, "gatewayd-broker-access.path")
    assert box.run("systemd-analyze", "--man=no", "verify", *units) == ""
    for unit, most in EXPOSURE.items():
        box.run("systemd-analyze", "--no-pager", f"--threshold={most}", "security", unit)
    for path in ("/run/gatewayd-door", "/run/gatewayd-broker/socket"):
        gateway.refused("ls", path, user="nobody")
    box.until(lambda: _modes(gateway), "a broker with its own listeners again")
    assert _modes(gateway) == MODES
    loses_nothing_in_an_outage(gateway, silent, tmp_path)
    _runs_as_gatewayd_does(gateway)


def _is_stopped_while_it_starts(gateway: Gateway) -> None:
    """Stop gatewayd while its broker starts, or reads its files; gatewayd does not wait for it.

    mosquitto 2.0 forgets a SIGTERM of the third of a millisecond between its handlers and its loop
    (main in src/mosquitto.c sets `run` at last), and is killed when the time of a stop is over.
    That comes once in some hundred stops: what comes twice has another cause.
    """
    gateway.systemctl("restart")
    gateway.systemctl("stop")
    gateway.box.until(lambda: _state(gateway) in ("inactive", "failed"), "the broker to end")
    if _state(gateway) == "failed":
        result = gateway.box.run("systemctl", "show", "--value", "-p", "Result", BROKER)
        assert result == "timeout"
        gateway.systemctl("restart")
        gateway.systemctl("stop")
        _until(gateway, "inactive")


def _runs_as_gatewayd_does(gateway: Gateway) -> None:
    box = gateway.box
    _is_stopped_while_it_starts(gateway)
    assert box.run("systemctl", "--failed", "--plain", "--no-legend") == ""
    gateway.systemctl("start")
    _until(gateway, "active")
    box.path("/etc/gatewayd/conf.d/60-messages.toml").unlink()
    gateway.systemctl("restart")
    _until(gateway, "inactive")
    gateway.refused("nft", "list", "table", "inet", "gatewayd_broker")
