"""What systemd does to gatewayd, and how it takes that."""

from __future__ import annotations

import pytest

from gatewayd.runtime.journal import MESSAGE_IDS
from tests.system.conftest import CHILDREN
from tests.system.gateway import Gateway

pytestmark = pytest.mark.system

LOG_CONTROL = ("org.gatewayd1", "/org/freedesktop/LogControl1", "org.freedesktop.LogControl1")
IMPATIENT = "[Service]\nWatchdogSec=2s\n"
STUBBORN = "[Service]\nRestartSec=100ms\n"


def _pid(gateway: Gateway) -> str:
    return gateway.shown("MainPID")


def _await_other_than(gateway: Gateway, pid: str) -> None:
    gateway.box.until(lambda: _pid(gateway) not in (pid, "0"), "another process")


def test_reload_puts_rules_in_force_without_a_new_process(gateway: Gateway) -> None:
    pid = _pid(gateway)
    gateway.box.write("/etc/gatewayd/rules.d/50-site.toml", "")
    gateway.systemctl("reload")
    assert gateway.call("ListRules") == []
    assert _pid(gateway) == pid
    gateway.await_online(CHILDREN)

    gateway.box.write("/etc/gatewayd/rules.d/50-site.toml", "[[rule]]\n")
    gateway.refused("systemctl", "reload", "gatewayd")
    journal = gateway.journal(f"MESSAGE_ID={MESSAGE_IDS['configuration-rejected']}")
    assert "/etc/gatewayd/rules.d/50-site.toml:1: " in journal
    assert gateway.shown("ActiveState") == "active"
    gateway.await_online(CHILDREN)


def test_a_wrong_configuration_is_not_started_again_and_again(new: Gateway) -> None:
    new.box.write("/etc/gatewayd/conf.d/50-site.toml", "[cloud.nowhere]\n")
    new.refused("systemctl", "restart", "gatewayd")
    assert new.shown("ExecMainStatus") == "78"
    assert new.shown("NRestarts") == "0"
    told = new.refused("gatewayd", "--check-config")
    assert "/etc/gatewayd/conf.d/50-site.toml:1: " in told


def test_the_log_has_a_level_and_fields_and_is_explained(gateway: Gateway) -> None:
    assert gateway.systemctl("service-log-level") == "info"
    gateway.box.run("systemctl", "service-log-level", "gatewayd", "debug")
    assert gateway.systemctl("service-log-level") == "debug"

    child = next(iter(gateway.children()))
    (told,) = gateway.journal(
        f"MESSAGE_ID={MESSAGE_IDS['device-registered']}", f"GATEWAYD_DEVICE={child}", "--output=cat"
    ).splitlines()
    assert f"{child} is online" in told
    explained = gateway.journal("--catalog", f"GATEWAYD_DEVICE={child}")
    assert f"Subject: Device {child} is registered" in explained


def test_one_that_hangs_is_started_anew(gateway: Gateway) -> None:
    gateway.drop_in("impatient", IMPATIENT)
    gateway.systemctl("restart")
    pid = _pid(gateway)
    gateway.systemctl("kill", "--signal=SIGSTOP", "--kill-whom=main")
    _await_other_than(gateway, pid)
    gateway.await_online(CHILDREN)
    assert gateway.shown("NRestarts") == "1"
    assert "atchdog" in gateway.journal()


def test_one_that_is_killed_is_started_anew_and_asks_for_no_secret(gateway: Gateway) -> None:
    gateway.drop_in("stubborn", STUBBORN)
    for number in range(1, 4):
        pid = _pid(gateway)
        gateway.systemctl("kill", "--signal=SIGKILL")
        _await_other_than(gateway, pid)
        gateway.await_online(CHILDREN)
        assert gateway.shown("NRestarts") == str(number)
    assert set(gateway.plant.secrets_issued().values()) == {1}


def _online_at_the_cloud(gateway: Gateway) -> int:
    """How many children the cloud holds a session of: it can be asked without a bus."""
    serials = gateway.plant.facts["serials"]
    return sum(bool(gateway.plant.ask(do="ledger", child=one).get("online")) for one in serials)


def test_it_is_never_given_up(gateway: Gateway) -> None:
    gateway.drop_in("stubborn", STUBBORN)
    for _ in range(12):
        pid = _pid(gateway)
        gateway.systemctl("kill", "--signal=SIGKILL", "--kill-whom=main")
        _await_other_than(gateway, pid)
    gateway.await_online(CHILDREN)
    assert int(gateway.shown("NRestarts")) >= 12


def test_children_stay_online_while_the_bus_hangs_and_is_killed(gateway: Gateway) -> None:
    pid = _pid(gateway)
    gateway.box.run("systemctl", "kill", "--signal=SIGSTOP", "dbus.service")
    gateway.box.until(lambda: "bus does not answer" in gateway.journal(), "the bus to be missed")
    gateway.box.run("systemctl", "kill", "--signal=SIGKILL", "dbus.service")
    gateway.box.until(lambda: "message bus again" in gateway.journal(), "it to be on the bus")
    assert _online_at_the_cloud(gateway) == CHILDREN
    gateway.await_state("running")
    assert gateway.counts() == {"online": CHILDREN}
    assert (_pid(gateway), gateway.shown("NRestarts")) == (pid, "0")


def test_children_come_online_while_the_journal_hangs(gateway: Gateway) -> None:
    gateway.box.run("systemctl", "kill", "--signal=SIGSTOP", "systemd-journald.service")
    set_level = f"busctl set-property {' '.join(LOG_CONTROL)} LogLevel s debug"  # each is logged
    gateway.box.run("sh", "-c", f"for n in $(seq 1000); do {set_level} || exit; done")
    child = gateway.plant.facts["serials"][0]
    gateway.plant.ask(do="leave", child=child)
    gateway.box.until(lambda: _online_at_the_cloud(gateway) == CHILDREN - 1, "one to leave")
    gateway.plant.ask(do="announce", child=child)
    gateway.await_online(CHILDREN)
    gateway.box.run("systemctl", "kill", "--signal=SIGCONT", "systemd-journald.service")
    gateway.box.until(lambda: "The journal reads again" in gateway.journal(), "the journal's end")
    assert gateway.shown("NRestarts") == "0"


def test_a_call_starts_it_unless_it_is_disabled(gateway: Gateway) -> None:
    gateway.systemctl("stop")
    assert gateway.shown("Result") == "success"
    assert gateway.property("State")
    assert gateway.shown("ActiveState") == "active"

    gateway.systemctl("disable", "--now")
    gateway.refused("busctl", "status", "org.gatewayd1")
    assert gateway.shown("ActiveState") == "inactive"


def test_everybody_comes_back_after_a_reboot(gateway: Gateway) -> None:
    gateway.box.reboot()
    gateway.await_online(CHILDREN)
    assert gateway.shown("NRestarts") == "0"
    assert set(gateway.plant.secrets_issued().values()) == {1}


def test_everybody_comes_back_after_a_power_cut(gateway: Gateway) -> None:
    gateway.box.cut_power()
    gateway.box.boot()
    gateway.await_online(CHILDREN)
    assert set(gateway.plant.secrets_issued().values()) == {1}
