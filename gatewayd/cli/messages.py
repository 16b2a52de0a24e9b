"""`gatewayctl messages`: what the children say, on its way to their clouds."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from gatewayd.cli.command import Client, Command, Connect
from gatewayd.cli.output import safe, when
from gatewayd.cli.output.fields import Record, anything, maybe, number, text, texts
from gatewayd.cli.output.terminal import Terminal
from gatewayd.dbus.names import OUTBOX
from gatewayd.device.message import DropReason
from gatewayd.messages.condition import DROPPED

REFRESH = 2.0
"""Seconds between two drawings of the live view: the daemon's own views are no newer."""
CLEAR = "\x1b[H\x1b[2J"
"""Clears a terminal: console_codes(4)."""
AROUND = 2
"""Lines of the live view that stay empty: that of the cursor, and one before the children."""

ROW = (
    "Id", "NWaiting", "BytesWaiting", "OldestTimestamp", "Received", "Sent", "DroppedInAll",
)  # fmt: skip
Row = tuple[str, int, int, int, int, int, int]
"""id, waiting, bytes, oldest in microseconds, received, sent, dropped."""

SWITCH_ON = (
    "For children to speak, set enabled = true under [messages], and run systemctl restart "
    "gatewayd. See gatewayd-broker(8)."
)
"""What to do where messages are not enabled: that is as it is configured, and no fault."""
UNITS, KIB = ("B", "KiB", "MiB", "GiB"), 1024


def size(number: int) -> str:
    """Return a number of bytes in a few characters, as "1.5 MiB"."""
    value, unit = float(number), 0
    while value >= KIB and unit < len(UNITS) - 1:
        value, unit = value / KIB, unit + 1
    return f"{value:.0f} {UNITS[unit]}" if unit == 0 else f"{value:.1f} {UNITS[unit]}"


def summary(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield the state of all messages.  facts: the properties of org.gatewayd1.Messages."""
    yield f"State: {safe(facts['State'])}"
    yield from [f"Why: {safe(facts['Explanation'])}"] if facts["Explanation"] else []
    remedy = SWITCH_ON if facts["State"] == "disabled" else facts["Remedy"]
    yield from [f"What to do: {safe(remedy)}"] if remedy else []
    yield waiting(facts)
    yield counted(facts["Received"], facts["Sent"], facts["Dropped"])
    yield from why_dropped(facts["Dropped"])
    yield from commands(facts.get("Commands", {}))


def commands(counts: Mapping[str, int]) -> Iterator[str]:
    """Yield one line about the commands of clouds; nothing where there were none."""
    if counts.get("received"):
        others = {name: number for name, number in counts.items() if name != "received" and number}
        ended = f" ({by_reason(others)})" if others else ""
        yield f"Commands since the start: {counts['received']}{ended}"


def waiting(facts: Mapping[str, Any]) -> str:
    """Return one line about what waits."""
    if not facts["NWaiting"]:
        return "Waiting: nothing"
    since = f", the oldest since {when(facts['OldestTimestamp'])}"
    oldest = since if facts["OldestTimestamp"] else ""
    number = facts["NWaiting"]
    count = f"{number} message{'s' if number > 1 else ''}"
    return f"Waiting: {count}, {size(facts['BytesWaiting'])}{oldest}"


def counted(received: int, sent: int, dropped: Mapping[str, int]) -> str:
    """Return one line about what was received, sent and dropped."""
    lost = by_reason(dropped) or "none"
    return f"Since the start: {received} received, {sent} sent, dropped: {lost}"


def by_reason(dropped: Mapping[str, int]) -> str:
    """Return how many were dropped, by reason; "" for none."""
    return ", ".join(f"{number} {safe(reason)}" for reason, number in sorted(dropped.items()))


def why_dropped(dropped: Iterable[str]) -> Iterator[str]:
    """Yield why messages are dropped, and what to do; nothing for a reason that is not known."""
    for word in sorted(dropped):
        if word in set(DropReason):
            yield f"  {word}: {DROPPED[DropReason(word)]}"


def doors(
    listed: Iterable[tuple[str, str, str, int, Mapping[str, int]]], terminal: Terminal
) -> Iterator[str]:
    """Yield the lines of a list of doors, and of why they have dropped messages."""
    doors = list(listed)
    rows = [
        (name, state or "-", received, sum(dropped.values()), why or "-")
        for name, state, why, received, dropped in doors
    ]
    head = ("DOOR", "STATE", "RECEIVED", "DROPPED", "WHY")
    yield from terminal.columns(head, rows) if rows else ()
    for name, _, _, _, dropped in doors:
        if dropped:
            yield f"Dropped at {safe(name)}: {by_reason(dropped)}"


def children(rows: Iterable[Row], terminal: Terminal) -> Iterator[str]:
    """Yield the lines of a list of children."""
    return terminal.columns(
        ("ID", "WAITING", "BYTES", "OLDEST", "RECEIVED", "SENT", "DROPPED"),
        ((i, n, size(b), when(old), got, sent, lost) for i, n, b, old, got, sent, lost in rows),
    )


def child(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is known of the messages of one child.

    facts: as Describe() of org.gatewayd1.Messages returns them.
    """
    yield from [f"Last door: {safe(facts['Door'])}"] if facts["Door"] else []
    yield waiting(facts)
    dropped = dict(_count(text) for text in facts["Dropped"])
    yield counted(facts["Received"], facts["Sent"], dropped)
    yield from why_dropped(dropped)
    if facts["RefusalReason"]:
        why = safe(facts["RefusalExplanation"] or facts["RefusalReason"])
        yield f"Last refusal of the cloud: {why}"
        yield from (
            [f"What to do: {safe(facts['RefusalRemedy'])}"] if facts["RefusalRemedy"] else []
        )
    yield from ["Last commands:"] if facts.get("Commands") else []
    yield from (f"  {safe(command)}" for command in facts.get("Commands", ()))


def _count(text: str) -> tuple[str, int]:
    """Read a count, as "rate 3"."""
    reason, _, number = text.rpartition(" ")
    return reason, int(number)


def followed(step: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of one step of a message.  step: as Follow() describes it."""
    if step.get("lost"):
        yield f"({step['lost']} lines were lost here: they were not read in time)"
    words = [
        when(step["at"] * 1000), f"{safe(step['step']):<8}", safe(step["topic"]),
        safe(step.get("id", "")), safe(step.get("outcome", "")),
        safe(step.get("reason", "")), safe(step.get("payload", "")),
        f"({step['cut']} more bytes)" if step.get("cut") else "",
    ]  # fmt: skip
    yield "  ".join(word for word in words if word)


def _rows(client: Client) -> Iterator[Row]:
    after, more = "", True
    while more:
        rows, after = client.call("ListChildren", after, 0, at=OUTBOX)
        yield from rows
        more = bool(after)


def _all(client: Client, terminal: Terminal) -> Iterator[str]:
    facts = client.properties(OUTBOX)
    yield from summary(facts)
    if facts["Doors"]:
        yield ""
        yield from doors(facts["Doors"], terminal)
    if rows := list(_rows(client)):
        yield ""
        yield from children(rows, terminal)


def _live(client: Client, terminal: Terminal) -> Iterator[str]:
    """Yield the state again and again: in place on a terminal, elsewhere only when it changes."""
    shown: Sequence[str] = ()
    while True:
        facts = client.properties(OUTBOX)
        lines = [*summary(facts), "", *doors(facts["Doors"], terminal)]
        if sys.stdout.isatty():
            most = sorted(_rows(client), key=lambda row: (-row[1], row[0]))
            room = max(1, shutil.get_terminal_size().lines - len(lines) - AROUND)
            table = list(children(most, terminal))[:room]
            lines = [CLEAR + lines[0], *lines[1:], "", *table]
        if lines != shown:
            yield from lines
            shown = lines
        time.sleep(REFRESH)


def _follow(client: Client, device: str) -> Iterator[str]:
    with os.fdopen(client.call("Follow", device, at=OUTBOX), "rb") as lines:
        for line in lines:
            yield from followed(json.loads(line))


def _messages(connect: Connect, arguments: Namespace) -> Iterator[str]:
    client = connect()
    if arguments.follow is not None:
        return _follow(client, arguments.follow)
    if arguments.id is not None:
        return child(client.call("Describe", arguments.id, at=OUTBOX))
    terminal = arguments.terminal
    return _live(client, terminal) if arguments.watch else _all(client, terminal)


def _records(connect: Connect, arguments: Namespace) -> Iterator[Record]:
    client = connect()
    if arguments.follow is not None:
        with os.fdopen(client.call("Follow", arguments.follow, at=OUTBOX), "rb") as lines:
            yield from ({"Step": json.loads(line)} for line in lines)
    elif arguments.id is not None:
        yield {"Id": arguments.id, **client.call("Describe", arguments.id, at=OUTBOX)}
    else:
        yield from _summaries(client, again=arguments.watch)
        yield from (dict(zip(ROW, row, strict=True)) for row in _rows(client))


def _summaries(client: Client, *, again: bool) -> Iterator[Record]:
    """Yield the state of all messages; again: whenever it has changed, for ever."""
    shown: Mapping[str, Any] = {}
    while True:
        facts = client.properties(OUTBOX)
        if facts != shown:
            yield {"Gateway": facts}
            shown = facts
        if not again:
            return
        time.sleep(REFRESH)


def _add_arguments(parser: ArgumentParser) -> None:
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("id", nargs="?", help="show the messages of this device alone")
    chosen.add_argument("--watch", action="store_true", help="show them live, until Ctrl-C")
    chosen.add_argument(
        "--follow", metavar="ID", help="print each message of this device, until Ctrl-C"
    )


COMMANDS: tuple[Command, ...] = (
    Command("messages", "show what devices say: what waits, was sent or was dropped",
            _add_arguments, _messages, _records,
            maybe(anything("Gateway", "the properties of org.gatewayd1.Messages"),
                  anything("Step", "with --follow: a step of a message, as of Follow()"),
                  text("Id", "id of a device"), number("NWaiting", "messages that wait"),
                  number("BytesWaiting", "their bytes"),
                  number("OldestTimestamp", "since when the oldest waits"),
                  number("Received", "messages that were received and stored"),
                  number("Sent", "messages that the cloud has accepted"),
                  number("DroppedInAll", "messages that were dropped, in a list of devices"),
                  texts("Dropped", "with an ID: how many were dropped, by reason"),
                  text("Door", "with an ID: where the newest came in"),
                  text("RefusalReason", "with an ID: why the cloud refused the newest that it did"),
                  text("RefusalExplanation", "the same as a sentence"),
                  text("RefusalRemedy", "what to do"),
                  texts("Commands", "with an ID: its newest commands, oldest first"))),
)  # fmt: skip
