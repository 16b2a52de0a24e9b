"""The demo is green, and red for a site with a common mistake, which it names."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatewayd.simulator import demo
from gatewayd.simulator.mistakes import MISTAKES
from gatewayd.simulator.site import Site

pytestmark = pytest.mark.integration

PATIENCE = 180.0
HINTS = "Running until Ctrl-C.  In another terminal:\n"
NAMED = {
    ("alibaba", "route"): ("node type", "sub-device"),
    ("alibaba", "region"): ("us-west-1.aliyuncs.com is the endpoint of its region",),
    ("alibaba", "model"): ("discards", "RelativeHumidity"),
    ("huawei", "host"): ("does not know the name", "Check host"),
    ("huawei", "instance"): ("Check that host is the domain", "does not know the CA"),
    ("huawei", "model"): ("discards", "unknown-property: climate.humidity"),
    ("mqtt", "password"): ("does not accept the management login", "management.user"),
    ("mqtt", "authority"): ("belongs to another host than localhost", "Check host"),
}
"""Cloud and mistake → what the demo says."""


def test_each_mistake_is_tried() -> None:
    assert set(NAMED) == {(cloud, name) for cloud, some in MISTAKES.items() for name in some}


@pytest.mark.parametrize(("cloud", "mistake"), NAMED)
def test_the_demo_names_a_mistake(cloud: str, mistake: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "gatewayd.simulator.demo", "--children", "6", "--cloud", cloud,
         "--mistake", mistake],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert "The demo failed" in ended.stderr
    for words in NAMED[cloud, mistake]:
        assert words in ended.stderr


def test_the_demo_ends_with_temperatures_and_with_commands_that_work() -> None:
    running = subprocess.Popen(
        [sys.executable, "-m", "gatewayd.simulator.demo", "--children", "3", "--outage", "0",
         "--keep"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    guard = threading.Timer(PATIENCE, running.kill)
    guard.start()
    try:
        lines = list(_until_the_last_command(running))
        end = "".join(lines).partition("The cloud has the temperature of all 3 children.")[2]
        assert end.count("°C") == 3
        assert "dropped: none" in end
        commands = [line.strip() for line in lines[lines.index(HINTS) :] if line.startswith("  ")]
        setting, (show, speak, read, cut, waiting, restore) = commands[:2], commands[2:]
        assert "online" in _shell(*setting, show)
        _shell(*setting, speak)
        while "21.5}" not in (arrived := _shell(*setting, read)):
            assert running.poll() is None, arrived  # the guard ends the wait
        assert "State:" in _shell(*setting, cut, waiting)
        _shell(*setting, restore)
    finally:
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=PATIENCE)
        guard.cancel()
    assert running.returncode == 0


@pytest.mark.root
@pytest.mark.parametrize(("cloud", "by_hand"), [("alibaba", 1), ("huawei", 0)])
def test_the_demo_begins_with_an_empty_console(cloud: str, by_hand: int) -> None:
    """By commands alone, but for what the vendor's API has no call for."""
    ended = subprocess.run(
        [sys.executable, "-m", "gatewayd.simulator.demo", "--from-empty", "--children", "3",
         "--cloud", cloud],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr + ended.stdout
    assert f"$ gatewayctl console {cloud}" in ended.stdout
    assert "$ gatewayctl setup --answers" in ended.stdout
    assert ended.stdout.count("(by hand, in the simulated console)") == by_hand
    assert "The cloud agrees: 3 devices online, 3 registered exactly once." in ended.stdout
    assert ended.stdout.count("°C") == 3


@pytest.mark.parametrize("wrong", [("--keep",), ("--cloud", "mqtt"), ("--mistake", "route")])
def test_an_empty_console_is_for_the_whole_demo_of_a_vendor(
    capsys: pytest.CaptureFixture[str], wrong: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit):
        demo.run(["--from-empty", *wrong])
    assert "--from-empty is for" in capsys.readouterr().err


async def test_children_of_another_demo_are_named_as_the_cause() -> None:
    class Crowded(Site):
        """Its LAN has children of another site."""

        async def call(self, method: str, signature: str = "", *arguments: str) -> object:
            return {"online": 5}

    with pytest.raises(RuntimeError, match=r"5 of 4 are online.*another.*End it"):
        await demo.all_online(Crowded(Path("/nonexistent")), 4, "")


def _until_the_last_command(running: subprocess.Popen[str]) -> Iterator[str]:
    assert running.stdout is not None, "it is a pipe"
    for line in running.stdout:
        yield line
        if '"plan": ""' in line:
            return
    pytest.fail("the demo ended")


def _shell(*lines: str) -> str:
    """Run commands as a reader types them; return what they print."""
    return subprocess.run(
        ["sh", "-e", "-c", "\n".join(lines)],
        capture_output=True, text=True, timeout=PATIENCE, check=True,
    ).stdout  # fmt: skip


def test_a_mistake_belongs_to_a_cloud(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        demo.run(["--cloud", "alibaba", "--mistake", "host"])
    assert "--mistake takes" in capsys.readouterr().err
