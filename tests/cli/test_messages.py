"""`gatewayctl messages`, over a real bus, and in words."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import signal
from collections.abc import AsyncIterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from gatewayd.cli import messages
from gatewayd.cli.messages import SWITCH_ON, summary
from gatewayd.cli.output.terminal import Terminal
from gatewayd.dbus.bus import Bus
from gatewayd.dbus.methods import MESSAGE_METHODS
from gatewayd.dbus.names import OUTBOX, ObjectInterface
from gatewayd.dbus.objects import ExportedObject
from gatewayd.device.identity import DeviceId
from gatewayd.device.message import DropReason
from gatewayd.device.reason import Reason
from gatewayd.device.views import DoorView, MessageCounts, MessagesView
from gatewayd.messages.tap import MessageTap
from gatewayd.simulator.bus import PrivateBus
from gatewayd.testing.waiting import until
from tests.dbus.support import RecordingCommands, run, served, view
from tests.support.gatewayctl import GATEWAYCTL, ctl

PATIENCE = 60.0
CHILD, QUIET = DeviceId("child-1a"), DeviceId("child-2b")
COUNTS = MessageCounts(3, 2048, 1_700_000_000_000_000, 10, 6, {"rate": 1})
SAID = MessagesView(
    state="dropping",
    reason=Reason("dropped-rate", "Too many.\x1b[2J", "Send less."),
    total=COUNTS,
    doors=(DoorView("house", "connected", "", COUNTS), DoorView("yard", "", "", MessageCounts())),
    children={CHILD: COUNTS},
    refusals={CHILD: Reason("no-such-topic", "The cloud has no such topic.", "Correct it.")},
    entrances={CHILD: "house"},
)


class Commands(RecordingCommands):
    """The commands on messages, with a tap."""

    def __init__(self) -> None:
        super().__init__(CHILD, QUIET)
        self.tap = MessageTap(lambda: 1_700_000_000_000)

    async def follow(self, device: str, caller: str) -> int:
        await self._ask("follow", device, caller)
        return self.tap.follow(self.resolve(device))


@pytest.fixture
def commands() -> Commands:
    return Commands()


@pytest.fixture
async def service(bus: PrivateBus, commands: Commands) -> AsyncIterator[Bus]:
    outbox = ExportedObject(OUTBOX, SAID, MESSAGE_METHODS.bind(commands))
    views = view(CHILD), view(QUIET)
    async with served(bus, commands, *views, further=(outbox,), gather=0.02) as ours:
        yield ours
    commands.tap.close()


@pytest.mark.integration
async def test_all_messages(bus: PrivateBus, service: Bus) -> None:
    status, printed = await ctl(bus, "messages")
    assert status == 0
    lines = printed.splitlines()
    assert lines[:3] == ["State: dropping", r"Why: Too many.\x1b[2J", "What to do: Send less."]
    assert lines[3].startswith("Waiting: 3 messages, 2.0 KiB, the oldest since 2023-11-1")
    assert lines[4] == "Since the start: 10 received, 6 sent, dropped: 1 rate"
    assert lines[5].startswith("  rate: ")
    assert "[messages.child]" in lines[5]
    house, yard, child = (line.split() for line in (lines[8], lines[9], lines[13]))
    assert lines[10] == "Dropped at house: 1 rate"
    assert house == ["house", "connected", "10", "1", "-"]
    assert yard == ["yard", "-", "0", "0", "-"]
    assert (child[0], child[1], child[-3:]) == (CHILD, "3", ["10", "6", "1"])


@pytest.mark.integration
async def test_the_messages_of_one_child(bus: PrivateBus, service: Bus) -> None:
    status, printed = await ctl(bus, "messages", "child-1")
    assert status == 0
    lines = printed.splitlines()
    assert lines[0] == "Last door: house"
    assert lines[-2:] == [
        "Last refusal of the cloud: The cloud has no such topic.",
        "What to do: Correct it.",
    ]
    assert await ctl(bus, "messages", CHILD) == (0, printed)
    _, quiet = await ctl(bus, "messages", QUIET)
    nothing = "Since the start: 0 received, 0 sent, dropped: none"
    assert quiet.splitlines() == ["Waiting: nothing", nothing]
    one = {"NWaiting": 1, "BytesWaiting": 85, "OldestTimestamp": 0}
    assert messages.waiting(one) == "Waiting: 1 message, 85 B"
    status, printed = await ctl(bus, "messages", "child-9")
    assert (status, printed) == (1, "gatewayctl: No such device\n")


@pytest.mark.integration
async def test_explain_and_show_have_what_a_child_says(bus: PrivateBus, service: Bus) -> None:
    _, explained = await ctl(bus, "explain", "child-1")
    assert "Messages:\n  Last door: house\n  Waiting: 3 messages" in explained
    _, explained = await ctl(bus, "explain", QUIET)
    assert "Messages:" not in explained
    _, shown = await ctl(bus, "show", CHILD)
    assert "MessagesNWaiting: 3\n" in shown
    assert "MessagesDropped: rate 1\n" in shown


@pytest.mark.integration
async def test_busctl_reads_the_same(bus: PrivateBus, service: Bus) -> None:
    at = ("org.gatewayd1", *OUTBOX)
    start = ("busctl", f"--address={bus.address}", "-j")
    _, printed = await run(*start, "call", *at, "ListChildren", "su", "", "0")
    rows, following = json.loads(printed)["data"]
    assert rows == [[CHILD, 3, 2048, 1_700_000_000_000_000, 10, 6, 1]]
    assert following == ""
    _, printed = await run(*start, "call", *at, "ListChildren", "su", CHILD, "0")
    assert json.loads(printed)["data"] == [[], ""]
    _, printed = await run(*start, "get-property", *at, "Protection", "Reason", "Dropped")
    assert [json.loads(line)["data"] for line in printed.splitlines()] == [
        "none", "dropped-rate", {"rate": 1},
    ]  # fmt: skip


@pytest.mark.integration
async def test_a_child_is_followed_until_ctrl_c(
    bus: PrivateBus, service: Bus, commands: Commands
) -> None:
    words = (*GATEWAYCTL, "--bus", bus.address, "messages", "--follow", "child-1")
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    try:
        await until(lambda: commands.tap.follows(CHILD))
        assert commands.asked == [("follow", "child-1", pwd.getpwuid(os.getuid()).pw_name)]
        commands.tap.show(CHILD, "received", "properties", b"\x1b[2J 21", door="house", size=7)
        commands.tap.show(CHILD, "dropped", "properties", reason="rate")
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            first, second = [(await process.stdout.readline()).decode() for _ in range(2)]
            assert first.endswith("received  properties  \\x1b[2J 21\n")
            assert second.endswith("dropped   properties  rate\n")
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 130
        await until(lambda: not commands.tap.follows(CHILD))
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@pytest.mark.integration
async def test_the_live_view_goes_on_until_ctrl_c(bus: PrivateBus, service: Bus) -> None:
    words = (*GATEWAYCTL, "--bus", bus.address, "messages", "--watch")
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            assert await process.stdout.readline() == b"State: dropping\n"
            service.show_at(OUTBOX, MessagesView("ready"))
            while await process.stdout.readline() != b"State: ready\n":
                pass
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 130
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def test_messages_that_are_not_enabled_say_how_to_enable_them() -> None:
    facts = {"State": "disabled", "Explanation": "", "Remedy": "", "NWaiting": 0, "Received": 0,
             "Sent": 0, "Dropped": {}}  # fmt: skip
    assert list(summary(facts))[:2] == ["State: disabled", f"What to do: {SWITCH_ON}"]
    assert "[messages]" in SWITCH_ON
    assert list(summary(facts | {"State": "ready"}))[:2] == ["State: ready", "Waiting: nothing"]


class ManyChildren:
    """A client of a gateway with a hundred children, of which the last waits for most."""

    def properties(self, place: ObjectInterface) -> Mapping[str, Any]:
        counts = {"NWaiting": 0, "Received": 0, "Sent": 0, "Dropped": {}, "Doors": []}
        return {"State": "ready", "Explanation": "", "Remedy": "", **counts}

    def call(self, method: str, *arguments: object, at: ObjectInterface = OUTBOX) -> Any:
        assert (method, at) == ("ListChildren", OUTBOX)
        first = int(str(arguments[0]) or 0)
        rows = [(f"child-{n}", n, 0, 0, 0, 0, 0) for n in range(first, first + 50)]
        return rows, str(first + 50) if first < 50 else ""


def test_the_live_view_fits_the_terminal_and_shows_where_most_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def leave(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", leave)
    monkeypatch.setattr("sys.stdout", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setenv("LINES", "20")
    monkeypatch.setenv("COLUMNS", "80")
    lines: list[str] = []
    client: Any = ManyChildren()
    shown = messages._live(client, Terminal())
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            lines.append(next(shown))
    assert lines[0].startswith("\x1b[H")
    assert len(lines) < 20
    table = [line.split()[0] for line in lines if line.startswith("child-")]
    assert table[:3] == ["child-99", "child-98", "child-97"]


def test_every_reason_for_a_drop_has_words_and_an_unknown_one_none() -> None:
    words = [*DropReason, "lost-in-space"]
    assert len(list(messages.why_dropped(words))) == len(DropReason)


def test_a_step_in_words() -> None:
    step = {"at": 0, "step": "sent", "topic": "a\x1b"}
    assert list(messages.followed(step)) == ["-  sent      a\\x1b"]
    lost, shown = messages.followed(step | {"lost": 3, "payload": "x", "cut": 9})
    assert lost.startswith("(3 lines were lost")
    assert shown.endswith("x  (9 more bytes)")


@pytest.mark.parametrize(("number", "text"), [
    (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_500_000, "1.4 MiB"),
    (5 << 40, "5120.0 GiB"),
])  # fmt: skip
def test_sizes(number: int, text: str) -> None:
    assert messages.size(number) == text
