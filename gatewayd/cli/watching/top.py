"""`gatewayctl top`: the children by state and cloud, live, on one screen.

All children are listed once; then the daemon says what has changed, so that watching it costs
little.  The screen is the terminal's other one: what was there before is back at the end.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import sys
import termios
import time
import tty
from argparse import ArgumentParser, Namespace
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gatewayd.cli.command import Client, Command, Connect, number
from gatewayd.cli.devices import STATES, device_rows
from gatewayd.cli.output import DeviceRow, safe
from gatewayd.cli.output.fields import FieldKind, Record, anything, text
from gatewayd.cli.output.fields import number as number_field
from gatewayd.cli.output.terminal import Terminal, cut
from gatewayd.dbus.names import (
    GATEWAY,
    OUTBOX,
    OWN_SITE,
    PROVIDER,
    ObjectInterface,
    provider_path,
)

NEWEST = 100
"""Changes that are kept, of which the screen shows as many as fit."""
NO_CLOUD = "-"
EVERY = 2
"""Seconds between two screens, by default."""

_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
"""The terminal's other screen, without a cursor; and back (xterm, "Alternate Screen Buffer")."""
_HOME, _TO_END_OF_LINE, _TO_END = "\x1b[H", "\x1b[K", "\x1b[J"
_QUIT = ("q", "Q", "\x03")


@dataclass(slots=True)
class WatchedFleet:
    """The children, counted by cloud and state, and what of them has changed last.

    clock: returns a time of day, to be shown.
    """

    clock: Callable[[], str]
    newest: deque[tuple[str, str, str, str]] = field(default_factory=lambda: deque(maxlen=NEWEST))
    _places: dict[str, tuple[str, str]] = field(default_factory=dict)

    def start(self, rows: Iterable[DeviceRow]) -> None:
        """Take those that are there."""
        self._places = {row[0]: (row[2], row[1]) for row in rows}

    def update(self, rows: Iterable[DeviceRow], removed: Iterable[str]) -> None:
        """Note changes."""
        for device, state, cloud, name, *_ in rows:
            if self._places.get(device) != (cloud, state):
                self._places[device] = cloud, state
                self.newest.appendleft((self.clock(), state, device, name))
        for device in removed:
            if self._places.pop(device, None):
                self.newest.appendleft((self.clock(), "gone", device, ""))

    def counts(self) -> Mapping[str, Mapping[str, int]]:
        """Return how many there are in each state, by cloud."""
        found: dict[str, Counter[str]] = {}
        for cloud, state in self._places.values():
            found.setdefault(cloud, Counter())[state] += 1
        return found


def overview(client: Client, fleet: WatchedFleet) -> Record:
    """Return what is shown.  Raises GatewayError."""
    gateway, messages = client.properties(GATEWAY), client.properties(OUTBOX)
    places = (ObjectInterface(provider_path(name), PROVIDER) for name in gateway["Providers"])
    clouds = [client.properties(place) for place in places]
    site = client.properties(OWN_SITE)
    standing = Counter(state for _, state, *_ in site["Gateways"])
    return {
        "Version": gateway["Version"],
        "State": gateway["State"],
        "JoinUntilTimestamp": gateway["JoinUntilTimestamp"],
        "MessagesState": messages["State"],
        "NWaiting": messages["NWaiting"],
        "Site": site["Name"],
        "SiteState": site["State"],
        "NShards": site["NOwned"],
        "Gateways": dict(standing),
        "Clouds": {cloud["Id"]: cloud["State"] for cloud in clouds},
        "Children": {cloud: dict(states) for cloud, states in fleet.counts().items()},
    }


def screen(
    facts: Record, newest: Iterable[Sequence[str]], terminal: Terminal, height: int = 0
) -> Iterator[str]:
    """Yield the lines of a screen.  height: of the terminal; 0 for no limit.  Pure."""
    lines = [*_head(facts, terminal), "", *_table(facts, terminal)]
    changes = list(newest)
    if changes:
        lines += ["", *terminal.columns(("AT", "STATE", "DEVICE", "NAME"), changes)]
    yield from lines[:height] if height else lines


def _head(facts: Record, terminal: Terminal) -> Iterator[str]:
    states: Counter[str] = Counter()
    for counts in facts["Children"].values():
        states.update(counts)
    counted = ", ".join(f"{states[state]} {state}" for state in STATES if states[state])
    is_open = "open" if facts["JoinUntilTimestamp"] else "closed"
    state = terminal.painted(safe(facts["State"]), facts["State"])
    yield f"gatewayd {safe(facts['Version'])} is {state}"
    waiting = f"messages {safe(facts['MessagesState'])}, {facts['NWaiting']} waiting"
    number = "1 child" if states.total() == 1 else f"{states.total()} children"
    children = f"{number}: {counted}" if counted else number
    lines = [children, f"{waiting}; join window {is_open}"]
    if facts["Site"]:
        gateways = ", ".join(f"{number} {state}" for state, number in facts["Gateways"].items())
        stands = f"site {safe(facts['Site'])} is {safe(facts['SiteState'])}"
        lines.append(f"{stands}: {facts['NShards']} shards; gateways: {safe(gateways) or 'none'}")
    for line in lines:
        yield cut(line, terminal.width) if terminal.width else line


def _table(facts: Record, terminal: Terminal) -> Iterator[str]:
    children = facts["Children"]
    states = [state for state in STATES if any(counts.get(state) for counts in children.values())]
    rows = [
        (
            cloud or NO_CLOUD,
            facts["Clouds"].get(cloud, NO_CLOUD),
            *(children.get(cloud, {}).get(state, 0) or "." for state in states),
        )
        for cloud in dict.fromkeys((*facts["Clouds"], *sorted(children)))
    ]
    return terminal.columns(("CLOUD", "IS", *map(str.upper, states)), rows)


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--once", action="store_true", help="show it once, and end")
    parser.add_argument(
        "--every", type=number(1, 3600), default=EVERY, metavar="SECONDS",
        help=f"seconds between two screens (default: {EVERY})",
    )  # fmt: skip


def _overviews(client: Client, fleet: WatchedFleet, every: int) -> Iterator[Record]:
    """Yield what is shown, again and again; nothing at least once a second."""
    due, changes = 0.0, client.changes()
    next(changes)  # none is missed from here on
    fleet.start(device_rows(client, None))
    for rows, removed in changes:
        fleet.update(rows, removed)
        if time.monotonic() >= due:
            yield overview(client, fleet)
            due = time.monotonic() + every
        else:
            yield {}


def _once(client: Client, fleet: WatchedFleet) -> Record:
    fleet.start(device_rows(client, None))
    return overview(client, fleet)


def _top(connect: Connect, arguments: Namespace) -> int:
    client, fleet = connect(), WatchedFleet(_time_of_day)
    if arguments.once or not (sys.stdin.isatty() and sys.stdout.isatty()):
        for line in screen(_once(client, fleet), (), arguments.terminal):
            print(line)  # noqa: T201  # what the command prints
        return 0
    with _full_screen() as pressed:
        for facts in _overviews(client, fleet, arguments.every):
            if facts:
                _draw(facts, fleet, arguments.terminal)
            if pressed() in _QUIT:
                break
    return 0


def _time_of_day() -> str:
    return time.strftime("%H:%M:%S")


def _draw(facts: Record, fleet: WatchedFleet, terminal: Terminal) -> None:
    size = shutil.get_terminal_size()  # it may have changed
    now = Terminal(size.columns, terminal.coloured)
    lines = list(screen(facts, fleet.newest, now, size.lines - 1))
    drawn = "".join(f"{line}{_TO_END_OF_LINE}\r\n" for line in lines)
    sys.stdout.write(f"{_HOME}{drawn}{_TO_END}q or Ctrl-C ends")
    sys.stdout.flush()


@contextlib.contextmanager
def _full_screen() -> Iterator[Callable[[], str]]:
    """Use the other screen of the terminal; yield what returns the key that was pressed, or ""."""
    keyboard = sys.stdin.fileno()
    before: list[Any] = termios.tcgetattr(keyboard)
    try:
        tty.setcbreak(keyboard)
        sys.stdout.write(_ENTER)
        yield lambda: _pressed(keyboard)
    finally:
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


def _pressed(keyboard: int) -> str:
    ready, _, _ = select.select([keyboard], [], [], 0)
    return os.read(keyboard, 1).decode("ascii", "replace") if ready else ""


def _records(connect: Connect, arguments: Namespace) -> Iterator[Record]:
    client, fleet = connect(), WatchedFleet(_time_of_day)
    if arguments.once:
        yield _once(client, fleet)
        return
    yield from filter(None, _overviews(client, fleet, arguments.every))


COMMANDS: tuple[Command, ...] = (
    Command(
        "top", "show children by state and cloud, live", _add_options, _top, _records,
        (
            text("Version", "of the daemon"),
            text("State", "of the gateway"),
            number_field("JoinUntilTimestamp", "when the join window closes; 0 if it is closed"),
            text("MessagesState", "of the messages"),
            number_field("NWaiting", "messages that wait"),
            text("Site", 'its name; "" without etcd'),
            text("SiteState", "of this gateway in it"),
            number_field("NShards", "shards of this gateway"),
            anything("Gateways", "how many of the site are in each state", FieldKind.OBJECT),
            anything("Clouds", "the state of each cloud, by its name", FieldKind.OBJECT),
            anything("Children", 'for each cloud, and "" for none: how many are in each state',
                     FieldKind.OBJECT),
        ),
    ),
)  # fmt: skip
