"""What systemd does to gatewayd, and how it takes that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gatewayd.runtime.journal import MESSAGE_IDS
from tests.system.conftest import CHILDREN, UNLIMITED, on_a_lan
from tests.system.gateway import Gateway
from tests.system.plant import Plant

pytestmark = pytest.mark.system

LOG = """\
from gi.repository import Gio, GLib
place = ("org.gatewayd1", "/org/freedesktop/LogControl1", "org.freedesktop.DBus.Properties", "Set")
debug = ("org.freedesktop.LogControl1", "LogLevel", GLib.Variant("s", "debug"))
bus = Gio.bus_get_sync(Gio.BusType.SYSTEM)
for _ in range(1000):
    bus.call_sync(*place, GLib.Variant("(ssv)", debug), None, Gio.DBusCallFlags.NONE, 60_000, None)
"""
"""Has a thousand lines be logged: more than wait for a journal that does not read them."""
IMPATIENT = "[Service]\nWatchdogSec=10s\n"
"""Longer than a busy machine keeps one from running, which is no hanging."""
STUBBORN = "[Service]\nRestartSec=100ms\n"


@pytest.fixture
def lan(tmp_path: Path) -> Iterator[tuple[str, Plant]]:
    with on_a_lan(tmp_path, *UNLIMITED) as found:
        yield found


def _pid(gateway: Gateway) -> str:
    return gateway.shown("MainPID")


def _await_other_than(gateway: Gateway, pid: str) -> None:
    gateway.box.until(lambda: _pid(gateway) not in (pid, "0"), "another process")


def _restarts(gateway: Gateway) -> int:
    """Return how often systemd has started it again by itself."""
    return int(gateway.shown("NRestarts"))


def test_it_takes_what_systemd_does_to_it(gateway: Gateway) -> None:
    """On one gateway, which each step leaves with its children online, but the last two."""
    _has_a_log_with_a_level_and_fields_that_is_explained(gateway)
    _stays_online_while_the_bus_hangs_and_is_killed(gateway)
    _comes_online_while_the_journal_hangs(gateway)
    _is_started_again_when_it_hangs(gateway)
    _is_started_again_when_it_is_killed_and_asks_for_no_secret(gateway)
    _is_never_given_up(gateway)
    _comes_back_after_a_reboot_and_after_a_power_cut(gateway)
    _puts_rules_in_force_without_a_new_process(gateway)
    _is_started_by_a_call_unless_it_is_disabled(gateway)
    _is_not_started_again_and_again_with_a_wrong_configuration(gateway)


def _puts_rules_in_force_without_a_new_process(gateway: Gateway) -> None:
    pid = _pid(gateway)
    gateway.box.write("/etc/gatewayd/rules.d/50-site.toml", "")
    gateway.systemctl("reload")
    assert gateway.call("ListRules") == []
    assert _pid(gateway) == pid
    gateway.await_online(CHILDREN)

    gateway.box.write("/etc/gatewayd/rules.d/50-site.toml", "[[rule]]\n")
    gateway.refused("systemctl", "reload", "gatewayd")
    entry = f"MESSAGE_ID={MESSAGE_IDS['configuration-rejected']}"
    gateway.await_entry("/etc/gatewayd/rules.d/50-site.toml:1: ", entry)
    assert gateway.shown("ActiveState") == "active"
    gateway.await_online(CHILDREN)

    gateway.box.write("/etc/gatewayd/rules.d/50-site.toml", "")
    gateway.systemctl("reload")


def _is_not_started_again_and_again_with_a_wrong_configuration(gateway: Gateway) -> None:
    gateway.box.write("/etc/gatewayd/conf.d/50-site.toml", "[cloud.nowhere]\n")
    gateway.refused("systemctl", "restart", "gatewayd")
    assert gateway.shown("ExecMainStatus") == "78"
    assert _restarts(gateway) == 0
    told = gateway.refused("gatewayd", "--check-config")
    assert "/etc/gatewayd/conf.d/50-site.toml:1: " in told


def _has_a_log_with_a_level_and_fields_that_is_explained(gateway: Gateway) -> None:
    assert gateway.systemctl("service-log-level") == "info"
    gateway.box.run("systemctl", "service-log-level", "gatewayd", "debug")
    assert gateway.systemctl("service-log-level") == "debug"

    child = next(iter(gateway.children()))
    entry = (f"MESSAGE_ID={MESSAGE_IDS['device-registered']}", f"GATEWAYD_DEVICE={child}")
    gateway.box.until(lambda: gateway.journal(*entry, "--output=cat"), "it to be logged")
    (told,) = gateway.journal(*entry, "--output=cat").splitlines()
    assert f"{child} is online" in told
    explained = gateway.journal("--catalog", f"GATEWAYD_DEVICE={child}")
    assert f"Subject: Device {child} is registered" in explained
    gateway.box.run("systemctl", "service-log-level", "gatewayd", "info")


def _is_started_again_when_it_hangs(gateway: Gateway) -> None:
    gateway.drop_in("tried", IMPATIENT)
    gateway.systemctl("restart")
    pid = _pid(gateway)
    gateway.systemctl("kill", "--signal=SIGSTOP", "--kill-whom=main")
    _await_other_than(gateway, pid)
    gateway.await_online(CHILDREN)
    missed = gateway.journal().count("Watchdog timeout")
    assert _restarts(gateway) == missed > 0, "nothing else has ended it"


def _is_started_again_when_it_is_killed_and_asks_for_no_secret(gateway: Gateway) -> None:
    gateway.drop_in("tried", STUBBORN)
    gateway.systemctl("restart")
    gateway.await_online(CHILDREN)
    for number in range(1, 4):
        pid = _pid(gateway)
        gateway.systemctl("kill", "--signal=SIGKILL")
        _await_other_than(gateway, pid)
        gateway.await_online(CHILDREN)
        assert _restarts(gateway) == number
    assert set(gateway.plant.secrets_issued().values()) == {1}


def _online_at_the_cloud(gateway: Gateway) -> int:
    """How many children the cloud holds a session of: it can be asked without a bus."""
    serials = gateway.plant.facts["serials"]
    return sum(bool(gateway.plant.ask(do="ledger", child=one).get("online")) for one in serials)


def _is_never_given_up(gateway: Gateway) -> None:
    before = _restarts(gateway)
    for _ in range(12):
        pid = _pid(gateway)
        gateway.systemctl("kill", "--signal=SIGKILL", "--kill-whom=main")
        _await_other_than(gateway, pid)
    gateway.await_online(CHILDREN)
    assert _restarts(gateway) >= before + 12


def _stays_online_while_the_bus_hangs_and_is_killed(gateway: Gateway) -> None:
    pid = _pid(gateway)
    gateway.box.run("systemctl", "kill", "--signal=SIGSTOP", "dbus.service")
    gateway.await_entry("bus does not answer")
    gateway.box.run("systemctl", "kill", "--signal=SIGKILL", "dbus.service")
    gateway.await_entry("message bus again")
    assert _online_at_the_cloud(gateway) == CHILDREN
    gateway.await_state("running")
    assert gateway.counts() == {"online": CHILDREN}
    assert (_pid(gateway), _restarts(gateway)) == (pid, 0)


def _comes_online_while_the_journal_hangs(gateway: Gateway) -> None:
    gateway.box.run("systemctl", "kill", "--signal=SIGSTOP", "systemd-journald.service")
    gateway.box.run("python3", "-", input=LOG)
    child = gateway.plant.facts["serials"][0]
    gateway.plant.ask(do="leave", child=child)
    gateway.box.until(lambda: _online_at_the_cloud(gateway) == CHILDREN - 1, "one to leave")
    gateway.plant.ask(do="announce", child=child)
    gateway.await_online(CHILDREN)
    gateway.box.run("systemctl", "kill", "--signal=SIGCONT", "systemd-journald.service")
    gateway.await_entry("The journal reads again")
    assert _restarts(gateway) == 0


def _is_started_by_a_call_unless_it_is_disabled(gateway: Gateway) -> None:
    gateway.systemctl("stop")
    assert gateway.shown("Result") == "success"
    # The bus itself waits 25 seconds for it, and says then that it did not come.
    gateway.box.until(lambda: gateway.property("State"), "the call to be answered")
    gateway.box.until(lambda: gateway.shown("ActiveState") == "active", "it to be active")

    gateway.systemctl("disable", "--now")
    gateway.refused("busctl", "status", "org.gatewayd1")
    assert gateway.shown("ActiveState") == "inactive"


def _comes_back_after_a_reboot_and_after_a_power_cut(gateway: Gateway) -> None:
    gateway.box.reboot()
    gateway.await_online(CHILDREN)
    assert _restarts(gateway) == 0
    assert set(gateway.plant.secrets_issued().values()) == {1}

    gateway.box.cut_power()
    gateway.box.boot()
    gateway.await_online(CHILDREN)
    assert set(gateway.plant.secrets_issued().values()) == {1}
