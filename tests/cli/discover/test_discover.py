"""`gatewayctl discover` over a real bus: a search, what was refused, and a recording."""

from __future__ import annotations

import base64
import json
import stat
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from gatewayd.cli.discover.commands import COMMANDS
from gatewayd.dbus.bus import Bus
from gatewayd.discovery.diagnosis.recorder import MAX_BYTES, USUAL_BYTES
from gatewayd.discovery.diagnosis.refusals import CAUSES
from gatewayd.errors import Busy
from gatewayd.simulator.bus import PrivateBus
from gatewayd.simulator.lan import dns, records
from gatewayd.simulator.lan.child import LanChild
from tests.dbus.support import RECORDED, RecordingCommands, served, view
from tests.support.gatewayctl import ctl, validate

pytestmark = pytest.mark.integration

CHILD = LanChild("Annas Lampe", "TH20-0001A7", "24:0a:c4:0c:2f:91", "lampe", "10.0.7.21")


def line(**fields: object) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def datagram(data: bytes) -> bytes:
    shown = base64.b64encode(data).decode()
    return line(
        at=0.5, kind="datagram", interface="lan0", sender="10.0.7.21", port=5353, data=shown
    )


PACKET = dns.encode(records.announcement(CHILD))


@pytest.fixture
async def asked() -> RecordingCommands:
    return RecordingCommands("child-1a")


@pytest.fixture
async def service(bus: PrivateBus, asked: RecordingCommands) -> AsyncIterator[Bus]:
    async with served(bus, asked, view("child-1a"), gather=0.02) as ours:
        yield ours


async def test_what_was_refused_is_listed_with_the_reason(bus: PrivateBus, service: Bus) -> None:
    status, printed = await ctl(bus, "discover", "--refused")
    head, row, _, cause = printed.splitlines()
    assert status == 0
    assert head.split() == ["SINCE", "INTERFACE", "SENDER", "CAUSE", "TIMES", "NAME"]
    assert row.split()[2:] == ["lan0", "10.0.0.9", "unresolved", "2", "Lamp"]
    assert cause.startswith("unresolved: ")
    status, printed = await ctl(bus, "--json", "discover", "--refused")
    assert (status, json.loads(printed)["Sender"]) == (0, "10.0.0.9")
    validate(printed, COMMANDS[0].fields, status)


async def test_a_recording_is_a_file_of_its_owner(
    bus: PrivateBus, service: Bus, asked: RecordingCommands, tmp_path: Path
) -> None:
    file = tmp_path / "fault.jsonl"
    status, printed = await ctl(bus, "discover", "--record", str(file))
    assert status == 0, printed
    assert "0 events are in" in printed
    assert "--anonymous" in printed
    assert file.read_bytes() == RECORDED
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [one[:2] for one in asked.asked] == [("record", "60"), ("discover", "60")]
    status, printed = await ctl(bus, "discover", "--record", str(file))
    assert (status, file.read_bytes()) == (1, RECORDED)
    assert "File exists" in printed


async def test_one_may_listen_alone_and_bound_the_file(
    bus: PrivateBus, service: Bus, asked: RecordingCommands, tmp_path: Path
) -> None:
    words = ("--record", str(tmp_path / "fault"), "--listen", "--max-bytes", "1000")
    status, printed = await ctl(bus, "--json", "discover", "1200", *words)
    assert json.loads(printed) == {
        "File": str(tmp_path / "fault"), "Events": 0, "Lost": 0, "Reason": "time",
    }  # fmt: skip
    validate(printed, COMMANDS[0].fields, status)
    assert [one[:3] for one in asked.asked] == [("record", "1200", "1000")]


async def test_names_and_addresses_are_replaced_on_request(
    bus: PrivateBus, service: Bus, asked: RecordingCommands, tmp_path: Path
) -> None:
    head, end = RECORDED.splitlines(keepends=True)
    asked.recorded = head + datagram(PACKET) + datagram(b"Annas no DNS") + end
    file = tmp_path / "fault"
    words = ("--record", str(file), "--anonymous", "--keep", "serial")
    status, printed = await ctl(bus, "discover", "5", *words)
    assert (status, "2 events" in printed, "--anonymous" in printed) == (0, True, False)
    lines = [json.loads(one) for one in file.read_text().splitlines()]
    assert lines[0] == json.loads(head)
    assert lines[-1] == json.loads(end)
    first, second = lines[1:-1]
    made = base64.b64decode(first["data"])
    assert len(made) == len(PACKET)
    assert b"Anna" not in made
    assert b"serial=TH20-0001A7" in made
    assert first["sender"].startswith("10.0.")
    assert first["sender"] != "10.0.7.21"
    assert (second["data"], second["left_out"]) == ("", 12)


async def test_what_came_before_gatewayd_ended_is_kept(
    bus: PrivateBus, service: Bus, asked: RecordingCommands, tmp_path: Path
) -> None:
    head, end = RECORDED.splitlines(keepends=True)
    asked.recorded = head + datagram(PACKET) + end[:-9]
    file = tmp_path / "fault"
    status, printed = await ctl(bus, "--json", "discover", "--record", str(file))
    assert (status, json.loads(printed)["Reason"]) == (0, "cut"), printed
    assert file.read_bytes() == head + datagram(PACKET)


async def test_no_file_is_left_where_nothing_was_recorded(
    bus: PrivateBus, service: Bus, asked: RecordingCommands, tmp_path: Path
) -> None:
    def refuse() -> None:
        raise Busy("Another recording is under way, try again later")

    asked.before = refuse
    status, printed = await ctl(bus, "discover", "--record", str(tmp_path / "fault"))
    assert (status, "try again later" in printed) == (1, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ("discover",),
        ("discover", "901"),
        ("discover", "60", "--listen"),
        ("discover", "60", "--keep", "serial"),
        ("discover", "60", "--max-bytes", "5"),
        ("discover", "--refused", "--record", "x"),
        ("discover", "--record", "x", "--keep", "serial"),
        ("discover", "3600", "--record", "x"),
        ("discover", "60", "--dry-run"),
        ("discover", "--refused", "--dry-run"),
    ],
)
async def test_what_does_not_belong_together_is_refused(
    bus: PrivateBus, service: Bus, asked: RecordingCommands, words: Sequence[str]
) -> None:
    status, printed = await ctl(bus, *words)
    assert (status, asked.asked) == (2, [])
    assert printed.splitlines()[-1].startswith("gatewayctl discover: error: ")
    status, printed = await ctl(bus, "--json", *words)
    assert (status, json.loads(printed)["Error"]) == (2, "WrongUsage")


def test_the_manual_has_the_bounds_and_all_causes() -> None:
    manual = (Path(__file__).parents[3] / "packaging/man/gatewayctl.1").read_text()
    assert str(MAX_BYTES) in manual
    assert str(USUAL_BYTES) in manual
    for cause in CAUSES:
        assert f".B {cause}\n".replace("-", "\\-") in manual, cause
