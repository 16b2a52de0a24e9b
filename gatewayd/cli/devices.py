"""Commands about the child devices, and about the daemon that manages them."""

from __future__ import annotations

import datetime as dt
import re
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator

from gatewayd.cli import messages, output
from gatewayd.cli.command import (
    Client,
    Command,
    CommandFailed,
    Connect,
    Run,
    action,
    add_id,
    add_yes,
    argument,
    arguments,
    call,
    confirm,
    no_arguments,
    number,
)
from gatewayd.cli.output.fields import (
    FieldKind,
    Record,
    anything,
    flag,
    maybe,
    of_interface,
    text,
    texts,
)
from gatewayd.cli.output.fields import number as number_field
from gatewayd.cli.output.terminal import sign_of_life
from gatewayd.dbus.names import DEVICE, GATEWAY
from gatewayd.device.lifecycle import State
from gatewayd.errors import GatewayError

ROW = ("Id", "State", "Provider", "Name", "StateChangeTimestamp", "Path")
STEP = ("Timestamp", "Event", "State", "Text")
DECISION = ("Number", "Timestamp", "Kind", "Device", "By", "From", "Note")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
SETTLED = ("online", "handed-over")
GIVEN_UP = ("failed", "rejected", "retired", "frozen", "elsewhere")
POLL = 0.5
"""Seconds between two looks at a device that is waited for."""
MOST_MOVES = 1_000_000
"""More moves than there are."""
NO_JOIN_RULE = "no rule has window = true, so that it admits no device: see gatewayd-rules(5)."
SCOPE = ("interface", "protocol", "rule", "max-devices")
STATES = tuple(dict.fromkeys(s.shown for s in State if s is not State.FORGOTTEN))


def device_rows(client: Client, state: str | None) -> Iterator[output.DeviceRow]:
    """Yield the rows of all devices in a state, or in any, page by page.  Raises GatewayError."""
    filters = {"state": client.variant(state)} if state else {}
    after = ""
    while True:
        rows, after = client.call("ListDevicesFiltered", filters, after, 0)
        yield from rows
        if not after:
            return


def _row(row: output.DeviceRow) -> Record:
    return dict(zip(ROW, row, strict=True))


def _listed(connect: Connect, arguments: Namespace) -> Iterator[Record]:
    client = connect()
    attempts = client.call("ListNextAttempts")
    targets = {move[0]: move[2] for move in client.call("ListMoves", MOST_MOVES)}
    for row in device_rows(client, arguments.state):
        more = {"MovingTo": targets[row[0]]} if row[0] in targets else {}
        yield {**_row(row), "NextAttemptTimestamp": attempts.get(row[0], 0), **more}


def _list(connect: Connect, arguments: Namespace) -> Iterable[str]:
    rows = []
    counts = connect().call("CountDevices")
    total = counts.get(arguments.state, 0) if arguments.state else sum(counts.values())
    with sign_of_life("Listing the devices") as progress:
        for row in _listed(connect, arguments):
            rows.append(row)
            progress.at(len(rows), total)
    return output.devices(rows, arguments.terminal)


def _changes(connect: Connect, arguments: Namespace) -> Iterator[Record]:
    for rows, removed in connect().changes():
        yield from (_row(row) for row in rows if arguments.state in (None, row[1]))
        yield from ({"Id": device, "Removed": True} for device in removed)


def _watch(connect: Connect, arguments: Namespace) -> Iterator[str]:
    for row in _changes(connect, arguments):
        yield output.change(row, arguments.terminal)


def _described(connect: Connect, arguments: Namespace) -> Iterator[Record]:
    facts = connect().call("DescribeDevice", arguments.id)
    steps = (dict(zip(STEP, step, strict=True)) for step in facts["History"])
    yield {**facts, "History": list(steps)}


def _show(connect: Connect, arguments: Namespace) -> Iterable[str]:
    return output.properties(connect().call("DescribeDevice", arguments.id))


def _rules_now(client: Client, device: str) -> Record:
    action, rule, reasons = client.call("TestAdmission", device)
    return {"Action": action, "Rule": rule, "Reasons": reasons}


def _explained(connect: Connect, arguments: Namespace) -> Iterator[Record]:
    for facts in _described(connect, arguments):
        yield {**facts, "Rules": _rules_now(connect(), facts["Id"])}


def _explain(connect: Connect, arguments: Namespace) -> Iterable[str]:
    client = connect()
    facts = client.call("DescribeDevice", arguments.id)
    said = facts.get("Messages", {})
    lines = tuple(messages.child(said)) if any(said.values()) else ()
    return output.explain(facts, _rules_now(client, facts["Id"]), lines, arguments.terminal)


def _approved(connect: Connect, arguments: Namespace) -> Iterator[Record]:
    client = connect()
    device = client.call("DescribeDevice", arguments.id)["Id"]
    client.call("Approve", device, arguments.provider)
    if arguments.wait is None:
        yield {"Id": device, "Done": True}
        return
    yield from _until_settled(client, device, time.monotonic() + arguments.wait)


def _until_settled(client: Client, device: str, end: float) -> Iterator[Record]:
    """Yield each state on the way to online.  end: when to give up, of time.monotonic.

    Raises GatewayError where it does not come online.
    """
    shown = ""
    while True:
        facts = client.call("DescribeDevice", device)
        state = f"{facts['State']} {facts['Reason']}"
        if state != shown:
            shown = state
            yield {name: facts[name] for name in ("Id", "State", "Reason", "Explanation", "Remedy")}
        if facts["State"] in SETTLED:
            return
        if facts["State"] in GIVEN_UP or time.monotonic() >= end:
            why = f": {facts['Explanation']}" if facts["Explanation"] else ""
            raise CommandFailed(
                f"{device} is {facts['State']}{why} See: gatewayctl explain {device}"
            )
        time.sleep(POLL)


def _approve(connect: Connect, arguments: Namespace) -> Iterator[str]:
    for facts in _approved(connect, arguments):
        if "State" in facts:
            state = arguments.terminal.painted(output.safe(facts["State"]), facts["State"])
            why = output.safe(facts["Explanation"])
            yield f"{facts['Id']} is {state}" + (f": {why}" if why else ".")


def _reject(connect: Connect, arguments: Namespace) -> Iterable[str]:
    client = connect()
    confirm(arguments, client.call("Consequences", arguments.id, "Reject"), "Reject it?")
    client.call("Reject", arguments.id, arguments.reason)
    return ()


def _settle(method: str, question: str) -> Run:
    """Return the `run` of a command that says what a method does, asks, and calls it."""

    def run(connect: Connect, arguments: Namespace) -> Iterable[str]:
        client, other = connect(), arguments.other or ""
        does = f"{method} {other}".strip()
        confirm(arguments, client.call("Consequences", arguments.id, does), question)
        client.call(method, arguments.id, other)
        return ()

    return run


def _forget(connect: Connect, arguments: Namespace) -> Iterable[str]:
    client = connect()
    if arguments.dormant is not None:
        does = f"ForgetDormant {arguments.dormant}"
        confirm(arguments, client.call("Consequences", arguments.id, does), "Forget that?")
        client.call("ForgetDormant", arguments.id, arguments.dormant)
        return ()
    confirm(arguments, client.call("Consequences", arguments.id, "Forget"), "Forget it?")
    client.call("Forget", arguments.id)
    return ()


def _repin(connect: Connect, arguments: Namespace) -> Iterable[str]:
    client = connect()
    confirm(arguments, client.call("Consequences", arguments.id, "Repin"), "Accept the new key?")
    client.call("Repin", arguments.id)
    return ()


def _retry(connect: Connect, arguments: Namespace) -> Iterator[str]:
    connect().call("Retry", arguments.id)
    yield f"{output.safe(arguments.id)} is tried now. Watch it with: gatewayctl watch"


def _reregister(connect: Connect, arguments: Namespace) -> Iterable[str]:
    connect().call("Reregister", arguments.id, arguments.again, {})
    return ()


def _permitted(connect: Connect, arguments: Namespace) -> Iterator[Record]:
    client = connect()
    options = {name: getattr(arguments, name.replace("-", "_")) for name in SCOPE}
    scope = {name: client.variant(value) for name, value in options.items() if value is not None}
    client.call("PermitJoin", arguments.seconds, scope)
    facts = client.properties(GATEWAY)
    rules = [one for one in facts["JoinRules"] if arguments.rule in (None, one)]
    yield {"JoinUntilTimestamp": facts["JoinUntilTimestamp"], "JoinRules": rules}


def _permit_join(connect: Connect, arguments: Namespace) -> Iterator[str]:
    (window,) = _permitted(connect, arguments)
    if not arguments.seconds:
        yield "The join window is closed."
        return
    rules = ", ".join(map(output.safe, window["JoinRules"]))
    admits = f"it admits by: {rules}." if rules else NO_JOIN_RULE
    yield f"The join window is open until {output.when(window['JoinUntilTimestamp'])}; {admits}"


def _reloaded(connect: Connect, _arguments: Namespace) -> Iterator[Record]:
    client = connect()
    client.call("Reload")
    yield {"RestartNeeded": list(client.properties(GATEWAY)["RestartNeeded"])}


def _reload(connect: Connect, arguments: Namespace) -> Iterator[str]:
    (waiting,) = _reloaded(connect, arguments)
    if waiting["RestartNeeded"]:
        sections = ", ".join(map(output.safe, waiting["RestartNeeded"]))
        yield f"Reloaded, but changes of these wait for a restart: {sections}."
        yield "To restart gatewayd: systemctl restart gatewayd"
    else:
        yield "Reloaded: all of the configuration is in force."


def _decisions(connect: Connect, arguments: Namespace) -> Iterator[Record]:
    """Yield the decisions, the oldest first, as they would stand in a file."""
    client = connect()
    wanted = {"device": client.variant(arguments.child)} if arguments.child else {}
    if arguments.since is not None:
        wanted["since"] = client.timestamp(_since(arguments.since))
    rows = client.call("ListDecisions", wanted, arguments.lines)
    for row in reversed(rows):
        yield dict(zip(DECISION, row, strict=True))


def _since(text: str) -> int:
    """Return the time that a text means, as "2 h" ago or "2026-11-30": microseconds.

    Raises GatewayError.
    """
    now = dt.datetime.now(tz=dt.UTC)
    if ago := re.fullmatch(r"(\d{1,6}) ?([smhd])", text):
        return int((now.timestamp() - int(ago[1]) * UNITS[ago[2]]) * 1e6)
    try:
        return int(dt.datetime.fromisoformat(text).astimezone().timestamp() * 1e6)
    except (ValueError, OverflowError, OSError):
        raise GatewayError(
            f"{text!a} is no time: write 2h, 7d, 2026-11-30 or 2026-11-30T10:00"
        ) from None


def _log(connect: Connect, arguments: Namespace) -> Iterable[str]:
    return output.decisions(_decisions(connect, arguments), arguments.terminal)


def _window(parser: ArgumentParser) -> None:
    parser.add_argument(
        "seconds", type=number(0, 900), help="duration, at most 900; 0 closes the window"
    )
    parser.add_argument("--interface", help="admit only devices seen on this interface")
    parser.add_argument("--protocol", help='admit only devices found by this protocol, as "mdns"')
    parser.add_argument("--rule", help="admit only by the rule of this name")
    parser.add_argument(
        "--max-devices", type=number(1, 100_000), help="close the window after so many devices"
    )


def _log_options(parser: ArgumentParser) -> None:
    parser.add_argument("--since", metavar="TIME",
                        help='only what is newer, as "2h", "7d" or "2026-11-30"')  # fmt: skip
    parser.add_argument("--child", metavar="ID", default="",
                        help="only about this device, or those whose ids begin so")  # fmt: skip
    parser.add_argument("--lines", type=number(1, 1000), default=100, metavar="N",
                        help="how many at most, the newest (default: 100)")  # fmt: skip


_STATE = argument("--state", choices=STATES, help="show only devices in this state")
_OTHER = argument(
    "other", nargs="?", help="the other device (default: what is seen of it elsewhere)"
)
_WAIT = argument(
    "--wait", nargs="?", type=number(1, 3600), const=120, metavar="SECONDS",
    help="wait until it is online, and show how it gets there (default: 120 s)",
)  # fmt: skip

_DEVICE = (
    *of_interface(DEVICE),
    text("Path", "its D-Bus object"),
    anything("History", "its newest events, the oldest first: " + ", ".join(STEP),
             FieldKind.OBJECTS),
    anything("Sightings", "what each source shows of it, by the keys of gatewayd-rules(5)",
             FieldKind.OBJECTS),
    *maybe(anything("Messages", "as of `messages ID`"),
           anything("Move", "where it moves, and where it is dormant"),
           anything("Proof", "what it has proven with a key of its own")),
)  # fmt: skip
_ROW = (
    text("Id", "id of the device"),
    *maybe(
        text("State", "its state"),
        text("Provider", 'its cloud; "" for none'),
        text("Name", "its name"),
        number_field("StateChangeTimestamp", "when its state changed"),
        text("Path", "its D-Bus object"),
    ),
)

# fmt: off
COMMANDS: tuple[Command, ...] = (
    Command("list", "list the devices", _STATE, _list, _listed,
            (*_ROW, number_field("NextAttemptTimestamp", "when it is tried again by itself"),
             *maybe(text("MovingTo", "the cloud to which it moves")))),
    Command("watch", "print each change as it happens", _STATE, _watch, _changes,
            (*_ROW, *maybe(flag("Removed", "true for a device that is gone")))),
    Command("show", "print all properties of a device", add_id, _show, _described, _DEVICE),
    Command("explain", "explain why a device is in its state, and what to do", add_id, _explain,
            _explained,
            (*_DEVICE, anything("Rules", "how the rules decide now: Action, Rule, Reasons"))),
    Command("approve", "admit a device",
            arguments(add_id, argument("--provider", default="",
                                       help="the cloud (default: from the rules)"), _WAIT),
            _approve, _approved,
            (text("Id", "id of the device"),
             *maybe(flag("Done", "true: it is admitted"),
                    text("State", "with --wait: its state"), text("Reason", "its code"),
                    text("Explanation", "why"), text("Remedy", "what to do")))),
    action("reject", "reject a device",
           arguments(add_id, argument("--reason", default="", help="a note for the record"),
                     add_yes),
           _reject),
    action("retry", "retry what failed for a device now", add_id, _retry),
    action("reregister", "register a device again that was reset at the cloud",
           arguments(add_id, argument("again", help="the complete id a second time")),
           _reregister),
    action("rename", "change the displayed name of a device",
           arguments(add_id, argument("label", help="the new name")),
           call("Rename", "id", "label")),
    action("repin", "accept the new key of a frozen device, in place of the one that is pinned",
           arguments(add_id, add_yes), _repin),
    action("split",
           "have two devices that show one identity be two: what both show identifies neither",
           arguments(add_id, _OTHER, add_yes), _settle("Split", "Split them?")),
    action("merge", "have two devices be one: the first is kept, the other is forgotten",
           arguments(add_id, _OTHER, add_yes), _settle("Merge", "Merge them?")),
    action("forget", "remove the record and the secrets of a device",
           arguments(add_id,
                     argument("--dormant", metavar="CLOUD",
                              help="only what it has at this cloud, from which it has moved away"),
                     add_yes),
           _forget),
    Command("permit-join", "open the join window: rules with window = true register for a while",
            _window, _permit_join, _permitted,
            (number_field("JoinUntilTimestamp", "when the window closes; 0 if it is closed"),
             texts("JoinRules", "the rules by which it admits devices"))),
    Command("log", "show who has decided what: approved, rejected, forgotten, and more",
            _log_options, _log, _decisions,
            (number_field("Number", "counts up"), number_field("Timestamp", "when"),
             text("Kind", "what was decided"), text("Device", 'id of the device, or ""'),
             text("By", "the user, or the cloud"), text("From", 'from where, or ""'),
             text("Note", 'more about it, or ""'))),
    Command("reload", "reload the configuration", no_arguments, _reload, _reloaded,
            (texts("RestartNeeded", "sections whose changes wait for a restart"),)),
)
# fmt: on
