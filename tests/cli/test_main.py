"""gatewayctl: what it prints, and what it calls over a real bus."""

from __future__ import annotations

import asyncio
import errno
import io
import re
import signal
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import AsyncIterator, Sequence
from importlib import import_module
from pathlib import Path

import pytest

from gatewayd.cli import output
from gatewayd.cli.command import NOTHING_DONE, Command, Connect, typed
from gatewayd.cli.main import GROUPS, MODULES, commands_for, main
from gatewayd.dbus.bus import Bus
from gatewayd.errors import GatewayError
from gatewayd.simulator.bus import PrivateBus
from tests.dbus.support import RecordingCommands, run, served, view
from tests.support.gatewayctl import GATEWAYCTL, ctl, validate

EVERY = commands_for(())
"""All commands; their modules are loaded before a test is under way."""
MANUAL = Path(__file__).parents[2] / "packaging/man/gatewayctl.1"


@pytest.fixture
async def asked() -> RecordingCommands:
    return RecordingCommands("child-1a", "child-2b")


@pytest.fixture
async def service(bus: PrivateBus, asked: RecordingCommands) -> AsyncIterator[Bus]:
    online = view("child-2b", state="online", provider="alibaba", name="Meter \x1b[31m")
    seen = {"source": "ssdp", "interface": "lan0", "trust": "claimed", "ssdp.server": "x\x1b[2J"}
    many = {f"txt.{number:02}": "v" * 99 for number in range(20)} | {"source": "mdns"}
    held = view("child-1a", sightings=(seen, many))
    async with served(bus, asked, held, online, gather=0.02) as ours:
        yield ours


@pytest.mark.integration
async def test_list_and_show(bus: PrivateBus, service: Bus) -> None:
    status, printed = await ctl(bus, "list")
    head, first, second = printed.splitlines()
    assert status == 0
    assert head.split() == ["ID", "STATE", "PROVIDER", "SINCE", "NAME"]
    assert first.split()[:3] == ["child-1a", "pending", "-"]
    assert second.endswith(r"Meter \x1b[31m")
    assert head.index("NAME") == first.index("Dock") == second.index("Meter")
    only = (await ctl(bus, "list", "--state", "online"))[1]
    assert [line.split()[0] for line in only.splitlines()] == ["ID", "child-2b"]
    shown = (await ctl(bus, "show", "child-1"))[1]
    assert "Identity: mac 5026ef000001" in shown
    assert "Rule" not in shown


@pytest.mark.integration
async def test_explain(bus: PrivateBus, service: Bus) -> None:
    status, printed = await ctl(bus, "explain", "child-1")
    assert status == 0
    for part in (
        "child-1a is pending (awaiting-approval) since",
        "Why: No rule matches.",
        "What to do: Approve it, or write a rule.",
        "Identity: mac 5026ef000001 (claimed)",
        "\n  ssdp on lan0 (claimed): ssdp.server=x\\x1b[2J\n",
        f"\n  mdns (-): txt.00={'v' * 64}, ",
        f"txt.15={'v' * 64}, and 4 more\n",
        "Rules decide now: ask, by rule cameras",
        "child-1a: trust is claimed, not listed",
        "Seen -> discovered: ",
    ):
        assert part in printed


SAID = (
    ("", "approve", "child-1", "--provider", "alibaba"),
    ("", "reject", "child-1", "--reason", "not ours"),
    ("child-1 is tried now", "retry", "child-1"),
    ("", "reregister", "child-1a", "child-1a"),
    ("", "forget", "child-1"),
    ("no rule has window = true", "permit-join", "180", "--interface", "lan0", "--rule", "lamps",
     "--max-devices", "2"),
    ("is closed", "permit-join", "0"),
    ("What it finds: gatewayctl list", "discover", "30", "mdns", "static"),
    ("has ended", "discover", "0"),
)  # fmt: skip
"""A part of what each command prints."""


@pytest.mark.integration
async def test_changes(bus: PrivateBus, service: Bus, asked: RecordingCommands) -> None:
    for said, *words in SAID:
        status, printed = await ctl(bus, *words)
        assert status == 0
        assert said in printed
        assert bool(said) == bool(printed)
    assert [one[:-1] for one in asked.asked] == [
        ("approve", "child-1a", "alibaba"),
        ("reject", "child-1", "not ours"),
        ("retry", "child-1"),
        ("reregister", "child-1a", "child-1a"),
        ("forget", "child-1"),
        ("permit-join", "180", "interface='lan0'", "max-devices=2", "rule='lamps'"),
        ("permit-join", "0"),
        ("discover", "30", "mdns", "static"),
        ("discover", "0"),
    ]


@pytest.mark.integration
async def test_errors_are_one_sentence(bus: PrivateBus, service: Bus) -> None:
    assert await ctl(bus, "show", "x\x1b[31m") == (1, "gatewayctl: No such device\n")
    renamed = await ctl(bus, "rename", "child-1", "Dock")
    assert renamed == (1, "gatewayctl: There is no renaming to 'Dock'\n")
    status, printed = await ctl(bus, "list", "--state", "green")
    assert status == 2
    assert "invalid choice" in printed


@pytest.mark.integration
async def test_without_a_daemon_or_a_bus(bus: PrivateBus) -> None:
    assert await ctl(bus, "list") == (
        1,
        "gatewayctl: gatewayd is not running. See: systemctl status gatewayd\n",
    )
    status, printed = await run(*GATEWAYCTL, "--bus", "unix:path=/nonexistent/bus", "list")
    assert status == 1
    assert len(printed.splitlines()) == 1
    assert await ctl(bus, "watch") == (
        1,
        "gatewayctl: gatewayd is not running. See: systemctl status gatewayd\n",
    )


@pytest.mark.integration
async def test_the_bus_may_be_named_in_the_environment(bus: PrivateBus, service: Bus) -> None:
    named = ("env", f"GATEWAYD_BUS={bus.address}", *GATEWAYCTL)
    status, printed = await run(*named, "rules", "list")
    assert status == 0
    assert printed.splitlines()[1].split() == ["cameras", "register", "alibaba", "7"]


@pytest.mark.integration
@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["people", "json"])
async def test_watch(bus: PrivateBus, service: Bus, as_json: tuple[str, ...]) -> None:
    watching = await asyncio.create_subprocess_exec(
        *GATEWAYCTL, "--bus", bus.address, "watch", *as_json, stdout=asyncio.subprocess.PIPE
    )
    assert watching.stdout is not None

    async def change() -> None:  # until it listens, and has seen one
        number = 0
        while True:
            number += 1
            service.show(view("child-1a", name=f"name {number}"))
            await asyncio.sleep(0.05)

    changing = asyncio.create_task(change())
    async with asyncio.timeout(60):
        line = (await watching.stdout.readline()).decode()
    changing.cancel()
    await asyncio.gather(changing, return_exceptions=True)
    if as_json:
        validate(line, next(one.fields for one in EVERY if one.words == "watch"), 0)
    else:
        assert line.split()[2:4] == ["child-1a", "pending"]
    watching.send_signal(signal.SIGINT)
    async with asyncio.timeout(60):
        await watching.communicate()
    assert watching.returncode == 130


def test_text_is_safe_for_a_terminal() -> None:
    assert output.safe("a\x1b[31m\u202e\nü") == r"a\x1b[31m\u202e\nü"


def test_times() -> None:
    assert output.when(0) == "-"
    assert output.when(1_700_000_000_000_000).startswith("2023-11-1")


class FullDisk(io.StringIO):
    """A stream that takes nothing."""

    def __init__(self, error: OSError, descriptor: int) -> None:
        super().__init__()
        self._error, self._descriptor = error, descriptor

    def write(self, _text: str) -> int:
        raise self._error

    def fileno(self) -> int:
        return self._descriptor


def ends_without_output(error: OSError, unshown: str, *options: str) -> int:
    """Run a command whose output cannot be written; return its exit status."""
    one = Command("once", "show", lambda _: None, lambda *_: ["x"], lambda *_: [{}], (), unshown)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryFile("w") as out:
        patch.setattr(sys, "stdout", FullDisk(error, out.fileno()))
        return main(["once", *options], {}, (one,))


@pytest.mark.parametrize("options", [(), ("--json",)], ids=["people", "json"])
@pytest.mark.parametrize(
    ("error", "unshown", "said"),
    [
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), "", ""),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), "It is lost", "It is lost"),
        (OSError(errno.ENOSPC, "No space left"), "", "cannot be written: No space left"),
        (OSError(errno.ENOSPC, "No space left"), "It is lost", "It is lost"),
    ],
)
def test_output_that_cannot_be_written_is_no_traceback(
    capsys: pytest.CaptureFixture[str], options: Sequence[str], error: OSError, unshown: str,
    said: str,
) -> None:  # fmt: skip
    assert ends_without_output(error, unshown, *options) == bool(said)
    printed = capsys.readouterr().err
    assert (said in printed, printed.count("\n")) == (True, int(bool(said)))


def test_other_modules_can_add_commands(capsys: pytest.CaptureFixture[str]) -> None:
    def check(_connect: Connect, arguments: Namespace) -> int:
        print(f"checked {arguments.file}")
        return 1

    def lines(_connect: Connect, _arguments: Namespace) -> list[str]:
        return ["one", "two"]

    commands = (
        Command(
            "rules check",
            "check files",
            lambda p: p.add_argument("file", type=Path),
            check,
            lambda *_: [{}],
            (),
        ),
        Command("rules show", "show", lambda _: None, lines, lambda *_: [{}], ()),
    )
    assert main(["rules", "check", "a.toml"], {}, commands) == 1
    assert main(["rules", "show"], {}, commands) == 0
    assert capsys.readouterr().out == "checked a.toml\none\ntwo\n"


@pytest.mark.parametrize("words", [
    ("901",), ("-1",), ("x",), (), ("9" * 5000,), ("60", "--max-devices", "0"),
    ("60", "--max-devices", "100001"), ("60", "--colour", "red"),
])  # fmt: skip
def test_a_window_that_cannot_be_is_wrong_usage(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["permit-join", *words], {})
    assert left.value.code == 2
    assert capsys.readouterr().err


def test_every_group_is_described() -> None:
    words = [command.words.split() for command in EVERY]
    groups = {" ".join(path[:depth]) for path in words for depth in range(1, len(path))}
    assert set(GROUPS) == groups


def test_the_manual_page_describes_every_command() -> None:
    text = MANUAL.read_text().replace("\\-", "-")
    described = set(re.findall(r'^\.BI? "?([a-z -]+[a-z])', text, re.M))
    assert {command.words for command in EVERY} <= {
        words.partition(" --")[0] for words in described
    }


def test_a_command_line_is_parsed_with_the_modules_of_its_command() -> None:
    for module, words in MODULES.items():
        declared = import_module(f"gatewayd.cli.{module}").COMMANDS
        assert {one.words.split()[0] for one in declared} == set(words)
        for word in words:
            meant = [one for one in commands_for(["--bus", "system", word]) if word in one.words]
            assert {one.words for one in declared if one.words.split()[0] == word} <= {
                one.words for one in meant
            }
    assert len(commands_for(["list", "rules"])) < len(commands_for(["list", "--help"]))
    assert len(commands_for(["lst"])) == len(EVERY)


def test_list_imports_neither_the_clouds_nor_the_vault() -> None:
    script = "import sys; from gatewayd.cli.main import commands_for; commands_for(['list'])"
    printed = subprocess.run(
        [sys.executable, "-c", f"{script}; print(*sys.modules)"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    loaded = set(printed.stdout.split())
    assert "gatewayd.cli.devices" in loaded
    assert not {"gatewayd.config", "gatewayd.secretstore", "cryptography"} & loaded


def test_a_word_that_means_another_command_hides_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["lst", "list"], {})
    assert left.value.code == 2
    assert "preflight" in capsys.readouterr().err


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([], {})
    assert left.value.code == 2
    assert "COMMAND" in capsys.readouterr().err


def test_each_mistake_in_a_configuration_has_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "gatewayd.toml"
    config.write_text("[bus]\naddress = 'tcp:host=x'\n[log]\nlevel = 'loud'\n")
    assert main(["vault", "status", "--config", str(config)]) == 1
    lines = capsys.readouterr().err.splitlines()
    places = sorted(line.split(" ")[1] for line in lines)
    assert places == [f"{config}:2:", f"{config}:4:"]


@pytest.mark.parametrize("end", [EOFError, KeyboardInterrupt])
def test_a_question_without_an_answer_is_no_success(end: type[BaseException]) -> None:
    def ask(_prompt: str) -> str:
        raise end

    with pytest.raises(GatewayError, match="Nothing was done"):
        typed(ask, "Do it? ", NOTHING_DONE)
