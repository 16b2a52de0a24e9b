"""Commands that ask, wait, or say what a state means, over a real bus."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from gatewayd.dbus.bus import Bus
from gatewayd.device.identity import DeviceId
from gatewayd.simulator.bus import PrivateBus
from tests.dbus.support import GATEWAY, RecordingCommands, run, served, view
from tests.support.gatewayctl import GATEWAYCTL, ctl

pytestmark = pytest.mark.integration
NEXT = 1_700_000_000_000_000


@pytest.fixture
async def asked() -> RecordingCommands:
    return RecordingCommands("child-1a", "child-2b")


@pytest.fixture
async def service(bus: PrivateBus, asked: RecordingCommands) -> AsyncIterator[Bus]:
    waiting = view("child-1a", state="admitted", next_attempt=NEXT)
    absent = view("child-2b", state="offline", substate="absent", last_seen=0)
    async with served(bus, asked, waiting, absent, gather=0.02) as ours:
        yield ours


async def test_the_next_try_is_shown(bus: PrivateBus, service: Bus) -> None:
    _, listed = await ctl(bus, "list")
    head, first, second = listed.splitlines()
    assert head.split() == ["ID", "STATE", "PROVIDER", "SINCE", "NEXT", "TRY", "NAME"]
    assert "2023-11-1" in first
    assert second.split()[5:] == ["-", "Dock", "camera"]
    _, explained = await ctl(bus, "explain", "child-1a")
    assert "Next try: 2023-11-1" in explained
    assert "gatewayctl retry child-1a" in explained


async def test_a_child_that_was_not_seen_is_not_said_to_match_nothing(
    bus: PrivateBus, service: Bus
) -> None:
    _, explained = await ctl(bus, "explain", "child-2b")
    assert "Rules: not evaluated, as it was not seen" in explained
    assert "Rules decide now" not in explained


@pytest.mark.parametrize(
    ("conflict", "rivals", "said", "settled"),
    [
        ("identity-conflict", ("child-2b",), "shows what identifies this one: see child-2b",
         ("merge child-1a child-2b", "split child-1a child-2b")),
        ("moved-or-cloned", (), "behind another MAC", ("merge child-1a\n", "split child-1a\n")),
        ("name-contested", ("child-2b",), "a name identifies none: see child-2b", ()),
    ],
)  # fmt: skip
async def test_a_conflict_is_explained_with_the_commands_that_settle_it(
    bus: PrivateBus,
    asked: RecordingCommands,
    conflict: str,
    rivals: tuple[DeviceId, ...],
    said: str,
    settled: tuple[str, ...],
) -> None:
    shown = view("child-1a", conflict=conflict, rivals=rivals)
    async with served(bus, asked, shown, view("child-2b"), gather=0.02):
        _, explained = await ctl(bus, "explain", "child-1a")
        _, other = await ctl(bus, "explain", "child-2b")
    assert said in explained
    assert [f"gatewayctl {one}" in explained for one in settled] == [True] * len(settled)
    assert ("gatewayctl merge" in explained) is bool(settled)
    assert "In conflict" not in other


async def test_split_and_merge_say_what_they_do_and_ask(
    bus: PrivateBus, service: Bus, asked: RecordingCommands
) -> None:
    asked.hurts = ("Both stay.",)
    for command in ("split", "merge"):
        status, printed = await ctl(bus, command, "child-1a", "child-2b")
        assert (status, "Both stay. Use --yes" in printed) == (1, True)
        assert await ctl(bus, command, "child-1a", "--yes") == (0, "")
    assert [one[:3] for one in asked.asked] == [
        ("split", "child-1a", ""),
        ("merge", "child-1a", ""),
    ]


async def test_what_hurts_is_asked_about_or_needs_yes(
    bus: PrivateBus, service: Bus, asked: RecordingCommands
) -> None:
    asked.hurts = ("The only secret is here.", "Rule r admits it again at once.")
    for command in ("forget", "reject"):
        status, printed = await ctl(bus, command, "child-1a")
        assert status == 1
        assert "The only secret is here. Rule r admits it again at once. Use --yes" in printed
        status, printed = await ctl(bus, "--json", command, "child-1a")
        assert (status, json.loads(printed)["Error"]) == (1, "GatewayError")
    assert asked.asked == []
    assert await ctl(bus, "forget", "child-1a", "--yes") == (0, "")
    assert [one[:2] for one in asked.asked] == [("forget", "child-1a")]


async def test_an_approval_is_waited_for(
    bus: PrivateBus, service: Bus, asked: RecordingCommands
) -> None:
    waiting = asyncio.create_task(ctl(bus, "approve", "child-1a", "--wait", "60"))
    while not asked.asked:
        await asyncio.sleep(0.01)
    service.show(view("child-1a", state="registering", explanation=""))
    service.show(view("child-1a", state="online", explanation=""))
    status, printed = await waiting
    assert status == 0
    assert printed.splitlines()[-1] == "child-1a is online."


async def test_an_approval_that_fails_says_why(
    bus: PrivateBus, service: Bus, asked: RecordingCommands
) -> None:
    asked.before = lambda: service.show(
        view("child-1a", state="failed", explanation="The cloud refuses it.")
    )
    status, printed = await ctl(bus, "approve", "child-1a", "--wait")
    assert status == 1
    assert "child-1a is failed: The cloud refuses it. See: gatewayctl explain child-1a" in printed


async def test_a_reader_that_has_seen_enough_is_no_error(bus: PrivateBus, service: Bus) -> None:
    words = " ".join(f"'{word}'" for word in (*GATEWAYCTL, "--bus", bus.address))
    for command in ("explain child-1a", "show child-1a", "list"):
        status, printed = await run("bash", "-o", "pipefail", "-c", f"{words} {command} | true")
        assert (status, printed) == (0, "")


async def test_what_waits_for_a_restart_is_printed(
    bus: PrivateBus, asked: RecordingCommands
) -> None:
    class Reloading(RecordingCommands):
        async def reload(self, caller: str) -> None:
            """Done."""

    async with served(bus, Reloading(), gather=0.02) as ours:
        assert "all of the configuration is in force" in (await ctl(bus, "reload"))[1]
        ours.show_manager(replace(GATEWAY, restart_needed=("clouds", "bus")))
        _, printed = await ctl(bus, "reload")
    assert "wait for a restart: clouds, bus" in printed
    assert "systemctl restart gatewayd" in printed


async def test_the_log_of_decisions(
    bus: PrivateBus, service: Bus, asked: RecordingCommands
) -> None:
    status, printed = await ctl(bus, "log", "--child", "child-1", "--since", "2h")
    assert status == 0
    row = printed.splitlines()[1]
    assert row.split()[2:] == ["rejected", "child-1a", "olga", "sshd", "from", "192.0.2.7", "a",
                               "guest"]  # fmt: skip
    assert asked.asked[0][1] == "device='child-1'"
    for wrong in ("yesterday", "99999-01-01", "5x"):
        status, printed = await ctl(bus, "log", "--since", wrong)
        assert (status, "is no time: write 2h" in printed) == (1, True)


async def test_a_rule_is_written_with_its_list(bus: PrivateBus, tmp_path: Path) -> None:
    class Reloading(RecordingCommands):
        async def reload(self, caller: str) -> None:
            await self._ask("reload")

    file = tmp_path / "50-site.toml"
    file.write_text("# mine\n")
    commands = Reloading("child-1a")
    async with served(bus, commands, view("child-1a"), gather=0.02):
        status, printed = await ctl(bus, "rules", "suggest", "child-1", "--ignore-vendor")
        assert status == 0
        assert printed.startswith("# child-1a ignore-vendor []")
        assert "--write /etc/gatewayd/rules.d/40-site.toml" in printed
        status, _ = await ctl(bus, "rules", "suggest", "child-1", "--write", str(file))
    assert status == 0
    assert file.read_text() == "# mine\n\n# child-1a admit []\n"
    assert (tmp_path / "like.list").read_text() == "TH20\n"
    assert commands.asked == [("reload",)]


@pytest.mark.parametrize("before", [None, "", "# mine\n"])
async def test_a_rule_that_is_refused_leaves_the_files_as_they_were(
    bus: PrivateBus, service: Bus, tmp_path: Path, before: str | None
) -> None:
    file, listed = (tmp_path / name for name in ("50-site.toml", "like.list"))
    if before is not None:
        file.write_text(before)
        listed.write_text(before)
    status, printed = await ctl(bus, "rules", "suggest", "child-1", "--write", str(file))
    assert (status, "Nothing was written" in printed) == (1, True), printed  # no reload there
    assert {one.read_text() for one in (file, listed) if one.exists()} == {before} - {None}


async def test_a_daemon_that_is_not_there_is_not_started(tmp_path: Path) -> None:
    started = tmp_path / "started"
    services = tmp_path / "services"
    services.mkdir()
    (services / "org.gatewayd1.service").write_text(
        f"[D-BUS Service]\nName=org.gatewayd1\nExec=/usr/bin/touch {started}\n"
    )
    config = tmp_path / "bus.conf"
    config.write_text(
        "<!DOCTYPE busconfig PUBLIC '-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN'"
        " 'http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd'><busconfig>"
        f"<type>session</type><listen>unix:path={tmp_path}/bus</listen>"
        f"<servicedir>{services}</servicedir><policy context='default'><allow own='*'/>"
        "<allow send_destination='*'/><allow eavesdrop='true'/></policy></busconfig>"
    )
    daemon = await asyncio.create_subprocess_exec(
        "dbus-daemon", f"--config-file={config}", "--nofork", "--print-address",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert daemon.stdout is not None
    try:
        await daemon.stdout.readline()
        bus = f"unix:path={tmp_path}/bus"
        for words in (("list",), ("approve", "child-1"), ("clouds",), ("watch",), ("reload",)):
            status, printed = await run(*GATEWAYCTL, "--bus", bus, *words)
            assert (status, "gatewayd is not running" in printed) == (1, True), printed
        assert not started.exists()
    finally:
        daemon.terminate()
        await daemon.wait()
