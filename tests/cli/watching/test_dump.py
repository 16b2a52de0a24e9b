"""`gatewayctl dump`: what it adds to what the daemon knows, within bounds."""

from __future__ import annotations

import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gatewayd.cli.watching import dump
from gatewayd.cli.watching.dump import COMMANDS, MAX_JOURNAL, journal, versions
from gatewayd.dbus.bus import Bus
from gatewayd.simulator.bus import PrivateBus
from tests.dbus.support import RecordingCommands, served, view
from tests.support.gatewayctl import ctl, validate

CONFIG = """\
[secretstore.vault]
key = "development-file"
[cloud.mqtt]
host = "127.0.0.1"
port = 9
[cloud.mqtt.management]
user = "gatewayd"
password_file = "{directory}/password"
"""


@pytest.fixture
async def service(bus: PrivateBus) -> AsyncIterator[Bus]:
    async with served(bus, RecordingCommands("child-1a"), view("child-1a"), gather=0.02) as ours:
        yield ours


@pytest.fixture
def config(tmp_path: Path) -> str:
    (tmp_path / "password").touch(mode=0o600)
    (tmp_path / "gatewayd.toml").write_text(CONFIG.format(directory=tmp_path))
    return str(tmp_path / "gatewayd.toml")


@pytest.mark.integration
async def test_it_is_printed_or_written(
    bus: PrivateBus, service: Bus, tmp_path: Path, config: str
) -> None:
    status, printed = await ctl(bus, "dump", "--config", config)
    assert status == 0, printed
    found = json.loads(printed)
    assert found.keys() == {"versions", "preflight", "journal"}  # and nothing of this daemon
    assert any(check["Verdict"] == "failed" for check in found["preflight"])
    file = tmp_path / "report.json"
    words = ("dump", "--no-preflight", "--output", str(file))
    assert await ctl(bus, *words) == (0, "")
    assert json.loads(file.read_text())["preflight"] is None
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_text("longer than before" * 99_999)
    file.chmod(0o640)
    assert await ctl(bus, *words) == (0, "")
    assert json.loads(file.read_text())["preflight"] is None  # and nothing of what was there
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    status, printed = await ctl(bus, *words[:-1], str(tmp_path / "nowhere" / "report"))
    assert (status, printed.count("\n")) == (1, 1)
    assert f"{tmp_path}/nowhere/report" in printed


@pytest.mark.integration
async def test_for_programs(bus: PrivateBus, service: Bus, tmp_path: Path) -> None:
    status, printed = await ctl(bus, "dump", "--no-preflight", "--json")
    validate(printed, COMMANDS[0].fields, status)
    status, printed = await ctl(bus, "dump", "--config", str(tmp_path / "none"), "--json")
    validate(printed, COMMANDS[0].fields, status)
    assert "none" in json.dumps(json.loads(printed)["Diagnostics"]["preflight"])


def test_a_fault_of_the_preflight_is_in_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(config: Path, cloud: str) -> None:
        raise ZeroDivisionError(f"{config} {cloud}")

    monkeypatch.setattr(dump, "preflight_records", broken)
    assert dump.preflight(tmp_path) == [{"Fault": "The preflight failed: ZeroDivisionError"}]


def test_versions_are_those_of_this_machine() -> None:
    found = versions()
    assert "cryptography" in dict(found["libraries"])  # type: ignore[call-overload]  # a mapping
    assert str(found["openssl"]).startswith("OpenSSL")


def test_the_journal_is_bounded_and_the_newest_is_kept() -> None:
    many = "import sys; [print(n, 'x' * 1000) for n in range(4000)]"
    found = journal(("python3", "-c", many))
    lines = found["lines"]
    assert isinstance(lines, list)
    assert lines[-1].startswith("3999 ")
    assert sum(len(line) + 1 for line in lines) <= MAX_JOURNAL
    assert found["left_out"] == 4000 - len(lines)
    assert found["fault"] == ""


@pytest.mark.parametrize(("command", "fault"), [
    (("no-such-journalctl",), "no-such-journalctl cannot be run: No such file or directory"),
    (("sh", "-c", "echo one; echo 'No journal files' >&2; exit 1"), "No journal files"),
])  # fmt: skip
def test_where_there_is_no_journal_that_is_said(command: tuple[str, ...], fault: str) -> None:
    assert journal(command)["fault"] == fault


def test_what_a_stranger_had_logged_is_ascii() -> None:
    found = journal(("printf", r"\351t\351 \033[31m red\n"))
    assert json.dumps(found).isascii()
    assert "\x1b" not in json.dumps(found)
