"""How exposed the units are, by systemd's own rating, and what one of them runs."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent
UNITS = TOP / "systemd"

EXPOSURE = {
    ("gatewayd.service", ""): 1.1,
    ("gatewayd.service", "egress.conf"): 1.0,
    ("gatewayd-discovery@lan.service", ""): 1.0,
    ("gatewayd-link@lan.service", ""): 1.1,
    ("gatewayd-discovery@lan.service", "discovery-kea.conf"): 1.0,
    ("gatewayd-discovery@lan.service", "discovery-networkd.conf"): 1.0,
    ("gatewayd-lldp.service", ""): 0.4,
    ("gatewayd-credential@bridge.service", ""): 1.0,
    ("gatewayd-notices.service", ""): 1.0,
    ("notify-webhook.service", ""): 2.0,
}
"""The exposure that each unit may have at most, with a drop-in of the examples or without one."""


@pytest.mark.parametrize(("unit", "drop_in"), EXPOSURE)
def test_a_unit_is_no_more_exposed_than_its_work_needs(
    tmp_path: Path, unit: str, drop_in: str
) -> None:
    units = tmp_path / "usr/lib/systemd/system"
    shutil.copytree(UNITS, units)
    for example in (UNITS / "examples").glob("*.service"):
        shutil.copy(example, units)
    if drop_in:
        (units / f"{unit}.d").mkdir()
        shutil.copy(UNITS / "examples" / drop_in, units / f"{unit}.d")
    threshold = f"--threshold={round(EXPOSURE[unit, drop_in] * 10)}"
    rated = subprocess.run(
        ["systemd-analyze", "--no-pager", "--offline=true", f"--root={tmp_path}", threshold,
         "security", unit],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert rated.returncode == 0, rated.stdout + rated.stderr
    assert "Overall exposure level" in rated.stdout


def test_the_drop_in_allows_the_operators_networks_and_denies_the_rest() -> None:
    lines = [
        line
        for line in (UNITS / "examples/egress.conf").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert lines[:2] == ["[Service]", "IPAddressDeny=any"]
    assert not {"any", "0.0.0.0/0", "::/0"} & {line.partition("=")[2] for line in lines[2:]}


def test_a_reload_leaves_the_broker_no_half_file(tmp_path: Path) -> None:
    """It may be reading them for an earlier change; a pipe stops the copying amid a file."""
    copying_command, _ = reload_of_the_broker(tmp_path)
    access, copies = tmp_path / "gatewayd-door", tmp_path / "gatewayd-broker"
    for place in (access, copies):
        place.mkdir()
    (copies / "passwords").write_text("old")
    (access / "acl").touch()
    os.mkfifo(access / "passwords")
    copying = subprocess.Popen(shlex.split(copying_command))
    with os.fdopen(_once_read(access / "passwords", copying), "w") as pipe:
        assert (copies / "passwords").read_text() == "old"
        pipe.write("new")
    assert copying.wait(60) == 0
    assert (copies / "passwords").read_text() == "new"
    assert (copies / "passwords").stat().st_mode & 0o777 == 0o400


@pytest.mark.parametrize("there", [(), ("passwords",), ("acl",)], ids=" ".join)
def test_a_reload_of_a_broker_that_is_about_to_be_stopped_is_no_failure(
    tmp_path: Path, there: tuple[str, ...]
) -> None:
    """gatewayd takes the files away, one after the other, where the broker is to be stopped."""
    assert _copied(tmp_path, there) == 0


def test_a_reload_that_cannot_copy_fails(tmp_path: Path) -> None:
    (tmp_path / "gatewayd-broker").touch()
    assert _copied(tmp_path, ("passwords", "acl")) != 0


def _copied(directory: Path, there: tuple[str, ...]) -> int:
    """Reload a broker whose files of gatewayd are those alone; return the exit status."""
    command, _ = reload_of_the_broker(directory)
    (directory / "gatewayd-door").mkdir()
    for name in there:
        (directory / "gatewayd-door" / name).write_text("new")
    return subprocess.run(shlex.split(command), capture_output=True, check=False).returncode


def reload_of_the_broker(directory: Path) -> tuple[str, str]:
    """Return what a reload copies files by, and what it has them read by, below a directory."""
    text = (UNITS / "gatewayd-broker.service").read_text()
    lines = [one.removeprefix("ExecReload=") for one in text.splitlines() if "ExecReload=" in one]
    copying, reading = (one.replace("/run", str(directory)) for one in lines)
    return copying, reading


def _once_read(pipe: Path, reader: subprocess.Popen[bytes]) -> int:
    """Open a pipe for writing, once a process has opened it to read it."""
    while reader.poll() is None:
        with contextlib.suppress(OSError):  # ENXIO: nothing reads it yet
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        time.sleep(0.01)
    raise AssertionError(f"it ended with {reader.returncode}")


@pytest.mark.parametrize("listeners", ["same", "other"])
def test_a_reload_of_a_broker_that_has_just_ended_is_no_failure(
    tmp_path: Path, listeners: str
) -> None:
    _, command = reload_of_the_broker(tmp_path)
    for place, content in (("gatewayd-door", listeners), ("gatewayd-broker/listeners", "same")):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "listeners.conf").write_text(content)
    ended = subprocess.Popen(["true"])
    ended.wait()
    ran = subprocess.run(
        shlex.split(command), env={"PATH": "/usr/bin:/bin", "MAINPID": str(ended.pid)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
