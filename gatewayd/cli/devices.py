"""Commands about the child devices, and about the daemon that manages them."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from pathlib import Path

from gatewayd.cli import messages, output
from gatewayd.cli.command import (
    Client,
    Command,
    Connect,
    add_id,
    argument,
    arguments,
    call,
    no_arguments,
    number,
    write_file,
)
from gatewayd.device.lifecycle import State

SCOPE = ("interface", "protocol", "rule", "max-devices")
STATES = tuple(dict.fromkeys(s.shown for s in State if s is not State.FORGOTTEN))


def _rows(client: Client, state: str | None) -> Iterator[output.DeviceRow]:
    filters = {"state": client.variant(state)} if state else {}
    after = ""
    while True:
        rows, after = client.call("ListDevicesFiltered", filters, after, 0)
        yield from rows
        if not after:
            return


def _list(connect: Connect, arguments: Namespace) -> Iterable[str]:
    return output.devices(_rows(connect(), arguments.state))


def _watch(connect: Connect, arguments: Namespace) -> Iterator[str]:
    client = connect()
    for rows, removed in client.changes():
        yield from (output.change(row) for row in rows if arguments.state in (None, row[1]))
        yield from (f"{output.safe(device)} is gone" for device in removed)


def _show(connect: Connect, arguments: Namespace) -> Iterable[str]:
    return output.properties(connect().call("DescribeDevice", arguments.id))


def _explain(connect: Connect, arguments: Namespace) -> Iterable[str]:
    client = connect()
    facts = client.call("DescribeDevice", arguments.id)
    said = facts.get("Messages", {})
    lines = tuple(messages.child(said)) if any(said.values()) else ()
    return output.explain(facts, client.call("TestAdmission", facts["Id"]), lines)


def _reregister(connect: Connect, arguments: Namespace) -> Iterable[str]:
    connect().call("Reregister", arguments.id, arguments.again, {})
    return ()


def _permit_join(connect: Connect, arguments: Namespace) -> Iterable[str]:
    client = connect()
    options = {name: getattr(arguments, name.replace("-", "_")) for name in SCOPE}
    scope = {name: client.variant(value) for name, value in options.items() if value is not None}
    client.call("PermitJoin", arguments.seconds, scope)
    return ()


def _dump(connect: Connect, arguments: Namespace) -> Iterator[str]:
    with os.fdopen(connect().call("Dump"), "rb") as diagnostics:
        found = diagnostics.read()
    if arguments.output is None:
        yield found.decode("ascii", "replace")
    else:
        write_file(arguments.output, found, overwrite=True)


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


def _discovery(parser: ArgumentParser) -> None:
    parser.add_argument(
        "seconds", type=number(0, 900), help="duration, at most 900; 0 ends the search"
    )
    parser.add_argument(
        "protocols", nargs="*", metavar="protocol", help='protocols, as "mdns" (default: all)'
    )


_STATE = argument("--state", choices=STATES, help="show only devices in this state")

# fmt: off
COMMANDS: tuple[Command, ...] = (
    Command("list", "list the devices", _STATE, _list),
    Command("watch", "print each change as it happens", _STATE, _watch),
    Command("show", "print all properties of a device", add_id, _show),
    Command("explain", "explain why a device is in its state, and what to do", add_id, _explain),
    Command("approve", "admit a device",
            arguments(add_id, argument("--provider", default="",
                                       help="the cloud (default: from the rules)")),
            call("Approve", "id", "provider")),
    Command("reject", "reject a device",
            arguments(add_id, argument("--reason", default="", help="a note for the record")),
            call("Reject", "id", "reason")),
    Command("retry", "retry what failed for a device now", add_id, call("Retry", "id")),
    Command("reregister", "register a device again that was reset at the cloud",
            arguments(add_id, argument("again", help="the complete id a second time")),
            _reregister),
    Command("rename", "change the displayed name of a device",
            arguments(add_id, argument("label", help="the new name")),
            call("Rename", "id", "label")),
    Command("forget", "remove the record and the secrets of a device", add_id,
            call("Forget", "id")),
    Command("permit-join", "open the join window: rules with window = true register for a while",
            _window, _permit_join),
    Command("discover", "search for devices for a while, as after a start", _discovery,
            call("Discover", "seconds", "protocols")),
    Command("reload", "reload the configuration", no_arguments, call("Reload")),
    Command("dump", "print diagnostics as JSON, for a fault report (contains no secret)",
            argument("--output", type=Path, metavar="FILE", help="write them to this file"),
            _dump),
)
# fmt: on
