"""The command that moves children to other clouds, and shows how far they are."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from gatewayd.cli import output
from gatewayd.cli.command import Client, Command, CommandFailed, Connect, number
from gatewayd.cli.output.fields import Record, flag, maybe, text
from gatewayd.cli.output.fields import number as number_field
from gatewayd.cli.output.terminal import sign_of_life
from gatewayd.errors import GatewayError

ROW = (
    "Id", "Provider", "To", "Step", "Reason", "Explanation", "AskedTimestamp",
    "NextAttemptTimestamp",
)  # fmt: skip
POLL = 0.5
"""Seconds between two looks at children that move."""
SHOWN_WITHIN = 5.0
"""Seconds within which a child that has moved is shown at its cloud."""
MOST = 1_000_000
"""More moves than there are."""
SHOWN = 20
"""Children that are named for what kept them from moving."""


def _moves(client: Client) -> Sequence[Record]:
    return [dict(zip(ROW, row, strict=True)) for row in client.call("ListMoves", MOST)]


def _devices(client: Client, fact: str, value: str) -> Iterator[output.DeviceRow]:
    """Yield the rows of all devices of which a fact has a value, page by page."""
    after, wanted = "", {fact: client.variant(value)}
    while True:
        rows, after = client.call("ListDevicesFiltered", wanted, after, 0)
        yield from rows
        if not after:
            return


def _chosen(client: Client, arguments: Namespace) -> Sequence[str]:
    """Return the ids of the children that are meant, one or all of a rule.  Raises GatewayError."""
    if (arguments.id is None) is (arguments.rule is None):
        raise GatewayError("Name one child, or a rule by --rule; --list shows all moves")
    if (arguments.to is None) is not arguments.cancel:
        raise GatewayError("Name the cloud by --to, or call the move off by --cancel")
    if arguments.rule is None:
        return [client.call("DescribeDevice", arguments.id)["Id"]]
    if not (rows := list(_devices(client, "rule", arguments.rule))):
        raise GatewayError(
            f"Rule {arguments.rule} has admitted no child: see gatewayctl rules list"
        )
    found = [row[0] for row in rows if arguments.cancel or row[2] != arguments.to]
    if arguments.cancel:
        moving = {move["Id"] for move in _moves(client)}
        found = [device for device in found if device in moving]
    return found


def _asked(connect: Connect, arguments: Namespace) -> Iterator[Record]:
    """Have each child move, or stay; yield how that ended for it."""
    client = connect()
    options = {
        name: client.variant(value)
        for name, value in (("product", arguments.product), ("route", arguments.route))
        if value is not None
    }
    for device in _chosen(client, arguments):
        try:
            if arguments.cancel:
                client.call("CancelMove", device)
            else:
                client.call("Move", device, arguments.to, options)
        except GatewayError as error:
            if arguments.rule is None:
                raise
            yield {"Id": device, "Error": str(error)}
        else:
            yield {"Id": device, "Done": True}


def _recorded(connect: Connect, arguments: Namespace) -> Iterator[Record]:
    if arguments.list:
        yield from _moves(connect())
        return
    asked = []
    for one in _asked(connect, arguments):
        asked.append(one)
        yield one
    if arguments.wait is not None and not arguments.cancel:
        ids = {one["Id"] for one in asked if "Error" not in one}
        for counts in _until_moved(connect(), ids, arguments):
            yield {"Moving": sum(counts.values()) - counts["refused"], "Refused": counts["refused"]}
    _demand_all([one for one in asked if "Error" in one])


def _until_moved(
    client: Client, ids: set[str], arguments: Namespace
) -> Iterator[Mapping[str, int]]:
    """Yield how many of these children are at each step, until none moves any more.

    Raises CommandFailed where some are refused or stay where they are, or time is over.
    """
    end, before, settled = time.monotonic() + arguments.wait, Counter[str]({"": -1}), 0.0
    while True:
        rows = [move for move in _moves(client) if move["Id"] in ids]
        if not rows and (
            left := ids - {row[0] for row in _devices(client, "provider", arguments.to)}
        ):
            settled = settled or time.monotonic()
            if time.monotonic() > settled + SHOWN_WITHIN:
                raise CommandFailed(
                    f"{len(left)} have not moved, as that was called off: see gatewayctl explain "
                    f"{min(left)}"
                )
            time.sleep(POLL)
            continue
        counts = Counter(str(move["Step"]) for move in rows)
        if counts != before:
            before = counts
            yield counts
        moving = len(rows) - counts["refused"]
        if not moving and not rows:
            return
        if not moving or time.monotonic() >= end:
            stuck = f"{moving} still move" if moving else f"{len(rows)} were refused"
            raise CommandFailed(
                f"{stuck}: see gatewayctl move --list, and gatewayctl explain {rows[0]['Id']}"
            )
        time.sleep(POLL)


def _demand_all(failed: Sequence[Record]) -> None:
    """Raise CommandFailed where some children could not be asked to move."""
    if failed:
        raise CommandFailed(f"{len(failed)} children cannot move now: see what is said of each")


def _move(connect: Connect, arguments: Namespace) -> Iterator[str]:
    if arguments.list:
        yield from _table(_moves(connect()))
        return
    asked: list[Record] = []
    failed: list[Record] = []
    with sign_of_life("Asking") as progress:
        for one in _asked(connect, arguments):
            (failed if "Error" in one else asked).append(one)
            progress.at(len(asked) + len(failed), 0)
    for one in failed[:SHOWN]:
        yield f"{output.safe(one['Id'])} stays: {output.safe(one['Error'])}"
    if more := failed[SHOWN:]:
        yield f"{len(more)} more stay."
    yield _said([output.safe(one["Id"]) for one in asked], arguments)
    if arguments.wait is not None and not arguments.cancel and asked:
        ids = {str(one["Id"]) for one in asked}
        for counts in _until_moved(connect(), ids, arguments):
            done = len(ids) - sum(counts.values())
            steps = (f", {count} {step}" for step, count in sorted(counts.items()))
            yield f"{done} of {len(ids)} have moved{''.join(steps)}"
    _demand_all(failed)


def _said(ids: Sequence[str], arguments: Namespace) -> str:
    """Return what was done, and how to follow it."""
    who = ids[0] if len(ids) == 1 else f"{len(ids)} children"
    verb = ("stays", "moves") if len(ids) == 1 else ("stay", "move")
    if arguments.cancel:
        return f"{who} {verb[0]} where {'it is' if len(ids) == 1 else 'they are'}."
    to = output.safe(arguments.to)
    return f"{who} {verb[1]} to cloud {to}. See how far with: gatewayctl move --list"


def _table(rows: Sequence[Record]) -> Iterator[str]:
    """Yield a line for each move."""
    if not rows:
        yield "No child moves."
    for row in rows:
        why = output.safe(row["Explanation"] or row["Reason"])
        again = row["NextAttemptTimestamp"]
        at = f" (next try {output.when(again)})" if again else ""
        way = f"{output.safe(row['Provider'])} -> {output.safe(row['To'])}"
        yield f"{output.safe(row['Id'])}  {way}  {row['Step']}{at}{f'  {why}' if why else ''}"


def _options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "id", nargs="?",
        help='id of the device, an unambiguous prefix of it, or "product/name" at the cloud',
    )  # fmt: skip
    parser.add_argument("--rule", metavar="NAME", help="all children that this rule has admitted")
    parser.add_argument("--to", metavar="CLOUD", help="the cloud to which they move")
    parser.add_argument("--product", help="what they are there (default: the only product it has)")
    parser.add_argument("--route", help="how they register there (default: the cloud's first)")
    parser.add_argument("--cancel", action="store_true", help="have them stay where they are")
    parser.add_argument("--list", action="store_true", help="show all moves, and do nothing")
    parser.add_argument(
        "--wait", nargs="?", type=number(1, 86_400), const=600, metavar="SECONDS",
        help="wait until all have moved, and show how far they are (default: 600 s)",
    )  # fmt: skip


# fmt: off
COMMANDS: tuple[Command, ...] = (
    Command("move", "move a device, or those of a rule, to another cloud", _options,
            _move, _recorded,
            maybe(text("Id", "id of the device"),
                  flag("Done", "true: it moves, or stays, as asked"),
                  text("Error", "with --rule: why it does neither"),
                  number_field("Moving", "with --wait: how many move still"),
                  number_field("Refused", "with --wait: how many the other cloud has refused"),
                  text("Provider", "with --list: the cloud where it is"),
                  text("To", "with --list: the cloud to which it moves"),
                  text("Step", 'with --list: "registering", "logging-in" or "refused"'),
                  text("Reason", 'with --list: the code of why it does not go on, or ""'),
                  text("Explanation", "with --list: that as a sentence"),
                  number_field("AskedTimestamp", "with --list: when it was asked for"),
                  number_field("NextAttemptTimestamp",
                               "with --list: when it goes on by itself; 0 for not known"))),
)
# fmt: on
