"""Commands of clouds, as the bus and `gatewayctl` show them."""

from __future__ import annotations

from gatewayd.cli.messages import child, followed, summary
from gatewayd.dbus.objects import message_facts, read_messages
from gatewayd.device.identity import DeviceId
from gatewayd.device.views import CommandStatistics, EndedCommand, MessagesView

CHILD = DeviceId("child-1a")
STATISTICS = CommandStatistics(
    received=5,
    sent=3,
    waiting=1,
    ended={"done": 1, "failed": 1, "not-allowed": 2},
    repeated=1,
    last={
        CHILD: (
            EndedCommand(1_700_000_000_000_000, "7", "service", "reboot\u202e", "done", 120),
            EndedCommand(1_700_000_001_000_000, "", "message", "", "no-listener", 3),
        )
    },
)
VIEW = MessagesView("ready", commands=STATISTICS)
QUIET = MessagesView("ready")
FACTS = ("State", "Explanation", "Remedy", "NWaiting", "BytesWaiting", "OldestTimestamp",
         "Received", "Sent", "Dropped", "Commands")  # fmt: skip


def shown(view: MessagesView) -> list[str]:
    return list(summary({name: read_messages(view, name) for name in FACTS}))


def test_counts_of_commands_by_outcome() -> None:
    assert read_messages(VIEW, "Commands") == {
        "received": 5, "sent": 3, "waiting": 1, "repeated": 1, "late-answer": 0, "unanswered": 0,
        "done": 1, "failed": 1, "not-allowed": 2,
    }  # fmt: skip
    assert shown(VIEW)[-1] == (
        "Commands since the start: 5 "
        "(1 done, 1 failed, 2 not-allowed, 1 repeated, 3 sent, 1 waiting)"
    )
    assert not any("Commands" in line for line in shown(QUIET))


def test_the_newest_commands_of_a_child() -> None:
    facts = message_facts(VIEW, CHILD)
    assert facts["Commands"] == [
        "2023-11-14T22:13:20Z service reboot\u202e (7): done after 120 ms",
        "2023-11-14T22:13:21Z message: no-listener after 3 ms",
    ]
    lines = list(child(facts))
    assert lines[-3] == "Last commands:"
    assert lines[-2] == r"  2023-11-14T22:13:20Z service reboot\u202e (7): done after 120 ms"
    assert not any("ommands" in line for line in child(message_facts(QUIET, CHILD)))


def test_a_step_of_a_command_has_its_identifier_and_outcome() -> None:
    step = {"at": 0, "step": "answer", "topic": "r", "id": "7", "outcome": "done", "payload": "{}"}
    (line,) = followed(step)
    assert line.endswith("answer    r  7  done  {}")
