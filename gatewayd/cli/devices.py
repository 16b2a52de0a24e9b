"""The commands of gatewayctl, as a table.

Other modules add theirs by making a `Command`, which `ctl.main` takes in its argument `commands`.
The connection is opened when a command asks for it, so one that needs no daemon needs no bus.
"""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from gatewayd.cli import output as text
from gatewayd.dbus.interfaces import GATEWAY, Place
from gatewayd.device.lifecycle import State

SCOPE = ("interface", "protocol", "rule", "max-devices")
STATES = tuple(dict.fromkeys(s.shown for s in State if s is not State.FORGOTTEN))


class Client(Protocol):
    """The daemon, as seen over D-Bus."""

    def call(self, method: str, *arguments: object, at: Place = GATEWAY) -> Any:  # noqa: ANN401  # as D-Bus has it
        """Call a method and return what it returns: None, one value, or a tuple.

        A file descriptor is given as a number, and stays the caller's; one that is returned is
        to be closed by the caller.  Raises GatewayError.
        """

    def properties(self, place: Place) -> Mapping[str, Any]:
        """Return the properties of an interface of an object.  Raises GatewayError."""

    def changes(self) -> Iterator[tuple[list[text.Row], list[str]]]:
        """Yield changed rows and removed ids, for ever."""

    def variant(self, value: str | int) -> object:
        """Return a string, or a number as u, as a D-Bus variant."""


Connect = Callable[[], Client]
Run = Callable[[Connect, Namespace], Iterable[str] | int]


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    words: "list", or "rules check" for a command in a group.
    arguments: adds the command's own arguments to its parser.
    run: does it, and yields the lines to print; or prints by itself, and returns the exit status.
        Raises GatewayError.
    """

    words: str
    help: str
    arguments: Callable[[ArgumentParser], object]
    run: Run


def _none(_parser: ArgumentParser) -> None:
    pass


def _id(parser: ArgumentParser) -> None:
    parser.add_argument("id", help='an id, a beginning of one, or "product/name" in the cloud')


def _id_and(name: str, help: str, **more: Any) -> Callable[[ArgumentParser], None]:  # noqa: A002, ANN401  # as argparse
    def add(parser: ArgumentParser) -> None:
        _id(parser)
        parser.add_argument(name, help=help, **more)

    return add


def _state(parser: ArgumentParser) -> None:
    parser.add_argument("--state", choices=STATES, help="only those in this state")


def _rows(client: Client, state: str | None) -> Iterator[text.Row]:
    filters = {"state": client.variant(state)} if state else {}
    after = ""
    while True:
        rows, after = client.call("ListDevicesFiltered", filters, after, 0)
        yield from rows
        if not after:
            return


def _list(connect: Connect, arguments: Namespace) -> Iterable[str]:
    return text.devices(_rows(connect(), arguments.state))


def _watch(connect: Connect, arguments: Namespace) -> Iterator[str]:
    client = connect()
    for rows, removed in client.changes():
        yield from (text.change(row) for row in rows if arguments.state in (None, row[1]))
        yield from (f"{text.safe(device)} is gone" for device in removed)


def _show(connect: Connect, arguments: Namespace) -> Iterable[str]:
    return text.properties(connect().call("DescribeDevice", arguments.id))


def _explain(connect: Connect, arguments: Namespace) -> Iterable[str]:
    client = connect()
    facts = client.call("DescribeDevice", arguments.id)
    return text.explain(facts, client.call("TestAdmission", facts["Id"]))


def _rules(connect: Connect, _arguments: Namespace) -> Iterable[str]:
    return text.rules(connect().call("ListRules"))


def _change(method: str, *names: str) -> Run:
    """Return what calls a method with these arguments, and prints nothing."""

    def run(connect: Connect, arguments: Namespace) -> Iterable[str]:
        connect().call(method, *(getattr(arguments, name) for name in names))
        return ()

    return run


def _reregister(connect: Connect, arguments: Namespace) -> Iterable[str]:
    connect().call("Reregister", arguments.id, arguments.again, {})
    return ()


def _window(parser: ArgumentParser) -> None:
    parser.add_argument("seconds", type=_number(0, 900), help="how long, at most 900; 0 closes it")
    parser.add_argument("--interface", help="only devices that are seen there")
    parser.add_argument("--protocol", help='only devices that are found so, as "mdns"')
    parser.add_argument("--rule", help="only by the rule of this name")
    parser.add_argument(
        "--max-devices", type=_number(1, 100_000), help="close it when so many were let in"
    )


def _discovery(parser: ArgumentParser) -> None:
    parser.add_argument("seconds", type=_number(0, 900), help="how long, at most 900; 0 ends it")
    parser.add_argument(
        "protocols", nargs="*", metavar="protocol", help='by which means, as "mdns"; else by all'
    )


def _number(low: int, high: int) -> Callable[[str], int]:
    """Return what reads a number between two others, both allowed."""

    def read(text: str) -> int:
        if not (text.isdecimal() and low <= int(text) <= high):
            raise ArgumentTypeError(f"a number from {low} to {high} is wanted")
        return int(text)

    return read


def _permit_join(connect: Connect, arguments: Namespace) -> Iterable[str]:
    client = connect()
    options = {name: getattr(arguments, name.replace("-", "_")) for name in SCOPE}
    scope = {name: client.variant(value) for name, value in options.items() if value is not None}
    client.call("PermitJoin", arguments.seconds, scope)
    return ()


# fmt: off
COMMANDS: tuple[Command, ...] = (
    Command("list", "list the children", _state, _list),
    Command("watch", "print each change as it happens", _state, _watch),
    Command("show", "print all properties of a child", _id, _show),
    Command("explain", "tell why a child is in its state, and what to do", _id, _explain),
    Command("approve", "admit a child",
            _id_and("--provider", "the cloud; the rules' if left out", default=""),
            _change("Approve", "id", "provider")),
    Command("reject", "keep a child out",
            _id_and("--reason", "a note for the record", default=""),
            _change("Reject", "id", "reason")),
    Command("retry", "try again now", _id, _change("Retry", "id")),
    Command("reregister", "register anew a child that was reset at the cloud",
            _id_and("again", "its whole id once more"), _reregister),
    Command("rename", "give a child another name to show",
            _id_and("label", "the name"), _change("Rename", "id", "label")),
    Command("forget", "remove a child's record and its secrets", _id, _change("Forget", "id")),
    Command("permit-join", "let rules with window = true register for a while", _window,
            _permit_join),
    Command("discover", "look for devices now, and for a while", _discovery,
            _change("Discover", "seconds", "protocols")),
    Command("rules list", "list the rules with their hits", _none, _rules),
    Command("reload", "read the configuration again", _none, _change("Reload")),
)
# fmt: on
