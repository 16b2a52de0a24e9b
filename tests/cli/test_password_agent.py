"""The agent that asks for passwords: when one runs, and that it ends."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from gatewayd.cli import client
from gatewayd.cli.client import is_useful, password_agent, running
from gatewayd.dbus.bus import Bus
from gatewayd.errors import GatewayError
from gatewayd.simulator.bus import PrivateBus
from tests.dbus.fake_polkit import CHALLENGE, YES, FakeAuthority, Verdict, polkit
from tests.dbus.support import RecordingCommands, served, view
from tests.support.gatewayctl import GATEWAYCTL

AGENT = """\
#!/bin/bash
echo "$PPID $1 $3 ${{DBUS_SYSTEM_BUS_ADDRESS:-none}}" >>{log}
ready() {{ eval "exec $1>&-"; }}
{then}
"""
SERVES = """\
trap 'echo ended >>{log}; kill $! 2>/dev/null; exit' TERM
ready $2
sleep 1000 & wait
"""
IGNORES = "trap '' TERM; ready $2; exec sleep 1000"
ENDS = "exit 1"

NOBODY = (
    "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
    "--inh-caps=+dac_override", "--ambient-caps=+dac_override",
)  # fmt: skip
"""Run as the user nobody, who can read this tree wherever it is."""
OTHERS = [NOBODY] if os.getuid() == 0 else []


class Agent:
    """A stand-in for pkttyagent, in a directory of its own, that logs what it does."""

    def __init__(self, directory: Path) -> None:
        self.directory, self._log = directory, directory / "log"
        self.program = directory / "pkttyagent"

    def does(self, then: str) -> str:
        text = AGENT.format(log=self._log, then=then.format(log=self._log))
        self.program.write_text(text)
        self.program.chmod(0o755)
        return str(self.program)

    def log(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []

    @property
    def environ(self) -> Mapping[str, str]:
        return {**os.environ, "PATH": f"{self.directory}:{os.environ['PATH']}"}


@pytest.fixture
def agent() -> Iterator[Agent]:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)  # for the user who runs the agent
        yield Agent(Path(directory))


@pytest.mark.parametrize(("uid", "on_terminal", "expected"), [
    (1000, True, True), (1000, False, False), (0, True, False), (0, False, False),
])  # fmt: skip
def test_who_needs_one(uid: int, on_terminal: bool, expected: bool) -> None:
    assert is_useful(uid, on_terminal=on_terminal) is expected


def test_it_serves_us_and_ends(agent: Agent) -> None:
    with running(agent.does(SERVES), {"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/x"}):
        assert agent.log() == [f"{os.getpid()} --notify-fd --fallback unix:path=/x"]
    assert agent.log()[1:] == ["ended"]


def test_one_that_ends_by_itself_is_not_waited_for(agent: Agent) -> None:
    with running(agent.does(ENDS), {}):
        assert len(agent.log()) == 1


def test_one_that_does_not_end_is_killed(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "STOP_TIMEOUT", 0.01)
    with running(agent.does(IGNORES), {}):
        assert len(agent.log()) == 1


def test_one_that_cannot_be_run_is_named(agent: Agent) -> None:
    agent.program.write_bytes(b"\x7fELF")
    agent.program.chmod(0o755)
    with pytest.raises(GatewayError, match="pkttyagent cannot be run: Exec format error"):
        running(str(agent.program), {}).__enter__()


def test_where_it_is_not_installed_there_is_none(tmp_path: Path) -> None:
    with password_agent("system", {"PATH": str(tmp_path)}):
        pass


@pytest.fixture
async def service(bus: PrivateBus) -> AsyncIterator[Bus]:
    async with served(bus, RecordingCommands("child-1a"), view("child-1a"), gather=0.02) as ours:
        yield ours


@contextmanager
def terminal() -> Iterator[int]:
    ours, theirs = os.openpty()
    try:
        yield theirs
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.fixture
def retry(bus: PrivateBus, service: Bus, agent: Agent, other: tuple[str, ...]) -> Retry:
    return Retry(bus, agent, other)


class Retry:
    """`gatewayctl retry`, run by a user other than root."""

    def __init__(self, bus: PrivateBus, agent: Agent, prefix: tuple[str, ...]) -> None:
        self._bus, self._agent, self._prefix = bus, agent, prefix

    async def __call__(self, *options: str, stdin: int) -> tuple[int | None, str]:
        self._agent.does(SERVES)
        process = await asyncio.create_subprocess_exec(
            *self._prefix, *GATEWAYCTL, "--bus", self._bus.address, *options, "retry", "child-1a",
            stdin=stdin, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env=self._agent.environ,
        )  # fmt: skip
        printed, _ = await process.communicate()
        return process.returncode, printed.decode()


DENIED = "gatewayctl: Interactive authorization required for org.gatewayd1.manage-devices\n"


@dataclass(frozen=True)
class Case:
    """How gatewayctl is run, what polkit says; how it ends, what polkit is asked, and by whom."""

    options: tuple[str, ...]
    on_terminal: bool
    verdict: Verdict
    ended: tuple[int, str]
    flags: int
    agents: int


TRIED = "child-1a is tried now. Watch it with: gatewayctl watch\n"
CASES = {
    "terminal": Case((), True, YES, (0, TRIED), flags=1, agents=1),
    "session": Case((), False, YES, (0, TRIED), flags=1, agents=0),
    "nobody": Case(("--no-ask-password",), True, CHALLENGE, (1, DENIED), flags=0, agents=0),
}


@pytest.mark.integration
@pytest.mark.parametrize("other", OTHERS, ids=["as-nobody"] * len(OTHERS))
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_who_is_asked(bus: PrivateBus, agent: Agent, retry: Retry, case: Case) -> None:
    authority = FakeAuthority(manage_devices=case.verdict)
    async with polkit(bus, authority):
        with terminal() as ours:
            stdin = ours if case.on_terminal else asyncio.subprocess.DEVNULL
            assert await retry(*case.options, stdin=stdin) == case.ended
    started = [f"--notify-fd --fallback {bus.address}", "ended"] * case.agents
    assert [line.partition(" ")[2] or line for line in agent.log()] == started
    assert [check.flags for check in authority.checks] == [case.flags]
