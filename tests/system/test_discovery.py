"""Discovery on a booted gateway: a unit of its own, without secrets, that may fail."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.conftest import CHILDREN
from tests.system.gateway import Gateway

pytestmark = pytest.mark.system

HELPERS = "gatewayd-discovery@*.service"
EXPOSURE = 10
"""What systemd-analyze may find at most, in tenths."""
OUT_OF_REACH = ("/etc/credstore.encrypted", "/etc/gatewayd", "/run/dbus", "/var/lib/gatewayd")


LINKS = "gatewayd-link@*.service"
LINK_EXPOSURE = 15
NET_RAW = f"{1 << 13:016x}"
"""The set of capabilities that has CAP_NET_RAW alone, as of /proc/PID/status."""
PROFINET = '[discovery.profinet]\ninterfaces = ["lan0"]\n'
DCP_DEVICES = Path(__file__).parents[1] / "discovery/peers/dcp_devices.py"
VECTORS = Path(__file__).parents[1] / "discovery/protocols/vectors/profinet.json"
CONNECT = (
    "import socket;"
    "socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).connect('/run/gatewayd-link.socket')"
)


@contextlib.contextmanager
def _profinet_devices(gateway: Gateway) -> Iterator[int]:
    """Have PROFINET devices on the LAN; yield how many."""
    answers = [one["hex"] for one in json.loads(VECTORS.read_text()) if "mac" in one["expect"]
               and not one["expect"].get("ignored")]  # fmt: skip
    there = ("ip", "netns", "exec", gateway.namespace.replace("gw-", "children-"))
    with subprocess.Popen([*there, sys.executable, DCP_DEVICES, "lan0"], text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:  # fmt: skip
        try:
            assert process.stdin is not None
            process.stdin.write(json.dumps({"devices": answers}) + "\n")
            process.stdin.flush()
            yield len(answers)
        finally:
            process.terminate()


def _helper(gateway: Gateway, pattern: str = HELPERS) -> str:
    """Return the unit of the helper that runs; "" if none does."""
    listed = gateway.box.run(
        "systemctl", "list-units", "--plain", "--no-legend", "--state=running", pattern
    )
    return listed.split()[0] if listed.strip() else ""


def _shown(gateway: Gateway, unit: str, key: str) -> str:
    return gateway.box.run("systemctl", "show", "--value", f"--property={key}", unit).strip()


def _await_entries(gateway: Gateway, restarts: int) -> None:
    """Return when the helper has seen all children, after so many restarts."""
    wanted = {"discovery-restarts": restarts, "mdns:entries": CHILDREN}
    gateway.box.until(
        lambda: wanted.items() <= gateway.property("Counters").items(), "all to be seen"
    )


def test_discovery_has_a_unit_of_its_own_which_may_fail(gateway: Gateway) -> None:
    """On one gateway, which each step leaves with its children online, but the last."""
    _exposes_little(gateway)
    _alone_receives_multicast(gateway)
    _shows_systemd_that_it_lives(gateway)
    _ends_and_begins_with_gatewayd(gateway)
    _is_replaced_when_it_is_killed(gateway)
    _is_replaced_when_it_hangs(gateway)
    _has_another_for_frames_below_ip_which_one_process_may_use(gateway)


def _exposes_little(gateway: Gateway) -> None:
    unit = _helper(gateway)
    pid = _shown(gateway, unit, "MainPID")
    owner = gateway.box.run("stat", "--format=%U", f"/proc/{pid}").strip()
    assert owner not in ("root", "gatewayd")
    status = gateway.box.run("cat", f"/proc/{pid}/status")
    assert "CapBnd:\t0000000000000000" in status
    for path in OUT_OF_REACH:
        assert gateway.box.run("sh", "-c", f"ls -A /proc/{pid}/root{path} || true").strip() == ""
    environ = gateway.box.run("cat", f"/proc/{pid}/environ")
    assert "CREDENTIALS_DIRECTORY" not in environ
    gateway.box.run("systemd-analyze", "--no-pager", f"--threshold={EXPOSURE}", "security", unit)
    assert gateway.box.run("systemd-analyze", "--man=no", "verify", unit) == ""


def _alone_receives_multicast(gateway: Gateway) -> None:
    holders = gateway.box.run("ss", "--no-header", "--udp", "--all", "--processes")
    pid = _shown(gateway, _helper(gateway), "MainPID")
    mdns = [line for line in holders.splitlines() if ":5353" in line or ":mdns" in line]
    assert mdns
    assert all(f"pid={pid}," in line for line in mdns)


def _is_replaced_when_it_is_killed(gateway: Gateway) -> None:
    first = _helper(gateway)
    gateway.box.run("systemctl", "kill", "--signal=SIGKILL", first)
    gateway.box.until(lambda: _helper(gateway) not in ("", first), "another helper")
    _await_entries(gateway, 1)
    child = gateway.plant.facts["serials"][0]
    gateway.plant.ask(do="leave", child=child)
    gateway.box.until(lambda: gateway.counts().get("online") == CHILDREN - 1, "one to leave")
    gateway.plant.ask(do="announce", child=child)
    gateway.await_online(CHILDREN)
    gateway.await_state("running")


def _shows_systemd_that_it_lives(gateway: Gateway) -> None:
    unit = _helper(gateway)
    first = _shown(gateway, unit, "WatchdogTimestampMonotonic")
    gateway.box.until(
        lambda: _shown(gateway, unit, "WatchdogTimestampMonotonic") != first, "a sign of life"
    )
    assert _helper(gateway) == unit


def _is_replaced_when_it_hangs(gateway: Gateway) -> None:
    first, said = _helper(gateway), "The discovery helper ended, and is started again"
    before = gateway.journal("--boot").count(said)
    gateway.box.run("systemctl", "kill", "--signal=SIGSTOP", first)
    gateway.box.until(lambda: _helper(gateway) not in ("", first), "another helper")
    assert gateway.journal("--boot").count(said) > before
    gateway.await_state("running")
    gateway.await_online(CHILDREN)
    assert gateway.shown("NRestarts") == "0"


def _ends_and_begins_with_gatewayd(gateway: Gateway) -> None:
    gateway.systemctl("restart")
    gateway.await_online(CHILDREN)
    gateway.systemctl("stop")
    gateway.box.until(lambda: not _helper(gateway), "the helper to end")
    assert gateway.box.run("systemctl", "--failed", "--plain", "--no-legend") == ""
    gateway.systemctl("start")
    gateway.await_online(CHILDREN)


def _has_another_for_frames_below_ip_which_one_process_may_use(gateway: Gateway) -> None:
    assert _helper(gateway, LINKS) == ""  # while nothing needs it
    gateway.box.write("/etc/gatewayd/conf.d/60-profinet.toml", PROFINET)
    with _profinet_devices(gateway) as count:
        gateway.systemctl("restart")
        found = {"profinet:entries": count}
        gateway.box.until(
            lambda: found.items() <= gateway.property("Counters").items(), "them to be found"
        )
        link, helper = _helper(gateway, LINKS), _helper(gateway)
        for unit, capabilities in ((link, NET_RAW), (helper, "0" * 16)):
            pid = _shown(gateway, unit, "MainPID")
            status = gateway.box.run("cat", f"/proc/{pid}/status")
            for name in ("CapBnd", "CapEff", "CapAmb"):
                assert f"{name}:\t{capabilities}" in status
            owner = gateway.box.run("stat", "--format=%U", f"/proc/{pid}").strip()
            assert owner not in ("root", "gatewayd")
        threshold = f"--threshold={LINK_EXPOSURE}"
        gateway.box.run("systemd-analyze", "--no-pager", threshold, "security", link)
        assert gateway.box.run("systemd-analyze", "--man=no", "verify", link) == ""
        assert "Permission denied" in gateway.refused("python3", "-c", CONNECT, user="gatewayd")
        gateway.box.run("systemctl", "kill", "--signal=SIGKILL", link)
        gateway.box.until(lambda: _helper(gateway, LINKS) not in ("", link), "another link helper")
        gateway.box.until(
            lambda: found.items() <= gateway.property("Counters").items(), "them to be found again"
        )
    gateway.systemctl("stop")
    gateway.box.until(lambda: not _helper(gateway, LINKS), "the link helper to end")
    assert gateway.box.run("systemctl", "--failed", "--plain", "--no-legend") == ""
